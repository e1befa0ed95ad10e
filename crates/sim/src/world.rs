//! A world as its scenario sees it.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use posthaste_core::SharedRuntime;
use posthaste_core::runtime::timeout_at;
use posthaste_core::task::lock;

use crate::check::{Check, Checks};
use crate::history::{History, Recorder};
use crate::node::{Node, wait};
use crate::state::{Shared, WORLD};

/// How often [`World::until`] looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long [`World::until`] waits after the world has healed.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a scenario says that has waited in vain.
pub(crate) const NEVER_TRUE: &str = "never came true: ";

/// A world of nodes, with time, a network and a fate of its own.
///
/// Cloning it makes another handle on the same world.
#[derive(Clone)]
pub struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) checks: Arc<Checks>,
}

impl World {
    /// The seed from which everything here follows.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// The node of that name; it is there once it is named.
    #[must_use]
    pub fn node(&self, name: &str) -> Node {
        let at = self.shared.with(|state, _| state.node(self.shared.seed, name));
        Node { shared: Arc::clone(&self.shared), at, life: None }
    }

    /// The runtime of the scenario itself, which no fault touches.
    #[must_use]
    pub fn runtime(&self) -> SharedRuntime {
        self.here().runtime()
    }

    /// How much virtual time has gone by.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.with(|state, _| state.now)
    }

    /// Resolves after a while of virtual time.
    pub async fn sleep(&self, time: Duration) {
        self.here().sleep(time).await;
    }

    /// A number below `below`, from the world's randomness; 0 if that is 0.
    #[must_use]
    pub fn random(&self, below: u64) -> u64 {
        self.here().random(below)
    }

    /// Resolves when nothing strikes any more and everything that can be repaired is.
    pub async fn healed(&self) {
        poll_fn(|cx| {
            self.shared.with(|state, _| {
                if state.healed {
                    return Poll::Ready(());
                }
                wait(&mut state.waiting_for_heal, cx);
                Poll::Pending
            })
        })
        .await;
    }

    /// Waits until `fact` holds.
    ///
    /// # Panics
    /// If it still does not hold a minute and a half after the world has healed: that is a failure
    /// of the scenario.
    pub async fn until(&self, what: &str, mut fact: impl AsyncFnMut() -> bool) {
        let give_up = self.elapsed().max(self.shared.heal_at) + PATIENCE;
        let runtime = self.runtime();
        let deadline = self.shared.instant(give_up);
        let waiting = async {
            while !fact().await {
                self.sleep(LOOK).await;
            }
        };
        let came_true = timeout_at(&*runtime, deadline, waiting).await;
        assert!(came_true.is_some(), "{NEVER_TRUE}{what}");
    }

    /// What has happened so far.
    #[must_use]
    pub fn history(&self) -> History {
        History::new(self.shared.with(|state, _| state.history.clone()))
    }

    /// Writes into the history in the name of the scenario.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        self.here().recorder()
    }

    /// Has `check` look at the history when the scenario has ended.
    pub fn check(&self, check: Check) -> &Self {
        lock(&self.checks.0).push(check);
        self
    }

    /// Has nothing from the nodes `here` arrive at the nodes `there`, nor the other way round,
    /// until the world heals or [`mend`](Self::mend) is called.
    pub fn part(&self, here: &[&Node], there: &[&Node]) {
        let at = |nodes: &[&Node]| nodes.iter().map(|node| node.at).collect::<Vec<_>>();
        self.shared.with(|state, _| state.part(&at(here), &at(there), true));
    }

    /// Has nothing from the nodes `here` arrive at the nodes `there`, until the world heals or
    /// [`mend`](Self::mend) is called; what comes the other way arrives.
    pub fn part_one_way(&self, here: &[&Node], there: &[&Node]) {
        let at = |nodes: &[&Node]| nodes.iter().map(|node| node.at).collect::<Vec<_>>();
        self.shared.with(|state, _| state.part(&at(here), &at(there), false));
    }

    /// Ends every partition.
    pub fn mend(&self) {
        self.shared.with(|state, _| state.network.blocked.clear());
    }

    /// Resets every connection.
    pub fn cut(&self) {
        self.shared.with(|state, _| state.cut_all(None));
    }

    fn here(&self) -> Node {
        Node { shared: Arc::clone(&self.shared), at: WORLD, life: None }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed())
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}
