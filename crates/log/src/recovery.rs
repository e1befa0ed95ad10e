//! What the queues were like when the process before this one ended, by what it noted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::{Error, Heads, Kind, Pattern, QueueSettings, Topic};
use posthaste_memory::store::{Kept, KeptQueue, Paged, Pages, Standing};

use crate::change::{self, Back, Clocks, Payloads, Put, Read, Snapshot};
use crate::planted::Planted;
use crate::reader::Reader;

/// The queues by number, as far as the log has been read.
#[derive(Debug)]
pub(crate) struct Queues {
    queues: BTreeMap<u64, Queue>,
    /// Parts of queues that are noted as a whole further on, if that was not cut off.
    parts: BTreeMap<u64, Parts>,
    /// The time now; zero where nobody asks which ids are too old.
    unix: Duration,
    planted: Planted,
}

/// One of them. Its declaration may be behind its copies, because it is noted again when what is before
/// is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    name: Option<Topic>,
    settings: QueueSettings,
    bindings: Vec<Pattern>,
    next_position: u64,
    /// Copies that came and wait, in order.
    pages: Pages,
    /// Copies that came, wait until a time, and never expire, each with that time in the place of when it
    /// expires.
    delayed: Pages,
    /// Those that have more to them, or that were noted again behind others.
    others: BTreeMap<u64, Standing>,
    /// Some came before it was known whether they are retained.
    has_early: bool,
    ids: BTreeMap<Arc<str>, Duration>,
}

/// The parts of a queue, as far as they follow each other.
#[derive(Debug, Default)]
struct Parts {
    /// Which part comes next.
    next: u64,
    waiting: Pages,
    delayed: Pages,
}

/// How many copies are looked at at a time to find out when they came.
const DATED_AT_ONCE: usize = 256;

impl Queues {
    pub(crate) fn new(unix: Duration, planted: Planted) -> Self {
        Self { queues: BTreeMap::new(), parts: BTreeMap::new(), unix, planted }
    }

    /// Makes a change. One of a queue or a copy that is gone changes nothing.
    pub(crate) fn apply(&mut self, change: Read<'_>) {
        match change {
            Read::Declared { queue, name, settings, bindings, next_position } => {
                let known = self.queues.entry(queue).or_default();
                (known.name, known.settings, known.bindings) = (Some(name), settings, bindings);
                known.next_position = known.next_position.max(next_position);
            }
            Read::Part { queue, nth, delayed, pages } => {
                self.parts.entry(queue).or_default().add(nth, delayed, pages);
            }
            Read::Snapshot { queue, snapshot } => {
                let parts = self.parts.remove(&queue).filter(|parts| parts.next == snapshot.parts);
                // Its ids come in a record of their own, which a power cut may have cut off.
                let ids = self.queues.remove(&queue).map(|before| before.ids);
                self.queues.insert(queue, Queue::of(*snapshot, parts, ids.unwrap_or_default()));
            }
            Read::Ids { queue, ids } => {
                self.queues.entry(queue).or_default().ids.extend(ids);
            }
            Read::Deleted { queue } => drop(self.queues.remove(&queue)),
            Read::Put { queue, copy, from } => {
                if let Some((queue, position)) = from {
                    self.forget(queue, position);
                }
                let unix = self.unix;
                self.queues.entry(queue).or_default().put(copy, unix);
            }
            Read::Handed { queue, position } => {
                if let Some(copy) = self.copy(queue, position) {
                    copy.attempts = copy.attempts.saturating_add(1);
                    copy.out = true;
                }
            }
            Read::Back { queue, position, back: Back { attempts, due, death, dying } } => {
                if let Some(copy) = self.copy(queue, position) {
                    (copy.attempts, copy.due, copy.out) = (attempts, due, false);
                    copy.death = death.or(copy.death.take());
                    copy.dying = dying;
                }
            }
            Read::Gone { .. } if self.planted.forgets_settlements => {}
            Read::Gone { queue, position } => self.forget(queue, position),
            Read::Purged { queue, before, but } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.purge(before, &but);
                }
            }
        }
    }

    fn copy(&mut self, queue: u64, position: u64) -> Option<&mut Standing> {
        let queue = self.queues.get_mut(&queue)?;
        if let Some(paged) = queue.pages.remove(position) {
            queue.others.insert(position, waiting(paged));
        } else if let Some(paged) = queue.delayed.remove(position) {
            queue.others.insert(position, not_delayed(paged));
        }
        queue.others.get_mut(&position)
    }

    fn forget(&mut self, queue: u64, position: u64) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.forget(position);
        }
    }

    /// The queues at the end, of which `read` reads the copies that are to be in memory.
    ///
    /// # Errors
    /// What `read` says.
    pub(crate) fn into_kept(
        self,
        read: impl Fn(&[Paged]) -> Result<Vec<Kept>, Error>,
    ) -> Result<Vec<KeptQueue>, Error> {
        let kept = |(number, mut queue): (u64, Queue)| {
            let forgets = self.planted.forgets_ids;
            queue.ids.retain(|_, came| *came + queue.settings.dedup_window > self.unix && !forgets);
            queue.into_kept(number, &read)
        };
        // One that has no declaration was deleted while copies of it were handed out.
        self.queues.into_iter().filter_map(|queue| kept(queue).transpose()).collect()
    }

    /// The queues at the end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values().filter(|queue| queue.name.is_some())
    }
}

impl Parts {
    /// Adds the `nth` one, which comes behind the one before. If that is of something else, because a process
    /// ended before it had noted all of it, or is forgotten, as are all copies that were in it, this is
    /// the first one that counts.
    fn add(&mut self, nth: u64, delayed: bool, mut pages: Pages) {
        if nth != self.next {
            *self = Self::default();
        }
        self.next = nth + 1;
        let before = if delayed { &mut self.delayed } else { &mut self.waiting };
        if !before.append(&mut pages) {
            *before = merged(before, pages.after(None));
        }
    }
}

impl Queue {
    fn of(snapshot: Snapshot, parts: Option<Parts>, ids: BTreeMap<Arc<str>, Duration>) -> Self {
        let Snapshot { name, settings, bindings, next_position, waiting, delayed, others, .. } =
            snapshot;
        let parts = parts.unwrap_or_default();
        let pages = [(waiting, parts.waiting), (delayed, parts.delayed)];
        let [pages, delayed] = pages.map(|([mut pages, in_store], part)| {
            // What is much is in parts, and else all of it is here.
            for mut behind in [in_store, part] {
                if !pages.append(&mut behind) {
                    pages = merged(&pages, behind.after(None));
                }
            }
            pages
        });
        let others = others.into_iter().map(|copy| (copy.paged.position, copy)).collect();
        let (name, has_early) = (Some(name), false);
        Self { has_early, name, settings, bindings, next_position, pages, delayed, others, ids }
    }

    fn put(&mut self, copy: Put<'_>, unix: Duration) {
        let (position, window) = (copy.position, self.settings.dedup_window);
        self.has_early |= self.name.is_none();
        let is_fresh = self.name.is_none() || copy.came + window > unix;
        if let Some(id) = copy.message.id().filter(|_| is_fresh && !copy.came.is_zero()) {
            self.ids.insert(id.into(), copy.came);
        }
        if position < self.next_position {
            // It was noted again.
            self.forget(position);
        } else {
            self.next_position = position + 1;
            let paged = self.paged(&copy);
            match copy.due.filter(|_| paged.expires.is_none()) {
                Some(due) if copy.waits() => {
                    return self.delayed.push(paged.with_expiry(Some(due)));
                }
                None if copy.waits() && copy.due.is_none() => return self.pages.push(paged),
                _ => {}
            }
        }
        let paged = self.paged(&copy);
        self.others.insert(position, standing(copy, paged));
    }

    /// Where a copy is, and when it expires; in a history, when it came.
    fn paged(&self, put: &Put<'_>) -> Paged {
        let mut paged = Paged::new(put.position, put.place, put.size());
        paged.expires = match self.settings.retain {
            Some(_) => Some(put.came),
            None => put.expires.into_iter().chain(put.deadline).min(),
        };
        paged
    }

    fn forget(&mut self, position: u64) {
        if self.others.remove(&position).is_none() && self.pages.remove(position).is_none() {
            self.delayed.remove(position);
        }
    }

    fn purge(&mut self, before: u64, but: &[u64]) {
        if but.is_empty() {
            // A queue that retains lets its oldest go one by one.
            while self.others.first_key_value().is_some_and(|(at, _)| *at < before) {
                self.others.pop_first();
            }
            for pages in [&mut self.pages, &mut self.delayed] {
                while let Some(first) = pages.front().filter(|first| first.position < before) {
                    pages.remove(first.position);
                }
            }
            return;
        }
        let stays = |position: u64| position >= before || but.binary_search(&position).is_ok();
        self.others.retain(|position, _| stays(*position));
        for pages in [&mut self.pages, &mut self.delayed] {
            let before = std::mem::take(pages);
            pages.extend(before.after(None).filter(|copy| stays(copy.position)));
        }
    }

    fn into_kept(
        mut self,
        number: u64,
        read: impl Fn(&[Paged]) -> Result<Vec<Kept>, Error>,
    ) -> Result<Option<KeptQueue>, Error> {
        let Some(name) = self.name.clone() else { return Ok(None) };
        self.page_what_waits();
        match self.settings.retain {
            Some(retain) if retain.last_per_key => {
                // By their keys, which are in the messages.
                let pages = std::mem::take(&mut self.pages);
                self.others.extend(pages.after(None).map(|copy| (copy.position, waiting(copy))));
            }
            Some(_) if self.has_early => self.date_pages(&read)?,
            _ => {}
        }
        let Self { settings, bindings, next_position, pages, delayed, others, ids, .. } = self;
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_by_key(|(_, came)| *came);
        let places: Vec<_> = others.values().map(|copy| copy.paged).collect();
        let copies = read(&places)?.into_iter().zip(others.into_values());
        let copies = copies.map(|(kept, copy)| into_kept(copy, kept)).collect();
        Ok(Some(KeptQueue {
            number,
            name,
            settings,
            bindings,
            next_position,
            copies,
            delayed,
            pages,
            ids,
        }))
    }

    /// Finds out when the copies came.
    fn date_pages(
        &mut self,
        read: impl Fn(&[Paged]) -> Result<Vec<Kept>, Error>,
    ) -> Result<(), Error> {
        let pages = std::mem::take(&mut self.pages);
        let mut copies = pages.after(None).peekable();
        while copies.peek().is_some() {
            let some: Vec<_> = copies.by_ref().take(DATED_AT_ONCE).collect();
            let came = read(&some)?.into_iter().map(|kept| Some(kept.came));
            let dated = some.into_iter().zip(came);
            self.pages.extend(dated.map(|(mut copy, came)| {
                copy.expires = came;
                copy
            }));
        }
        Ok(())
    }

    /// Puts those of the others that only wait between those that came in order.
    fn page_what_waits(&mut self) {
        let keyed = self.settings.keyed;
        // What is retained is looked for by nobody but its readers.
        let all = self.settings.retain.is_some_and(|retain| !retain.last_per_key);
        let mut waiting = take_some(&mut self.others, |copy| all || waits(copy, keyed));
        if keyed {
            let delayed = std::mem::take(&mut self.delayed);
            let delayed = delayed.after(None).map(|copy| (copy.position, not_delayed(copy)));
            waiting.extend(delayed);
        } else {
            let delayed = take_some(&mut self.others, waits_until_a_time);
            let until = |copy: Standing| copy.paged.with_expiry(copy.due);
            merge(&mut self.delayed, delayed.into_values().map(until));
        }
        merge(&mut self.pages, waiting.into_values().map(|copy| copy.paged));
    }

    // ---- what is in it

    pub(crate) fn name(&self) -> Option<&Topic> {
        self.name.as_ref()
    }

    /// The copies that are there, in no order that means anything.
    pub(crate) fn copies(&self) -> impl Iterator<Item = Paged> {
        let in_order = [&self.pages, &self.delayed].into_iter().flat_map(|pages| pages.after(None));
        in_order.chain(self.others.values().map(|copy| copy.paged))
    }

    /// How many are handed out.
    pub(crate) fn unsettled(&self) -> usize {
        self.others.values().filter(|copy| copy.out).count()
    }
}

impl Put<'_> {
    /// Whether nobody looks for it before its turn.
    fn may_be_paged(&self) -> bool {
        let Self { message, .. } = self;
        message.priority() == 0 && message.kind() != Kind::Request && message.count() == 1
    }

    /// Whether it came and waits, maybe until a time, and that is all.
    fn waits(&self) -> bool {
        let has_happened = self.attempts > 0 || self.out || self.dying || self.death.is_some();
        !has_happened && self.may_be_paged()
    }
}

fn standing(put: Put<'_>, paged: Paged) -> Standing {
    let may_be_paged = put.may_be_paged();
    let Put { attempts, due, death, dying, out, .. } = put;
    Standing { paged, may_be_paged, attempts, due, death, dying, out }
}

/// Of a copy that waits.
fn waiting(paged: Paged) -> Standing {
    let (attempts, due, death, dying, out) = (0, None, None, false, false);
    Standing { paged, may_be_paged: true, attempts, due, death, dying, out }
}

/// Of one that waits, and has when it is to be in the place of when it expires.
fn not_delayed(paged: Paged) -> Standing {
    waiting(paged.with_expiry(None))
}

/// Whether a copy only waits; in a `keyed` queue that may be until a time, because of each key one
/// comes behind the other.
fn waits(copy: &Standing, keyed: bool) -> bool {
    let has_happened = copy.attempts > 0 || copy.out || copy.dying || copy.death.is_some();
    copy.may_be_paged && !has_happened && (keyed || copy.due.is_none())
}

fn waits_until_a_time(copy: &Standing) -> bool {
    waits(copy, true) && copy.due.is_some() && copy.paged.expires.is_none()
}

/// Takes out those of which this is so.
fn take_some(
    copies: &mut BTreeMap<u64, Standing>,
    is_so: impl Fn(&Standing) -> bool,
) -> BTreeMap<u64, Standing> {
    let (some, others) = std::mem::take(copies).into_iter().partition(|(_, copy)| is_so(copy));
    *copies = others;
    some
}

fn into_kept(standing: Standing, copy: Kept) -> Kept {
    let Standing { attempts, due, death, dying, out, .. } = standing;
    Kept { attempts, due, death, dying, out, ..copy }
}

/// Puts some between others, all in the order of positions.
fn merge(pages: &mut Pages, others: impl Iterator<Item = Paged>) {
    let mut others = others.peekable();
    if others.peek().is_some() {
        *pages = merged(pages, others);
    }
}

/// All of them, in the order of positions, as both are.
fn merged(pages: &Pages, others: impl Iterator<Item = Paged>) -> Pages {
    let (mut all, mut others) = (Pages::default(), others.peekable());
    for copy in pages.after(None) {
        while let Some(before) = others.next_if(|this| this.position < copy.position) {
            all.push(before);
        }
        all.push(copy);
    }
    all.extend(others);
    all
}

impl Reader {
    /// Reads copies back, in the order in which they are named.
    ///
    /// # Errors
    /// `Closed`; `Internal` if one is damaged or cannot be read.
    pub(crate) fn copies(&self, copies: &[Paged], clocks: Clocks) -> Result<Vec<Kept>, Error> {
        if self.is_closed() {
            return Err(Error::closed("the store of the broker"));
        }
        let places: Vec<_> = copies.iter().map(|copy| (copy.place, copy.size)).collect();
        let (mut heads, mut payloads) = (Heads::default(), Payloads::default());
        let mut kept = Vec::with_capacity(copies.len());
        self.read_all(&places, |record| {
            let expected = copies.get(kept.len()).map(|copy| copy.position);
            match change::decode(record, &mut heads)? {
                Read::Put { copy, .. } if Some(copy.position) == expected => {
                    kept.push(copy.into_kept(clocks, &mut heads, &mut payloads)?);
                    Ok::<_, Error>(())
                }
                _ => Err(change::strange()),
            }
        })?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of some copies each, a snapshot that says how many it has, and what is there then.
    fn after(noted: &[(u64, std::ops::Range<u64>)], parts: u64) -> Vec<u64> {
        let mut queues = Queues::new(Duration::ZERO, Planted::default());
        for (nth, positions) in noted.iter().cloned() {
            let mut pages = Pages::default();
            pages.extend(positions.map(|position| Paged::new(position, 100 * position, 7)));
            queues.apply(Read::Part { queue: 1, nth, delayed: false, pages });
        }
        let snapshot = Snapshot {
            name: Topic::new("orders").expect("valid"),
            settings: QueueSettings::default(),
            bindings: Vec::new(),
            next_position: 100,
            parts,
            waiting: Default::default(),
            delayed: Default::default(),
            others: Vec::new(),
        };
        queues.apply(Read::Snapshot { queue: 1, snapshot: Box::new(snapshot) });
        queues.queues[&1].copies().map(|copy| copy.position).collect()
    }

    #[test]
    fn a_snapshot_has_its_own_parts_and_no_others() {
        assert_eq!(after(&[(0, 0..2), (1, 2..4)], 2), [0, 1, 2, 3]);
        // A process ended before it had noted all parts, and the next one began anew, or needed none.
        assert_eq!(after(&[(0, 0..2), (1, 2..4), (0, 1..3), (1, 3..5)], 2), [1, 2, 3, 4]);
        assert_eq!(after(&[(0, 0..2), (0, 1..3)], 1), [1, 2]);
        assert_eq!(after(&[(0, 0..2), (1, 2..4)], 0), []);
        // What was in the first one is gone, and so is the segment that it was in.
        assert_eq!(after(&[(1, 2..4), (2, 4..6)], 3), [2, 3, 4, 5]);
    }
}
