//! A simulation: which seeds, how hostile, what is planted; and the loop over the seeds.

use std::any::Any;
use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthaste_core::task::lock;

use crate::check::Checks;
use crate::executor::{self, Stuck};
use crate::failure::{self, Failure};
use crate::faults::Faults;
use crate::history::History;
use crate::state::Shared;
use crate::world::{NEVER_TRUE, World};

/// How long faults strike, unless it was said otherwise.
const HEAL_AFTER: Duration = Duration::from_secs(20);
/// How long a scenario may take after that.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a scenario in one world after another, each with a seed of its own.
///
/// ```
/// use posthaste_sim::{Faults, Sim};
/// use std::time::Duration;
///
/// Sim::new().seeds(0..20).faults(Faults::rough()).run(|world| async move {
///     let idle = world.node("idle").start(|node| async move {
///         node.sleep(Duration::from_secs(5 * 60)).await;
///     });
///     world.sleep(Duration::from_secs(1)).await;
///     assert_eq!(idle.census().timers, 1);
/// });
/// ```
#[derive(Debug, Clone)]
pub struct Sim {
    seeds: Range<u64>,
    faults: Faults,
    heal_after: Duration,
    patience: Duration,
    planted: BTreeSet<String>,
    threads: usize,
    lines: usize,
}

impl Default for Sim {
    fn default() -> Self {
        Self {
            seeds: 0..100,
            faults: Faults::none(),
            heal_after: HEAL_AFTER,
            patience: PATIENCE,
            planted: BTreeSet::new(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            lines: failure::LINES,
        }
    }
}

/// What one world came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The hash over all that happened: the same seed, the same hash.
    pub hash: u64,
    /// How many steps tasks took.
    pub steps: u64,
    /// How much virtual time went by.
    pub elapsed: Duration,
    /// What went wrong, if anything did.
    pub failure: Option<Box<Failure>>,
}

/// What a simulation that found nothing came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// How many worlds.
    pub seeds: u64,
    /// How many steps of tasks in all of them.
    pub steps: u64,
    /// How much virtual time in all of them.
    pub elapsed: Duration,
    /// The hashes of all worlds as one, in whatever order they ran.
    pub hash: u64,
}

impl Sim {
    /// A hundred worlds without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Which seeds. `POSTHASTE_SIM_SEEDS=n` makes that `n` from the first one on,
    /// `POSTHASTE_SIM_SEED=n` this one alone.
    #[must_use]
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = seeds;
        self
    }

    /// How hostile the worlds are.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// After which virtual time nothing strikes any more and what can be repaired is.
    #[must_use]
    pub fn heal_after(mut self, time: Duration) -> Self {
        self.heal_after = time;
        self
    }

    /// How much virtual time a scenario may take once its world has healed. One that takes longer
    /// hangs, and that is a failure.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// Plants a bug: [`Runtime::has_planted`](posthaste_core::Runtime::has_planted) answers yes to
    /// that name. [`planted`](crate::planted) lists those of the framework; code of yours may ask
    /// for some of its own.
    ///
    /// ```
    /// use posthaste_sim::Sim;
    ///
    /// Sim::new().seeds(0..1).plant("shop.pays-twice").run(async |world| {
    ///     assert!(world.node("shop").runtime().has_planted("shop.pays-twice"));
    /// });
    /// ```
    #[must_use]
    pub fn plant(mut self, bug: impl Into<String>) -> Self {
        self.planted.insert(bug.into());
        self
    }

    /// How many worlds run at a time, each on a thread of its own; as many as there are processors
    /// unless it is said. What happens in a world does not depend on it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// How many of the last lines of the timeline a failure has, 40 unless it is said; a world
    /// keeps 2,000. `POSTHASTE_SIM_LINES=n` makes it `n`.
    #[must_use]
    pub fn lines(mut self, lines: usize) -> Self {
        self.lines = lines;
        self
    }

    /// Runs `scenario` in the world of each seed.
    ///
    /// # Panics
    /// If a world goes wrong, with everything that is known about the first such seed.
    #[track_caller]
    pub fn run<F, Fut>(&self, scenario: F) -> Report
    where
        F: Fn(World) -> Fut + Sync,
        Fut: Future<Output = ()>,
    {
        match self.search(scenario) {
            Ok(report) => report,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Runs `scenario` in the world of each seed, and stops at the first that goes wrong.
    ///
    /// # Errors
    /// What went wrong in the first world that did.
    pub fn search<F, Fut>(&self, scenario: F) -> Result<Report, Box<Failure>>
    where
        F: Fn(World) -> Fut + Sync,
        Fut: Future<Output = ()>,
    {
        let seeds = self.wanted();
        let name = std::thread::current().name().map(str::to_owned);
        let next = AtomicU64::new(seeds.start);
        let found: Mutex<(Report, Option<Box<Failure>>)> = Mutex::default();
        let worker = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let known = lock(&found).1.as_ref().map(|failure| failure.seed);
                if !seeds.contains(&seed) || known.is_some_and(|known| known < seed) {
                    return;
                }
                let outcome = self.one_named(seed, &scenario, name.as_deref());
                let (report, first) = &mut *lock(&found);
                report.seeds += 1;
                report.steps += outcome.steps;
                report.elapsed += outcome.elapsed;
                report.hash ^= outcome.hash;
                if let Some(failure) = outcome.failure
                    && first.as_ref().is_none_or(|first| failure.seed < first.seed)
                {
                    *first = Some(failure);
                }
            }
        };
        if self.threads == 1 || seeds.end - seeds.start <= 1 {
            worker();
        } else {
            std::thread::scope(|scope| {
                (0..self.threads).for_each(|_| drop(scope.spawn(worker)));
            });
        }
        let (report, failure) =
            found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        failure.map_or(Ok(report), Err)
    }

    /// Runs `scenario` in the world of one seed.
    pub fn one<F, Fut>(&self, seed: u64, scenario: F) -> Outcome
    where
        F: Fn(World) -> Fut,
        Fut: Future<Output = ()>,
    {
        self.one_named(seed, &scenario, std::thread::current().name())
    }

    fn one_named<F, Fut>(&self, seed: u64, scenario: &F, name: Option<&str>) -> Outcome
    where
        F: Fn(World) -> Fut,
        Fut: Future<Output = ()>,
    {
        let shared = Shared::new(seed, &self.faults, self.planted.clone(), self.heal_after);
        let checks = Arc::new(Checks::default());
        let world = World { shared: Arc::clone(&shared), checks: Arc::clone(&checks) };
        let limit = self.heal_after + self.patience;
        let ended =
            catch_unwind(AssertUnwindSafe(|| executor::run(&shared, limit, scenario(world))));
        let wrong = match ended {
            Ok(Ok(())) => look(&shared, &checks),
            Ok(Err(stuck)) => Some(standstill(&shared, stuck)),
            Err(panic) => Some(panicked(text_of(&*panic))),
        };
        let (hash, steps, elapsed, timeline) = shared.with(|state, _| {
            let page = state.timeline.last_page(failure::lines().unwrap_or(self.lines));
            (state.timeline.hash(), state.steps, state.now, page)
        });
        shared.close();
        let failure = wrong.map(|(check, what)| {
            let replay = failure::replay(seed, name);
            Box::new(Failure { seed, check, what, at: elapsed, timeline, hash, replay })
        });
        Outcome { seed, hash, steps, elapsed, failure }
    }

    fn wanted(&self) -> Range<u64> {
        if let Some(seed) = failure::number("POSTHASTE_SIM_SEED") {
            return seed..seed.saturating_add(1);
        }
        match failure::number("POSTHASTE_SIM_SEEDS") {
            Some(count) => self.seeds.start..self.seeds.start.saturating_add(count),
            None => self.seeds.clone(),
        }
    }
}

/// The first check that does not hold, and what it says.
fn look(shared: &Arc<Shared>, checks: &Checks) -> Option<(String, String)> {
    let history = History::new(shared.with(|state, _| std::mem::take(&mut state.history)));
    let checks = std::mem::take(&mut *lock(&checks.0));
    checks.iter().find_map(|check| {
        let wrong = check.look(&history).err()?;
        Some((check.name().to_owned(), wrong))
    })
}

fn standstill(shared: &Arc<Shared>, stuck: Stuck) -> (String, String) {
    let (tasks, timers) = shared.with(|state, _| (state.tasks.len(), state.timers.len()));
    let what = match stuck {
        Stuck::Deadlock => "nothing is ready and no timer is armed, but the scenario has not ended",
        Stuck::TooLong(_) => "the scenario has not ended although the world has healed long ago",
        Stuck::Spinning => "tasks wake each other for ever",
    };
    let what = format!("{what}; {tasks} tasks and {timers} timers are there");
    ("everything comes to its end once the world has healed".to_owned(), what)
}

/// What a panic breaks: a scenario that waits in vain ends in one, too.
fn panicked(text: String) -> (String, String) {
    let check = match text.starts_with(NEVER_TRUE) {
        true => "what is waited for comes true",
        false => "no panic",
    };
    (check.to_owned(), text)
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
