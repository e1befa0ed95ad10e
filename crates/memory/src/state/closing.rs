//! How a mailbox is emptied, drained and closed.

use posthaste_core::Cancel;

use super::{Ending, State};
use crate::aftermath::{Aftermath, Errand, Leftovers};
use crate::books::reason;
use crate::mailbox::Role;

impl State {
    /// Lets nothing more out of a queue, and nothing more into anything.
    pub(crate) fn start_drain(&mut self, after: &mut Aftermath) {
        if self.ending == Ending::Open {
            self.ending = Ending::Draining;
        }
        self.look_at_settings();
        if self.role == Role::Queue {
            self.recall();
        }
        self.end_stall();
        self.wake_everybody(after);
    }

    /// Closes for good: what waits is dropped for `reason`.
    pub(crate) fn close(&mut self, reason: &'static str, after: &mut Aftermath) {
        if let Ending::Closed(_) = self.ending {
            return;
        }
        self.ending = Ending::Closed(reason);
        self.note_deleted();
        self.look_at_settings();
        self.recall();
        self.drop_waiting(reason, after);
        self.end_stall();
        (self.keys, self.seen, self.latest) = (None, None, None);
        if self.leases.len() == 0 {
            self.agenda.clear();
        }
        self.wake_everybody(after);
    }

    /// Drops everything that is not handed out, and says how much that was. What a consumer has taken
    /// in advance, of which it has handed out `handed`, is dropped as soon as it puts that back.
    pub(crate) fn purge(&mut self, handed: u64, after: &mut Aftermath) -> u64 {
        self.touch();
        let ahead = self.unhanded(handed);
        if ahead > 0 {
            self.ahead_is_purged = true;
            self.recall();
        }
        // Before their places are needed no more.
        self.note_purged();
        let count = ahead + self.drop_waiting(reason::PURGED, after);
        if let Some(keys) = &mut self.keys {
            keys.clear();
            for lease in self.leases.iter() {
                if let Some(key) = lease.entry.message.key() {
                    keys.enter(key, lease.entry.position);
                }
            }
        }
        if let Some(latest) = &mut self.latest {
            latest.clear();
        }
        self.room_was_freed(after);
        count
    }

    fn drop_waiting(&mut self, reason: &'static str, after: &mut Aftermath) -> u64 {
        let unread = self.release_pages();
        let mut copies: Vec<_> = self.lanes.drain().chain(self.aside.take_all()).collect();
        copies.extend(self.drain_history());
        self.agenda.clear_waiting();
        self.burial.dying.clear();
        if self.burial.waits_at.is_some() {
            // So that nobody waits for room any more that nobody needs.
            self.errand(Errand::Bury, after);
        }
        self.note_released(&copies);
        let count = copies.iter().map(|copy| copy.count() as u64).sum::<u64>() + unread as u64;
        self.books.drop_copies(reason, count);
        if count > 0 {
            let subscriber = self.reports_drops();
            let unread = (unread, self.name.clone());
            after.leftovers(&self.home, Leftovers { copies, unread, subscriber, reason });
        }
        count
    }

    /// Nobody waits for the answer to a request any more.
    pub(crate) fn cancel(&mut self, request: &Cancel, after: &mut Aftermath) {
        let found = self.waiting().find(|entry| request.is_for(&entry.message));
        if let Some(position) = found.map(|entry| entry.position)
            && let Some(entry) = self.take_out(position)
        {
            self.pass_on_missed(entry.missed);
            return self.drop_quietly(entry, reason::CANCELLED, after);
        }
        let found = self.leases.iter_mut().find(|lease| request.is_for(&lease.entry.message));
        if let Some(lease) = found {
            lease.cancelled = true;
            if let Some(waker) = lease.take_waker() {
                after.wake(waker);
            }
        }
    }
}
