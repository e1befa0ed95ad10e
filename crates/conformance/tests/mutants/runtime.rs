//! Runtimes with a fault, and the laws that each fault breaks.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use posthaste_conformance::Law::{self, *};
use posthaste_conformance::{Executor, LocalFuture, RuntimeSubject, run_runtime};
use posthaste_core::runtime::{
    BoxAcceptor, BoxFuture, BoxTimer, BoxWork, Runtime, SharedRuntime, StdListener, StdSocket,
    Timer,
};
use posthaste_core::transport::{BoxConnection, Connection, Peer};

use super::assert_breaks;
use super::common::{On, OnTokio};

/// One defect of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// What is spawned on another thread than the runtime's own is gone.
    LosesSpawnsFromElsewhere,
    /// Blocking work runs as a task and holds up all others.
    BlocksItsTasks,
    /// Now and then the clock goes back a little.
    ClockGoesBack,
    /// Timers are rounded down.
    FiresEarly,
    /// A timer that has been armed keeps its first deadline.
    NeverRearms,
    /// A timer that has fired is ready again and again.
    StaysReady,
    /// A timer that was never armed is ready.
    IsArmedFromTheStart,
    /// A timer wakes who polled it first.
    WakesTheFirst,
    /// Nobody is woken by a connection.
    DeafSockets,
    /// There are no sockets, which is no fault.
    HasNoSockets,
}

/// The faulty runtime on an executor without its fault.
struct Subject(On<OnTokio, Fault>);

impl Executor for Subject {
    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.0.block_on(case);
    }

    // Long enough for every case that can end, and not too long for those that cannot.
    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

impl RuntimeSubject for Subject {
    fn open(&self) -> SharedRuntime {
        let inner = self.0.runtime().unwrap();
        let (fault, own) = (self.0.what, thread::current().id());
        Arc::new(Faulty { inner, fault, own, readings: AtomicUsize::new(0) })
    }
}

struct Faulty {
    inner: SharedRuntime,
    fault: Fault,
    own: ThreadId,
    readings: AtomicUsize,
}

impl Faulty {
    fn socket(&self) -> io::Result<()> {
        if self.fault == Fault::HasNoSockets {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(())
    }
}

impl Runtime for Faulty {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let is_elsewhere = thread::current().id() != self.own;
        if self.fault == Fault::LosesSpawnsFromElsewhere && is_elsewhere {
            return;
        }
        self.inner.spawn(task);
    }

    fn spawn_blocking(&self, work: BoxWork) {
        match self.fault {
            Fault::BlocksItsTasks => self.inner.spawn(Box::pin(async move { work() })),
            _ => self.inner.spawn_blocking(work),
        }
    }

    fn timer(&self) -> BoxTimer {
        let has_fired = self.fault == Fault::IsArmedFromTheStart;
        let (inner, fault) = (self.inner.timer(), self.fault);
        Box::pin(FaultyTimer { inner, fault, has_fired, is_armed: false, first: None })
    }

    fn now(&self) -> Instant {
        let reading = self.readings.fetch_add(1, Ordering::SeqCst);
        let goes_back = self.fault == Fault::ClockGoesBack && reading % 1_000 == 999;
        self.inner.now() - Duration::from_millis(if goes_back { 100 } else { 0 })
    }

    fn unix_time(&self) -> Duration {
        self.inner.unix_time()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.inner.fill_random(bytes);
    }

    fn register(&self, socket: StdSocket) -> io::Result<BoxConnection> {
        self.socket()?;
        let inner = self.inner.register(socket)?;
        match self.fault {
            Fault::DeafSockets => Ok(Box::new(Deaf(inner))),
            _ => Ok(inner),
        }
    }

    fn register_connecting(
        &self,
        socket: StdSocket,
    ) -> BoxFuture<'static, io::Result<BoxConnection>> {
        self.inner.register_connecting(socket)
    }

    fn register_listener(&self, listener: StdListener) -> io::Result<BoxAcceptor> {
        self.socket()?;
        self.inner.register_listener(listener)
    }
}

struct FaultyTimer {
    inner: BoxTimer,
    fault: Fault,
    has_fired: bool,
    is_armed: bool,
    first: Option<Waker>,
}

impl Timer for FaultyTimer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        let was_armed = std::mem::replace(&mut self.is_armed, true);
        self.has_fired = false;
        let deadline = match self.fault {
            Fault::NeverRearms if was_armed => return,
            Fault::FiresEarly => deadline - Duration::from_millis(20),
            _ => deadline,
        };
        self.inner.as_mut().reset(deadline);
    }
}

impl Future for FaultyTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.has_fired {
            return Poll::Ready(());
        }
        let first = this.first.get_or_insert_with(|| cx.waker().clone()).clone();
        let polled = match this.fault {
            Fault::WakesTheFirst => this.inner.as_mut().poll(&mut Context::from_waker(&first)),
            _ => this.inner.as_mut().poll(cx),
        };
        this.has_fired = this.fault == Fault::StaysReady && polled.is_ready();
        polled
    }
}

/// A connection whose reads and writes are never woken.
struct Deaf(BoxConnection);

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(&mut Context::from_waker(Waker::noop()), into)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(&mut Context::from_waker(Waker::noop()), from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(&mut Context::from_waker(Waker::noop()), from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl Connection for Deaf {
    fn peer(&self) -> Peer {
        self.0.peer()
    }
}

macro_rules! mutants {
    ($($name:ident: $fault:ident breaks $laws:tt;)+) => {$(
        #[test]
        fn $name() {
            let laws: &[Law] = &$laws;
            let subject = Subject(On { executor: OnTokio::current(), what: Fault::$fault });
            assert_breaks(&run_runtime(&subject), laws, false);
        }
    )+};
}

mutants! {
    a_runtime_that_loses_spawns: LosesSpawnsFromElsewhere breaks [X1];
    a_runtime_whose_work_blocks_its_tasks: BlocksItsTasks breaks [X1];
    a_runtime_whose_clock_goes_back: ClockGoesBack breaks [X2];
    a_runtime_whose_timers_are_early: FiresEarly breaks [X3];
    a_runtime_whose_timers_never_rearm: NeverRearms breaks [X3];
    a_runtime_whose_timers_stay_ready: StaysReady breaks [X3];
    a_runtime_whose_timers_are_armed_from_the_start: IsArmedFromTheStart breaks [X3];
    a_runtime_whose_timers_wake_who_came_first: WakesTheFirst breaks [X3];
    a_runtime_whose_sockets_are_deaf: DeafSockets breaks [X4];
    a_runtime_without_sockets_lacks_them: HasNoSockets breaks [];
}
