//! How runs come in: all of it, or none.

use posthaste_core::{Kind, Message};

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

    /// Takes the run out of `slot`, if all of it may simply come in: as one, or its messages one
    /// behind the other.
    pub(crate) fn admit_whole(
        &mut self,
        slot: &mut Option<Message>,
        after: &mut Aftermath,
    ) -> bool {
        let (whole, each) = (self.takes_whole(), self.usual);
        let comes_in = |run: &Message| {
            (whole || each && is_ordinary(run)) && self.room().fits_all(count(run), run.size())
        };
        if !slot.as_ref().is_some_and(comes_in) {
            return false;
        }
        match slot.take() {
            Some(run) if whole => self.push_whole(run, after),
            Some(run) => {
                self.push_each(&run, after);
                after.forget(run);
            }
            None => {}
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

    /// Takes the messages of a run in, about each of which there is nothing to find out.
    fn push_each(&mut self, run: &Message, after: &mut Aftermath) {
        self.touch();
        let mut missed = std::mem::take(&mut self.missed);
        let first = self.next_position;
        for message in run.each() {
            let size = message.size();
            let entry = Entry::new(message, self.next_position, std::mem::take(&mut missed));
            self.lanes.push(entry, size);
            self.next_position += 1;
        }
        self.books.accepted += self.next_position - first;
        // Whoever takes some wakes the next one, as long as there are more.
        self.idle.notify_one(after);
    }
}

/// Whether its messages are [ordinary](Entry::is_ordinary) copies.
fn is_ordinary(run: &Message) -> bool {
    run.priority() == 0 && run.deadline().is_none() && run.kind() != Kind::Request
}

fn count(run: &Message) -> usize {
    usize::try_from(run.count()).unwrap_or(usize::MAX)
}
