//! What time does to a mailbox.

use std::time::Instant;

use super::{Ending, State};
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::aside::Why;
use crate::books::reason;
use crate::copies::Entry;
use crate::home::later;
use crate::mailbox::Role;

impl State {
    /// Does everything that is due at `now`.
    pub(crate) fn tick(&mut self, now: Instant, after: &mut Aftermath) {
        self.agenda.begin();
        while let Some(due) = self.agenda.pop(now) {
            match due {
                Due::Ready(position) => {
                    if let Some((entry, Why::Delayed(_))) = self.aside.take_waiting(position) {
                        self.place(entry, None, after);
                    }
                }
                Due::Expired(position) => {
                    if let Some(entry) = self.take_out(position) {
                        self.expire(entry, after);
                    }
                }
                Due::PageExpired => self.expire_pages(after),
                Due::PageReady => self.delayed_are_ready(after),
                Due::TimedOut(tag) => self.time_out(tag, after),
                Due::Stalled => self.stall_is_over(after),
                Due::Forget => self.forget_ids(now),
                Due::Retained => self.look_for_old(after),
                Due::Unused => {
                    self.usage.ends = None;
                    self.errand(Errand::Expire, after);
                }
            }
        }
    }

    /// Says when the clock has to come, if it does not know.
    pub(crate) fn plan(&mut self, after: &mut Aftermath) {
        if !self.settings.queue.expiry.is_zero() {
            self.plan_expiry();
        }
        if self.keep.is_some() {
            self.plan_paging(after);
        }
        if let Some(at) = self.agenda.news() {
            self.errand(Errand::Visit(at), after);
        }
    }

    /// A copy has outlived its time.
    pub(super) fn expire(&mut self, entry: Entry, after: &mut Aftermath) {
        self.books.expired += 1;
        self.pass_on_missed(entry.missed);
        self.close_copy(&entry, after);
        after.forget(entry.message);
    }

    fn forget_ids(&mut self, now: Instant) {
        let window = self.settings.queue.dedup_window;
        if let Some(seen) = &mut self.seen
            && let Some(oldest) = seen.evict(window, now)
        {
            self.agenda.add(later(oldest, window), Due::Forget);
        }
    }

    // ---- queues that nobody uses

    /// The queue is used; looks at the clock only if that matters.
    pub(super) fn touch(&mut self) {
        if !self.settings.queue.expiry.is_zero() {
            self.usage.last = self.home.now();
        }
    }

    /// Closes the queue if nobody has used it for as long as it is to stay.
    pub(crate) fn close_if_unused(&mut self, after: &mut Aftermath) -> bool {
        let ends = self.usage_ends();
        let over = ends.zip(self.home.now()).is_some_and(|(ends, now)| ends <= now);
        if over && self.ending == Ending::Open {
            self.close(reason::QUEUE_DELETED, after);
        }
        over
    }

    fn usage_ends(&self) -> Option<Instant> {
        let expiry = self.settings.queue.expiry;
        let holds = self.lanes.len() + self.aside.len() + self.leases.len() + self.reserved;
        let holds = holds as u64 + self.retained();
        let unused = self.role == Role::Queue && self.consumers.is_empty() && holds == 0;
        self.usage.last.filter(|_| unused && !expiry.is_zero()).map(|last| later(last, expiry))
    }

    fn plan_expiry(&mut self) {
        let ends = self.usage_ends();
        if ends == self.usage.ends {
            return;
        }
        if let Some(ends) = self.usage.ends {
            self.agenda.remove(ends, Due::Unused);
        }
        if let Some(ends) = ends {
            self.agenda.add(ends, Due::Unused);
        }
        self.usage.ends = ends;
    }
}
