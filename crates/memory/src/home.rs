//! What every mailbox knows of the broker that it belongs to.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use posthaste_core::SharedRuntime;
use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::blocks::Spares;
use crate::clock::Schedule;
use crate::engine::Engine;
use crate::planted::Planted;
use crate::store::{self, Store};

/// The broker, as its mailboxes see it.
pub(crate) struct Home {
    pub(crate) runtime: Option<SharedRuntime>,
    pub(crate) planted: Planted,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) spares: Spares,
    /// The largest payload that the broker takes, in bytes.
    pub(crate) payload_limit: AtomicUsize,
    /// Whether somebody wants to hear of every copy that is dropped.
    pub(crate) hears_drops: AtomicBool,
    /// Where durable queues are kept, if anywhere.
    pub(crate) store: Option<Arc<dyn Store>>,
    /// What durable queues have in memory.
    pub(crate) memory: InMemory,
    engine: Weak<Engine>,
    /// Where the clocks stood when the broker was made, should it run on the wrong one.
    wall: Option<(Instant, Duration)>,
}

impl Home {
    pub(crate) fn new(
        runtime: Option<SharedRuntime>,
        store: Option<Arc<dyn Store>>,
        engine: Weak<Engine>,
    ) -> Arc<Self> {
        let planted = Planted::ask(runtime.as_deref());
        let wall = runtime.as_ref().filter(|_| planted.trusts_wall_clock);
        Arc::new(Self {
            planted,
            wall: wall.map(|runtime| (runtime.now(), runtime.unix_time())),
            runtime,
            schedule: Arc::default(),
            spares: Spares::default(),
            payload_limit: AtomicUsize::new(PAYLOAD_BYTES_MAX),
            hears_drops: AtomicBool::new(false),
            memory: InMemory::new(store.as_ref().map_or(0, |store| store.memory_bytes())),
            store,
            engine,
        })
    }

    /// The broker, unless it is gone.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.upgrade()
    }

    pub(crate) fn weak_engine(&self) -> Weak<Engine> {
        self.engine.clone()
    }

    pub(crate) fn has_clock(&self) -> bool {
        self.runtime.is_some()
    }

    pub(crate) fn now(&self) -> Option<Instant> {
        let runtime = self.runtime.as_ref()?;
        match self.wall {
            None => Some(runtime.now()),
            Some((origin, begun)) => Some(later(origin, runtime.unix_time().saturating_sub(begun))),
        }
    }

    /// The wall clock; zero without one.
    pub(crate) fn unix_time(&self) -> Duration {
        self.runtime.as_ref().map_or(Duration::ZERO, |runtime| runtime.unix_time())
    }

    /// What the wall clock says at a time of the other clock.
    pub(crate) fn wall_time(&self, at: Instant) -> Duration {
        let Some(now) = self.now() else { return Duration::ZERO };
        let (wall, ago) = (self.unix_time(), now.saturating_duration_since(at));
        (wall + at.saturating_duration_since(now)).saturating_sub(ago)
    }

    /// When the wall clock says so; one that was before this process is now.
    pub(crate) fn time_of(&self, wall: Duration) -> Option<Instant> {
        Some(store::time_of(wall, self.now()?, self.unix_time()))
    }

    pub(crate) fn hears_drops(&self) -> bool {
        self.hears_drops.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").field("planted", &self.planted).finish_non_exhaustive()
    }
}

/// How many bytes of what waits in durable queues are in memory, and may be; where the rest of it is, is in
/// memory, too, and counts.
#[derive(Debug)]
pub(crate) struct InMemory {
    most: usize,
    used: AtomicUsize,
}

/// What each queue may have in any case.
const SHARE: usize = 512 << 10;
/// How much is read back at a time: three quarters as much is handed out meanwhile.
const AT_ONCE: usize = 1 << 20;
/// How much is read back for one of many readers at least.
const FOR_A_READER: usize = 64 << 10;

impl InMemory {
    fn new(most: usize) -> Self {
        Self { most, used: AtomicUsize::new(0) }
    }

    /// Whether a queue that has `used` bytes may have so many more.
    pub(crate) fn has_room(&self, used: usize, more: usize) -> bool {
        let all = self.used.load(Ordering::Relaxed);
        used.saturating_add(more) <= SHARE.min(self.most) || all.saturating_add(more) <= self.most
    }

    /// Whether there is more than may be.
    pub(crate) fn is_over(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.most
    }

    /// Whether a queue that has `used` bytes has more than it reads ahead.
    pub(crate) fn is_much(used: usize) -> bool {
        used > 3 * AT_ONCE
    }

    /// In parts of how many bytes a queue is noted as a whole.
    pub(crate) fn part(&self) -> usize {
        self.at_once() / 4
    }

    /// Whether a queue that has `used` bytes has no more than its share.
    pub(crate) fn is_share(used: usize) -> bool {
        used < SHARE
    }

    /// Whether a queue that has `used` bytes is to read more.
    pub(crate) fn runs_out(&self, used: usize) -> bool {
        used < (AT_ONCE.min(self.most) * 3 / 4).max(1)
    }

    /// How much a queue reads.
    pub(crate) fn at_once(&self) -> usize {
        AT_ONCE.min(self.most).max(1)
    }

    /// How much each of so many readers has read for itself.
    pub(crate) fn for_each_of(&self, readers: usize) -> usize {
        (AT_ONCE / readers.max(1)).max(FOR_A_READER).min(self.at_once())
    }

    /// A queue had `before` bytes and has `now`.
    pub(crate) fn count(&self, before: usize, now: usize) {
        match now >= before {
            true if now == before => {}
            true => drop(self.used.fetch_add(now - before, Ordering::Relaxed)),
            false => drop(self.used.fetch_sub(before - now, Ordering::Relaxed)),
        }
    }
}

/// A time that is `after` from `now`; what cannot be counted is years away.
pub(crate) fn later(now: Instant, after: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    now.checked_add(after.min(FAR)).unwrap_or(now)
}
