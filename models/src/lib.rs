//! What the models share: a `block_on` over loom, and how a model is explored.
//!
//! Empty unless built with `--cfg loom`. The models are in `tests/`, one file per crate; they drive
//! the real public types, because under that flag the crates' locks and atomics are loom's.
#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};

/// Steps that one execution of a model may take; far more than any does, so that one that runs for
/// ever is a failure.
const STEPS_MAX: usize = 20_000;

/// Runs `model` once for every interleaving with at most `preemptions` preemptions, or with as many
/// as `LOOM_MAX_PREEMPTIONS` says. A thread that waits for ever is a failure.
pub fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.max_branches = STEPS_MAX;
    let more = builder.preemption_bound.unwrap_or(0);
    builder.preemption_bound = Some(preemptions.max(more));
    builder.check(model);
}

/// Polls `future` in this thread until it is ready, and waits for a wake-up in between.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => bell.wait(),
        }
    }
}

/// What a thread sleeps on between two polls. It can also be looked at, to see who was woken.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    /// Waits until it was rung, and takes that.
    pub fn wait(&self) {
        let mut rung = self.rung.lock().expect("no model goes on after a panic");
        while !*rung {
            rung = self.ringing.wait(rung).expect("no model goes on after a panic");
        }
        *rung = false;
    }

    /// Whether it was rung, and takes that.
    pub fn take(&self) -> bool {
        std::mem::take(&mut *self.rung.lock().expect("no model goes on after a panic"))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.rung.lock().expect("no model goes on after a panic") = true;
        self.ringing.notify_one();
    }
}
