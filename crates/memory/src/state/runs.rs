//! How runs come in: whole, or not at all.

use posthaste_core::Message;

use super::{Ending, State};
use crate::aftermath::Aftermath;
use crate::copies::Entry;

impl State {
    /// The receiver takes runs as they are, from now on.
    pub(crate) fn take_runs(&mut self) {
        self.takes_runs = true;
    }

    /// Keeps room for a run, if all of it may simply come in.
    pub(crate) fn reserve_whole(&mut self, run: &Message) -> bool {
        let comes_in = self.takes_whole() && self.room().fits_all(count(run), run.size());
        if comes_in {
            self.reserved += count(run);
            self.reserved_bytes += run.size();
        }
        comes_in
    }

    /// Takes a copy of a run into the room that was kept; false if the mailbox is gone.
    pub(crate) fn admit_reserved_whole(&mut self, run: Message, after: &mut Aftermath) -> bool {
        self.reserved = self.reserved.saturating_sub(count(&run));
        self.reserved_bytes = self.reserved_bytes.saturating_sub(run.size());
        if let Ending::Closed(_) = self.ending {
            return false;
        }
        self.push_whole(run, after);
        true
    }

    /// Takes the run out of `slot`, if all of it may simply come in.
    pub(crate) fn admit_whole(
        &mut self,
        slot: &mut Option<Message>,
        after: &mut Aftermath,
    ) -> bool {
        let fits = |run: &Message| self.room().fits_all(count(run), run.size());
        if !self.takes_whole() || !slot.as_ref().is_some_and(fits) {
            return false;
        }
        if let Some(run) = slot.take() {
            self.push_whole(run, after);
        }
        true
    }

    /// Whether nothing here looks at single messages.
    fn takes_whole(&self) -> bool {
        self.takes_runs
            && self.ending == Ending::Open
            && self.settings.queue.ttl.is_zero()
            && !self.settings.queue.overflow.is_lossy()
            && self.keys.is_none()
            && self.seen.is_none()
    }

    fn push_whole(&mut self, run: Message, after: &mut Aftermath) {
        self.touch();
        let count = u64::from(run.count());
        self.books.accepted += count;
        let position = self.next_position;
        self.next_position += count;
        let missed = std::mem::take(&mut self.missed);
        self.place(Entry::new(run, position, missed), None, after);
    }
}

fn count(run: &Message) -> usize {
    usize::try_from(run.count()).unwrap_or(usize::MAX)
}
