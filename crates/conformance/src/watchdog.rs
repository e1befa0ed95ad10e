//! A watchdog that asks nothing of the runtime under test: its clock is a thread's own.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use posthaste_core::task::{lock, remember};

/// Watches over one future: the broken timer of a runtime cannot end the case that is to show it.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    state: Mutex<State>,
    called_off: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    has_barked: bool,
    waker: Option<Waker>,
}

impl Watchdog {
    /// Does `work`, in which what is [`guard`](Self::guard)ed ends after `patience` at the latest.
    pub(crate) fn beside<T>(&self, patience: Duration, work: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            scope.spawn(|| self.watch(patience));
            let done = work();
            lock(&self.state).is_over = true;
            self.called_off.notify_one();
            done
        })
    }

    /// Resolves with the output of `future`, or with `None` once patience has run out.
    pub(crate) async fn guard<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let mut state = lock(&self.state);
            remember(&mut state.waker, cx);
            if state.has_barked { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    fn watch(&self, patience: Duration) {
        let state = lock(&self.state);
        let waited = self.called_off.wait_timeout_while(state, patience, |state| !state.is_over);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.has_barked = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
