//! One place that holds messages: a subscription, a group, a queue or an inbox. This is the lock
//! around its state: held for a few dozen instructions, and never while anybody is woken.

use std::collections::VecDeque;
use std::sync::Arc;

use posthaste_core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use posthaste_core::{Ledger, Message, Outcome, Pattern, QueueInfo, Topic};

#[cfg(not(loom))]
use parking_lot::Mutex;
#[cfg(loom)]
use posthaste_core::sync::Mutex;

use crate::aftermath::Aftermath;
use crate::ahead::Ahead;
use crate::copies::{Admission, Entrance};
use crate::drain::Outstanding;
use crate::home::Home;
use crate::state::{Settings, State};
use crate::store::Keep;
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

/// Where the copies of messages wait for their consumers.
#[derive(Debug)]
pub(crate) struct Mailbox {
    id: u64,
    role: Role,
    name: Topic,
    durable: bool,
    retains: bool,
    /// How many consumers take what comes, which those that are parked do not.
    takers: AtomicUsize,
    taken: TakenAhead,
    state: Mutex<State>,
}

/// What the consumer that takes in advance and everybody else have to tell each other. On a line of
/// its own, because that consumer writes it all the time.
#[derive(Debug, Default)]
#[repr(align(64))]
struct TakenAhead {
    /// How many copies of those that were taken in advance were handed out. Only the one consumer
    /// writes it that takes in advance; another one only does once that one has left.
    handed: AtomicU64,
    /// What is not handed out is to be put back.
    recalled: AtomicBool,
}

impl Mailbox {
    pub(crate) fn new(
        id: u64,
        role: Role,
        name: Topic,
        settings: Settings,
        keep: Option<Keep>,
        home: Arc<Home>,
    ) -> Self {
        Self {
            id,
            role,
            durable: keep.is_some(),
            retains: settings.queue.retain.is_some(),
            takers: AtomicUsize::new(0),
            taken: TakenAhead::default(),
            state: Mutex::new(State::new(id, role, name.clone(), settings, keep, home)),
            name,
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

    /// Whether what is in it outlives the process.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether it is read and not consumed.
    pub(crate) fn retains(&self) -> bool {
        self.retains
    }

    /// Whether somebody is there to take what is put in now.
    pub(crate) fn has_takers(&self) -> bool {
        self.takers.load(Ordering::SeqCst) > 0
    }

    /// Runs `step` under the lock, and what follows from it once the lock is released. The caller
    /// holds no other lock.
    pub(crate) fn with<T>(&self, step: impl FnOnce(&mut State, &mut Aftermath) -> T) -> T {
        let mut after = Aftermath::default();
        let outcome = self.with_held(&mut after, step);
        after.run();
        outcome
    }

    /// Runs `step` under the lock, for a caller that holds another one and sees to what follows
    /// later.
    pub(crate) fn with_held<T>(
        &self,
        after: &mut Aftermath,
        step: impl FnOnce(&mut State, &mut Aftermath) -> T,
    ) -> T {
        let mut state = self.lock();
        state.close_gate();
        let outcome = step(&mut state, after);
        state.plan(after);
        if state.take_recall() {
            self.taken.recalled.store(true, Ordering::SeqCst);
        }
        outcome
    }

    /// Takes a plain message out of `slot` if that is all there is to it.
    #[inline(always)]
    pub(crate) fn admit_plainly(&self, slot: &mut Option<Message>) -> bool {
        let mut state = self.lock();
        if state.admit_plainly(slot) {
            return true;
        }
        // What is taken out is dropped once the lock is released.
        let gone = state.replace_plainly(slot);
        drop(state);
        gone.is_some()
    }

    /// Keeps room for a plain message if that is all there is to it.
    #[inline]
    pub(crate) fn reserve_plainly(&self, message: &Message) -> bool {
        self.lock().reserve_plainly(message)
    }

    /// Takes a copy of a message, which is plain or not, into the room that was kept; says whether
    /// it did.
    #[inline]
    pub(crate) fn admit_reserved(&self, message: &Message, plain: bool) -> bool {
        if plain {
            let mut state = self.lock();
            if state.admit_reserved_plainly(message) {
                return true;
            }
            let gone = state.replace_plainly_reserved(message);
            drop(state);
            if gone.is_some() {
                return true;
            }
        }
        let copy = message.clone();
        self.with(|state, after| {
            let admission = state.admit_reserved(copy, after);
            state.open_gate();
            matches!(admission, Admission::Taken)
        })
    }

    /// Takes the message out of `slot` if there is room.
    pub(crate) fn admit(&self, slot: &mut Option<Message>, entrance: Entrance<'_>) -> Admission {
        self.with(|state, after| {
            let admission = state.admit(slot, entrance, after);
            state.open_gate();
            admission
        })
    }

    /// Takes messages from the front, `most` at most, as long as there is room, and says how many
    /// those were and what it said to the last one that it looked at.
    pub(crate) fn admit_run(
        &self,
        messages: &mut VecDeque<Message>,
        most: usize,
        entrance: Entrance<'_>,
    ) -> (usize, Admission) {
        self.with(|state, after| {
            for taken in 0..most {
                let mut slot = messages.pop_front();
                if slot.as_ref().is_some_and(Message::is_plain) && state.admit_plainly(&mut slot) {
                    continue;
                }
                state.close_gate();
                let admission = state.admit(&mut slot, entrance, after);
                match (admission, slot) {
                    (Admission::Taken, dropped) => {
                        dropped.into_iter().for_each(|message| after.forget(message));
                        state.open_gate();
                    }
                    (admission, back) => {
                        if let Some(message) = back {
                            messages.push_front(message);
                        }
                        return (taken, admission);
                    }
                }
            }
            (most, Admission::Taken)
        })
    }

    /// A sender no longer waits. Room that it was woken for and did not take is passed on.
    pub(crate) fn leave_blocked(&self, ticket: Ticket) {
        self.with(|state, after| state.leave_blocked(ticket, after));
    }

    /// Has the store of a durable queue note that it is there.
    pub(crate) fn note_declared(&self) {
        self.lock().note_declared();
    }

    /// Adds a consumer; false if the mailbox takes none any more.
    pub(crate) fn join(&self, consumer: u64, after: &mut Aftermath) -> bool {
        self.with_held(after, |state, _| {
            let joined = state.join(consumer);
            self.takers.store(state.takers(), Ordering::SeqCst);
            joined
        })
    }

    /// A consumer does not ask for a while, or does so again.
    pub(crate) fn park(&self, consumer: u64, parked: bool) {
        self.with(|state, after| {
            state.park(consumer, parked, after);
            self.takers.store(state.takers(), Ordering::SeqCst);
        });
    }

    /// Removes a consumer and its place on the list, and says whether it was the last.
    pub(crate) fn part(
        &self,
        consumer: u64,
        waiting: Option<Ticket>,
        after: &mut Aftermath,
    ) -> bool {
        self.with_held(after, |state, after| {
            state.part(consumer, waiting, after);
            self.takers.store(state.takers(), Ordering::SeqCst);
            !state.has_consumers()
        })
    }

    /// So many more were handed out of those that were taken in advance.
    pub(crate) fn handed_out(&self, count: u64) {
        // One writer, so no read-modify-write is needed.
        self.set_handed(self.handed() + count);
    }

    #[inline(always)]
    pub(crate) fn set_handed(&self, handed: u64) {
        self.taken.handed.store(handed, Ordering::Release);
    }

    /// Whether what was taken in advance is to be put back.
    #[inline(always)]
    pub(crate) fn is_recalled(&self) -> bool {
        self.taken.recalled.load(Ordering::SeqCst)
    }

    /// Puts back what was taken in advance and not handed out.
    pub(crate) fn put_back(&self, ahead: &mut Ahead) {
        self.taken.recalled.store(false, Ordering::SeqCst);
        if !ahead.is_empty() {
            self.with(|state, after| state.put_back(ahead, after));
        }
    }

    /// Drops everything that is not handed out, and says how much that was.
    pub(crate) fn purge(&self) -> u64 {
        self.with(|state, after| state.purge(self.handed(), after))
    }

    /// Settles a lease.
    pub(crate) fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        // What is taken out is dropped once the lock is released.
        let done = self.lock().settle_plainly(tag, outcome);
        if done.is_some() {
            return;
        }
        self.with(|state, after| state.settle(tag, outcome, after));
    }

    pub(crate) fn bindings(&self) -> Vec<Pattern> {
        self.lock().settings().bindings.clone()
    }

    pub(crate) fn outstanding(&self) -> Outstanding {
        self.lock().outstanding(self.handed())
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.lock().ledger(self.handed())
    }

    pub(crate) fn info(&self) -> QueueInfo {
        self.lock().info(self.handed())
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    #[cfg(loom)]
    fn lock(&self) -> posthaste_core::sync::MutexGuard<'_, State> {
        posthaste_core::task::lock(&self.state)
    }

    #[inline]
    pub(crate) fn handed(&self) -> u64 {
        self.taken.handed.load(Ordering::Acquire)
    }
}
