//! One place that holds messages: a subscription, a group, a queue or an inbox. This is the lock
//! around its state: held for a few dozen instructions, and never while anybody is woken.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Context;

use posthaste_core::task::lock;
use posthaste_core::{
    Ledger, Message, Outcome, Overflow, Pattern, QueueInfo, QueueSettings, Topic,
};

use crate::aftermath::Aftermath;
use crate::copies::{Admission, Batch, Handed, Leftovers, Settlement, Taken, Taking, Unanswered};
use crate::state::State;
use crate::wait::Ticket;

/// What kind of place a mailbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One receiver's own copies; gone with it.
    Subscription,
    /// As a subscription, for answers: a drain leaves it open for as long as some may come.
    Inbox,
    /// Copies shared by the members of a group; gone with the last one.
    Group,
    /// A queue; stays until it is deleted.
    Queue,
}

impl Role {
    /// Whether there is but one consumer ever.
    pub(crate) fn is_exclusive(self) -> bool {
        matches!(self, Self::Subscription | Self::Inbox)
    }
}

/// Bounds, and what happens at them.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) capacity_messages: usize,
    pub(crate) capacity_bytes: usize,
    pub(crate) overflow: Overflow,
    pub(crate) bindings: Vec<Pattern>,
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

impl Mailbox {
    pub(crate) fn new(id: u64, role: Role, name: Topic, settings: Settings) -> Self {
        Self {
            id,
            role,
            name,
            consumers: AtomicUsize::new(0),
            handed: AtomicU64::new(0),
            state: Mutex::new(State::new(role, settings)),
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

    /// Runs `step` under the lock, and after whom it says once the lock is released.
    fn with<T>(&self, step: impl FnOnce(&mut State, &mut Aftermath) -> T) -> T {
        let mut after = Aftermath::default();
        let outcome = self.with_held(&mut after, step);
        after.run();
        outcome
    }

    /// Runs `step` under the lock, for a caller that holds another one and after later.
    fn with_held<T>(
        &self,
        after: &mut Aftermath,
        step: impl FnOnce(&mut State, &mut Aftermath) -> T,
    ) -> T {
        step(&mut lock(&self.state), after)
    }

    // ---- in

    /// Takes the message out of `slot` if there is room, else puts the sender (whose `wait` it is)
    /// on the list of those that wait for some.
    pub(crate) fn admit(
        &self,
        slot: &mut Option<Message>,
        wait: Option<&Context<'_>>,
    ) -> Admission {
        self.with(|state, after| state.admit(slot, wait, after))
    }

    /// Keeps room for a copy of `size` bytes, or puts the sender on the list of those that wait.
    /// What never makes a sender wait needs no room kept.
    pub(crate) fn reserve(&self, size: usize, cx: &Context<'_>) -> Admission {
        self.with(|state, _| state.reserve(size, cx))
    }

    /// Gives up the room that was kept.
    pub(crate) fn unreserve(&self, size: usize) {
        self.with(|state, after| state.unreserve(size, after));
    }

    /// Takes a copy into the room that was kept.
    pub(crate) fn admit_reserved(&self, message: Message) -> Admission {
        self.with(|state, after| state.admit_reserved(message, after))
    }

    /// A sender no longer waits. Room that it was woken for and did not take is passed on.
    pub(crate) fn leave_blocked(&self, ticket: Ticket) {
        self.with(|state, after| state.leave_blocked(ticket, after));
    }

    // ---- out

    /// Adds a consumer; false if the mailbox takes none any more.
    pub(crate) fn join(&self, consumer: u64) -> bool {
        self.with(|state, _| {
            let joined = state.join(consumer);
            self.consumers.store(state.consumers(), Ordering::SeqCst);
            joined
        })
    }

    /// Removes a consumer and its place on the list, and says whether it was the last; requests
    /// that nobody is left to answer are handed back.
    pub(crate) fn part(
        &self,
        consumer: u64,
        waiting: Option<Ticket>,
        after: &mut Aftermath,
    ) -> (bool, Vec<Unanswered>) {
        self.with_held(after, |state, after| {
            let unanswered = state.part(consumer, waiting, after);
            self.consumers.store(state.consumers(), Ordering::SeqCst);
            (state.consumers() == 0, unanswered)
        })
    }

    /// Hands copies to a consumer; `waiting` is its place on the list from an earlier call.
    pub(crate) fn take(
        &self,
        taking: Taking<'_>,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
        hand: &mut impl FnMut(Handed),
    ) -> Taken {
        self.with(|state, after| state.take(taking, waiting, cx, hand, after))
    }

    /// Swaps everything that waits into `batch`, for an exclusive automatic receiver that hands
    /// it out itself and says so through [`handed_out`](Self::handed_out).
    pub(crate) fn take_batch(
        &self,
        batch: &mut Batch,
        waiting: Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Taken {
        self.with(|state, after| state.take_batch(batch, waiting, cx, after))
    }

    /// The exclusive automatic receiver handed one more out.
    pub(crate) fn handed_out(&self) {
        // One writer, so no read-modify-write is needed.
        self.handed.store(self.handed.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Copies in a batch were too old to be handed out.
    pub(crate) fn expired_in_batch(&self, count: u64) {
        self.with(|state, _| state.expired_in_batch(count));
    }

    /// Puts back what an exclusive automatic receiver did not hand out.
    pub(crate) fn put_back(&self, batch: &mut Batch) {
        self.with(|state, after| state.put_back(batch, after));
    }

    /// A consumer gave up waiting: a wake-up that it got goes to the next.
    pub(crate) fn leave_idle(&self, ticket: Ticket) {
        self.with(|state, after| state.leave_idle(ticket, after));
    }

    /// A consumer gave up waiting for a settlement of its own.
    pub(crate) fn leave_stalled(&self, consumer: u64) {
        self.with(|state, after| state.leave_stalled(consumer, after));
    }

    /// A consumer may never be polled again: its wake-up goes to the next one as well.
    pub(crate) fn share_idle(&self, ticket: Ticket) {
        self.with(|state, after| state.share_idle(ticket, after));
    }

    /// Settles a lease.
    pub(crate) fn settle(&self, tag: u64, outcome: Outcome<'_>) -> Settlement {
        self.with(|state, after| state.settle(tag, outcome, after))
    }

    // ---- management

    /// Changes the settings that are named, and says which bindings are new.
    pub(crate) fn update(
        &self,
        messages: Option<usize>,
        bytes: Option<usize>,
        bindings: Vec<Pattern>,
        after: &mut Aftermath,
    ) -> Vec<Pattern> {
        self.with_held(after, |state, after| state.update(messages, bytes, bindings, after))
    }

    /// Lets nothing more out of a queue, and nothing more into anything.
    pub(crate) fn start_drain(&self) {
        self.with(State::start_drain);
    }

    /// Closes the mailbox for good: what waits is counted as dropped for `reason`, and handed back,
    /// because somebody waits for the answer to a request among it.
    pub(crate) fn close(&self, reason: &'static str) -> Leftovers {
        self.with(|state, after| state.close(reason, after))
    }

    pub(crate) fn bindings(&self) -> Vec<Pattern> {
        lock(&self.state).settings().bindings.clone()
    }

    /// How many copies are handed out and not settled, and how many are not handed out, those
    /// included that are about to come.
    pub(crate) fn outstanding(&self) -> (u64, u64) {
        let state = lock(&self.state);
        let unhanded = state.unhanded(self.handed.load(Ordering::Acquire));
        (state.leased(), state.waiting() + state.promised() + unhanded)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let state = lock(&self.state);
        state.ledger(self.handed.load(Ordering::Acquire))
    }

    pub(crate) fn info(&self) -> QueueInfo {
        let state = lock(&self.state);
        let settings = state.settings();
        let mut these = QueueSettings::default();
        these.capacity_messages = settings.capacity_messages;
        these.capacity_bytes = settings.capacity_bytes;
        QueueInfo {
            name: self.name.clone(),
            messages: state.waiting() + state.leased(),
            unsettled: state.leased(),
            bytes: state.bytes(),
            consumers: state.consumers() as u64,
            settings: these,
            bindings: settings.bindings.clone(),
            ledger: state.ledger(self.handed.load(Ordering::Acquire)),
        }
    }
}
