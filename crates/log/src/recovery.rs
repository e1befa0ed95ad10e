//! What the queues were like when the process before this one ended, by what it noted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::{Death, Error, Heads, Kind, Pattern, QueueSettings, Topic};
use posthaste_memory::store::{Kept, KeptQueue, Paged, Pages};

use crate::change::{self, Back, Clocks, Put, Read};
use crate::log::Reader;

/// The queues by number, as far as the log has been read.
#[derive(Debug)]
pub(crate) struct Queues {
    queues: BTreeMap<u64, Queue>,
    /// The time now; zero where nobody asks which ids are too old.
    unix: Duration,
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
    /// The others.
    others: BTreeMap<u64, Other>,
    ids: BTreeMap<Arc<str>, Duration>,
}

/// A copy that has more to it than that it came and waits, or that was noted again behind others.
#[derive(Debug, Clone)]
struct Other {
    paged: Paged,
    /// Whether it may be in the store alone, as long as nothing happens to it.
    may_be_paged: bool,
    attempts: u32,
    due: Option<Duration>,
    death: Option<Death>,
    dying: bool,
    out: bool,
}

impl Queues {
    pub(crate) fn new(unix: Duration) -> Self {
        Self { queues: BTreeMap::new(), unix }
    }

    /// Makes a change. One of a queue or a copy that is gone changes nothing.
    pub(crate) fn apply(&mut self, change: Read<'_>) {
        match change {
            Read::Declared { queue, name, settings, bindings, next_position } => {
                let known = self.queues.entry(queue).or_default();
                (known.name, known.settings, known.bindings) = (Some(name), settings, bindings);
                known.next_position = known.next_position.max(next_position);
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
            Read::Gone { queue, position } => self.forget(queue, position),
            Read::Purged { queue, before, but } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.purge(before, &but);
                }
            }
        }
    }

    fn copy(&mut self, queue: u64, position: u64) -> Option<&mut Other> {
        let queue = self.queues.get_mut(&queue)?;
        if let Some(paged) = queue.pages.remove(position) {
            queue.others.insert(position, Other::waiting(paged));
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
        let kept = |(number, queue): (u64, Queue)| queue.into_kept(number, self.unix, &read);
        // One that has no declaration was deleted while copies of it were handed out.
        self.queues.into_iter().filter_map(|queue| kept(queue).transpose()).collect()
    }

    /// The queues at the end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values().filter(|queue| queue.name.is_some())
    }
}

impl Queue {
    fn put(&mut self, copy: Put<'_>, unix: Duration) {
        let (position, window) = (copy.position, self.settings.dedup_window);
        let is_fresh = self.name.is_none() || copy.came + window > unix;
        if let Some(id) = copy.message.id().filter(|_| is_fresh && !copy.came.is_zero()) {
            self.ids.insert(id.into(), copy.came);
        }
        let copy = Other::new(copy);
        if position < self.next_position {
            // It was noted again.
            self.forget(position);
        } else {
            self.next_position = position + 1;
            if copy.waits(false) {
                return self.pages.push(copy.paged);
            }
        }
        self.others.insert(position, copy);
    }

    fn forget(&mut self, position: u64) {
        if self.others.remove(&position).is_none() {
            self.pages.remove(position);
        }
    }

    fn purge(&mut self, before: u64, but: &[u64]) {
        let stays = |position: u64| position >= before || but.binary_search(&position).is_ok();
        self.others.retain(|position, _| stays(*position));
        let pages = std::mem::take(&mut self.pages);
        self.pages.extend(pages.after(None).filter(|copy| stays(copy.position)));
    }

    fn into_kept(
        mut self,
        number: u64,
        unix: Duration,
        read: impl Fn(&[Paged]) -> Result<Vec<Kept>, Error>,
    ) -> Result<Option<KeptQueue>, Error> {
        let Some(name) = self.name.clone() else { return Ok(None) };
        self.page_what_waits();
        let Self { settings, bindings, next_position, pages, others, mut ids, .. } = self;
        let window = settings.dedup_window;
        ids.retain(|_, came| *came + window > unix);
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_by_key(|(_, came)| *came);
        let places: Vec<_> = others.values().map(|copy| copy.paged).collect();
        let copies = read(&places)?.into_iter().zip(others.into_values());
        let copies = copies.map(|(kept, copy)| copy.into_kept(kept)).collect();
        Ok(Some(KeptQueue { number, name, settings, bindings, next_position, copies, pages, ids }))
    }

    /// Puts those of the others that only wait between those that came in order.
    fn page_what_waits(&mut self) {
        let keyed = self.settings.keyed;
        let (waiting, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.others).into_iter().partition(|(_, copy)| copy.waits(keyed));
        self.others = others;
        if waiting.is_empty() {
            return;
        }
        let pages = std::mem::take(&mut self.pages);
        let mut waiting = waiting.into_values().map(|copy| copy.paged).peekable();
        for copy in pages.after(None) {
            while let Some(before) = waiting.next_if(|this| this.position < copy.position) {
                self.pages.push(before);
            }
            self.pages.push(copy);
        }
        self.pages.extend(waiting);
    }

    // ---- what is in it

    pub(crate) fn name(&self) -> Option<&Topic> {
        self.name.as_ref()
    }

    /// The copies that are there, in no order that means anything.
    pub(crate) fn copies(&self) -> impl Iterator<Item = Paged> {
        self.pages.after(None).chain(self.others.values().map(|copy| copy.paged))
    }

    /// How many are handed out.
    pub(crate) fn unsettled(&self) -> usize {
        self.others.values().filter(|copy| copy.out).count()
    }
}

impl Other {
    fn new(put: Put<'_>) -> Self {
        let mut paged = Paged::new(put.position, put.place, put.size());
        paged.expires = put.expires.into_iter().chain(put.deadline).min();
        let Put { message, attempts, due, death, dying, out, .. } = put;
        let may_be_paged =
            message.priority() == 0 && message.kind() != Kind::Request && message.count() == 1;
        Self { paged, may_be_paged, attempts, due, death, dying, out }
    }

    fn waiting(paged: Paged) -> Self {
        let (attempts, due, death, dying, out) = (0, None, None, false, false);
        Self { paged, may_be_paged: true, attempts, due, death, dying, out }
    }

    /// Whether it only waits; in a `keyed` queue that may be until a time, because of each key one comes
    /// behind the other.
    fn waits(&self, keyed: bool) -> bool {
        let has_happened = self.attempts > 0 || self.out || self.dying || self.death.is_some();
        self.may_be_paged && !has_happened && (keyed || self.due.is_none())
    }

    fn into_kept(self, copy: Kept) -> Kept {
        let Self { attempts, due, death, dying, out, .. } = self;
        Kept { attempts, due, death, dying, out, ..copy }
    }
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
        let (mut kept, mut heads) = (Vec::with_capacity(copies.len()), Heads::default());
        self.read_all(&places, |record| {
            let expected = copies.get(kept.len()).map(|copy| copy.position);
            match change::decode(record, &mut heads)? {
                Read::Put { copy, .. } if Some(copy.position) == expected => {
                    kept.push(copy.into_kept(clocks)?);
                    Ok::<_, Error>(())
                }
                _ => Err(change::strange()),
            }
        })?;
        Ok(kept)
    }
}
