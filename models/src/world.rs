//! A server, the clients that are connected to it, and the one thread that moves all of their
//! tasks: whoever else has a handle is a thread of the model.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};

use loom::thread::JoinHandle;
use posthaste_core::SharedRuntime;
use posthaste_core::runtime::BoxFuture;
use posthaste_core::task::{Child, ReadySet};
use posthaste_core::transport::{Endpoint, Transport};
use posthaste_link::{Pipe, Reconnect, Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;

use crate::{Bell, Still, block_on, join, spawn};

/// The child that stops a thread of tasks.
const STOP: usize = usize::MAX;

/// The tasks that a [`Still`] runtime was given. Each has a waker of its own and is polled only
/// when that was used, so that a wake-up that one of them misses is missed.
pub struct Tasks {
    still: Still,
    tasks: Vec<Option<(BoxFuture<'static, ()>, Child)>>,
    ready: ReadySet,
    listed: Vec<usize>,
}

impl Tasks {
    fn new(still: Still) -> Self {
        Self { still, tasks: Vec::new(), ready: ReadySet::new(), listed: Vec::new() }
    }

    /// Polls who was woken until nobody is, or until the stop; whether that has come.
    fn turn(&mut self) -> bool {
        let mut stopped = false;
        loop {
            for task in self.still.spawned() {
                let at = self.tasks.len();
                self.tasks.push(Some((task, self.ready.add(at))));
                self.ready.mark(at);
            }
            self.ready.take_ready(&mut self.listed);
            if self.listed.is_empty() || stopped {
                return stopped;
            }
            for at in std::mem::take(&mut self.listed) {
                stopped |= at == STOP;
                let Some(place) = self.tasks.get_mut(at) else { continue };
                let Some((task, child)) = place else { continue };
                if task.as_mut().poll(&mut Context::from_waker(child.polling())).is_ready() {
                    *place = None;
                }
            }
        }
    }

    /// Drives `future` to its end while no other thread runs.
    ///
    /// # Panics
    /// If it waits for something that does not come.
    pub fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let bell = Arc::new(Bell::default());
        let waker = Arc::clone(&bell).into();
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            self.turn();
            assert!(bell.take(), "whoever waits is woken once everything has come to rest");
        }
    }

    /// Lets everything come to rest while no other thread runs.
    pub fn rest(&mut self) {
        self.turn();
    }

    /// Starts the thread that moves the tasks.
    pub fn start(mut self) -> Running {
        let ready = self.ready.clone();
        let thread = spawn(move || {
            let ready = self.ready.clone();
            block_on(poll_fn(|cx| {
                ready.register(cx);
                if self.turn() { Poll::Ready(()) } else { Poll::Pending }
            }));
            self
        });
        Running { ready, thread }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.tasks.iter().flatten().count();
        f.debug_struct("Tasks").field("left", &left).finish_non_exhaustive()
    }
}

/// The thread that moves the tasks.
#[derive(Debug)]
pub struct Running {
    ready: ReadySet,
    thread: JoinHandle<Tasks>,
}

impl Running {
    /// Stops the thread, once every other has come to its end.
    pub fn stop(self) -> Tasks {
        self.ready.mark(STOP);
        join(self.thread)
    }
}

/// A broker behind a server, and a client that is connected to it.
#[derive(Debug)]
pub struct World {
    /// The broker, for those who are at its end.
    pub memory: Memory,
    /// What the bytes go through.
    pub pipe: Pipe,
    /// The server.
    pub server: Server,
    /// The client.
    pub remote: Remote,
    /// What moves the connection, at both ends.
    pub tasks: Tasks,
}

impl World {
    /// A world in which nothing has happened but the handshake.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new() -> Self {
        Self::over(|pipe| pipe)
    }

    /// The same with a client that connects again.
    ///
    /// # Panics
    /// If the handshake fails.
    #[must_use]
    pub fn lasting() -> Self {
        Self::with(|pipe| pipe, Reconnect::Forever)
    }

    /// The same over a transport made of the pipe that the server listens at.
    ///
    /// # Panics
    /// If the handshake fails.
    pub fn over<T: Transport + 'static>(transport: impl FnOnce(Pipe) -> T) -> Self {
        Self::with(transport, Reconnect::Never)
    }

    fn with<T: Transport + 'static>(
        transport: impl FnOnce(Pipe) -> T,
        reconnect: Reconnect,
    ) -> Self {
        let still = Still::default();
        let runtime: SharedRuntime = Arc::new(still.clone());
        let mut tasks = Tasks::new(still);
        let (memory, pipe) = (Memory::new(), Pipe::new());
        let server = Server::new(Arc::clone(&runtime), memory.clone(), ServerOptions::new());
        let here = Endpoint::new("pipe", "here");
        let here = tasks.drive(server.listen(pipe.clone(), here)).expect("the address is free");
        let options = RemoteOptions::new().reconnect(reconnect);
        let connecting = Remote::connect(runtime, transport(pipe.clone()), here, options);
        let remote = tasks.drive(connecting).expect("the server answers");
        tasks.rest();
        Self { memory, pipe, server, remote, tasks }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
