//! An executor of one thread whose clock moves on when nothing else can: what takes long ends at
//! once, and what hangs is seen at once.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use posthaste_conformance::{Executor, LocalFuture};
use posthaste_core::runtime::{BoxAcceptor, BoxTimer, BoxWork, StdListener, StdSocket, Timer};
use posthaste_core::task::lock;
use posthaste_core::transport::BoxConnection;
use posthaste_core::{BoxFuture, Runtime, SharedRuntime};

/// A world with a clock of its own, in which a bug may be planted.
#[derive(Clone)]
pub(crate) struct VirtualTime(Arc<World>);

struct World {
    planted: &'static str,
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    now: Duration,
    woken: VecDeque<Arc<Task>>,
    timers: BTreeMap<(Duration, u64), Waker>,
    numbers: u64,
    /// How many seconds somebody has moved the wall clock by.
    wall_moved: i64,
}

impl VirtualTime {
    pub(crate) fn new() -> Self {
        Self::planted("")
    }

    #[allow(clippy::disallowed_methods, reason = "a virtual clock needs an origin")]
    pub(crate) fn planted(bug: &'static str) -> Self {
        let (origin, state) = (Instant::now(), Mutex::default());
        Self(Arc::new(World { planted: bug, origin, state }))
    }

    /// Moves the wall clock, and nothing else.
    pub(crate) fn move_wall_clock(&self, seconds: i64) {
        lock(&self.0.state).wall_moved += seconds;
    }

    /// Moves on to when the next timer is due; whether there is one.
    fn pass(&self) -> bool {
        let due = {
            let mut state = lock(&self.0.state);
            let next = state.timers.pop_first();
            next.map(|((at, _), waker)| {
                state.now = state.now.max(at);
                waker
            })
        };
        due.map(Waker::wake).is_some()
    }

    fn run_woken(&self) {
        loop {
            let next = lock(&self.0.state).woken.pop_front();
            let Some(task) = next else { return };
            task.run();
        }
    }
}

impl Executor for VirtualTime {
    fn runtime(&self) -> Option<SharedRuntime> {
        Some(Arc::new(self.clone()))
    }

    fn block_on(&self, mut case: LocalFuture<'_, ()>) {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        while woken.0.swap(false, Ordering::SeqCst) || self.pass() {
            self.run_woken();
            if case.as_mut().poll(&mut cx).is_ready() {
                return;
            }
            self.run_woken();
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Task {
    world: VirtualTime,
    future: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Task {
    fn run(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let taken = lock(&self.future).take();
        if let Some(mut future) = taken
            && future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        {
            *lock(&self.future) = Some(future);
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let world = self.world.clone();
        lock(&world.0.state).woken.push_back(self);
    }
}

impl Runtime for VirtualTime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let task = Task { world: self.clone(), future: Mutex::new(Some(task)) };
        Arc::new(task).wake();
    }

    fn spawn_blocking(&self, work: BoxWork) {
        // Not at once: whoever asks may hold what the work waits for.
        self.spawn(Box::pin(async move { work() }));
    }

    fn timer(&self) -> BoxTimer {
        Box::pin(Alarm { world: self.clone(), at: None, entry: None })
    }

    fn now(&self) -> Instant {
        self.0.origin + lock(&self.0.state).now
    }

    fn unix_time(&self) -> Duration {
        let state = lock(&self.0.state);
        Duration::from_secs(1_800_000_000_u64.saturating_add_signed(state.wall_moved)) + state.now
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut state = lock(&self.0.state);
        for byte in bytes {
            state.numbers = state.numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11);
            *byte = (state.numbers >> 56) as u8;
        }
    }

    fn has_planted(&self, bug: &str) -> bool {
        self.0.planted == bug
    }

    fn register(&self, _: StdSocket) -> io::Result<BoxConnection> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn register_connecting(&self, _: StdSocket) -> BoxFuture<'static, io::Result<BoxConnection>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn register_listener(&self, _: StdListener) -> io::Result<BoxAcceptor> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Alarm {
    world: VirtualTime,
    at: Option<Duration>,
    entry: Option<(Duration, u64)>,
}

impl Alarm {
    fn leave(&mut self) {
        if let Some(entry) = self.entry.take() {
            let left = lock(&self.world.0.state).timers.remove(&entry);
            drop(left);
        }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.leave();
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        let world = self.world.clone();
        let mut state = lock(&world.0.state);
        if state.now >= at {
            self.at = None;
            return Poll::Ready(());
        }
        state.numbers += 1;
        let entry = (at, state.numbers);
        state.timers.insert(entry, cx.waker().clone());
        self.entry = Some(entry);
        Poll::Pending
    }
}

impl Timer for Alarm {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        let at = deadline.saturating_duration_since(self.world.0.origin);
        self.at = Some(at);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.leave();
    }
}
