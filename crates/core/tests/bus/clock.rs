//! A runtime whose clock stands still until a test moves it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use posthaste_core::runtime::{
    BoxAcceptor, BoxFuture, BoxTimer, BoxWork, Runtime, SharedRuntime, StdListener, StdSocket,
    Timer,
};
use posthaste_core::task::lock;
use posthaste_core::transport::BoxConnection;

#[derive(Clone)]
pub(crate) struct Clock(Arc<Mutex<State>>);

struct State {
    now: Instant,
    wakers: Vec<Waker>,
    timers: usize,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "a manual clock needs an origin")]
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { now: Instant::now(), wakers: Vec::new(), timers: 0 })))
    }

    pub(crate) fn runtime(&self) -> SharedRuntime {
        Arc::new(self.clone())
    }

    pub(crate) fn advance(&self, by: Duration) {
        let wakers = {
            let mut state = lock(&self.0);
            state.now += by;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many timers have been made.
    pub(crate) fn timers(&self) -> usize {
        lock(&self.0).timers
    }
}

impl Runtime for Clock {
    fn spawn(&self, _task: BoxFuture<'static, ()>) {
        panic!("the bus spawns nothing");
    }

    fn spawn_blocking(&self, _work: BoxWork) {
        panic!("the bus blocks nowhere");
    }

    fn timer(&self) -> BoxTimer {
        lock(&self.0).timers += 1;
        Box::pin(Alarm { clock: self.clone(), at: None })
    }

    fn now(&self) -> Instant {
        lock(&self.0).now
    }

    fn unix_time(&self) -> Duration {
        Duration::ZERO
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
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

struct Alarm {
    clock: Clock,
    at: Option<Instant>,
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        let fired = {
            let mut state = lock(&self.clock.0);
            if state.now < at {
                state.wakers.push(cx.waker().clone());
            }
            state.now >= at
        };
        if !fired {
            return Poll::Pending;
        }
        self.at = None;
        Poll::Ready(())
    }
}

impl Timer for Alarm {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.at = Some(deadline);
    }
}
