//! Blocking work, which may wait for a disk: it has a thread of its own, and of that thread and the
//! world's exactly one runs at a time. So a disk takes virtual time, other tasks go on meanwhile, a
//! node may die in the middle, and everything still follows from the seed.
//!
//! A node does one piece after the other. A lock that work holds while it waits for a disk must not
//! be taken by a task, which would wait for ever; in a real program it would stop an executor.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use posthaste_core::Runtime;
use posthaste_core::runtime::{BoxWork, timeout_at};

use crate::runtime::SimRuntime;
use crate::state::{Scope, State};

/// What the thread has in hand: how it says that it waits, and hears that it may go on.
struct Hands {
    waits: SyncSender<Duration>,
    goes_on: Receiver<()>,
}

thread_local! {
    static HANDS: RefCell<Option<Hands>> = const { RefCell::new(None) };
}

/// Lets virtual time pass, if this is blocking work. Anything else goes on at once.
///
/// # Errors
/// If the node has died meanwhile.
pub(crate) fn wait(time: Duration) -> io::Result<()> {
    HANDS.with_borrow(|hands| {
        let Some(hands) = hands.as_ref().filter(|_| !time.is_zero()) else { return Ok(()) };
        let told = hands.waits.send(time).is_ok() && hands.goes_on.recv().is_ok();
        if told { Ok(()) } else { Err(dead()) }
    })
}

/// What the disk of a dead node says to what is left of its program.
pub(crate) fn dead() -> io::Error {
    io::Error::other("the node is dead")
}

/// Does the work of a node until there is none.
pub(crate) async fn work_off(runtime: SimRuntime) {
    let next = || runtime.shared.with(|state, _| state.next_work(runtime.scope));
    while let Some(work) = next() {
        run(&runtime, work).await;
    }
}

async fn run(runtime: &SimRuntime, work: BoxWork) {
    let mut thread = match Thread::begin(work) {
        Ok(thread) => thread,
        Err(error) => panic!("no thread for blocking work: {error}"),
    };
    while let Some(time) = thread.go_on() {
        timeout_at(runtime, runtime.now() + time, std::future::pending::<()>()).await;
    }
    if let Err(panic) = thread.end() {
        resume_unwind(panic);
    }
}

/// A piece of work under way. Dropping it has the work end: whatever it asks of a disk fails.
struct Thread {
    goes_on: Option<SyncSender<()>>,
    waits: Option<Receiver<Duration>>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    fn begin(work: BoxWork) -> io::Result<Self> {
        let (waits, is_waiting) = sync_channel(1);
        let (go_on, goes_on) = sync_channel(1);
        // It is no thread among threads: whoever started it waits while it runs.
        let handle = std::thread::Builder::new().name("blocking".to_owned()).spawn(move || {
            if goes_on.recv().is_ok() {
                HANDS.set(Some(Hands { waits, goes_on }));
                work();
                HANDS.set(None);
            }
        })?;
        let handle = Some(handle);
        Ok(Self { goes_on: Some(go_on), waits: Some(is_waiting), handle })
    }

    /// Lets the work run until it waits, and says for how long; `None` once it has ended.
    fn go_on(&mut self) -> Option<Duration> {
        self.goes_on.as_ref()?.send(()).ok()?;
        self.waits.as_ref()?.recv().ok()
    }

    fn end(&mut self) -> Result<(), Box<dyn Any + Send>> {
        (self.goes_on, self.waits) = (None, None);
        self.handle.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // What it still does is of a dead node, and nobody's failure.
        let _ended = self.end();
    }
}

/// What becomes of a piece of blocking work.
pub(crate) enum Work {
    /// It waits for its turn; nobody was at it, if work `begins` with it.
    Queued { begins: bool },
    /// It runs as any other task: there is no disk that it could wait for.
    Alone(BoxWork),
    /// Its node is dead, or the world at its end.
    Refused(#[expect(dead_code, reason = "dropped where no lock is held")] BoxWork),
}

impl State {
    /// Adds blocking work.
    pub(crate) fn add_work(&mut self, scope: Scope, work: BoxWork) -> Work {
        if self.closed || !self.is_alive(scope) {
            return Work::Refused(work);
        }
        let node = &mut self.nodes[scope.node];
        if node.disk.is_none() {
            return Work::Alone(work);
        }
        node.work.push_back(work);
        Work::Queued { begins: !std::mem::replace(&mut node.working, true) }
    }

    /// What whoever does a node's blocking work does next.
    pub(crate) fn next_work(&mut self, scope: Scope) -> Option<BoxWork> {
        if !self.is_alive(scope) {
            return None;
        }
        let node = &mut self.nodes[scope.node];
        let work = node.work.pop_front();
        node.working = work.is_some();
        work
    }
}
