//! The smol runtime for Posthaste: a [`Runtime`] value over a [`smol::Executor`].
//!
//! ```
//! use std::time::Duration;
//!
//! use posthaste_core::Runtime;
//! use posthaste_smol::Smol;
//!
//! smol::block_on(async {
//!     let runtime = Smol::global();
//!     let mut timer = runtime.timer();
//!     timer.as_mut().reset(runtime.now() + Duration::from_millis(1));
//!     timer.await;
//! });
//! ```
//!
//! Sockets and timers live in the one reactor that all smol executors of a process share, so the
//! value works from any thread and under any other executor too.

mod socket;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use posthaste_core::runtime::{
    BoxAcceptor, BoxFuture, BoxTimer, BoxWork, Runtime, SharedRuntime, StdListener, StdSocket,
    Timer,
};
use posthaste_core::transport::BoxConnection;
use smol::Executor;

/// A smol executor as a value: cheap to clone.
///
/// An executor of your own runs nothing by itself: some thread has to call [`Executor::run`].
///
/// ```
/// use std::sync::Arc;
///
/// use posthaste_core::{Runtime, runtime::blocking};
/// use posthaste_smol::Smol;
/// use smol::Executor;
///
/// let executor = Arc::new(Executor::new());
/// let runtime = Smol::new(Arc::clone(&executor));
/// let (done, finished) = smol::channel::bounded(1);
/// smol::block_on(executor.run(async {
///     runtime.spawn(Box::pin(async move { done.send("ran").await.unwrap_or_default() }));
///     assert_eq!(finished.recv().await, Ok("ran"));
///     assert_eq!(blocking(&runtime, || 3 + 4).await, 7);
/// }));
/// ```
#[derive(Clone)]
pub struct Smol {
    // None is smol's global executor, which starts its thread (or `SMOL_THREADS` of them) at the
    // first task.
    executor: Option<Arc<Executor<'static>>>,
}

impl Smol {
    /// The runtime whose tasks run on `executor`.
    #[must_use]
    pub fn new(executor: Arc<Executor<'static>>) -> Self {
        Self { executor: Some(executor) }
    }

    /// The runtime whose tasks run on smol's global executor, as [`smol::spawn`]'s do.
    #[must_use]
    pub fn global() -> Self {
        Self { executor: None }
    }
}

impl fmt::Debug for Smol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An executor prints the state of its queues; which of the two it is says enough.
        let executor = if self.executor.is_some() { "own" } else { "global" };
        f.debug_struct("Smol").field("executor", &executor).finish()
    }
}

impl From<Arc<Executor<'static>>> for Smol {
    fn from(executor: Arc<Executor<'static>>) -> Self {
        Self::new(executor)
    }
}

impl From<Smol> for SharedRuntime {
    fn from(smol: Smol) -> Self {
        Arc::new(smol)
    }
}

impl Runtime for Smol {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        #[allow(clippy::disallowed_methods, reason = "this is the runtime that is to be asked")]
        match &self.executor {
            Some(executor) => executor.spawn(task).detach(),
            None => smol::spawn(task).detach(),
        }
    }

    fn spawn_blocking(&self, work: BoxWork) {
        smol::unblock(work).detach();
    }

    fn timer(&self) -> BoxTimer {
        Box::pin(SmolTimer(async_io::Timer::never()))
    }

    fn now(&self) -> Instant {
        #[allow(clippy::disallowed_methods, reason = "the adapter is the one place that may ask")]
        Instant::now()
    }

    fn unix_time(&self) -> Duration {
        // A clock set before 1970 counts as 1970.
        #[allow(clippy::disallowed_methods, reason = "the adapter is the one place that may ask")]
        let now = SystemTime::now();
        now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// # Panics
    /// When the operating system has no randomness to give: identities that repeat would be worse.
    fn fill_random(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the operating system gives no randomness: {error}");
        }
    }

    fn register(&self, socket: StdSocket) -> io::Result<BoxConnection> {
        socket::register(socket)
    }

    fn register_connecting(
        &self,
        socket: StdSocket,
    ) -> BoxFuture<'static, io::Result<BoxConnection>> {
        Box::pin(socket::connected(socket))
    }

    fn register_listener(&self, listener: StdListener) -> io::Result<BoxAcceptor> {
        socket::register_listener(listener)
    }
}

/// A timer that, like every [`async_io::Timer`], waits for its next deadline once it has fired.
struct SmolTimer(async_io::Timer);

impl Timer for SmolTimer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.0.set_at(deadline);
    }
}

impl Future for SmolTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}
