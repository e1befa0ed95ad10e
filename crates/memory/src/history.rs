//! What a queue retains: messages in the order of their positions, each with when it came. Nearly
//! all go at the front, and every reader finds its place from a position.
//!
//! Of a durable queue the older ones may be in the store alone, unless only the last of each key stays.
//! Who reads those has some of them read back for itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use posthaste_core::{Error, Message, Start};

use crate::lanes::Lanes;
use crate::latest::Latest;
use crate::store::{Paged, Pages};

/// A message that is retained.
#[derive(Debug)]
pub(crate) struct Retained {
    pub(crate) position: u64,
    /// Its place in the store of a durable queue.
    pub(crate) place: u64,
    /// By the wall clock; never earlier than the one before.
    pub(crate) came: Duration,
    /// By the other clock, if there is one.
    pub(crate) since: Option<Instant>,
    pub(crate) message: Message,
}

/// The oldest one, or one that is let go.
#[derive(Debug)]
pub(crate) struct Oldest {
    pub(crate) position: u64,
    pub(crate) place: u64,
    pub(crate) size: usize,
    pub(crate) came: Duration,
    /// By the other clock, where that is known.
    pub(crate) since: Option<Instant>,
    /// If it is in memory.
    pub(crate) message: Option<Message>,
}

/// A place in the order of positions.
#[derive(Debug)]
struct Slot {
    position: u64,
    came: Duration,
    /// Nothing, once a newer message has taken its place.
    retained: Option<Box<Retained>>,
}

/// Messages that are retained, and who reads them.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The oldest ones, which are in the store alone, each with when it came in the place of when it
    /// expires.
    pages: Pages,
    /// The others, in the order of positions; the first and the last one are there.
    slots: VecDeque<Slot>,
    /// How many of these are there.
    len: usize,
    bytes: usize,
    /// When the last one came that has ever come.
    newest: Duration,
    /// The newest of each key, where only these stay.
    latest: Option<Latest>,
    /// Where each reader is, by the number of the consumer.
    readers: BTreeMap<u64, Reader>,
    /// When somebody comes to look for what is too old.
    pub(crate) visit: Option<Instant>,
}

/// Where a reader is.
#[derive(Debug, Default)]
struct Reader {
    /// The position of the next message, if that is there still.
    next: u64,
    /// How many are missing before that which it was not told of.
    missing: u64,
    /// It wants nothing that came before this.
    from: Duration,
    /// What was read back for it.
    back: VecDeque<Retained>,
    /// Some is being read back.
    waits: bool,
    /// Why nothing can be any more.
    failed: Option<Error>,
    /// The place of what is next, where that could still be lost.
    not_yet: Option<u64>,
}

impl History {
    /// Whether only the newest message of each key stays, from now on; hands back what goes.
    pub(crate) fn keep_latest(&mut self, only: bool) -> Vec<Retained> {
        let mut gone = Vec::new();
        if !only {
            self.latest = None;
        } else if self.latest.is_none() {
            let mut latest = Latest::default();
            for slot in &mut self.slots {
                let Some(retained) = &slot.retained else { continue };
                if let Some(before) = latest.predecessor(&retained.message) {
                    gone.push(before);
                }
                latest.insert(&retained.message, retained.position);
            }
            self.latest = Some(latest);
        }
        gone.into_iter().filter_map(|position| self.take_out(position)).collect()
    }

    /// Adds a message behind all others, and hands back the one that it takes the place of.
    pub(crate) fn push(&mut self, mut new: Retained) -> Option<Retained> {
        new.came = new.came.max(self.newest);
        self.newest = new.came;
        let mut before = None;
        if let Some(latest) = &mut self.latest {
            before = latest.predecessor(&new.message);
            latest.insert(&new.message, new.position);
        }
        self.len += 1;
        self.bytes += new.message.size();
        let (position, came) = (new.position, new.came);
        self.slots.push_back(Slot { position, came, retained: Some(Box::new(new)) });
        before.and_then(|position| self.take_out(position))
    }

    /// The messages from a position on that are in memory.
    pub(crate) fn from(&self, position: u64) -> impl Iterator<Item = &Retained> {
        let slots = self.slots.range(self.find(position)..);
        slots.filter_map(|slot| slot.retained.as_deref())
    }

    /// The oldest message.
    pub(crate) fn first(&self) -> Option<Oldest> {
        match self.pages.front() {
            Some(copy) => Some(Oldest::of(copy)),
            None => self.slots.front()?.retained.as_deref().map(Oldest::in_memory),
        }
    }

    /// Shows all messages that are in memory; what is changed of them is not their size.
    pub(crate) fn each_mut(&mut self, mut show: impl FnMut(&mut Retained)) {
        self.slots.iter_mut().filter_map(|slot| slot.retained.as_deref_mut()).for_each(&mut show);
    }

    /// Lets the oldest message go.
    pub(crate) fn pop(&mut self) -> Option<Oldest> {
        if let Some(copy) = self.pages.front() {
            return self.pages.remove(copy.position).map(Oldest::of);
        }
        let retained = self.pop_in_memory()?;
        let oldest = Oldest::in_memory(&retained);
        Some(Oldest { message: Some(retained.message), ..oldest })
    }

    fn pop_in_memory(&mut self) -> Option<Retained> {
        let retained = *self.slots.pop_front()?.retained?;
        self.is_gone(&retained);
        self.trim();
        Some(retained)
    }

    // ---- what is in the store alone

    /// Leaves the oldest message that is in memory to the store, and hands it back; the newest stays.
    pub(crate) fn page_out(&mut self) -> Option<Retained> {
        let first = self.slots.front()?.retained.as_deref()?;
        if self.latest.is_some() || self.len < 2 || first.place == u64::MAX {
            return None;
        }
        let retained = self.pop_in_memory()?;
        self.pages.push(retained.paged());
        Some(retained)
    }

    /// Those that are in the store alone.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Puts those back that are in the store alone, where there is nothing yet.
    pub(crate) fn restore(&mut self, pages: Pages) {
        self.newest = pages.back().and_then(|last| last.expires).unwrap_or_default();
        self.pages = pages;
    }

    /// When the last one came.
    pub(crate) fn newest(&self) -> Duration {
        self.newest
    }

    pub(crate) fn pages_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }

    /// How many bytes the others take in memory.
    pub(crate) fn in_memory(&self) -> usize {
        Lanes::footprint(self.len, self.bytes)
    }

    pub(crate) fn readers(&self) -> usize {
        self.readers.len()
    }

    /// What is to be read back for a reader, at most so many bytes, if there is something.
    pub(crate) fn next_pages(&self, reader: u64, bytes: usize) -> Vec<Paged> {
        let Some(reader) = self.readers.get(&reader) else { return Vec::new() };
        let mut sum = 0;
        let enough = |copy: &Paged| {
            let goes_on = sum < bytes;
            sum += Lanes::footprint(1, copy.size);
            goes_on
        };
        self.pages.after(reader.next.checked_sub(1)).take_while(enough).collect()
    }

    /// Whether a reader waits for nothing but that some is read back, which nobody does yet; from now
    /// on somebody does.
    pub(crate) fn begins_to_read(&mut self, reader: u64) -> bool {
        let Some(reader) = self.readers.get_mut(&reader) else { return false };
        let wants = reader.back.is_empty()
            && reader.failed.is_none()
            && self.pages.after(reader.next.checked_sub(1)).next().is_some();
        wants && !std::mem::replace(&mut reader.waits, true)
    }

    /// Some was read back for a reader, or cannot be.
    pub(crate) fn read_back(&mut self, reader: u64, read: Result<Vec<Retained>, Error>) {
        let Some(reader) = self.readers.get_mut(&reader) else { return };
        reader.waits = false;
        match read {
            Ok(read) => reader.back = read.into(),
            Err(error) => reader.failed = Some(error),
        }
    }

    /// Why a reader gets nothing more, if it does not.
    pub(crate) fn failed(&self, reader: u64) -> Option<&Error> {
        self.readers.get(&reader)?.failed.as_ref()
    }

    /// Takes a message out that another has taken the place of.
    fn take_out(&mut self, position: u64) -> Option<Retained> {
        let at = self.find(position);
        let slot = self.slots.get_mut(at).filter(|slot| slot.position == position)?;
        let retained = *slot.retained.take()?;
        self.is_gone(&retained);
        self.trim();
        if self.slots.len() > 2 * self.len + 64 {
            self.slots.retain(|slot| slot.retained.is_some());
        }
        Some(retained)
    }

    fn is_gone(&mut self, retained: &Retained) {
        self.len -= 1;
        self.bytes -= retained.message.size();
        if let Some(latest) = &mut self.latest {
            latest.remove(&retained.message, retained.position);
        }
    }

    fn trim(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.retained.is_none()) {
            self.slots.pop_front();
        }
    }

    /// Where the first slot is that is not before a position: at once where nothing is missing, as
    /// is nearly always so.
    fn find(&self, position: u64) -> usize {
        let Some(first) = self.slots.front() else { return 0 };
        let ahead = position.saturating_sub(first.position);
        let at = usize::try_from(ahead).unwrap_or(usize::MAX).min(self.slots.len());
        if self.slots.get(at).is_some_and(|slot| slot.position == position) {
            return at;
        }
        self.slots.partition_point(|slot| slot.position < position)
    }

    // ---- readers

    /// A reader comes, and begins where it says; `next` is the position of the next message. Says
    /// where that is, unless it waits for a time to come.
    pub(crate) fn enter(&mut self, reader: u64, start: Start, next: u64) -> Option<u64> {
        let first = self.first().map_or(next, |first| first.position);
        let (mut at, mut from) = (next, Duration::ZERO);
        match start {
            Start::Beginning => at = first,
            // One beyond the end was given to a message that a crash took away; what has come
            // instead is new.
            Start::Offset(offset) => at = offset.min(next),
            Start::Time(time) => {
                let in_store = self.pages.expires_from(time).map(|copy| copy.position);
                let slot = self.slots.partition_point(|slot| slot.came < time);
                match in_store.or_else(|| self.slots.get(slot).map(|slot| slot.position)) {
                    Some(position) => at = position,
                    None => from = time,
                }
            }
            _ => {}
        }
        self.readers.insert(reader, Reader { next: at, from, ..Reader::default() });
        from.is_zero().then_some(at)
    }

    pub(crate) fn leave(&mut self, reader: u64) {
        self.readers.remove(&reader);
    }

    /// The place of what a reader would have got next, if that was not safe.
    pub(crate) fn not_yet(&self, reader: u64) -> Option<u64> {
        self.readers.get(&reader)?.not_yet
    }

    /// Hands a reader what is next, up to `limit` and before the place from which nothing is safe, each
    /// with how many are missing before it, and says how many those are. What `wants` does not want is
    /// missing, too.
    pub(crate) fn read(
        &mut self,
        reader: u64,
        (limit, safe): (usize, u64),
        mut wants: impl FnMut(&Retained) -> bool,
        mut hand: impl FnMut(&Retained, u64),
    ) -> usize {
        let Some(mut reading) = self.readers.remove(&reader) else { return 0 };
        let oldest = self.first().map_or(u64::MAX, |first| first.position);
        let mut count = 0;
        let Reader { next, missing, from, back, not_yet, .. } = &mut reading;
        *not_yet = None;
        let mut show = |retained: &Retained, next: &mut u64| {
            if retained.came >= *from {
                // Who waited for a time to come has missed nothing before that.
                let gap = if from.is_zero() { retained.position - *next } else { 0 };
                (*missing, *from) = (*missing + gap, Duration::ZERO);
                if wants(retained) {
                    hand(retained, std::mem::take(missing));
                    count += 1;
                } else {
                    *missing += 1;
                }
            }
            *next = retained.position + 1;
            count < limit
        };
        let mut goes_on = limit > 0;
        while goes_on && let Some(retained) = back.pop_front() {
            if retained.place >= safe {
                *not_yet = Some(retained.place);
                back.push_front(retained);
                break;
            }
            // What was let go since is missing.
            if retained.position >= oldest.max(*next) {
                goes_on = show(&retained, next);
            }
        }
        if goes_on && not_yet.is_none() && self.pages.after(next.checked_sub(1)).next().is_none() {
            for retained in self.from(*next) {
                if retained.place >= safe {
                    *not_yet = Some(retained.place);
                    break;
                }
                if !show(retained, next) {
                    break;
                }
            }
        }
        self.readers.insert(reader, reading);
        count
    }

    pub(crate) fn len(&self) -> usize {
        self.len + self.pages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.pages.bytes()
    }
}

impl Retained {
    /// Where it is in the store, and when it came.
    pub(crate) fn paged(&self) -> Paged {
        let mut copy = Paged::new(self.position, self.place, self.message.size());
        copy.expires = Some(self.came);
        copy
    }
}

impl Oldest {
    fn of(copy: Paged) -> Self {
        Self {
            position: copy.position,
            place: copy.place,
            size: copy.size,
            came: copy.expires.unwrap_or_default(),
            since: None,
            message: None,
        }
    }

    fn in_memory(retained: &Retained) -> Self {
        let Retained { position, place, came, since, message } = retained;
        let (position, place, came, since) = (*position, *place, *came, *since);
        Self { position, place, size: message.size(), came, since, message: None }
    }
}

#[cfg(test)]
mod tests {
    use posthaste_core::Topic;

    use super::*;

    /// Numbers that look random and are always the same.
    fn numbers() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        }
    }

    fn retained(position: u64, key: u64) -> Retained {
        let topic = Topic::new("history").expect("a topic");
        let message = Message::builder(topic).key(key.to_string()).payload(position.to_string());
        let message = message.build().expect("a message");
        let came = Duration::from_secs(position);
        Retained { position, place: 0, came, since: None, message }
    }

    fn positions(history: &History, from: u64) -> Vec<u64> {
        let in_store = history.pages().after(from.checked_sub(1)).map(|copy| copy.position);
        in_store.chain(history.from(from).map(|this| this.position)).collect()
    }

    /// Reads up to `limit` messages, and whatever has to be read back for that.
    fn read(history: &mut History, reader: u64, limit: usize) -> Vec<(u64, u64)> {
        let mut read = Vec::new();
        loop {
            let left = limit - read.len();
            history.read(
                reader,
                (left, u64::MAX),
                |_| true,
                |this, missing| read.push((this.position, missing)),
            );
            if read.len() == limit || !history.begins_to_read(reader) {
                return read;
            }
            // What the message is like matters to nobody here.
            let copies = history.next_pages(reader, 100);
            assert!(!copies.is_empty() && !history.begins_to_read(reader), "it is on its way");
            let back = copies.iter().map(|copy| retained(copy.position, 0)).collect();
            history.read_back(reader, Ok(back));
        }
    }

    /// A history and the simplest thing that is like it, side by side.
    #[test]
    fn whatever_comes_and_goes_everybody_finds_what_is_there() {
        let mut below = numbers();
        for round in 0..40 {
            let (mut history, mut model) = (History::default(), BTreeMap::new());
            assert!(history.keep_latest(round % 2 == 0).is_empty());
            // Where each reader is, in the model.
            let mut readers: BTreeMap<u64, u64> = BTreeMap::new();
            for next in 0..400 {
                let key = below(12);
                let gone = history.push(retained(next, key));
                let before = model.iter().find(|(_, this)| round % 2 == 0 && **this == key);
                let before = before.map(|(position, _)| *position);
                assert_eq!(gone.map(|this| this.position), before);
                before.map(|position| model.remove(&position));
                model.insert(next, key);
                if below(3) == 0 && model.len() > 1 {
                    let first = history.pop().map(|this| this.position);
                    assert_eq!(first, model.pop_first().map(|(position, _)| position));
                }
                let from = below(next + 2);
                let expected: Vec<_> = model.range(from..).map(|(position, _)| *position).collect();
                assert_eq!(positions(&history, from), expected);
                if below(4) == 0 {
                    let here: Vec<_> = history.from(0).map(|this| this.position).collect();
                    let goes = here.first().filter(|_| round % 2 == 1 && here.len() > 1);
                    let out = history.page_out().map(|this| this.position);
                    assert_eq!(out.as_ref(), goes);
                }
                assert_eq!(history.len(), model.len());
                let bytes = history.from(0).map(|this| this.message.size()).sum::<usize>();
                assert_eq!(history.bytes() - history.pages().bytes(), bytes);
                let first = history.first().map(|first| first.position);
                assert_eq!(first, model.keys().next().copied());

                let reader = below(4);
                if below(20) == 0 {
                    let begins = history.enter(reader, Start::Offset(from), next + 1);
                    readers.insert(reader, from);
                    assert_eq!(begins, Some(from));
                }
                let limit = usize::try_from(below(30)).expect("few");
                let read = read(&mut history, reader, limit);
                let Some(at) = readers.get_mut(&reader) else {
                    assert!(read.is_empty());
                    continue;
                };
                let mut expected = Vec::new();
                for (position, _) in model.range(*at..).take(limit) {
                    expected.push((*position, position - *at));
                    *at = position + 1;
                }
                assert_eq!(read, expected);
            }
            assert!(history.slots.len() <= 2 * history.len + 64, "places that nobody needs");
        }
    }

    #[test]
    fn a_clock_that_went_back_while_nobody_was_there_leaves_times_in_order() {
        let (mut before, mut history) = (History::default(), History::default());
        (10..20).for_each(|position| drop(before.push(retained(position, position))));
        while before.page_out().is_some() {}
        history.restore(before.pages().clone());
        let late = Retained { came: Duration::from_secs(3), ..retained(20, 20) };
        history.push(late);
        let came = history.from(0).next().map(|this| this.came);
        assert_eq!(came, Some(Duration::from_secs(18)), "as the last one that was paged out");
        assert_eq!(history.enter(1, Start::Time(Duration::from_secs(17)), 21), Some(17));
    }

    #[test]
    fn what_is_of_a_time_is_found_and_what_is_not_wanted_is_missing() {
        let mut history = History::default();
        (10..20).for_each(|position| drop(history.push(retained(position, position))));
        assert_eq!(history.enter(1, Start::Time(Duration::from_secs(15)), 20), Some(15));
        assert_eq!(history.enter(2, Start::Time(Duration::from_secs(21)), 20), None);
        assert_eq!(history.enter(3, Start::Beginning, 20), Some(10));
        assert_eq!(history.enter(4, Start::New, 20), Some(20));
        assert_eq!(history.enter(5, Start::Offset(1_000), 20), Some(20));
        // The clock may go back; what comes then counts as of the same time.
        let mut back = retained(20, 20);
        back.came = Duration::ZERO;
        history.push(back);
        (21..24).for_each(|position| drop(history.push(retained(position, position))));
        let mut read = |reader, odd: bool| {
            let mut found = Vec::new();
            let wants = |this: &Retained| !odd || this.position % 2 == 1;
            history.read(reader, (100, u64::MAX), wants, |this, missing| {
                found.push((this.position, missing));
            });
            found
        };
        assert_eq!(read(1, false).first(), Some(&(15, 0)));
        assert_eq!(read(2, false), [(21, 0), (22, 0), (23, 0)]);
        let odd: Vec<_> = [11, 13, 15, 17, 19, 21, 23].map(|position| (position, 1)).into();
        assert_eq!(read(3, true), odd);
        assert_eq!(read(4, true), [(21, 1), (23, 1)]);
        assert_eq!(read(5, false).len(), 4);
        assert!(read(5, false).is_empty());
    }

    #[test]
    fn only_the_last_of_each_key_stays_from_when_that_is_asked_for() {
        let mut history = History::default();
        (0..9).for_each(|position| drop(history.push(retained(position, position % 3))));
        let gone: Vec<_> = history.keep_latest(true).iter().map(|this| this.position).collect();
        assert_eq!(gone, [0, 1, 2, 3, 4, 5]);
        assert_eq!(history.push(retained(9, 1)).map(|this| this.position), Some(7));
        assert_eq!(positions(&history, 0), [6, 8, 9]);
        assert!(history.keep_latest(false).is_empty());
        assert!(history.push(retained(10, 1)).is_none());
    }
}
