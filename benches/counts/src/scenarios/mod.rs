//! The scenarios by name: each is a fixed piece of work in one process and one thread.

mod exchange;
mod executor;
mod in_process;
mod reference;
mod socket;

use std::fmt;

use posthaste::{BoxFuture, Error, SharedRuntime};

use self::exchange::Taking::{Acknowledged, Batches, OneByOne};
use self::executor::Executor;
use self::socket::Broker::{Between, Embedded};
use self::socket::Socket;

/// How many messages the shorter of the two runs moves: whole fillings of what holds them in
/// between, so that the longer run adds whole ones, and enough for what grows to have grown.
const IN_PROCESS: u64 = 4 * in_process::CAPACITY as u64;
const OVER_SOCKETS: u64 = socket::CAPACITY as u64;
const LARGE: u64 = 256;
const REQUESTS: u64 = 256;

type Run = Box<dyn Fn(SharedRuntime, u64) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

/// A fixed piece of work, of as many messages as wanted.
pub(crate) struct Scenario {
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

    /// Shown, and held to nothing: work of somebody else, or a count that does not repeat.
    fn reference(self) -> Self {
        Self { reference: true, ..self }
    }

    /// The same work on the other executor.
    fn on_smol(self) -> Self {
        Self { name: format!("{}, smol", self.name), smol: true, ..self }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many messages are enough to count: the shorter of two runs.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether it is somebody else's work, to which Posthaste's compares.
    pub(crate) fn is_reference(&self) -> bool {
        self.reference
    }

    /// Moves `messages` messages on an executor of its own and this thread.
    pub(crate) fn run(&self, messages: u64) -> Result<(), Error> {
        let executor = if self.smol { Executor::smol() } else { Executor::tokio()? };
        executor.block_on((self.run)(executor.runtime(), messages))
    }
}

/// All scenarios, in the order in which they are reported: on tokio and with one message of 64
/// bytes at a time, unless their names say otherwise.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = queues_in_process();
    all.extend(topics_and_requests_in_process());
    for (socket, name) in [(Socket::Tcp, "tcp"), (Socket::Unix, "unix")] {
        all.extend(queues(socket, name));
        all.extend(topics_and_requests(socket, name));
        all.extend(references(socket, name));
    }
    all
}

fn queues_in_process() -> Vec<Scenario> {
    let queue = |name, senders, taking| {
        Scenario::new(name, IN_PROCESS, move |runtime, count| {
            in_process::queue(runtime, count, senders, taking)
        })
    };
    vec![
        queue("memory queue", 1, OneByOne),
        Scenario::new("memory queue, concrete", IN_PROCESS, in_process::concrete_queue),
        queue("memory queue, batches", 1, Batches),
        queue("memory queue, acknowledged", 1, Acknowledged),
        queue("memory queue, 4 senders", 4, OneByOne),
        queue("memory queue", 1, OneByOne).on_smol(),
        Scenario::new("async-channel", IN_PROCESS, reference::async_channel).reference(),
        Scenario::new("kanal", IN_PROCESS, reference::kanal).reference(),
    ]
}

fn topics_and_requests_in_process() -> Vec<Scenario> {
    let topic = |name, messages, subscribers| {
        Scenario::new(name, messages, move |runtime, count| {
            in_process::topic(runtime, count, subscribers)
        })
    };
    let request = |name, in_flight| {
        Scenario::new(name, REQUESTS, move |runtime, count| {
            in_process::request(runtime, count, in_flight)
        })
    };
    vec![
        topic("memory topic", IN_PROCESS, 1),
        topic("memory fan-out 10", 2 * 10 * in_process::CAPACITY as u64, 10),
        request("memory request", 1),
        request("memory request, 64 in flight", 64),
    ]
}

fn queues(socket: Socket, name: &str) -> Vec<Scenario> {
    let queue = |words: String, messages, broker, size, taking| {
        Scenario::new(format!("{name} {words}"), messages, move |runtime, count| {
            socket::queue(runtime, count, (socket, broker), size, taking)
        })
    };
    let mut all = Vec::new();
    for (size, words, messages) in SIZES {
        // How a socket splits large messages is another each time.
        let steady = size < 64 << 10;
        let held = |scenario: Scenario| if steady { scenario } else { scenario.reference() };
        all.extend(
            [
                queue(format!("queue {words}"), messages, Embedded, size, Batches),
                queue(
                    format!("queue {words}, acknowledged"),
                    messages,
                    Embedded,
                    size,
                    Acknowledged,
                ),
                queue(format!("broker {words}"), messages, Between, size, Batches),
            ]
            .map(held),
        );
    }
    all.push(queue("queue 64 B".to_owned(), OVER_SOCKETS, Embedded, 64, Batches).on_smol());
    all
}

const SIZES: [(usize, &str, u64); 3] =
    [(64, "64 B", OVER_SOCKETS), (1 << 10, "1 KiB", OVER_SOCKETS), (64 << 10, "64 KiB", LARGE)];

fn topics_and_requests(socket: Socket, name: &str) -> Vec<Scenario> {
    let request = |words, broker, in_flight| {
        Scenario::new(format!("{name} {words}"), REQUESTS, move |runtime, count| {
            socket::request(runtime, count, (socket, broker), in_flight)
        })
    };
    vec![
        Scenario::new(format!("{name} topic 64 B"), OVER_SOCKETS, move |runtime, count| {
            socket::topic(runtime, count, (socket, Embedded), 64)
        }),
        request("request", Embedded, 1),
        request("request", Embedded, 1).on_smol(),
        request("request, 64 in flight", Embedded, 64),
        request("broker request", Between, 1),
    ]
}

fn references(socket: Socket, name: &str) -> Vec<Scenario> {
    let frames = |(size, words, messages)| {
        Scenario::new(format!("{name} frames {words}"), messages, move |runtime, count| {
            reference::frames(runtime, count, socket, size)
        })
    };
    let mut all: Vec<_> = SIZES.into_iter().map(frames).collect();
    all.push(Scenario::new(format!("{name} round trip"), REQUESTS, move |runtime, count| {
        reference::round_trip(runtime, count, socket)
    }));
    all.into_iter().map(Scenario::reference).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_scenario_moves_its_messages() {
        for scenario in super::all() {
            scenario.run(100).unwrap_or_else(|error| panic!("{}: {error}", scenario.name()));
        }
    }

    #[test]
    fn names_are_unique() {
        let all = super::all();
        let names: BTreeSet<_> = all.iter().map(super::Scenario::name).collect();
        assert_eq!(names.len(), all.len());
    }
}
