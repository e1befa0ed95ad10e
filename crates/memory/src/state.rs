//! What a mailbox holds and who waits at it: plain data and single steps, under the mailbox's lock.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Waker};

use posthaste_core::{Ledger, Message, Outcome, Overflow, Pattern};

use crate::aftermath::Aftermath;
use crate::copies::{
    Admission, Batch, Entry, Handed, Leftovers, Settlement, Taken, Taking, Unanswered,
};
use crate::leases::Leases;
use crate::mailbox::{Role, Settings};
use crate::room::Room;
use crate::wait::{Ticket, WaitList};

/// Why a copy was dropped, as the ledger names it.
pub(crate) mod reason {
    pub(crate) const FULL: &str = "full";
    pub(crate) const REJECTED: &str = "rejected";
    pub(crate) const UNSUBSCRIBED: &str = "unsubscribed";
    pub(crate) const QUEUE_DELETED: &str = "queue_deleted";
    pub(crate) const CONNECTION_LOST: &str = "connection_lost";
    pub(crate) const RESPONDER_LOST: &str = "responder_lost";
}

/// The inside of a mailbox.
#[derive(Debug)]
pub(crate) struct State {
    role: Role,
    waiting: VecDeque<Entry>,
    leases: Leases,
    /// Copies that an exclusive automatic receiver took out in batches, to hand them out itself.
    batched: u64,
    /// Bytes of waiting and leased copies.
    bytes: usize,
    reserved: usize,
    reserved_bytes: usize,
    settings: Settings,
    next_position: u64,
    /// Copies that were dropped since the last one that was taken in.
    missed: u32,
    /// Consumers that wait for a message.
    idle: WaitList,
    /// Senders that wait for room.
    blocked: WaitList,
    consumers: BTreeMap<u64, Consumer>,
    books: Books,
    ending: Ending,
}

/// Whether a mailbox is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// The broker drains: nothing goes in; a queue hands out nothing more, anything else what it
    /// still holds.
    Draining,
    /// Nothing goes in or out any more; leases may still be out.
    Closed(&'static str),
}

#[derive(Debug, Default)]
struct Consumer {
    unsettled: usize,
    /// The consumer waits for a settlement of its own, because its prefetch is used up.
    stalled: Option<Waker>,
}

#[derive(Debug, Default)]
struct Books {
    accepted: u64,
    acked: u64,
    auto: u64,
    expired: u64,
    dropped: BTreeMap<&'static str, u64>,
}

impl Books {
    fn drop_copy(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }
}

impl State {
    pub(crate) fn new(role: Role, settings: Settings) -> Self {
        Self {
            role,
            waiting: VecDeque::new(),
            leases: Leases::default(),
            batched: 0,
            bytes: 0,
            reserved: 0,
            reserved_bytes: 0,
            settings,
            next_position: 0,
            missed: 0,
            idle: WaitList::default(),
            blocked: WaitList::default(),
            consumers: BTreeMap::new(),
            books: Books::default(),
            ending: Ending::Open,
        }
    }

    // ---- in

    pub(crate) fn admit(
        &mut self,
        slot: &mut Option<Message>,
        wait: Option<&Context<'_>>,
        after: &mut Aftermath,
    ) -> Admission {
        let Some(size) = slot.as_ref().map(Message::size) else {
            return Admission::Gone;
        };
        if let Some(refused) = self.refusal() {
            return refused;
        }
        if self.room().fits(size) {
            if let Some(message) = slot.take() {
                self.push(message, after);
            }
            return Admission::Taken;
        }
        if self.settings.overflow == Overflow::DropNewest {
            self.books.accepted += 1;
            self.books.drop_copy(reason::FULL);
            self.missed = self.missed.saturating_add(1);
            return Admission::Taken;
        }
        Admission::Full(wait.map(|cx| self.blocked.wait(cx, size)))
    }

    /// `Taken` is a promise of room.
    pub(crate) fn reserve(&mut self, size: usize, cx: &Context<'_>) -> Admission {
        if let Some(refused) = self.refusal() {
            return refused;
        }
        if self.settings.overflow != Overflow::Block {
            return Admission::Taken;
        }
        if !self.room().fits(size) {
            return Admission::Full(Some(self.blocked.wait(cx, size)));
        }
        self.reserved += 1;
        self.reserved_bytes += size;
        Admission::Taken
    }

    pub(crate) fn unreserve(&mut self, size: usize, after: &mut Aftermath) {
        if self.settings.overflow != Overflow::Block {
            return;
        }
        self.release_reserved(size);
        self.wake_blocked(after);
        if self.is_over() {
            self.idle.notify_all(after);
        }
    }

    pub(crate) fn admit_reserved(&mut self, message: Message, after: &mut Aftermath) -> Admission {
        if self.settings.overflow != Overflow::Block {
            return self.admit(&mut Some(message), None, after);
        }
        // The room that was kept is there: a bound that was lowered since takes no promise back,
        // and neither does a drain that began since.
        self.release_reserved(message.size());
        if let Ending::Closed(_) = self.ending {
            return Admission::Gone;
        }
        self.push(message, after);
        Admission::Taken
    }

    pub(crate) fn leave_blocked(&mut self, ticket: Ticket, after: &mut Aftermath) {
        if self.blocked.leave(ticket, after) {
            // The room that it was woken for, and did not take, is the next sender's.
            self.wake_blocked(after);
        }
    }

    fn refusal(&self) -> Option<Admission> {
        match self.ending {
            Ending::Open => None,
            Ending::Draining => Some(Admission::Draining),
            Ending::Closed(_) => Some(Admission::Gone),
        }
    }

    fn room(&self) -> Room {
        Room {
            messages: self.waiting.len() + self.leases.len() + self.reserved,
            bytes: self.bytes + self.reserved_bytes,
            capacity_messages: self.settings.capacity_messages,
            capacity_bytes: self.settings.capacity_bytes,
        }
    }

    fn release_reserved(&mut self, size: usize) {
        self.reserved = self.reserved.saturating_sub(1);
        self.reserved_bytes = self.reserved_bytes.saturating_sub(size);
    }

    fn push(&mut self, message: Message, after: &mut Aftermath) {
        self.books.accepted += 1;
        self.bytes += message.size();
        let position = self.next_position;
        self.next_position += 1;
        let missed = std::mem::take(&mut self.missed);
        self.waiting.push_back(Entry { message, position, attempts: 0, missed });
        self.idle.notify_one(after);
    }

    // ---- out

    pub(crate) fn join(&mut self, consumer: u64) -> bool {
        if self.ending != Ending::Open {
            return false;
        }
        self.consumers.insert(consumer, Consumer::default());
        true
    }

    /// Removes a consumer. When the last one leaves a queue, the requests in it that did not say
    /// that they wait are handed back.
    pub(crate) fn part(
        &mut self,
        consumer: u64,
        waiting: Option<Ticket>,
        after: &mut Aftermath,
    ) -> Vec<Unanswered> {
        if let Some(ticket) = waiting {
            self.leave_idle(ticket, after);
        }
        if let Some(consumer) = self.consumers.remove(&consumer) {
            after.discard(consumer.stalled);
        }
        let mut unanswered = Vec::new();
        if self.waiting.iter().any(|entry| self.is_orphan(entry)) {
            for entry in std::mem::take(&mut self.waiting) {
                if self.is_orphan(&entry) {
                    self.books.drop_copy(reason::RESPONDER_LOST);
                    self.free(&entry);
                    unanswered.push(entry.into_unanswered());
                } else {
                    self.waiting.push_back(entry);
                }
            }
            self.wake_blocked(after);
        }
        unanswered
    }

    /// A request that waits in a queue for nobody, although it did not say that it waits. (Groups
    /// and subscriptions are gone with their last consumer.)
    fn is_orphan(&self, entry: &Entry) -> bool {
        self.role == Role::Queue
            && self.consumers.is_empty()
            && entry.is_request()
            && !entry.message.waits()
    }

    pub(crate) fn take(
        &mut self,
        taking: Taking<'_>,
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
            Taken::End
        } else if room == 0 {
            if let Some(consumer) = self.consumers.get_mut(&taking.consumer) {
                after.remember(&mut consumer.stalled, cx);
            }
            Taken::Stalled
        } else {
            match self.hand_out(taking, taking.limit.min(room), hand, after) {
                0 if self.is_over() => Taken::End,
                0 => Taken::Wait(self.idle.wait(cx, 0)),
                count => Taken::Some(count),
            }
        };
        // Behind a consumer that was woken others may wait for what it left; and one that could
        // not take what it was woken for passes the wake-up on.
        self.wake_idle(after);
        taken
    }

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
        let count = self.waiting.len();
        if count == 0 {
            return if self.is_over() { Taken::End } else { Taken::Wait(self.idle.wait(cx, 0)) };
        }
        std::mem::swap(&mut self.waiting, &mut batch.entries);
        self.batched += count as u64;
        self.bytes = self.leases.bytes();
        self.wake_blocked(after);
        Taken::Some(count)
    }

    pub(crate) fn expired_in_batch(&mut self, count: u64) {
        self.batched -= count;
        self.books.expired += count;
    }

    pub(crate) fn put_back(&mut self, batch: &mut Batch, after: &mut Aftermath) {
        let entries = std::mem::take(&mut batch.entries);
        self.batched -= entries.len() as u64;
        for entry in entries.into_iter().rev() {
            self.bytes += entry.message.size();
            self.waiting.push_front(entry);
        }
        self.wake_idle(after);
    }

    pub(crate) fn leave_idle(&mut self, ticket: Ticket, after: &mut Aftermath) {
        if self.idle.leave(ticket, after) {
            self.wake_idle(after);
        }
    }

    pub(crate) fn leave_stalled(&mut self, consumer: u64, after: &mut Aftermath) {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            after.discard(consumer.stalled.take());
        }
    }

    pub(crate) fn share_idle(&mut self, ticket: Ticket, after: &mut Aftermath) {
        if self.idle.share(ticket) {
            self.wake_idle(after);
        }
    }

    /// Whether nothing will be handed out any more.
    fn is_over(&self) -> bool {
        match self.ending {
            Ending::Open => false,
            Ending::Draining => {
                self.role == Role::Queue || (self.waiting.is_empty() && self.reserved == 0)
            }
            Ending::Closed(_) => true,
        }
    }

    fn hand_out(
        &mut self,
        taking: Taking<'_>,
        limit: usize,
        hand: &mut impl FnMut(Handed),
        after: &mut Aftermath,
    ) -> usize {
        let (mut count, mut now) = (0, None);
        while count < limit
            && let Some(mut entry) = self.waiting.pop_front()
        {
            if let Some(due) = entry.message.deadline()
                && let Some(clock) = taking.clock
                && due <= *now.get_or_insert_with(|| clock.now())
            {
                self.books.expired += 1;
                self.free(&entry);
                // What was missed before it was missed before the next.
                let missed = match self.waiting.front_mut() {
                    Some(next) => &mut next.missed,
                    None => &mut self.missed,
                };
                *missed = missed.saturating_add(entry.missed);
                after.forget(entry.message);
                continue;
            }
            count += 1;
            entry.attempts = entry.attempts.saturating_add(1);
            let (attempt, missed) = (entry.attempts, entry.missed);
            if taking.manual {
                let message = entry.message.clone();
                let tag = self.leases.insert(entry, taking.consumer);
                hand(Handed { message, attempt, missed, tag });
            } else {
                self.books.auto += 1;
                self.free(&entry);
                hand(Handed { message: entry.message, attempt, missed, tag: 0 });
            }
        }
        if taking.manual
            && let Some(consumer) = self.consumers.get_mut(&taking.consumer)
        {
            consumer.unsettled += count;
        }
        self.wake_blocked(after);
        count
    }

    // ---- settling

    pub(crate) fn settle(
        &mut self,
        tag: u64,
        outcome: Outcome<'_>,
        after: &mut Aftermath,
    ) -> Settlement {
        let Some(lease) = self.leases.remove(tag) else {
            return Settlement::default();
        };
        if let Some(consumer) = self.consumers.get_mut(&lease.consumer) {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
            if let Some(waker) = consumer.stalled.take() {
                after.wake(waker);
            }
        }
        let unanswered = self.close_lease(lease.entry, outcome, after);
        let drained = self.leases.len() == 0 && self.ending != Ending::Open;
        Settlement { unanswered, drained }
    }

    /// Ends a lease: the copy is gone, or back in its old place. A request that is gone without
    /// its responder having said so is handed back.
    fn close_lease(
        &mut self,
        mut entry: Entry,
        outcome: Outcome<'_>,
        after: &mut Aftermath,
    ) -> Option<Unanswered> {
        let is_request = entry.is_request();
        if outcome == Outcome::Release {
            entry.attempts = entry.attempts.saturating_sub(1);
        }
        let unanswered = match (outcome, self.ending) {
            (Outcome::Ack, _) => {
                self.books.acked += 1;
                false
            }
            (Outcome::Taken, _) => {
                self.books.auto += 1;
                false
            }
            (Outcome::Lost, _) => {
                self.books.drop_copy(reason::CONNECTION_LOST);
                is_request
            }
            (Outcome::Reject { .. }, _) => {
                self.books.drop_copy(reason::REJECTED);
                false
            }
            (Outcome::Dropped, _) if is_request => {
                // At most once: nobody knows how far the responder got.
                self.books.drop_copy(reason::RESPONDER_LOST);
                true
            }
            (_, Ending::Closed(reason)) => {
                self.books.drop_copy(reason);
                is_request
            }
            _ if self.is_orphan(&entry) => {
                self.books.drop_copy(reason::RESPONDER_LOST);
                true
            }
            _ => {
                let place = self.waiting.partition_point(|this| this.position < entry.position);
                self.waiting.insert(place, entry);
                self.wake_idle(after);
                return None;
            }
        };
        self.free(&entry);
        self.wake_blocked(after);
        if unanswered {
            return Some(entry.into_unanswered());
        }
        after.forget(entry.message);
        None
    }

    /// A copy is gone: its room is free, for [`wake_blocked`](Self::wake_blocked) to give away.
    fn free(&mut self, entry: &Entry) {
        self.bytes -= entry.message.size();
    }

    /// Wakes the senders that there is room for.
    fn wake_blocked(&mut self, after: &mut Aftermath) {
        if !self.blocked.is_empty() {
            self.blocked.notify_fitting(self.room(), after);
        }
    }

    fn wake_idle(&mut self, after: &mut Aftermath) {
        if !self.waiting.is_empty() {
            self.idle.notify_one(after);
        }
    }

    fn wake_everybody(&mut self, after: &mut Aftermath) {
        self.idle.notify_all(after);
        self.blocked.notify_all(after);
        for consumer in self.consumers.values_mut() {
            if let Some(waker) = consumer.stalled.take() {
                after.wake(waker);
            }
        }
    }

    // ---- management

    pub(crate) fn update(
        &mut self,
        messages: Option<usize>,
        bytes: Option<usize>,
        bindings: Vec<Pattern>,
        after: &mut Aftermath,
    ) -> Vec<Pattern> {
        let settings = &mut self.settings;
        settings.capacity_messages = messages.unwrap_or(settings.capacity_messages);
        settings.capacity_bytes = bytes.unwrap_or(settings.capacity_bytes);
        let known = settings.bindings.len();
        for binding in bindings {
            if !settings.bindings.contains(&binding) {
                settings.bindings.push(binding);
            }
        }
        let new = self.settings.bindings[known..].to_vec();
        self.wake_blocked(after);
        new
    }

    pub(crate) fn start_drain(&mut self, after: &mut Aftermath) {
        if self.ending == Ending::Open {
            self.ending = Ending::Draining;
        }
        self.wake_everybody(after);
    }

    /// Closes for good, and hands back what waited.
    pub(crate) fn close(&mut self, reason: &'static str, after: &mut Aftermath) -> Leftovers {
        if let Ending::Closed(_) = self.ending {
            return Leftovers::default();
        }
        self.ending = Ending::Closed(reason);
        for _ in &self.waiting {
            self.books.drop_copy(reason);
        }
        self.bytes = self.leases.bytes();
        self.wake_everybody(after);
        Leftovers(std::mem::take(&mut self.waiting))
    }

    // ---- looking

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn consumers(&self) -> usize {
        self.consumers.len()
    }

    pub(crate) fn leased(&self) -> u64 {
        self.leases.len() as u64
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Copies that are about to come: their senders keep room at several places first.
    pub(crate) fn promised(&self) -> u64 {
        self.reserved as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Copies in the batch of an exclusive automatic receiver that has handed out `handed`.
    pub(crate) fn unhanded(&self, handed: u64) -> u64 {
        self.batched.saturating_sub(handed)
    }

    /// The books: what went is counted when it goes, what is held is counted where it lies.
    pub(crate) fn ledger(&self, handed: u64) -> Ledger {
        let unhanded = self.unhanded(handed);
        let dropped_by: BTreeMap<_, _> =
            self.books.dropped.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
        Ledger {
            accepted: self.books.accepted,
            acked: self.books.acked,
            auto: self.books.auto + (self.batched - unhanded),
            expired: self.books.expired,
            dropped: dropped_by.values().sum(),
            held: self.waiting() + self.leased() + unhanded,
            dropped_by,
            ..Ledger::default()
        }
    }
}
