//! Copies that nobody may have now, although they are in the mailbox.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use crate::copies::Entry;
use crate::lanes::Lanes;
use crate::store::{Paged, Pages};

/// Why a copy lies aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It has to wait until then.
    Delayed(Instant),
    /// Another copy of its key is in play; once it is its turn, it may have to wait until then.
    Parked(Option<Instant>),
    /// It died, and is to go to the dead-letter queue.
    Dying,
    /// It is on its way to another queue.
    Moving,
}

/// The copies by position, and their bytes.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    copies: BTreeMap<u64, (Entry, Why)>,
    bytes: usize,
    /// How many of them are dying or on their way.
    leaving: usize,
    leaving_bytes: usize,
    /// Of a durable queue, copies that wait until a time and are in the store alone, each with that
    /// time in the place of when it expires, which none of them does.
    delayed: Pages,
}

impl Aside {
    pub(crate) fn put(&mut self, entry: Entry, why: Why) {
        self.bytes += entry.message.size();
        if why.is_leaving() {
            self.leaving += 1;
            self.leaving_bytes += entry.message.size();
        }
        self.copies.insert(entry.position, (entry, why));
    }

    pub(crate) fn take(&mut self, position: u64) -> Option<(Entry, Why)> {
        let (entry, why) = self.copies.remove(&position)?;
        self.bytes -= entry.message.size();
        if why.is_leaving() {
            self.leaving -= 1;
            self.leaving_bytes -= entry.message.size();
        }
        Some((entry, why))
    }

    /// Takes a copy out if it only waits.
    pub(crate) fn take_waiting(&mut self, position: u64) -> Option<(Entry, Why)> {
        let (_, why) = self.copies.get(&position)?;
        if why.is_leaving() { None } else { self.take(position) }
    }

    /// Takes out everything but what is on its way.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        debug_assert!(self.delayed.is_empty(), "they are released before");
        let all = std::mem::take(self).copies;
        let (moving, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(_, (_, why))| *why == Why::Moving);
        for (entry, why) in moving.into_values() {
            self.put(entry, why);
        }
        rest.into_values().map(|(entry, _)| entry)
    }

    /// The first copy behind `after` that only waits.
    pub(crate) fn waiting_after(&self, after: Option<u64>) -> Option<u64> {
        self.behind(after).find(|(_, why)| !why.is_leaving()).map(|(entry, _)| entry.position)
    }

    pub(crate) fn get(&self, position: u64) -> Option<&(Entry, Why)> {
        self.copies.get(&position)
    }

    pub(crate) fn behind(&self, after: Option<u64>) -> impl Iterator<Item = (&Entry, Why)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.copies.range((from, Bound::Unbounded)).map(|(_, (entry, why))| (entry, *why))
    }

    /// All copies; what is changed of them is not their size.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&mut Entry, &Why)> {
        self.copies.values_mut().map(|(entry, why)| (entry, &*why))
    }

    pub(crate) fn len(&self) -> usize {
        self.copies.len() + self.delayed.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.delayed.bytes()
    }

    /// How many bytes those take that are in memory.
    pub(crate) fn in_memory(&self) -> usize {
        Lanes::footprint(self.copies.len(), self.bytes)
    }

    /// Those that are in the store alone.
    pub(crate) fn delayed(&self) -> &Pages {
        &self.delayed
    }

    pub(crate) fn delayed_mut(&mut self) -> &mut Pages {
        &mut self.delayed
    }

    /// Of those that are in the store alone, some that are to be in memory at `by`, which have so many
    /// bytes there, if there are.
    pub(crate) fn due(&mut self, by: Duration, bytes: usize) -> Vec<Paged> {
        self.delayed.expiring(by, bytes, Lanes::footprint(1, 0))
    }

    /// Copies, and their bytes, that are past being dropped for want of room.
    pub(crate) fn leaving(&self) -> (usize, usize) {
        (self.leaving, self.leaving_bytes)
    }
}

impl Why {
    pub(crate) fn is_leaving(self) -> bool {
        matches!(self, Self::Dying | Self::Moving)
    }
}
