//! Deduplication: the ids of messages that a queue has had, for as long as its window says.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most ids that a queue remembers; beyond that the oldest is forgotten early.
const IDS_MAX: usize = 1_000_000;
/// The most bytes of ids that a queue remembers.
const IDS_BYTES_MAX: usize = 128 << 20;

/// Ids, and until when each is remembered.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    ids: BTreeSet<Arc<str>>,
    /// In the order in which they came.
    order: VecDeque<Id>,
    bytes: usize,
}

#[derive(Debug)]
struct Id {
    came: Instant,
    id: Arc<str>,
    /// Where a store has it.
    place: u64,
}

impl Seen {
    /// Whether the id came within `window` before `now`.
    pub(crate) fn knows(&mut self, id: &str, window: Duration, now: Instant) -> bool {
        self.evict(window, now);
        self.ids.contains(id)
    }

    /// Remembers an id; true if it is the only one now.
    pub(crate) fn insert(&mut self, id: impl Into<Arc<str>>, now: Instant) -> bool {
        let id: Arc<str> = id.into();
        if !self.ids.insert(Arc::clone(&id)) {
            return false;
        }
        self.bytes += id.len();
        self.order.push_back(Id { came: now, id, place: 0 });
        while self.order.len() > IDS_MAX || self.bytes > IDS_BYTES_MAX {
            self.forget_oldest();
        }
        self.order.len() == 1
    }

    /// Forgets what came longer than `window` before `now`, and says when the oldest of the rest
    /// came.
    pub(crate) fn evict(&mut self, window: Duration, now: Instant) -> Option<Instant> {
        while let Some(Id { came, .. }) = self.order.front() {
            if now.saturating_duration_since(*came) < window {
                return Some(*came);
            }
            self.forget_oldest();
        }
        None
    }

    /// Notes where a store has an id, if that is the one that came last.
    pub(crate) fn note_place(&mut self, id: &str, place: u64) {
        if let Some(last) = self.order.back_mut().filter(|last| &*last.id == id) {
            last.place = place;
        }
    }

    /// The ids that a store has before a place, and when they came; from now on it has them at the
    /// place that `note` says.
    pub(crate) fn renew(
        &mut self,
        before: u64,
        note: impl FnOnce(Vec<(Arc<str>, Instant)>) -> u64,
    ) {
        let is_old = |id: &Id| id.place < before;
        let old = self.order.iter().filter(|id| is_old(id));
        let ids: Vec<_> = old.map(|Id { id, came, .. }| (Arc::clone(id), *came)).collect();
        if !ids.is_empty() {
            let place = note(ids);
            self.order.iter_mut().filter(|id| is_old(id)).for_each(|id| id.place = place);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(Id { id, .. }) = self.order.pop_front() {
            self.bytes -= id.len();
            self.ids.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_place_is_that_of_its_own_id() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        for (id, place) in [("a", 1), ("b", 2), ("a", 30)] {
            seen.insert(id, now);
            seen.note_place(id, place);
        }
        // The second time it was known already, and its first place is still where it is.
        let mut old = Vec::new();
        seen.renew(10, |ids| {
            old.extend(ids.into_iter().map(|(id, _)| id.to_string()));
            40
        });
        assert_eq!(old, ["a", "b"]);
    }
}
