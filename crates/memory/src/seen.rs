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
    order: VecDeque<(Instant, Arc<str>)>,
    bytes: usize,
}

impl Seen {
    /// Whether the id came within `window` before `now`.
    pub(crate) fn knows(&mut self, id: &str, window: Duration, now: Instant) -> bool {
        self.evict(window, now);
        self.ids.contains(id)
    }

    /// Remembers an id; true if it is the only one now.
    pub(crate) fn insert(&mut self, id: &str, now: Instant) -> bool {
        let id: Arc<str> = id.into();
        if !self.ids.insert(Arc::clone(&id)) {
            return false;
        }
        self.bytes += id.len();
        self.order.push_back((now, id));
        while self.order.len() > IDS_MAX || self.bytes > IDS_BYTES_MAX {
            self.forget_oldest();
        }
        self.order.len() == 1
    }

    /// Forgets what came longer than `window` before `now`, and says when the oldest of the rest
    /// came.
    pub(crate) fn evict(&mut self, window: Duration, now: Instant) -> Option<Instant> {
        while let Some((came, _)) = self.order.front() {
            if now.saturating_duration_since(*came) < window {
                return Some(*came);
            }
            self.forget_oldest();
        }
        None
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.bytes -= id.len();
            self.ids.remove(&id);
        }
    }
}
