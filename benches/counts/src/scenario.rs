//! The scenarios by name.

use std::fmt;

use posthaste::{BoxFuture, Error, SharedRuntime};

use crate::exchange::Taking::{Acknowledged, Batches, OneByOne};
use crate::executor::Executor;
use crate::socket::Broker::{Between, Embedded};
use crate::socket::Socket;
use crate::{in_process, reference, socket};

type Run = Box<dyn Fn(SharedRuntime, u64) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

/// A fixed piece of work, of as many messages as wanted.
pub struct Scenario {
    name: String,
    messages: u64,
    reference: bool,
    smol: bool,
    run: Run,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Scenario {
    fn new<F>(
        name: impl Into<String>,
        messages: u64,
        run: impl Fn(SharedRuntime, u64) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        Self {
            name: name.into(),
            messages,
            reference: false,
            smol: false,
            run: Box::new(move |runtime, count| Box::pin(run(runtime, count))),
        }
    }

    fn reference(mut self) -> Self {
        self.reference = true;
        self
    }

    fn smol(mut self) -> Self {
        self.smol = true;
        self.name = format!("{}, smol", self.name);
        self
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many messages are enough to count: the shorter of the two runs.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether it is somebody else's work, to which Posthaste's compares.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.reference
    }

    /// Moves `messages` messages on an executor of its own.
    ///
    /// # Errors
    /// Whatever went wrong; the counts are worth nothing then.
    pub fn run(&self, messages: u64) -> Result<(), Error> {
        let executor = if self.smol { Executor::smol() } else { Executor::tokio()? };
        executor.block_on((self.run)(executor.runtime(), messages))
    }
}

/// All scenarios, in the order in which they are reported.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all = in_memory();
    all.extend(over(Socket::Tcp, "tcp"));
    all.extend(over(Socket::Unix, "unix"));
    all.extend([
        Scenario::new("async-channel", MESSAGES, reference::async_channel).reference(),
        Scenario::new("kanal", MESSAGES, reference::kanal).reference(),
    ]);
    all
}

const MESSAGES: u64 = 8_192;
const LARGE: u64 = 512;
const REQUESTS: u64 = 512;

fn in_memory() -> Vec<Scenario> {
    vec![
        Scenario::new("memory queue", MESSAGES, |r, n| in_process::queue(r, n, 1, OneByOne)),
        Scenario::new("memory queue, batches", MESSAGES, |r, n| {
            in_process::queue(r, n, 1, Batches)
        }),
        Scenario::new("memory queue, acknowledged", MESSAGES, |r, n| {
            in_process::queue(r, n, 1, Acknowledged)
        }),
        Scenario::new("memory queue, 4 senders", MESSAGES, |r, n| {
            in_process::queue(r, n, 4, OneByOne)
        }),
        Scenario::new("memory queue, concrete", MESSAGES, |r, n| {
            in_process::concrete_queue(r, n, OneByOne)
        }),
        Scenario::new("memory queue", MESSAGES, |r, n| in_process::queue(r, n, 1, OneByOne)).smol(),
        Scenario::new("memory topic", MESSAGES, |r, n| in_process::topic(r, n, 1, OneByOne)),
        Scenario::new("memory fan-out 10", MESSAGES, |r, n| in_process::topic(r, n, 10, OneByOne)),
        Scenario::new("memory request", REQUESTS, |r, n| in_process::request(r, n, 1)),
        Scenario::new("memory request, 64 in flight", REQUESTS, |r, n| {
            in_process::request(r, n, 64)
        }),
    ]
}

fn over(socket: Socket, name: &str) -> Vec<Scenario> {
    let embedded = (socket, Embedded);
    let between = (socket, Between);
    let mut all = Vec::new();
    for (size, words, messages) in
        [(64, "64 B", MESSAGES), (1 << 10, "1 KiB", MESSAGES), (64 << 10, "64 KiB", LARGE)]
    {
        all.push(Scenario::new(format!("{name} queue {words}"), messages, move |r, n| {
            socket::queue(r, n, embedded, size, Batches)
        }));
        all.push(Scenario::new(format!("{name} queue {words}, acknowledged"), messages, {
            move |r, n| socket::queue(r, n, embedded, size, Acknowledged)
        }));
        all.push(Scenario::new(format!("{name} broker {words}"), messages, move |r, n| {
            socket::queue(r, n, between, size, Batches)
        }));
    }
    all.push(Scenario::new(format!("{name} topic 64 B"), MESSAGES, move |r, n| {
        socket::topic(r, n, embedded, 64)
    }));
    all.push(
        Scenario::new(format!("{name} queue 64 B"), MESSAGES, move |r, n| {
            socket::queue(r, n, embedded, 64, Batches)
        })
        .smol(),
    );
    for in_flight in [1, 64] {
        all.push(Scenario::new(format!("{name} request, {in_flight} in flight"), REQUESTS, {
            move |r, n| socket::request(r, n, embedded, in_flight)
        }));
    }
    all.push(Scenario::new(format!("{name} broker request"), REQUESTS, move |r, n| {
        socket::request(r, n, between, 1)
    }));
    all
}
