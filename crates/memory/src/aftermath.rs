//! What is left to do once a lock is released: wake tasks, and drop what others gave us.

use std::task::{Context, Waker};

use posthaste_core::Message;

/// Collected under a lock, done without it: wakers and messages belong to others, and whether
/// woken or dropped they may run any code, also code that uses this broker.
#[derive(Debug, Default)]
#[must_use = "the wakers have to be woken after the lock is released"]
pub(crate) struct Aftermath {
    wake: Few<Waker>,
    spent: Few<Waker>,
    gone: Few<Message>,
}

/// Seldom more than one, so the first needs no allocation.
#[derive(Debug)]
struct Few<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl Aftermath {
    /// Wakes the task later.
    pub(crate) fn wake(&mut self, waker: Waker) {
        self.wake.push(waker);
    }

    /// Drops a waker that is of no more use later.
    pub(crate) fn discard(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.spent.push(waker);
        }
    }

    /// Drops a message later.
    pub(crate) fn forget(&mut self, message: Message) {
        self.gone.push(message);
    }

    /// Keeps `cx`'s waker in `slot`, cloning only when it is another task's.
    pub(crate) fn remember(&mut self, slot: &mut Option<Waker>, cx: &Context<'_>) {
        if slot.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.discard(slot.replace(cx.waker().clone()));
        }
    }

    /// Does it all; no lock may be held.
    pub(crate) fn run(self) {
        if let Some(first) = self.wake.first {
            first.wake();
        }
        self.wake.rest.into_iter().for_each(Waker::wake);
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { first: None, rest: Vec::new() }
    }
}

impl<T> Few<T> {
    fn push(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            self.rest.push(item);
        }
    }
}
