//! How copies go out.

use std::sync::Arc;
use std::task::Context;

use posthaste_core::{Message, Outcome};

use super::{Ending, State};
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::ahead::Ahead;
use crate::books::reason;
use crate::copies::{Entry, Handed, Taken, Taking};
use crate::home::later;
use crate::mailbox::Role;
use crate::wait::Ticket;

impl State {
    /// Adds a consumer; false if the mailbox takes none any more.
    pub(crate) fn join(&mut self, consumer: u64) -> bool {
        if self.ending != Ending::Open {
            return false;
        }
        self.touch();
        self.consumers.insert(consumer);
        if self.consumers.len() > 1 {
            self.recall();
        }
        true
    }

    /// Removes a consumer. When the last one leaves a queue, the requests in it that did not say
    /// that they wait are answered.
    pub(crate) fn part(&mut self, consumer: u64, waiting: Option<Ticket>, after: &mut Aftermath) {
        self.touch();
        if let Some(ticket) = waiting {
            self.leave_idle(ticket, after);
        }
        if let Some(history) = &mut self.history {
            history.leave(consumer);
        }
        if let Some(consumer) = self.consumers.remove(consumer) {
            after.discard(consumer.stalled);
        }
        if self.role != Role::Queue || !self.consumers.is_empty() {
            return;
        }
        let orphans = self.waiting().filter(|entry| self.is_orphan(entry));
        for position in orphans.map(|entry| entry.position).collect::<Vec<_>>() {
            if let Some(entry) = self.take_out(position) {
                self.drop_copy(entry, reason::RESPONDER_LOST, after);
            }
        }
    }

    /// A consumer does not ask for a while, or does so again. When nobody asks any more, senders
    /// that wait for room look again who takes a request.
    pub(crate) fn park(&mut self, consumer: u64, parked: bool, after: &mut Aftermath) {
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            consumer.parked = parked;
        }
        if parked && self.takers() == 0 {
            self.blocked.notify_all(after);
        }
    }

    pub(crate) fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// How many consumers are not parked, and take what comes: who reads takes nothing.
    pub(crate) fn takers(&self) -> usize {
        if self.history.is_some() { 0 } else { self.consumers.takers() }
    }

    /// Hands copies to a consumer, or lets it take them in advance; `waiting` is its place on the
    /// list from an earlier call.
    pub(crate) fn take(
        &mut self,
        taking: Taking,
        ahead: &mut Ahead,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
        hand: &mut impl FnMut(Handed),
        after: &mut Aftermath,
    ) -> Taken {
        if let Some(ticket) = waiting {
            self.idle.leave(ticket, after);
        }
        let taken = if self.is_over() {
            self.end()
        } else if let Some(count) = self.take_ahead(ahead, taking, after) {
            Taken::Some(count)
        } else {
            match self.room_of(taking) {
                0 => Taken::Stalled,
                room => Taken::Some(self.hand_out(taking, taking.limit.min(room), hand, after)),
            }
        };
        let taken = match taken {
            Taken::Some(0) if self.keep.is_some() && self.history.is_none() => {
                let failed = self.found_nothing();
                failed.map_or(Taken::Some(0), |error| Taken::Unreadable(error.clone()))
            }
            Taken::Some(0) if self.history.is_some() => self.take_retained(taking, cx, hand, after),
            taken => taken,
        };
        let taken = match taken {
            Taken::Some(0) if taking.waits && self.is_over() => self.end(),
            Taken::Some(0) if taking.waits => Taken::Wait(self.idle.wait(cx.waker(), 0)),
            Taken::Stalled if taking.waits => {
                if let Some(consumer) = self.consumers.get_mut(taking.consumer) {
                    after.remember(&mut consumer.stalled, cx);
                }
                taken
            }
            taken => taken,
        };
        // Behind a consumer that was woken others may wait for what it left; and one that could
        // not take what it was woken for passes the wake-up on.
        self.wake_idle(after);
        taken
    }

    /// How many more the consumer may have unsettled.
    fn room_of(&mut self, taking: Taking) -> usize {
        if taking.prefetch == usize::MAX {
            return usize::MAX;
        }
        let unsettled = self.consumers.get_mut(taking.consumer).map_or(0, |this| this.unsettled);
        taking.prefetch.saturating_sub(unsettled)
    }

    /// Lets a consumer take copies in advance, where nobody else could want them before it does;
    /// `None` if there is somebody, or may be.
    fn take_ahead(
        &mut self,
        ahead: &mut Ahead,
        taking: Taking,
        after: &mut Aftermath,
    ) -> Option<usize> {
        if taking.manual {
            return None;
        }
        let count = if self.role.is_exclusive() {
            ahead.ordinary = self.lanes.are_ordinary();
            if let Some(latest) = &mut self.latest {
                latest.clear();
            }
            self.lanes.take_all(&mut ahead.blocks)
        } else if self.is_left_to_one() {
            let window = match taking.singly {
                true => ahead.window(self.lanes.len()).min(taking.left),
                false => taking.limit,
            };
            ahead.ordinary = true;
            self.ahead = self.lanes.take(&mut ahead.blocks, window);
            self.ahead.0
        } else {
            return None;
        };
        if count > 0 {
            self.ahead_is_purged = false;
            self.batched += count as u64;
            self.room_was_freed(after);
            self.touch();
        }
        Some(count)
    }

    /// Whether there is one consumer alone, and no copy that has to be put in order, or may be
    /// thrown away, before its turn.
    fn is_left_to_one(&self) -> bool {
        self.consumers.len() == 1
            && self.ending == Ending::Open
            && self.lanes.are_ordinary()
            && self.keys.is_none()
            && self.latest.is_none()
            && self.keep.is_none()
    }

    /// Copies that were taken in advance were too old to be handed out.
    pub(crate) fn expired_in_advance(&mut self, count: u64) {
        self.batched -= count;
        self.books.expired += count;
    }

    /// A copy of a batch went to an application elsewhere, and did not come there or was not wanted.
    pub(crate) fn write_off(
        &mut self,
        message: Message,
        outcome: Outcome<'_>,
        after: &mut Aftermath,
    ) {
        self.batched -= u64::from(message.count());
        let reason = match (outcome, self.ending) {
            (Outcome::Release, Ending::Closed(reason)) => reason,
            (Outcome::Release, _) => reason::UNSUBSCRIBED,
            (Outcome::Reject { .. }, _) => reason::REJECTED,
            _ => reason::CONNECTION_LOST,
        };
        self.count_drop(&message, reason, after);
        after.forget(message);
    }

    /// Nobody says any more what became of copies of a batch.
    pub(crate) fn lost_on_the_way(&mut self, count: u64) {
        self.batched -= count;
        self.books.drop_copies(reason::CONNECTION_LOST, count);
    }

    /// Puts back what a consumer took in advance and did not hand out.
    pub(crate) fn put_back(&mut self, ahead: &mut Ahead, after: &mut Aftermath) {
        let home = Arc::clone(&self.home);
        while let Some(entry) = ahead.blocks.pop(&home.spares) {
            self.batched -= entry.count() as u64;
            match self.ending {
                Ending::Closed(reason) => self.drop_copy(entry, reason, after),
                _ if self.ahead_is_purged => self.drop_copy(entry, reason::PURGED, after),
                Ending::Open | Ending::Draining => self.lanes.put(entry),
            }
        }
        self.ahead_is_purged = false;
        if let Ending::Closed(_) = self.ending {
            self.errand(Errand::Retire, after);
        }
        self.wake_idle(after);
    }

    /// A consumer gave up waiting: a wake-up that it got goes to the next.
    pub(crate) fn leave_idle(&mut self, ticket: Ticket, after: &mut Aftermath) {
        if self.idle.leave(ticket, after) && !self.home.planted.swallows_wake_ups {
            self.wake_idle(after);
        }
    }

    /// A consumer gave up waiting for a settlement of its own.
    pub(crate) fn leave_stalled(&mut self, consumer: u64, after: &mut Aftermath) {
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            after.discard(consumer.stalled.take());
        }
    }

    /// A consumer may never be polled again: its wake-up goes to the next one as well.
    pub(crate) fn share_idle(&mut self, ticket: Ticket, after: &mut Aftermath) {
        if self.idle.share(ticket) {
            self.wake_idle(after);
        }
    }

    fn end(&self) -> Taken {
        match self.ending {
            Ending::Closed(reason::SLOW_CONSUMER) => Taken::CutOff,
            _ => Taken::End,
        }
    }

    fn hand_out(
        &mut self,
        taking: Taking,
        limit: usize,
        hand: &mut impl FnMut(Handed),
        after: &mut Aftermath,
    ) -> usize {
        let (mut count, mut leased, mut now) = (0, 0, None);
        while count < limit
            && let Some(mut entry) = self.take_next()
        {
            if let Some(expires) = entry.expires()
                && let Some(clock) = &self.home.runtime
                && expires <= *now.get_or_insert_with(|| clock.now())
            {
                self.expire(entry, after);
                continue;
            }
            count += 1;
            entry.attempts = entry.attempts.saturating_add(1);
            let (attempt, missed) = (entry.attempts, entry.missed);
            if taking.manual && !self.home.planted.acks_at_hand_out {
                leased += 1;
                let message = entry.message.clone();
                self.note_handed(entry.position);
                let tag = self.lease(entry, taking.consumer);
                hand(Handed { message, attempt, missed, tag });
            } else {
                self.books.auto += 1;
                self.close_copy(&entry, after);
                hand(Handed { message: entry.message, attempt, missed, tag: 0 });
            }
        }
        if leased > 0
            && let Some(consumer) = self.consumers.get_mut(taking.consumer)
        {
            consumer.unsettled += leased;
        }
        if count > 0 {
            self.touch();
        }
        count
    }

    /// Leases a copy that was taken in advance; its tag, and which attempt this is.
    pub(crate) fn lease_ahead(&mut self, mut entry: Entry, consumer: u64) -> (u64, u32) {
        self.batched -= entry.count() as u64;
        entry.attempts = entry.attempts.saturating_add(1);
        let attempt = entry.attempts;
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            consumer.unsettled += 1;
        }
        (self.lease(entry, consumer), attempt)
    }

    fn lease(&mut self, entry: Entry, consumer: u64) -> u64 {
        let tag = self.leases.insert(entry, consumer);
        self.begin_time(tag);
        tag
    }

    /// The consumer's time for a delivery begins.
    pub(super) fn begin_time(&mut self, tag: u64) {
        let timeout = self.settings.queue.consumer_timeout;
        if timeout.is_zero() {
            return;
        }
        if let Some(now) = self.home.now()
            && let Some(lease) = self.leases.get_mut(tag)
        {
            let due = later(now, timeout);
            lease.rare().due = Some(due);
            self.agenda.add(due, Due::TimedOut(tag));
        }
    }
}
