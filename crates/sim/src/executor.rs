//! One thread, one step at a time: which of the tasks that are ready goes on is the seed's choice,
//! and when none is, time jumps to the next thing that is due.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use posthaste_core::BoxFuture;
use posthaste_core::task::lock;

use crate::state::{Aftermath, Shared, State};
use crate::timeline::Kind;

/// The number of the scenario's own future.
const MAIN: u64 = 0;
/// Steps that a world may take: far more than any scenario needs.
const STEPS_MAX: u64 = 20_000_000;

/// Tasks that were woken and not polled since. It has a lock of its own, so that a waker may be
/// woken anywhere, under any other lock.
#[derive(Debug, Default)]
pub(crate) struct Ready(Mutex<Vec<u64>>);

impl Ready {
    fn push(&self, id: u64) {
        lock(&self.0).push(id);
    }

    fn pick(&self, index: impl FnOnce(usize) -> usize) -> Option<u64> {
        let mut ready = lock(&self.0);
        if ready.is_empty() {
            return None;
        }
        let at = index(ready.len());
        Some(ready.swap_remove(at))
    }

    /// Puts back tasks that were kept from running.
    pub(crate) fn extend(&self, ids: Vec<u64>) {
        lock(&self.0).extend(ids);
    }
}

/// Wakes one task.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    id: u64,
    ready: Arc<Ready>,
    queued: AtomicBool,
}

impl TaskWaker {
    pub(crate) fn new(id: u64, ready: &Arc<Ready>) -> Arc<Self> {
        Arc::new(Self { id, ready: Arc::clone(ready), queued: AtomicBool::new(false) })
    }

    pub(crate) fn enqueue(&self) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            self.ready.push(self.id);
        }
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.enqueue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.enqueue();
    }
}

/// Why a world came to no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// Nothing is ready and nothing will ever be.
    Deadlock,
    /// The scenario has taken more virtual time than it may.
    TooLong(Duration),
    /// Tasks wake each other without end.
    Spinning,
}

/// What the loop does next.
enum Turn {
    /// Something that was due has been done.
    Done,
    Main,
    Task(u64, BoxFuture<'static, ()>, Arc<TaskWaker>),
    Stuck(Stuck),
}

/// Runs `main`, and everything that is spawned meanwhile, until `main` has ended, or until `limit`.
pub(crate) fn run<F: Future>(
    shared: &Arc<Shared>,
    limit: Duration,
    main: F,
) -> Result<F::Output, Stuck> {
    let mut main = pin!(main);
    let main_waker = TaskWaker::new(MAIN, &shared.ready);
    main_waker.enqueue();
    loop {
        match shared.with(|state, after| turn(state, &shared.ready, limit, after)) {
            Turn::Done => {}
            Turn::Stuck(why) => return Err(why),
            Turn::Main => {
                main_waker.queued.store(false, Ordering::SeqCst);
                let waker = Waker::from(Arc::clone(&main_waker));
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            Turn::Task(id, mut future, task_waker) => {
                task_waker.queued.store(false, Ordering::SeqCst);
                let waker = Waker::from(task_waker);
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                put_back(shared, id, future, polled.is_ready());
            }
        }
    }
}

fn turn(state: &mut State, ready: &Ready, limit: Duration, after: &mut Aftermath) -> Turn {
    if state.do_next_due(after) {
        return Turn::Done;
    }
    while let Some(id) = ready.pick(|len| state.dice.index(len)) {
        if id != MAIN {
            let Some(task) = state.tasks.get_mut(&id) else { continue };
            let node = &mut state.nodes[task.scope.node];
            if node.paused {
                node.held.push(id);
                continue;
            }
            let Some(future) = task.future.take() else { continue };
            let waker = Arc::clone(&task.waker);
            return match step(state, id, limit) {
                Some(why) => {
                    // Dropped with the world, outside of the lock.
                    if let Some(task) = state.tasks.get_mut(&id) {
                        task.future = Some(future);
                    }
                    Turn::Stuck(why)
                }
                None => Turn::Task(id, future, waker),
            };
        }
        return step(state, id, limit).map_or(Turn::Main, Turn::Stuck);
    }
    match state.next_due() {
        None => Turn::Stuck(Stuck::Deadlock),
        Some(at) if at > limit => Turn::Stuck(Stuck::TooLong(limit)),
        Some(at) => {
            state.now = state.now.max(at);
            Turn::Done
        }
    }
}

/// Notes a step; says if the world has gone on for too long.
fn step(state: &mut State, id: u64, limit: Duration) -> Option<Stuck> {
    state.steps += 1;
    state.step_takes_time();
    state.timeline.note(Kind::Step, [id, state.now.as_nanos() as u64, 0]);
    if state.steps > STEPS_MAX {
        return Some(Stuck::Spinning);
    }
    (state.now > limit).then_some(Stuck::TooLong(limit))
}

/// The task is kept if it goes on, unless its node was killed meanwhile.
fn put_back(shared: &Arc<Shared>, id: u64, future: BoxFuture<'static, ()>, ended: bool) {
    let mut future = Some(future);
    shared.with(|state, after| {
        if ended {
            after.tasks.extend(state.tasks.remove(&id));
        } else if let Some(task) = state.tasks.get_mut(&id) {
            task.future = future.take();
        }
    });
    // What has ended or was killed is dropped here, without the lock.
    drop(future);
}
