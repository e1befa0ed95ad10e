//! The tokio runtime for Posthaste: a [`Runtime`] value over a [`tokio::runtime::Handle`].
//!
//! ```
//! use std::time::Duration;
//!
//! use posthaste_core::Runtime;
//! use posthaste_tokio::Tokio;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() {
//!     let runtime = Tokio::current();
//!     let mut timer = runtime.timer();
//!     timer.as_mut().reset(runtime.now() + Duration::from_millis(1));
//!     timer.await;
//! }
//! ```
//!
//! The value works from any thread and under any other executor too: what needs tokio's context
//! enters it. Time that tokio's test utilities pause is paused here as well.

mod socket;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use posthaste_core::runtime::{
    BoxAcceptor, BoxFuture, BoxTimer, BoxWork, Runtime, SharedRuntime, StdListener, StdSocket,
    Timer,
};
use posthaste_core::transport::BoxConnection;
use tokio::runtime::Handle;
use tokio::time::Sleep;

/// A tokio runtime as a value: cheap to clone, and it keeps no runtime alive.
///
/// The runtime needs its IO and time drivers (`enable_all` on its builder, which `#[tokio::main]`
/// and `Runtime::new` do on their own); without them tokio itself panics at the first socket or
/// timer. Once the runtime has been shut down, what is spawned is dropped, sockets answer with
/// errors, and tokio panics in a timer that another executor still polls: let the runtime outlive
/// what was made from it.
///
/// ```
/// use posthaste_core::SharedRuntime;
/// use posthaste_tokio::Tokio;
///
/// let tokio = tokio::runtime::Runtime::new()?;
/// let shared: SharedRuntime = Tokio::new(tokio.handle().clone()).into();
/// let seven = tokio.block_on(posthaste_core::runtime::blocking(&*shared, || 3 + 4));
/// assert_eq!(seven, 7);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tokio {
    handle: Handle,
}

impl Tokio {
    /// The runtime behind `handle`.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// The runtime that the caller runs in.
    ///
    /// # Panics
    /// Outside a tokio runtime, as [`Handle::current`] does, where
    /// [`try_current`](Self::try_current) does not.
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        Self::new(Handle::current())
    }

    /// The runtime that the caller runs in, or `None` outside of one.
    #[must_use]
    pub fn try_current() -> Option<Self> {
        Handle::try_current().ok().map(Self::new)
    }
}

impl From<Handle> for Tokio {
    fn from(handle: Handle) -> Self {
        Self::new(handle)
    }
}

impl From<Tokio> for SharedRuntime {
    fn from(tokio: Tokio) -> Self {
        Arc::new(tokio)
    }
}

impl Runtime for Tokio {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.handle.spawn(task);
    }

    fn spawn_blocking(&self, work: BoxWork) {
        self.handle.spawn_blocking(work);
    }

    fn timer(&self) -> BoxTimer {
        Box::pin(TokioTimer { handle: self.handle.clone(), sleep: None, armed: false })
    }

    fn now(&self) -> Instant {
        // Tokio's clock is the machine's, except while a test has paused it; which of the two
        // counts is known inside the context alone.
        let _context = self.handle.enter();
        tokio::time::Instant::now().into_std()
    }

    fn unix_time(&self) -> Duration {
        // An adapter is where the machine is asked. A clock set before 1970 counts as 1970.
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
        socket::register(&self.handle, socket)
    }

    fn register_connecting(
        &self,
        socket: StdSocket,
    ) -> BoxFuture<'static, io::Result<BoxConnection>> {
        Box::pin(socket::connected(self.handle.clone(), socket))
    }

    fn register_listener(&self, listener: StdListener) -> io::Result<BoxAcceptor> {
        socket::register_listener(&self.handle, listener)
    }
}

/// A tokio sleep that is made at its first deadline and used again for every later one.
struct TokioTimer {
    handle: Handle,
    sleep: Option<Pin<Box<Sleep>>>,
    // A fired sleep stays ready for ever; a fired timer waits for its next deadline.
    armed: bool,
}

impl Timer for TokioTimer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        let deadline = tokio::time::Instant::from_std(deadline);
        let timer = &mut *self;
        timer.armed = true;
        match &mut timer.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => {
                let _context = timer.handle.enter();
                timer.sleep = Some(Box::pin(tokio::time::sleep_until(deadline)));
            }
        }
    }
}

impl Future for TokioTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let timer = &mut *self;
        match &mut timer.sleep {
            Some(sleep) if timer.armed => {
                ready!(sleep.as_mut().poll(cx));
                timer.armed = false;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}
