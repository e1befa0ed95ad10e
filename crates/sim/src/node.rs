//! A node of a world: where programs run, and what can be done to it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use posthaste_core::runtime::timeout_at;
use posthaste_core::task::OneShot;
use posthaste_core::{BoxFuture, Broker, SharedRuntime};

use crate::disk::SimDisk;
use crate::history::Recorder;
use crate::record::Recorded;
use crate::runtime::SimRuntime;
use crate::state::{Scope, Shared};
use crate::transport::SimTransport;

/// What a node runs, each time it is started.
pub(crate) type Start = Arc<dyn Fn(Node) -> BoxFuture<'static, ()> + Send + Sync>;

/// A machine with one program: its tasks, timers, connections and listeners live and die with it.
///
/// A node that [`World::node`](crate::World::node) hands out is whichever life is the current one.
/// The node that a program is started with is that one life: once it was killed, what is done
/// through it comes to nothing.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    pub(crate) at: usize,
    pub(crate) life: Option<u32>,
}

impl Node {
    /// Its name, which is also its address in the network.
    #[must_use]
    pub fn name(&self) -> String {
        self.shared.with(|state, _| state.nodes[self.at].name.to_string())
    }

    /// Its executor and its clocks.
    #[must_use]
    pub fn runtime(&self) -> SharedRuntime {
        SimRuntime { shared: Arc::clone(&self.shared), scope: self.scope() }.into()
    }

    /// Its way into the network.
    #[must_use]
    pub fn transport(&self) -> SimTransport {
        SimTransport { shared: Arc::clone(&self.shared), scope: self.scope() }
    }

    /// Its disk, which is empty at first and outlives its programs. See [`SimDisk`].
    #[must_use]
    pub fn disk(&self) -> SimDisk {
        SimDisk::new(&self.shared, self.scope())
    }

    /// `broker` as it is, with everything that is sent, received and settled through it written
    /// into the world's history.
    pub fn record<B: Broker>(&self, broker: B) -> Recorded<B> {
        Recorded::new(broker, self.recorder())
    }

    /// Writes into the world's history in the name of this node.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder { shared: Arc::clone(&self.shared), node: self.at }
    }

    /// Allows the nemesis to kill this node.
    #[must_use]
    pub fn mortal(self) -> Self {
        self.shared.with(|state, _| state.nodes[self.at].mortal = true);
        self
    }

    /// Runs `program` on this node, now and each time it is started again.
    pub fn start<F, Fut>(self, program: F) -> Self
    where
        F: Fn(Self) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let start: Start = Arc::new(move |node| Box::pin(program(node)));
        let scope = self.scope();
        self.shared.with(|state, _| {
            state.nodes[self.at].start = Some(Arc::clone(&start));
            state.nodes[self.at].finished = false;
        });
        run_start(&self.shared, &start, scope);
        self
    }

    /// Runs `work` on this node, once; resolves with its output, or with `None` if the node was
    /// killed before it ended.
    pub fn spawn<T, F>(&self, work: F) -> Running<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let cell = Arc::new(OneShot::new());
        let mut end = End { cell: Arc::clone(&cell), ended: false };
        let scope = self.scope();
        let task = async move {
            let output = work.await;
            end.ended = true;
            end.cell.put(Some(output));
        };
        let refused = self
            .shared
            .with(|state, _| state.spawn(&self.shared.ready, scope, Box::pin(task)))
            .err();
        drop(refused);
        Running { cell }
    }

    /// Resolves when the program that the node was started with has ended by itself.
    pub async fn finished(&self) {
        poll_fn(|cx| {
            self.shared.with(|state, _| {
                let node = &mut state.nodes[self.at];
                if node.finished {
                    return Poll::Ready(());
                }
                wait(&mut node.waiting_for_finish, cx);
                Poll::Pending
            })
        })
        .await;
    }

    /// Resolves after a while of virtual time.
    pub async fn sleep(&self, time: Duration) {
        let runtime = self.runtime();
        timeout_at(&*runtime, runtime.now() + time, std::future::pending::<()>()).await;
    }

    /// A number below `below`, from the node's own randomness; 0 if that is 0.
    #[must_use]
    pub fn random(&self, below: u64) -> u64 {
        self.shared.with(|state, _| state.nodes[self.at].dice.below(below))
    }

    /// Kills the program, as `kill -9` does: what it has not said is not said any more, and its
    /// connections are reset. What it has written to its disk is there.
    pub fn kill(&self) {
        self.shared.with(|state, after| state.kill(self.at, false, after));
    }

    /// The machine loses its power: the others notice by its silence alone, and of what was not
    /// synced to its disk some is there and some is not.
    pub fn power_off(&self) {
        self.shared.with(|state, after| state.kill(self.at, true, after));
    }

    /// Starts a dead node again.
    pub fn restart(&self) {
        self.shared.with(|state, after| state.restart(self.at, after));
    }

    /// Lets its disk have no room any more, but for a few bytes.
    pub fn fill_disk(&self) {
        self.shared.with(|state, _| state.fill_disk(self.at));
    }

    /// Lets its disk have room again.
    pub fn free_disk(&self) {
        self.shared.with(|state, _| state.free_disk(self.at));
    }

    /// Lets the next sync of its disk fail: what was not synced by then never will be. A
    /// [mortal](Self::mortal) node is killed for that after a while, and started again.
    pub fn fail_sync(&self) {
        self.shared.with(|state, _| state.fail_sync(self.at));
    }

    /// Resets all its connections.
    pub fn cut(&self) {
        self.shared.with(|state, _| state.cut_all(Some(self.at)));
    }

    /// Has its connections fall silent, each in one direction or both: nobody hears of it.
    pub fn half_open(&self) {
        self.shared.with(|state, _| state.half_open_all(self.at));
    }

    /// Lets the node stand still, as a stopped process does: its sockets still take and give.
    pub fn pause(&self) {
        self.shared.with(|state, _| state.pause(self.at));
    }

    /// Lets the node go on.
    pub fn resume(&self) {
        self.shared.with(|state, after| state.resume(self.at, after));
    }

    /// Sets the node's wall clock forth or back.
    pub fn jump_clock(&self, by_ms: i64) {
        self.shared.with(|state, _| state.jump(self.at, by_ms));
    }

    /// What runs on this node now.
    #[must_use]
    pub fn census(&self) -> Census {
        self.shared.with(|state, _| {
            let (connections, listeners) = state.network_census(self.at);
            let tasks = state.tasks.values().filter(|task| task.scope.node == self.at).count();
            Census { tasks, timers: state.armed_timers(self.at), connections, listeners }
        })
    }

    fn scope(&self) -> Scope {
        let life =
            self.life.unwrap_or_else(|| self.shared.with(|state, _| state.nodes[self.at].life));
        Scope { node: self.at, life }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("life", &self.life).finish()
    }
}

/// How much of a node is alive: what is left when all was given back shows a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Timers that are armed.
    pub timers: usize,
    /// Ends of connections.
    pub connections: usize,
    /// Listeners.
    pub listeners: usize,
}

/// The result of something that runs on a node.
#[must_use = "futures do nothing unless awaited; what was spawned runs all the same"]
pub struct Running<T> {
    cell: Arc<OneShot<Option<T>>>,
}

impl<T> Future for Running<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.cell.poll_take(cx)
    }
}

impl<T> fmt::Debug for Running<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// Keeps a task's waker among others, once.
pub(crate) fn wait(waiting: &mut Vec<Waker>, cx: &Context<'_>) {
    if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
        waiting.push(cx.waker().clone());
    }
}

/// Says that something will not end any more, when it is dropped before.
struct End<T> {
    cell: Arc<OneShot<Option<T>>>,
    ended: bool,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        if !self.ended {
            self.cell.put(None);
        }
    }
}

/// Runs what a node is started with, in one of its lives.
pub(crate) fn run_start(shared: &Arc<Shared>, start: &Start, scope: Scope) {
    let node = Node { shared: Arc::clone(shared), at: scope.node, life: Some(scope.life) };
    let program = start(node);
    let world = Arc::clone(shared);
    let task = async move {
        program.await;
        world.with(|state, after| {
            if state.is_alive(scope) {
                state.nodes[scope.node].finished = true;
                let waiting = std::mem::take(&mut state.nodes[scope.node].waiting_for_finish);
                after.wakers.extend(waiting);
            }
        });
    };
    let refused = shared.with(|state, _| state.spawn(&shared.ready, scope, Box::pin(task))).err();
    drop(refused);
}
