//! The runtime of a node: its tasks, timers, clocks and randomness are the world's.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use posthaste_core::runtime::{BoxAcceptor, BoxTimer, BoxWork, StdListener, StdSocket, Timer};
use posthaste_core::transport::BoxConnection;
use posthaste_core::{BoxFuture, Runtime, SharedRuntime};

use crate::blocking::{self, Work};
use crate::state::{Scope, Shared};
use crate::timeline::Kind;

/// A node's runtime.
///
/// Everything that is spawned through it dies with the node: once the node was killed, also when
/// it was started again since, a runtime from before spawns nothing and its timers stay pending.
/// Blocking work runs as a task of its own, and on a node that has a [disk](crate::Node::disk) one
/// piece after the other; meanwhile other tasks go on while it waits for that. There are no real sockets:
/// registering one is `Unsupported`.
#[derive(Clone)]
pub struct SimRuntime {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scope: Scope,
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRuntime")
            .field("seed", &self.shared.seed)
            .field("node", &self.scope.node)
            .field("life", &self.scope.life)
            .finish()
    }
}

impl From<SimRuntime> for SharedRuntime {
    fn from(runtime: SimRuntime) -> Self {
        Arc::new(runtime)
    }
}

impl Runtime for SimRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let refused =
            self.shared.with(|state, _| state.spawn(&self.shared.ready, self.scope, task)).err();
        // Dropped without the lock: it may be anything.
        drop(refused);
    }

    fn spawn_blocking(&self, work: BoxWork) {
        let begins = match self.shared.with(|state, _| state.add_work(self.scope, work)) {
            Work::Queued { begins } => begins,
            // Dropped without the lock: it may be anything.
            Work::Refused(_) => false,
            Work::Alone(work) => return self.spawn(Box::pin(async move { work() })),
        };
        if begins {
            self.spawn(Box::pin(blocking::work_off(self.clone())));
        }
    }

    fn timer(&self) -> BoxTimer {
        let id = self.shared.with(|state, _| state.add_timer(self.scope));
        Box::pin(SimTimer { shared: Arc::clone(&self.shared), scope: self.scope, id })
    }

    fn now(&self) -> Instant {
        self.shared.instant(self.shared.with(|state, _| state.now))
    }

    fn unix_time(&self) -> Duration {
        self.shared.with(|state, _| state.unix_time(self.scope.node))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.shared.with(|state, _| {
            state.nodes[self.scope.node].dice.fill(bytes);
            state.timeline.note(Kind::Random, [self.scope.node as u64, bytes.len() as u64, 0]);
        });
    }

    fn has_planted(&self, bug: &str) -> bool {
        self.shared.planted.contains(bug)
    }

    fn register(&self, _socket: StdSocket) -> io::Result<BoxConnection> {
        Err(no_sockets())
    }

    fn register_connecting(
        &self,
        _socket: StdSocket,
    ) -> BoxFuture<'static, io::Result<BoxConnection>> {
        Box::pin(std::future::ready(Err(no_sockets())))
    }

    fn register_listener(&self, _listener: StdListener) -> io::Result<BoxAcceptor> {
        Err(no_sockets())
    }
}

fn no_sockets() -> io::Error {
    let text = "a simulated world has no sockets; connect through the node's transport";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

struct SimTimer {
    shared: Arc<Shared>,
    scope: Scope,
    id: u64,
}

impl Future for SimTimer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.with(|state, after| {
            if state.take_timer(self.id) {
                return Poll::Ready(());
            }
            let Some(timer) = state.timers.get_mut(&self.id) else {
                return Poll::Pending;
            };
            after.forgotten.extend(timer.waker.replace(cx.waker().clone()));
            Poll::Pending
        })
    }
}

impl Timer for SimTimer {
    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        let at = self.shared.offset(deadline);
        self.shared.with(|state, _| {
            if state.is_alive(self.scope) && !state.closed {
                state.reset_timer(self.id, at);
            }
        });
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        self.shared.with(|state, after| state.drop_timer(self.id, after));
    }
}
