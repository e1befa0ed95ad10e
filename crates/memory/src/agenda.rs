//! What a mailbox has to do at which time.

use std::collections::BTreeSet;
use std::time::Instant;

/// Something that becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// The copy at this position has waited as long as it was to.
    Ready(u64),
    /// The copy at this position has outlived its time.
    Expired(u64),
    /// The consumer that has this lease has taken too long.
    TimedOut(u64),
    /// A sender waits, and no room was freed.
    Stalled,
    /// An id has been remembered long enough.
    Forget,
    /// The queue has not been used.
    Unused,
}

/// What is due when, and what of it the broker's clock knows.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    items: BTreeSet<(Instant, Due)>,
    /// When the clock will come, if nobody tells it to come earlier.
    told: Option<Instant>,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: Instant, due: Due) {
        self.items.insert((at, due));
    }

    pub(crate) fn remove(&mut self, at: Instant, due: Due) {
        self.items.remove(&(at, due));
    }

    /// Forgets all copies that wait.
    pub(crate) fn clear_waiting(&mut self) {
        self.items.retain(|(_, due)| !matches!(due, Due::Ready(_) | Due::Expired(_)));
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// The clock has come: it knows of nothing any more.
    pub(crate) fn begin(&mut self) {
        self.told = None;
    }

    /// The next item that is due at `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        let (at, due) = self.items.first().copied()?;
        if at > now {
            return None;
        }
        self.items.remove(&(at, due));
        Some(due)
    }

    /// When the clock has to come, if that is earlier than it knows.
    pub(crate) fn news(&mut self) -> Option<Instant> {
        let (at, _) = self.items.first()?;
        if self.told.is_some_and(|told| told <= *at) {
            return None;
        }
        self.told = Some(*at);
        Some(*at)
    }
}
