//! How copies go out.

use std::task::Context;

use super::{Consumer, Ending, State};
use crate::aftermath::Aftermath;
use crate::agenda::Due;
use crate::books::reason;
use crate::copies::{Batch, Entry, Handed, Taken, Taking};
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
        self.consumers.insert(consumer, Consumer::default());
        true
    }

    /// Removes a consumer. When the last one leaves a queue, the requests in it that did not say
    /// that they wait are answered.
    pub(crate) fn part(&mut self, consumer: u64, waiting: Option<Ticket>, after: &mut Aftermath) {
        self.touch();
        if let Some(ticket) = waiting {
            self.leave_idle(ticket, after);
        }
        if let Some(consumer) = self.consumers.remove(&consumer) {
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
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.parked = parked;
        }
        if parked && self.takers() == 0 {
            self.blocked.notify_all(after);
        }
    }

    pub(crate) fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// How many consumers are not parked.
    pub(crate) fn takers(&self) -> usize {
        self.consumers.values().filter(|consumer| !consumer.parked).count()
    }

    /// Hands copies to a consumer; `waiting` is its place on the list from an earlier call.
    pub(crate) fn take(
        &mut self,
        taking: Taking,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
        hand: &mut impl FnMut(Handed),
        after: &mut Aftermath,
    ) -> Taken {
        if let Some(ticket) = waiting {
            self.idle.leave(ticket, after);
        }
        let unsettled = self.consumers.get(&taking.consumer).map_or(0, |this| this.unsettled);
        let room = taking.prefetch.saturating_sub(unsettled);
        let taken = if self.is_over() {
            self.end()
        } else if room == 0 {
            if let Some(consumer) = self.consumers.get_mut(&taking.consumer) {
                after.remember(&mut consumer.stalled, cx);
            }
            Taken::Stalled
        } else {
            match self.hand_out(taking, taking.limit.min(room), hand, after) {
                0 if self.is_over() => self.end(),
                0 => Taken::Wait(self.idle.wait(cx.waker(), 0)),
                count => Taken::Some(count),
            }
        };
        // Behind a consumer that was woken others may wait for what it left; and one that could
        // not take what it was woken for passes the wake-up on.
        self.wake_idle(after);
        taken
    }

    /// Swaps everything that may be handed out into `batch`, for an exclusive automatic receiver
    /// that hands it out itself.
    pub(crate) fn take_batch(
        &mut self,
        batch: &mut Batch,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
        after: &mut Aftermath,
    ) -> Taken {
        if let Some(ticket) = waiting {
            self.idle.leave(ticket, after);
        }
        if self.lanes.is_empty() {
            return if self.is_over() {
                self.end()
            } else {
                Taken::Wait(self.idle.wait(cx.waker(), 0))
            };
        }
        let count = self.lanes.take_all(&mut batch.slots);
        self.batched += count as u64;
        if let Some(latest) = &mut self.latest {
            latest.clear();
        }
        self.room_was_freed(after);
        Taken::Some(count)
    }

    /// Copies in a batch were too old to be handed out.
    pub(crate) fn expired_in_batch(&mut self, count: u64) {
        self.batched -= count;
        self.books.expired += count;
    }

    /// Copies of a batch went to an application elsewhere and did not come there.
    pub(crate) fn lost_on_the_way(&mut self, count: u64) {
        self.batched -= count;
        self.books.drop_copies(reason::CONNECTION_LOST, count);
    }

    /// Puts back what an exclusive automatic receiver did not hand out.
    pub(crate) fn put_back(&mut self, batch: &mut Batch, after: &mut Aftermath) {
        for entry in batch.slots.drain(..).filter_map(crate::lanes::Slot::living) {
            self.batched -= entry.count() as u64;
            match self.ending {
                Ending::Closed(reason) => self.drop_copy(entry, reason, after),
                Ending::Open | Ending::Draining => self.lanes.put(entry),
            }
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
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
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
            if let Some(expires) = entry.expires
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
                let tag = self.lease(entry, taking.consumer);
                hand(Handed { message, attempt, missed, tag });
            } else {
                self.books.auto += 1;
                self.close_copy(&entry, after);
                hand(Handed { message: entry.message, attempt, missed, tag: 0 });
            }
        }
        if leased > 0
            && let Some(consumer) = self.consumers.get_mut(&taking.consumer)
        {
            consumer.unsettled += leased;
        }
        if count > 0 {
            self.touch();
        }
        count
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
            lease.due = Some(due);
            self.agenda.add(due, Due::TimedOut(tag));
        }
    }
}
