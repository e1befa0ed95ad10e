//! What a mailbox has to do at which time.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

/// Something that becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// The copy at this position has waited as long as it was to.
    Ready(u64),
    /// The copy at this position has outlived its time.
    Expired(u64),
    /// One of the copies that are in the store alone has outlived its time.
    PageExpired,
    /// One of them has waited nearly as long as it was to.
    PageReady,
    /// The consumer that has this lease has taken too long.
    TimedOut(u64),
    /// A sender waits, and no room was freed.
    Stalled,
    /// An id has been remembered long enough.
    Forget,
    /// The oldest message that is retained may be too old.
    Retained,
    /// The queue has not been used.
    Unused,
}

/// What is due when, and what of it the broker's clock knows.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// What came in order, as nearly everything does that is given the same time. The first one
    /// has not been removed.
    line: VecDeque<Item>,
    /// How many of those have been removed.
    removed: usize,
    /// What did not.
    others: BTreeSet<(Instant, Due)>,
    /// When the clock will come, if nobody tells it to come earlier.
    told: Option<Instant>,
}

#[derive(Debug)]
struct Item {
    what: (Instant, Due),
    removed: bool,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: Instant, due: Due) {
        let what = (at, due);
        if self.line.back().is_none_or(|last| last.what < what) {
            self.others.remove(&what);
            self.line.push_back(Item { what, removed: false });
        } else if let Some(item) = self.find(what) {
            let was_removed = std::mem::replace(&mut item.removed, false);
            self.removed -= usize::from(was_removed);
        } else {
            self.others.insert(what);
        }
    }

    pub(crate) fn remove(&mut self, at: Instant, due: Due) {
        let what = (at, due);
        let Some(item) = self.find(what) else {
            self.others.remove(&what);
            return;
        };
        let was_removed = std::mem::replace(&mut item.removed, true);
        self.removed += usize::from(!was_removed);
        self.trim();
        if self.removed > self.line.len() / 2 {
            self.retain(|_| true);
        }
    }

    /// Forgets all copies that wait.
    pub(crate) fn clear_waiting(&mut self) {
        let stays = |due: &Due| match due {
            Due::Ready(_) | Due::Expired(_) | Due::PageExpired | Due::PageReady => false,
            Due::TimedOut(_) | Due::Stalled | Due::Forget | Due::Retained | Due::Unused => true,
        };
        self.others.retain(|(_, due)| stays(due));
        self.retain(stays);
    }

    pub(crate) fn clear(&mut self) {
        self.others.clear();
        self.retain(|_| false);
    }

    /// The clock has come: it knows of nothing any more.
    pub(crate) fn begin(&mut self) {
        self.told = None;
    }

    /// The next item that is due at `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        let (at, due) = self.first()?;
        if at > now {
            return None;
        }
        self.remove(at, due);
        Some(due)
    }

    /// When the clock has to come, if that is earlier than it knows.
    pub(crate) fn news(&mut self) -> Option<Instant> {
        let (at, _) = self.first()?;
        if self.told.is_some_and(|told| told <= at) {
            return None;
        }
        self.told = Some(at);
        Some(at)
    }

    fn first(&self) -> Option<(Instant, Due)> {
        let line = self.line.front().map(|item| item.what);
        match self.others.first() {
            None => line,
            Some(other) => Some(line.map_or(*other, |what| what.min(*other))),
        }
    }

    fn find(&mut self, what: (Instant, Due)) -> Option<&mut Item> {
        if self.line.front().is_some_and(|first| first.what == what) {
            return self.line.front_mut();
        }
        let at = self.line.binary_search_by_key(&what, |item| item.what).ok()?;
        self.line.get_mut(at)
    }

    fn retain(&mut self, stays: impl Fn(&Due) -> bool) {
        self.line.retain(|item| !item.removed && stays(&item.what.1));
        self.removed = 0;
    }

    fn trim(&mut self) {
        while self.line.front().is_some_and(|first| first.removed) {
            self.line.pop_front();
            self.removed -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Numbers that look random and are always the same.
    fn numbers() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        }
    }

    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn whatever_comes_and_goes_what_is_left_becomes_due_in_order() {
        let (start, mut below) = (start(), numbers());
        let at = |millis| start + Duration::from_millis(millis);
        let (mut agenda, mut expected) = (Agenda::default(), BTreeSet::new());
        for step in 0..20_000 {
            // Now in order, now not, and the same one twice at times.
            let time = if below(4) == 0 { below(step + 1) } else { step };
            let what = (at(time), Due::Expired(below(8)));
            match below(8) {
                0..4 => {
                    agenda.add(what.0, what.1);
                    expected.insert(what);
                }
                4..6 => {
                    let known = expected.iter().nth(usize::try_from(below(6)).expect("small"));
                    let (at, due) = known.copied().unwrap_or(what);
                    agenda.remove(at, due);
                    expected.remove(&(at, due));
                }
                6 if step % 1_000 == 0 => {
                    agenda.clear_waiting();
                    expected.clear();
                }
                _ => {
                    let now = at(step / 2);
                    let due = expected.first().copied().filter(|(at, _)| *at <= now);
                    assert_eq!(agenda.pop(now), due.map(|(_, due)| due));
                    due.map(|due| expected.remove(&due));
                }
            }
            assert_eq!(agenda.first(), expected.first().copied());
        }
        while let Some((at, due)) = expected.pop_first() {
            assert_eq!(agenda.pop(at), Some(due));
        }
        assert_eq!(agenda.pop(at(40_000)), None);
    }

    #[test]
    fn what_is_removed_behind_the_first_leaves_little_behind() {
        let (start, mut agenda) = (start(), Agenda::default());
        for number in 0..10_000 {
            agenda.add(start, Due::Expired(number));
        }
        for number in 1..10_000 {
            agenda.remove(start, Due::Expired(number));
        }
        assert!(agenda.line.len() < 4 && agenda.others.is_empty());
        assert_eq!(agenda.pop(start), Some(Due::Expired(0)));
    }
}
