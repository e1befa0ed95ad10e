//! What the models share: a `block_on` over loom, and how a model is explored.
//!
//! Empty unless built with `--cfg loom`. The models are in `tests/`, one file per crate or part of
//! one; they drive the real public types, because under that flag the crates' locks and atomics are
//! loom's.
#![cfg(loom)]

pub mod sips;
pub mod world;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};
use posthaste_core::runtime::{
    BoxAcceptor, BoxFuture, BoxTimer, BoxWork, Runtime, StdListener, StdSocket, Timer,
};
use posthaste_core::transport::BoxConnection;

/// Steps that one execution of a model may take; far more than any does, so that one that runs for
/// ever is a failure.
const STEPS_MAX: usize = 20_000;

/// Loom's own 32 KiB are too few for code that is not optimised.
const STACK_WORDS: usize = (256 << 10) / size_of::<usize>();

/// Runs `model` once for every interleaving in which at most `preemptions` times a thread is stopped
/// that could go on, or as many times as `LOOM_MAX_PREEMPTIONS` says. Nearly every race needs no
/// more than two. A thread that waits for ever is a failure.
#[allow(clippy::print_stdout, reason = "how much was explored is shown with --nocapture")]
pub fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.max_branches = STEPS_MAX;
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    let model = Arc::new(model);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let model = Arc::clone(&model);
        join(spawn(move || model()));
    });
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a model");
    println!("{} executions of {name}", executions.load(Ordering::Relaxed));
}

/// Starts a thread of a model, of which there are four at most, the one that `explore` starts
/// included.
pub fn spawn<T: Send + 'static>(thread: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let thread = thread::Builder::new().stack_size(STACK_WORDS).spawn(thread);
    thread.expect("loom has room for four threads")
}

/// Waits for threads of a model, and returns what they do.
pub fn join_all<T: 'static, const N: usize>(threads: [JoinHandle<T>; N]) -> [T; N] {
    threads.map(join)
}

/// Waits for a thread of a model, and returns what it does.
pub fn join<T: 'static>(thread: JoinHandle<T>) -> T {
    thread.join().expect("no model goes on after a panic")
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

/// A runtime in which no time passes and no task runs by itself: what is spawned is kept for the
/// model to poll.
#[derive(Clone)]
pub struct Still {
    origin: Instant,
    spawned: Arc<Mutex<Vec<BoxFuture<'static, ()>>>>,
}

impl Still {
    /// What was spawned since the last call.
    pub fn spawned(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *self.spawned.lock().expect("no model goes on after a panic"))
    }
}

impl Default for Still {
    #[allow(clippy::disallowed_methods, reason = "an origin can only be had from the machine")]
    fn default() -> Self {
        Self { origin: Instant::now(), spawned: Arc::default() }
    }
}

impl fmt::Debug for Still {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Still").finish_non_exhaustive()
    }
}

impl Runtime for Still {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.spawned.lock().expect("no model goes on after a panic").push(task);
    }

    fn spawn_blocking(&self, work: BoxWork) {
        work();
    }

    fn timer(&self) -> BoxTimer {
        Box::pin(Hand { now: self.origin, due: false })
    }

    fn now(&self) -> Instant {
        self.origin
    }

    fn unix_time(&self) -> Duration {
        Duration::ZERO
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        // The name of a session is something; a number, which is how long to pause, is nothing.
        bytes.fill(if bytes.len() == 8 { 0 } else { 7 });
    }

    fn register(&self, _socket: StdSocket) -> io::Result<BoxConnection> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn register_connecting(&self, _: StdSocket) -> BoxFuture<'static, io::Result<BoxConnection>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn register_listener(&self, _listener: StdListener) -> io::Result<BoxAcceptor> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A timer: what is due now fires, and nothing else ever is.
struct Hand {
    now: Instant,
    due: bool,
}

impl Future for Hand {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.due) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Timer for Hand {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.due = deadline <= self.now;
    }
}
