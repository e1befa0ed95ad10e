//! A machine with one thread and a clock that is moved by hand, and a line whose bytes are let
//! through by hand.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::runtime::{
    BoxAcceptor, BoxFuture, BoxTimer, BoxWork, Runtime, StdListener, StdSocket, Timer,
};
use posthaste_core::task::{lock, remember};
use posthaste_core::transport::{
    BoxConnection, BoxListener, Connection, Endpoint, Peer, Transport,
};
use posthaste_link::Pipe;

use crate::scene::start;

/// Polls after which tasks that still wake each other do so for ever.
const POLLS_MAX: usize = 100_000;

/// What the tasks know of the machine.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Mutex<Ticks>>);

struct Ticks {
    now: Instant,
    spawned: Vec<BoxFuture<'static, ()>>,
    /// Armed timers, by number.
    armed: Vec<(u64, Instant, Waker)>,
    numbers: u64,
    random: u64,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

impl Clock {
    fn new() -> Self {
        let (spawned, armed) = (Vec::new(), Vec::new());
        let ticks = Ticks { now: start(), spawned, armed, numbers: 0, random: 1 };
        Self(Arc::new(Mutex::new(ticks)))
    }

    fn advance(&self, by: Duration) {
        let mut due = Vec::new();
        {
            let mut ticks = lock(&self.0);
            ticks.now += by;
            let now = ticks.now;
            ticks.armed.retain(|(_, at, waker)| {
                let keeps = *at > now;
                if !keeps {
                    due.push(waker.clone());
                }
                keeps
            });
        }
        due.into_iter().for_each(Waker::wake);
    }
}

impl Runtime for Clock {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        lock(&self.0).spawned.push(task);
    }

    fn spawn_blocking(&self, work: BoxWork) {
        work();
    }

    fn timer(&self) -> BoxTimer {
        let number = {
            let mut ticks = lock(&self.0);
            ticks.numbers += 1;
            ticks.numbers
        };
        Box::pin(Alarm { clock: self.clone(), number, at: None })
    }

    fn now(&self) -> Instant {
        lock(&self.0).now
    }

    fn unix_time(&self) -> Duration {
        Duration::ZERO
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut ticks = lock(&self.0);
        ticks.random += 1;
        bytes.copy_from_slice(&crate::seeded(ticks.random, bytes.len()));
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
    number: u64,
    at: Option<Instant>,
}

impl Alarm {
    fn disarm(&self) {
        lock(&self.clock.0).armed.retain(|(number, ..)| *number != self.number);
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        self.disarm();
        let mut ticks = lock(&self.clock.0);
        if at > ticks.now {
            ticks.armed.push((self.number, at, cx.waker().clone()));
            return Poll::Pending;
        }
        drop(ticks);
        self.at = None;
        Poll::Ready(())
    }
}

impl Timer for Alarm {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.disarm();
        self.at = Some(deadline);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// Whether somebody was woken.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The tasks of the machine, each polled only when it was woken.
pub(crate) struct Machine {
    pub(crate) clock: Clock,
    tasks: Vec<Option<(BoxFuture<'static, ()>, Arc<Flag>)>>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { clock: Clock::new(), tasks: Vec::new() }
    }

    /// Polls the first task from number `from` on that was woken; `false` if none was.
    pub(crate) fn turn(&mut self, from: usize) -> bool {
        for task in std::mem::take(&mut lock(&self.clock.0).spawned) {
            let flag = Arc::new(Flag(AtomicBool::new(true)));
            let task = Some((task, flag));
            match self.tasks.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = task,
                None => self.tasks.push(task),
            }
        }
        let count = self.tasks.len();
        for at in (0..count).map(|nth| (from + nth) % count) {
            let Some((task, flag)) = &mut self.tasks[at] else { continue };
            if flag.take() {
                let waker = Waker::from(Arc::clone(flag));
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    self.tasks[at] = None;
                }
                return true;
            }
        }
        false
    }

    /// Lets everything come to rest.
    pub(crate) fn rest(&mut self) {
        let polls = (0..POLLS_MAX).take_while(|_| self.turn(0)).count();
        assert!(polls < POLLS_MAX, "tasks wake each other for ever");
    }

    /// Time passes, and whoever waited for that goes on.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.rest();
    }

    /// Drives a future to its end; time passes as long as nothing else happens.
    pub(crate) fn drive<F: Future>(&mut self, what: &str, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        for _ in 0..1_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            self.rest();
            for _ in 0..1_000 {
                if flag.take() {
                    break;
                }
                self.pass(Duration::from_millis(250));
            }
        }
        panic!("{what} takes for ever");
    }
}

/// A pipe whose clients write and read only as many bytes as are let through.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) pipe: Pipe,
    valves: Arc<[Mutex<Valve>; 2]>,
}

/// One direction.
#[derive(Debug)]
struct Valve {
    open: usize,
    waiting: Option<Waker>,
}

impl Line {
    pub(crate) fn new(pipe: Pipe) -> Self {
        let valve = || Mutex::new(Valve { open: usize::MAX, waiting: None });
        Self { pipe, valves: Arc::new([valve(), valve()]) }
    }

    /// Lets so many bytes through in one direction, and none after them.
    pub(crate) fn open(&self, direction: usize, bytes: usize) {
        let waker = {
            let mut valve = lock(&self.valves[direction]);
            valve.open = bytes;
            valve.waiting.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[async_trait]
impl Transport for Line {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let line = self.clone();
        Ok(Box::new(Throttled { inner: self.pipe.connect(to).await?, line }))
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        self.pipe.bind(at).await
    }
}

struct Throttled {
    inner: BoxConnection,
    line: Line,
}

impl Throttled {
    /// How many of `want` bytes may pass, of which there is one at least.
    fn poll_open(&self, direction: usize, want: usize, cx: &Context<'_>) -> Poll<usize> {
        let mut valve = lock(&self.line.valves[direction]);
        if valve.open == 0 {
            remember(&mut valve.waiting, cx);
            return Poll::Pending;
        }
        Poll::Ready(valve.open.min(want))
    }

    fn passed(&self, direction: usize, bytes: usize) {
        let mut valve = lock(&self.line.valves[direction]);
        if valve.open != usize::MAX {
            valve.open -= bytes;
        }
    }
}

impl AsyncRead for Throttled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = std::task::ready!(self.poll_open(0, into.len(), cx));
        let read = Pin::new(&mut self.inner).poll_read(cx, &mut into[..most]);
        if let Poll::Ready(Ok(count)) = read {
            self.passed(0, count);
        }
        read
    }
}

impl AsyncWrite for Throttled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = std::task::ready!(self.poll_open(1, from.len(), cx));
        let wrote = Pin::new(&mut self.inner).poll_write(cx, &from[..most]);
        if let Poll::Ready(Ok(count)) = wrote {
            self.passed(1, count);
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl Connection for Throttled {
    fn peer(&self) -> Peer {
        self.inner.peer()
    }
}
