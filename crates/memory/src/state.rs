//! What a mailbox holds and who waits at it: plain data and single steps, under the mailbox's lock.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use posthaste_core::task::remember;
use posthaste_core::{Kind, Ledger, Message, Outcome, Overflow, Pattern};

use crate::leases::Leases;
use crate::mailbox::Settings;
use crate::wait::{Ticket, WaitList, Wakes};

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
    /// The broker drains: a queue hands out nothing more, anything else what it still holds.
    Draining,
    /// Nothing goes in or out any more; leases may still be out.
    Closed(&'static str),
}

/// A copy of a message.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    /// Where in the order of arrival; a copy that comes back goes to its old place.
    position: u64,
    /// How often it has been handed out.
    attempts: u32,
    /// How many were dropped right before it.
    missed: u32,
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

/// What a mailbox said to a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It holds a copy (or counted its drop, as its policy says).
    Taken,
    /// It is full: the sender has to wait, at this place on the list if it asked for one.
    Full(Option<Ticket>),
    /// It is gone.
    Gone,
}

/// A copy that was handed to a consumer.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    pub(crate) missed: u32,
    /// The lease to settle, of a manual consumer.
    pub(crate) tag: u64,
}

/// How a consumer takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taking {
    pub(crate) consumer: u64,
    pub(crate) manual: bool,
    pub(crate) prefetch: usize,
    pub(crate) limit: usize,
    pub(crate) now: Option<Instant>,
}

/// What a consumer got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// This many.
    Some(usize),
    /// None now; the consumer was put on the list.
    Wait(Ticket),
    /// None until it settles something; its waker is kept.
    Stalled,
    /// None ever again.
    End,
}

impl Taken {
    pub(crate) fn into_poll(self) -> Poll<usize> {
        match self {
            Self::Some(count) => Poll::Ready(count),
            Self::End => Poll::Ready(0),
            Self::Wait(_) | Self::Stalled => Poll::Pending,
        }
    }
}

/// What settling a lease led to.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    /// A request whose responder is gone: its requester has to be told.
    pub(crate) lost_request: Option<Message>,
    /// It was the last lease of a mailbox that is on its way out.
    pub(crate) drained: bool,
}

/// Copies that an exclusive automatic receiver took out and hands out one by one.
#[derive(Debug, Default)]
pub(crate) struct Batch(VecDeque<Entry>);

impl Batch {
    /// The next copy, and how many were dropped right before it.
    pub(crate) fn pop(&mut self) -> Option<(Message, u32)> {
        self.0.pop_front().map(|entry| (entry.message, entry.missed))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl State {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
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
        wakes: &mut Wakes,
    ) -> Admission {
        let Some(size) = slot.as_ref().map(Message::size) else {
            return Admission::Gone;
        };
        if let Ending::Closed(_) = self.ending {
            return Admission::Gone;
        }
        if self.has_room(size) {
            if let Some(message) = slot.take() {
                self.push(message, wakes);
            }
            return Admission::Taken;
        }
        if self.settings.overflow == Overflow::DropNewest {
            *slot = None;
            self.books.accepted += 1;
            self.books.drop_copy(reason::FULL);
            self.missed = self.missed.saturating_add(1);
            return Admission::Taken;
        }
        Admission::Full(wait.map(|cx| self.blocked.wait(cx)))
    }

    pub(crate) fn reserve(&mut self, size: usize, cx: &Context<'_>) -> Result<(), Ticket> {
        if self.settings.overflow != Overflow::Block || matches!(self.ending, Ending::Closed(_)) {
            return Ok(());
        }
        if !self.has_room(size) {
            return Err(self.blocked.wait(cx));
        }
        self.reserved += 1;
        self.reserved_bytes += size;
        Ok(())
    }

    pub(crate) fn unreserve(&mut self, size: usize, wakes: &mut Wakes) {
        self.release_reserved(size);
        self.wake_blocked(1, wakes);
    }

    pub(crate) fn admit_reserved(&mut self, message: Message, wakes: &mut Wakes) -> Admission {
        if self.settings.overflow != Overflow::Block {
            return self.admit(&mut Some(message), None, wakes);
        }
        // The room that was kept is there: a bound that was lowered since takes no promise back.
        self.release_reserved(message.size());
        if let Ending::Closed(_) = self.ending {
            return Admission::Gone;
        }
        self.push(message, wakes);
        Admission::Taken
    }

    pub(crate) fn leave_blocked(&mut self, ticket: Ticket, pass_on: bool, wakes: &mut Wakes) {
        if self.blocked.leave(ticket) && pass_on {
            self.blocked.notify_one(wakes);
        }
    }

    /// A bound in bytes admits one larger message when nothing else is held.
    fn has_room(&self, size: usize) -> bool {
        let messages = self.waiting.len() + self.leases.len() + self.reserved;
        let bytes = self.bytes + self.reserved_bytes;
        messages < self.settings.capacity_messages
            && (bytes + size <= self.settings.capacity_bytes || messages == 0)
    }

    fn release_reserved(&mut self, size: usize) {
        self.reserved = self.reserved.saturating_sub(1);
        self.reserved_bytes = self.reserved_bytes.saturating_sub(size);
    }

    fn push(&mut self, message: Message, wakes: &mut Wakes) {
        self.books.accepted += 1;
        self.bytes += message.size();
        let position = self.next_position;
        self.next_position += 1;
        let missed = std::mem::take(&mut self.missed);
        self.waiting.push_back(Entry { message, position, attempts: 0, missed });
        self.idle.notify_one(wakes);
    }

    // ---- out

    pub(crate) fn join(&mut self, consumer: u64) -> bool {
        if self.ending != Ending::Open {
            return false;
        }
        self.consumers.insert(consumer, Consumer::default());
        true
    }

    pub(crate) fn part(&mut self, consumer: u64, waiting: Option<Ticket>, wakes: &mut Wakes) {
        if let Some(ticket) = waiting {
            self.leave_idle(ticket, wakes);
        }
        self.consumers.remove(&consumer);
    }

    pub(crate) fn take(
        &mut self,
        taking: Taking,
        lets_out: bool,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
        hand: &mut impl FnMut(Handed),
        wakes: &mut Wakes,
    ) -> Taken {
        if let Some(ticket) = waiting {
            self.idle.leave(ticket);
        }
        let unsettled = self
            .consumers
            .get(&taking.consumer)
            .map_or(0, |this| this.unsettled);
        let room = taking.prefetch.saturating_sub(unsettled);
        let taken = if !self.lets_out(lets_out) {
            Taken::End
        } else if room == 0 {
            if let Some(consumer) = self.consumers.get_mut(&taking.consumer) {
                remember(&mut consumer.stalled, cx);
            }
            Taken::Stalled
        } else {
            match self.hand_out(taking, taking.limit.min(room), hand, wakes) {
                0 if self.lets_out(lets_out) => Taken::Wait(self.idle.wait(cx)),
                0 => Taken::End,
                count => Taken::Some(count),
            }
        };
        // Behind a consumer that was woken others may wait for what it left; and one that could
        // not take what it was woken for passes the wake-up on.
        self.wake_idle(wakes);
        taken
    }

    pub(crate) fn take_batch(
        &mut self,
        batch: &mut Batch,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
        wakes: &mut Wakes,
    ) -> Taken {
        if let Some(ticket) = waiting {
            self.idle.leave(ticket);
        }
        let count = self.waiting.len();
        if count == 0 {
            return match self.ending {
                Ending::Open => Taken::Wait(self.idle.wait(cx)),
                _ => Taken::End,
            };
        }
        std::mem::swap(&mut self.waiting, &mut batch.0);
        self.batched += count as u64;
        self.bytes = self.leases.bytes();
        self.wake_blocked(count, wakes);
        Taken::Some(count)
    }

    pub(crate) fn expired_in_batch(&mut self) {
        self.batched -= 1;
        self.books.expired += 1;
    }

    pub(crate) fn put_back(&mut self, batch: &mut Batch, wakes: &mut Wakes) {
        self.batched -= batch.0.len() as u64;
        self.bytes += batch
            .0
            .iter()
            .map(|entry| entry.message.size())
            .sum::<usize>();
        while let Some(entry) = batch.0.pop_back() {
            self.waiting.push_front(entry);
        }
        self.wake_idle(wakes);
    }

    pub(crate) fn leave_idle(&mut self, ticket: Ticket, wakes: &mut Wakes) {
        if self.idle.leave(ticket) {
            self.wake_idle(wakes);
        }
    }

    pub(crate) fn leave_stalled(&mut self, consumer: u64) {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.stalled = None;
        }
    }

    pub(crate) fn share_idle(&mut self, ticket: Ticket) {
        self.idle.share(ticket);
    }

    /// Whether anything may still be handed out.
    fn lets_out(&self, lets_out_when_draining: bool) -> bool {
        match self.ending {
            Ending::Open => true,
            Ending::Draining => lets_out_when_draining && !self.waiting.is_empty(),
            Ending::Closed(_) => false,
        }
    }

    fn hand_out(
        &mut self,
        taking: Taking,
        limit: usize,
        hand: &mut impl FnMut(Handed),
        wakes: &mut Wakes,
    ) -> usize {
        let mut count = 0;
        while count < limit
            && let Some(mut entry) = self.waiting.pop_front()
        {
            if entry
                .message
                .deadline()
                .zip(taking.now)
                .is_some_and(|(due, now)| due <= now)
            {
                self.books.expired += 1;
                self.free(&entry, wakes);
                continue;
            }
            count += 1;
            entry.attempts += 1;
            let (attempt, missed) = (entry.attempts, entry.missed);
            if taking.manual {
                let message = entry.message.clone();
                let tag = self.leases.insert(entry, taking.consumer);
                hand(Handed { message, attempt, missed, tag });
            } else {
                self.books.auto += 1;
                self.free(&entry, wakes);
                hand(Handed { message: entry.message, attempt, missed, tag: 0 });
            }
        }
        if taking.manual
            && let Some(consumer) = self.consumers.get_mut(&taking.consumer)
        {
            consumer.unsettled += count;
        }
        count
    }

    // ---- settling

    pub(crate) fn settle(
        &mut self,
        tag: u64,
        outcome: Outcome<'_>,
        wakes: &mut Wakes,
    ) -> Settlement {
        let Some(lease) = self.leases.remove(tag) else {
            return Settlement::default();
        };
        if let Some(consumer) = self.consumers.get_mut(&lease.consumer) {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
            if let Some(waker) = consumer.stalled.take() {
                wakes.push(waker);
            }
        }
        let lost_request = self.close_lease(lease.entry, outcome, wakes);
        let drained = self.leases.len() == 0 && self.ending != Ending::Open;
        Settlement {
            lost_request,
            drained,
        }
    }

    /// Ends a lease: the copy is gone, or back in its old place. A request that is gone without
    /// its responder having said so is handed back.
    fn close_lease(
        &mut self,
        mut entry: Entry,
        outcome: Outcome<'_>,
        wakes: &mut Wakes,
    ) -> Option<Message> {
        let is_request = entry.message.kind() == Kind::Request;
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
            (outcome, _) => {
                if outcome == Outcome::Release {
                    entry.attempts -= 1;
                }
                let place = self
                    .waiting
                    .partition_point(|this| this.position < entry.position);
                self.waiting.insert(place, entry);
                self.wake_idle(wakes);
                return None;
            }
        };
        self.free(&entry, wakes);
        unanswered.then_some(entry.message)
    }

    /// A copy is gone: its room is free.
    fn free(&mut self, entry: &Entry, wakes: &mut Wakes) {
        self.bytes -= entry.message.size();
        self.wake_blocked(1, wakes);
    }

    fn wake_blocked(&mut self, count: usize, wakes: &mut Wakes) {
        for _ in 0..count {
            if self.blocked.is_empty() {
                return;
            }
            self.blocked.notify_one(wakes);
        }
    }

    fn wake_idle(&mut self, wakes: &mut Wakes) {
        if !self.waiting.is_empty() {
            self.idle.notify_one(wakes);
        }
    }

    fn wake_everybody(&mut self, wakes: &mut Wakes) {
        self.idle.notify_all(wakes);
        self.blocked.notify_all(wakes);
        for consumer in self.consumers.values_mut() {
            if let Some(waker) = consumer.stalled.take() {
                wakes.push(waker);
            }
        }
    }

    // ---- management

    pub(crate) fn update(
        &mut self,
        messages: Option<usize>,
        bytes: Option<usize>,
        bindings: Vec<Pattern>,
        wakes: &mut Wakes,
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
        self.blocked.notify_all(wakes);
        self.settings.bindings[known..].to_vec()
    }

    pub(crate) fn start_drain(&mut self, wakes: &mut Wakes) {
        if self.ending == Ending::Open {
            self.ending = Ending::Draining;
        }
        self.wake_everybody(wakes);
    }

    pub(crate) fn close(&mut self, reason: &'static str, wakes: &mut Wakes) -> Vec<Message> {
        if let Ending::Closed(_) = self.ending {
            return Vec::new();
        }
        self.ending = Ending::Closed(reason);
        let mut requests = Vec::new();
        for entry in std::mem::take(&mut self.waiting) {
            self.books.drop_copy(reason);
            if entry.message.kind() == Kind::Request {
                requests.push(entry.message);
            }
        }
        self.bytes = self.leases.bytes();
        self.wake_everybody(wakes);
        requests
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
        let dropped_by: BTreeMap<_, _> = self
            .books
            .dropped
            .iter()
            .map(|(why, count)| ((*why).to_owned(), *count))
            .collect();
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
