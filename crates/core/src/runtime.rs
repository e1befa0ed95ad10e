//! The executor as a value: tasks, timers, clocks, randomness, blocking work, socket registration.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project::pin_project;

use crate::transport::BoxConnection;

/// A boxed, sendable future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A boxed piece of blocking work.
pub type BoxWork = Box<dyn FnOnce() + Send + 'static>;
/// A boxed timer.
pub type BoxTimer = Pin<Box<dyn Timer>>;
/// A boxed acceptor.
pub type BoxAcceptor = Box<dyn Acceptor>;

/// An executor and its reactor, handed around as a value.
///
/// No method has a default body that touches the machine, so a simulation owns all of it: with a
/// simulated runtime nothing in the framework sees real time, randomness or sockets. Adding an
/// executor means writing this one trait; see `posthaste-tokio` and `posthaste-smol`.
///
/// # Laws
///
/// - **X1** `spawn` may be called from any thread, also one that is not the executor's own.
/// - **X2** `now` never goes back. **X3** A timer is never early; once it has fired it is pending
///   until `reset` arms it again. **X4** A registered socket is woken by this runtime's own reactor.
pub trait Runtime: Send + Sync {
    /// Starts a task that runs until it ends. Called once per connection, never per message.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Runs work that blocks (a name look-up, an fsync) where it holds up no task.
    fn spawn_blocking(&self, work: BoxWork);

    /// A timer that is not armed yet: [`Timer::reset`] arms it.
    fn timer(&self) -> BoxTimer;

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// The wall clock, as the time since the Unix epoch. Stored, never compared.
    fn unix_time(&self) -> Duration;

    /// Fills `bytes` with randomness good enough for identities and jitter.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Whether a bug of that name was planted on purpose. Only a simulated world says yes, to see
    /// that its checks find the bug; asked when something is built, never per message.
    fn has_planted(&self, _bug: &str) -> bool {
        false
    }

    /// Puts a connected `std` socket into this runtime's reactor.
    ///
    /// # Errors
    /// What the reactor answers; `Unsupported` where there are no real sockets.
    fn register(&self, socket: StdSocket) -> io::Result<BoxConnection>;

    /// Puts a non-blocking socket whose connect is under way into the reactor, and resolves when
    /// it is connected, or with the reason why it is not.
    fn register_connecting(
        &self,
        socket: StdSocket,
    ) -> BoxFuture<'static, io::Result<BoxConnection>>;

    /// Puts a listening `std` socket into this runtime's reactor.
    ///
    /// # Errors
    /// What the reactor answers; `Unsupported` where there are no real sockets.
    fn register_listener(&self, listener: StdListener) -> io::Result<BoxAcceptor>;
}

/// A runtime that many things share.
pub type SharedRuntime = Arc<dyn Runtime>;

/// A timer that can be set again: one per driver, not one per message.
///
/// Polling a timer that was never armed stays pending for ever.
pub trait Timer: Future<Output = ()> + Send {
    /// Arms the timer for `deadline`, also after it has fired.
    fn reset(self: Pin<&mut Self>, deadline: Instant);
}

/// A listening socket inside a reactor.
pub trait Acceptor: Send {
    /// Resolves with the next connection, still a `std` socket in non-blocking mode, so that the
    /// transport sets its options and asks for its peer before it registers it.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<StdSocket>>;
}

/// A connected socket that belongs to no reactor yet.
#[derive(Debug)]
#[non_exhaustive]
pub enum StdSocket {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A Unix-domain connection.
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A listening socket that belongs to no reactor yet.
#[derive(Debug)]
#[non_exhaustive]
pub enum StdListener {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A Unix-domain listener.
    #[cfg(unix)]
    Unix(UnixListener),
}

/// Runs blocking work on `runtime` and resolves with its result.
///
/// # Cancel safety
/// Dropping the future leaves the work running and loses its result.
pub async fn blocking<T: Send + 'static>(
    runtime: &dyn Runtime,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let cell = Arc::new(crate::task::OneShot::new());
    let filled = Arc::clone(&cell);
    runtime.spawn_blocking(Box::new(move || filled.put(work())));
    std::future::poll_fn(move |cx| cell.poll_take(cx)).await
}

/// Resolves with the output of `future`, or with `None` once `deadline` has passed.
///
/// # Cancel safety
/// As safe as `future` itself.
pub fn timeout_at<F: Future>(runtime: &dyn Runtime, deadline: Instant, future: F) -> Timeout<F> {
    let mut timer = runtime.timer();
    timer.as_mut().reset(deadline);
    Timeout { future, timer }
}

/// The future of [`timeout_at`].
#[pin_project]
#[must_use = "futures do nothing unless awaited"]
pub struct Timeout<F> {
    #[pin]
    future: F,
    timer: BoxTimer,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        this.timer.as_mut().poll(cx).map(|()| None)
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").finish_non_exhaustive()
    }
}
