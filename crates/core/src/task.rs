//! Small pieces for hand-written polls: a one-shot cell, and a set of wakers that remembers which
//! of many children is ready.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Locks, also after a panic in another holder: every critical section here and in the crates
/// above leaves its state whole at each step, so the poison carries no information.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps `cx`'s waker in `slot`, cloning only when it is another task's.
pub fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

/// A value that one side puts and the other takes, once.
#[derive(Debug)]
pub struct OneShot<T>(Mutex<OneShotState<T>>);

#[derive(Debug)]
struct OneShotState<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> Default for OneShot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OneShot<T> {
    /// An empty cell.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(OneShotState { value: None, waker: None }))
    }

    /// Puts the value and wakes who waits for it. A later value replaces one not taken yet.
    pub fn put(&self, value: T) {
        let waker = {
            let mut state = lock(&self.0);
            state.value = Some(value);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the value once it is there.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = lock(&self.0);
        if let Some(value) = state.value.take() {
            return Poll::Ready(value);
        }
        remember(&mut state.waker, cx);
        Poll::Pending
    }
}

/// Wakers for many children of one task: each child has its own, and the task asks which of them
/// were woken instead of polling all of them.
///
/// A driver with ten thousand links polls only those that something happened to.
///
/// ```
/// use posthaste_core::task::ReadySet;
///
/// let set = ReadySet::new();
/// let child = set.add(7);
/// child.polling().wake_by_ref();
/// let mut ready = Vec::new();
/// set.take_ready(&mut ready);
/// assert_eq!(ready, [7]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ReadySet(Arc<ReadyShared>);

#[derive(Debug, Default)]
struct ReadyShared {
    state: Mutex<ReadyState>,
}

#[derive(Debug, Default)]
struct ReadyState {
    ready: Vec<usize>,
    parent: Option<Waker>,
}

impl ReadySet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Marks a child ready and wakes the parent, as its waker would.
    pub fn mark(&self, child: usize) {
        self.0.push(child);
    }

    /// The task to wake when a child is woken.
    pub fn register(&self, cx: &Context<'_>) {
        remember(&mut lock(&self.0.state).parent, cx);
    }

    /// Moves the numbers of the children woken since the last call into `ready`, in the order in
    /// which they were woken. A child woken twice through one waker is there once.
    pub fn take_ready(&self, ready: &mut Vec<usize>) {
        ready.append(&mut lock(&self.0.state).ready);
    }

    /// A child with a waker of its own, which can be told that it is being polled again.
    #[must_use]
    pub fn add(&self, child: usize) -> Child {
        let shared =
            Arc::new(ChildWaker { set: Arc::clone(&self.0), child, woken: AtomicBool::new(false) });
        Child { waker: Waker::from(Arc::clone(&shared)), shared }
    }
}

/// A child of a [`ReadySet`]: its waker, and the mark that keeps it from being listed twice.
#[derive(Debug)]
pub struct Child {
    waker: Waker,
    shared: Arc<ChildWaker>,
}

impl Child {
    /// The waker to poll this child with; call right before the poll, so that what happens from
    /// then on lists the child again.
    pub fn polling(&self) -> &Waker {
        // A swap, which also reads: what was done before a wake-up that found the child listed
        // already has to be seen by this poll, for there is no other.
        self.shared.woken.swap(false, Ordering::SeqCst);
        &self.waker
    }
}

impl ReadyShared {
    fn push(&self, child: usize) {
        let parent = {
            let mut state = lock(&self.state);
            state.ready.push(child);
            state.parent.take()
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

#[derive(Debug)]
struct ChildWaker {
    set: Arc<ReadyShared>,
    child: usize,
    woken: AtomicBool,
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.set.push(self.child);
        }
    }
}
