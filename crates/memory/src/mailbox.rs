//! One place that holds messages: a subscription, a group, a queue or an inbox. Its lock is held
//! for a few dozen instructions and never while anybody is woken.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use posthaste_core::task::lock;
use posthaste_core::{Kind, Ledger, Message, Outcome, Overflow, Pattern, QueueInfo, Topic};

use crate::leases::Leases;
use crate::wait::{Ticket, WaitList, Wakes};

/// Why a copy was dropped, as the ledger names it.
pub(crate) mod reason {
    pub(crate) const FULL: &str = "full";
    pub(crate) const REJECTED: &str = "rejected";
    pub(crate) const UNSUBSCRIBED: &str = "unsubscribed";
    pub(crate) const QUEUE_DELETED: &str = "queue_deleted";
    pub(crate) const RESPONDER_LOST: &str = "responder_lost";
}

/// What kind of place a mailbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One receiver's own copies; gone with it.
    Subscription,
    /// Copies shared by the members of a group; gone with the last one.
    Group,
    /// A queue; stays until it is deleted.
    Queue,
}

/// Where the copies of messages wait for their consumers.
#[derive(Debug)]
pub(crate) struct Mailbox {
    id: u64,
    role: Role,
    name: Topic,
    consumers: AtomicUsize,
    /// Copies that an exclusive automatic receiver has handed out of its own batch. Only that
    /// receiver writes it.
    handed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
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
    /// Consumers that wait for a message.
    idle: WaitList,
    /// Senders that wait for room.
    blocked: WaitList,
    consumers: BTreeMap<u64, Consumer>,
    books: Books,
    ending: Ending,
}

/// Bounds, and what happens at them.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) capacity_messages: usize,
    pub(crate) capacity_bytes: usize,
    pub(crate) overflow: Overflow,
    pub(crate) bindings: Vec<Pattern>,
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

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    /// Where in the order of arrival; a copy that comes back goes to its old place.
    position: u64,
    /// How often it has been handed out.
    attempts: u32,
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

impl Mailbox {
    pub(crate) fn new(id: u64, role: Role, name: Topic, settings: Settings) -> Self {
        Self {
            id,
            role,
            name,
            consumers: AtomicUsize::new(0),
            handed: AtomicU64::new(0),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                leases: Leases::default(),
                batched: 0,
                bytes: 0,
                reserved: 0,
                reserved_bytes: 0,
                settings,
                next_position: 0,
                idle: WaitList::default(),
                blocked: WaitList::default(),
                consumers: BTreeMap::new(),
                books: Books::default(),
                ending: Ending::Open,
            }),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn name(&self) -> &Topic {
        &self.name
    }

    /// Whether somebody is there to take what is put in now.
    pub(crate) fn has_consumers(&self) -> bool {
        self.consumers.load(Ordering::SeqCst) > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    // ---- in

    /// Takes the message out of `slot` if there is room, else puts the sender (whose `wait` it is)
    /// on the list of those that wait for some.
    pub(crate) fn admit(
        &self,
        slot: &mut Option<Message>,
        wait: Option<&Context<'_>>,
    ) -> Admission {
        let Some(size) = slot.as_ref().map(Message::size) else {
            return Admission::Gone;
        };
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if let Ending::Closed(_) = state.ending {
            return Admission::Gone;
        }
        if state.has_room(size) {
            if let Some(message) = slot.take() {
                state.push(message, &mut wakes);
            }
        } else if state.settings.overflow == Overflow::DropNewest {
            *slot = None;
            state.books.accepted += 1;
            state.books.drop_copy(reason::FULL);
        } else {
            return Admission::Full(wait.map(|cx| state.blocked.wait(cx)));
        }
        drop(state);
        wakes.wake();
        Admission::Taken
    }

    /// Keeps room for a copy of `size` bytes, or puts the sender on the list of those that wait.
    /// What never makes a sender wait needs no room kept.
    pub(crate) fn reserve(&self, size: usize, cx: &Context<'_>) -> Result<(), Option<Ticket>> {
        let mut state = self.lock();
        if state.settings.overflow != Overflow::Block || matches!(state.ending, Ending::Closed(_)) {
            return Ok(());
        }
        if !state.has_room(size) {
            return Err(Some(state.blocked.wait(cx)));
        }
        state.reserved += 1;
        state.reserved_bytes += size;
        Ok(())
    }

    /// Gives up the room that was kept.
    pub(crate) fn unreserve(&self, size: usize) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.unreserve(size);
        state.blocked.notify_one(&mut wakes);
        drop(state);
        wakes.wake();
    }

    /// Takes a copy into the room that was kept.
    pub(crate) fn admit_reserved(&self, message: Message) -> Admission {
        let mut state = self.lock();
        if state.settings.overflow == Overflow::Block {
            // The room that was kept is there: a bound that was lowered since then does not
            // take a promise back.
            state.unreserve(message.size());
            if let Ending::Closed(_) = state.ending {
                return Admission::Gone;
            }
            let mut wakes = Wakes::default();
            state.push(message, &mut wakes);
            drop(state);
            wakes.wake();
            return Admission::Taken;
        }
        drop(state);
        self.admit(&mut Some(message), None)
    }

    /// A sender no longer waits. A wake-up that it got and does not use is passed on.
    pub(crate) fn leave_blocked(&self, ticket: Ticket, pass_on: bool) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if state.blocked.leave(ticket) && pass_on {
            state.blocked.notify_one(&mut wakes);
        }
        drop(state);
        wakes.wake();
    }

    // ---- out

    /// Adds a consumer; false if the mailbox is gone.
    pub(crate) fn join(&self, consumer: u64) -> bool {
        let mut state = self.lock();
        if state.ending != Ending::Open {
            return false;
        }
        state.consumers.insert(consumer, Consumer::default());
        self.consumers
            .store(state.consumers.len(), Ordering::SeqCst);
        true
    }

    /// Removes a consumer and its place on the list, and says whether it was the last.
    pub(crate) fn part(&self, consumer: u64, waiting: Option<Ticket>) -> bool {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if let Some(ticket) = waiting
            && state.idle.leave(ticket)
        {
            state.wake_idle(&mut wakes);
        }
        state.consumers.remove(&consumer);
        self.consumers
            .store(state.consumers.len(), Ordering::SeqCst);
        let last = state.consumers.is_empty();
        drop(state);
        wakes.wake();
        last
    }

    /// Hands copies to a consumer; `waiting` is its place on the list from an earlier call.
    pub(crate) fn take(
        &self,
        taking: Taking,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
        hand: &mut impl FnMut(Handed),
    ) -> Taken {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if let Some(ticket) = waiting {
            state.idle.leave(ticket);
        }
        let taken = state.take(self.role, taking, cx, hand, &mut wakes);
        // Behind a consumer that was woken others may wait for what it left; and one that could
        // not take what it was woken for passes the wake-up on.
        state.wake_idle(&mut wakes);
        let taken = match taken {
            Some(taken) => taken,
            None => Taken::Wait(state.idle.wait(cx)),
        };
        drop(state);
        wakes.wake();
        taken
    }

    /// Swaps everything that waits into `batch`, for an exclusive automatic receiver that hands
    /// it out itself and says so through [`handed_out`](Self::handed_out).
    pub(crate) fn take_batch(
        &self,
        batch: &mut Batch,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Taken {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if let Some(ticket) = waiting {
            state.idle.leave(ticket);
        }
        let count = state.waiting.len();
        let taken = if count > 0 {
            let State { waiting, .. } = &mut *state;
            std::mem::swap(waiting, &mut batch.0);
            state.batched += count as u64;
            state.bytes = state.leases.bytes();
            state.wake_blocked(count, &mut wakes);
            Taken::Some(count)
        } else if state.ending != Ending::Open {
            Taken::End
        } else {
            Taken::Wait(state.idle.wait(cx))
        };
        drop(state);
        wakes.wake();
        taken
    }

    /// The exclusive automatic receiver handed one more out.
    pub(crate) fn handed_out(&self) {
        // One writer, so no read-modify-write is needed.
        self.handed
            .store(self.handed.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// A copy in a batch was too old to be handed out.
    pub(crate) fn expired_in_batch(&self) {
        let mut state = self.lock();
        state.batched -= 1;
        state.books.expired += 1;
    }

    /// Puts back what an exclusive automatic receiver did not hand out.
    pub(crate) fn put_back(&self, batch: &mut Batch) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.batched -= batch.0.len() as u64;
        state.bytes += batch
            .0
            .iter()
            .map(|entry| entry.message.size())
            .sum::<usize>();
        while let Some(entry) = batch.0.pop_back() {
            state.waiting.push_front(entry);
        }
        state.wake_idle(&mut wakes);
        drop(state);
        wakes.wake();
    }

    /// A consumer gave up waiting: a wake-up that it got goes to the next.
    pub(crate) fn leave_idle(&self, ticket: Ticket) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if state.idle.leave(ticket) {
            state.wake_idle(&mut wakes);
        }
        drop(state);
        wakes.wake();
    }

    /// A consumer gave up waiting for a settlement of its own.
    pub(crate) fn leave_stalled(&self, consumer: u64) {
        if let Some(consumer) = self.lock().consumers.get_mut(&consumer) {
            consumer.stalled = None;
        }
    }

    /// A consumer may never be polled again: its wake-up goes to the next one as well.
    pub(crate) fn share_idle(&self, ticket: Ticket) {
        self.lock().idle.share(ticket);
    }

    // ---- settling

    /// Settles a lease.
    pub(crate) fn settle(&self, tag: u64, outcome: Outcome<'_>) -> Settlement {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let Some(lease) = state.leases.remove(tag) else {
            return Settlement {
                lost_request: None,
                drained: false,
            };
        };
        if let Some(consumer) = state.consumers.get_mut(&lease.consumer) {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
            if let Some(waker) = consumer.stalled.take() {
                wakes.push(waker);
            }
        }
        let lost_request = state.close_lease(lease.entry, outcome, &mut wakes);
        let drained = state.leases.len() == 0 && state.ending != Ending::Open;
        drop(state);
        wakes.wake();
        Settlement {
            lost_request,
            drained,
        }
    }

    // ---- management

    /// Changes the settings that are named, and says which bindings are new.
    pub(crate) fn update(
        &self,
        messages: Option<usize>,
        bytes: Option<usize>,
        bindings: Vec<Pattern>,
    ) -> Vec<Pattern> {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let settings = &mut state.settings;
        settings.capacity_messages = messages.unwrap_or(settings.capacity_messages);
        settings.capacity_bytes = bytes.unwrap_or(settings.capacity_bytes);
        let mut new = Vec::new();
        for binding in bindings {
            if !settings.bindings.contains(&binding) {
                settings.bindings.push(binding.clone());
                new.push(binding);
            }
        }
        state.blocked.notify_all(&mut wakes);
        drop(state);
        wakes.wake();
        new
    }

    /// Lets nothing more out of a queue, and nothing more into anything.
    pub(crate) fn start_drain(&self) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if state.ending == Ending::Open {
            state.ending = Ending::Draining;
        }
        state.wake_everybody(&mut wakes);
        drop(state);
        wakes.wake();
    }

    /// Closes the mailbox for good: what waits is dropped for `reason`. The requests among it are
    /// handed back, because somebody waits for their answer.
    pub(crate) fn close(&self, reason: &'static str) -> Vec<Message> {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if let Ending::Closed(_) = state.ending {
            return Vec::new();
        }
        state.ending = Ending::Closed(reason);
        let mut requests = Vec::new();
        for entry in std::mem::take(&mut state.waiting) {
            state.books.drop_copy(reason);
            if entry.message.kind() == Kind::Request {
                requests.push(entry.message);
            }
        }
        state.bytes = state.leases.bytes();
        state.wake_everybody(&mut wakes);
        drop(state);
        wakes.wake();
        requests
    }

    pub(crate) fn bindings(&self) -> Vec<Pattern> {
        self.lock().settings.bindings.clone()
    }

    /// Copies that are handed out and not settled, and (unless this is a queue) copies that a
    /// drain still lets out.
    pub(crate) fn outstanding(&self) -> (u64, u64) {
        let state = self.lock();
        let leased = state.leases.len() as u64;
        let waiting = state.waiting.len() as u64 + state.unhanded(self);
        (leased, waiting)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.lock().ledger(self)
    }

    pub(crate) fn info(&self) -> QueueInfo {
        let state = self.lock();
        QueueInfo {
            name: self.name.clone(),
            messages: (state.waiting.len() + state.leases.len()) as u64,
            unsettled: state.leases.len() as u64,
            bytes: state.bytes as u64,
            consumers: state.consumers.len() as u64,
            capacity_messages: state.settings.capacity_messages as u64,
            capacity_bytes: state.settings.capacity_bytes as u64,
            durable: false,
            bindings: state.settings.bindings.clone(),
            ledger: state.ledger(self),
        }
    }
}

/// What settling a lease led to.
#[derive(Debug)]
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
    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.0.pop_front().map(|entry| entry.message)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl State {
    /// A bound in bytes admits one larger message when nothing else is held.
    fn has_room(&self, size: usize) -> bool {
        let messages = self.waiting.len() + self.leases.len() + self.reserved;
        let bytes = self.bytes + self.reserved_bytes;
        messages < self.settings.capacity_messages
            && (bytes + size <= self.settings.capacity_bytes || messages == 0)
    }

    fn unreserve(&mut self, size: usize) {
        self.reserved = self.reserved.saturating_sub(1);
        self.reserved_bytes = self.reserved_bytes.saturating_sub(size);
    }

    fn push(&mut self, message: Message, wakes: &mut Wakes) {
        self.books.accepted += 1;
        self.bytes += message.size();
        let position = self.next_position;
        self.next_position += 1;
        self.waiting.push_back(Entry {
            message,
            position,
            attempts: 0,
        });
        self.idle.notify_one(wakes);
    }

    /// `None` means that there is nothing to take now.
    fn take(
        &mut self,
        role: Role,
        taking: Taking,
        cx: &mut Context<'_>,
        hand: &mut impl FnMut(Handed),
        wakes: &mut Wakes,
    ) -> Option<Taken> {
        match self.ending {
            Ending::Open => {}
            Ending::Draining if role != Role::Queue && !self.waiting.is_empty() => {}
            _ => return Some(Taken::End),
        }
        let unsettled = self
            .consumers
            .get(&taking.consumer)
            .map_or(0, |this| this.unsettled);
        let limit = taking.limit.min(taking.prefetch.saturating_sub(unsettled));
        if limit == 0 {
            if let Some(consumer) = self.consumers.get_mut(&taking.consumer) {
                posthaste_core::task::remember(&mut consumer.stalled, cx);
            }
            return Some(Taken::Stalled);
        }
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
            let (message, attempt) = (entry.message.clone(), entry.attempts);
            let tag = if taking.manual {
                self.leases.insert(entry, taking.consumer)
            } else {
                self.books.auto += 1;
                self.free(&entry, wakes);
                0
            };
            hand(Handed {
                message,
                attempt,
                tag,
            });
        }
        if count == 0 {
            return None;
        }
        if taking.manual
            && let Some(consumer) = self.consumers.get_mut(&taking.consumer)
        {
            consumer.unsettled += count;
        }
        Some(Taken::Some(count))
    }

    /// A copy is gone: its room is free.
    fn free(&mut self, entry: &Entry, wakes: &mut Wakes) {
        self.bytes -= entry.message.size();
        self.wake_blocked(1, wakes);
    }

    /// Ends a lease: the copy is gone, or back in its old place.
    fn close_lease(
        &mut self,
        mut entry: Entry,
        outcome: Outcome<'_>,
        wakes: &mut Wakes,
    ) -> Option<Message> {
        let gone = match (outcome, self.ending) {
            (Outcome::Ack, _) => {
                self.books.acked += 1;
                true
            }
            (Outcome::Reject { .. }, _) => {
                self.books.drop_copy(reason::REJECTED);
                true
            }
            (Outcome::Dropped, _) if entry.message.kind() == Kind::Request => {
                // At most once: nobody knows how far the responder got.
                self.books.drop_copy(reason::RESPONDER_LOST);
                self.free(&entry, wakes);
                return Some(entry.message);
            }
            (_, Ending::Closed(reason)) => {
                self.books.drop_copy(reason);
                true
            }
            _ => false,
        };
        if gone {
            let closed = matches!(self.ending, Ending::Closed(_));
            self.free(&entry, wakes);
            let unanswered = closed && !matches!(outcome, Outcome::Ack | Outcome::Reject { .. });
            return (unanswered && entry.message.kind() == Kind::Request).then_some(entry.message);
        }
        if outcome == Outcome::Release {
            entry.attempts -= 1;
        }
        let place = self
            .waiting
            .partition_point(|this| this.position < entry.position);
        self.waiting.insert(place, entry);
        self.wake_idle(wakes);
        None
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

    /// Copies in the batch of an exclusive automatic receiver.
    fn unhanded(&self, mailbox: &Mailbox) -> u64 {
        self.batched
            .saturating_sub(mailbox.handed.load(Ordering::Acquire))
    }

    /// The books: what went is counted when it goes, what is held is counted where it lies.
    fn ledger(&self, mailbox: &Mailbox) -> Ledger {
        let unhanded = self.unhanded(mailbox);
        Ledger {
            accepted: self.books.accepted,
            acked: self.books.acked,
            auto: self.books.auto + (self.batched - unhanded),
            dead_lettered: 0,
            expired: self.books.expired,
            dropped: self.books.dropped.values().sum(),
            held: (self.waiting.len() + self.leases.len()) as u64 + unhanded,
            dropped_by: self
                .books
                .dropped
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            ..Ledger::default()
        }
    }
}
