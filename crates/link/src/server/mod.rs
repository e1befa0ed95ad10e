//! The server: any broker, on any number of listeners, for any number of clients.

mod accept;
mod call;
mod connection;
mod inbound;
mod open;
mod outbound;
mod outcomes;
mod owed;
mod sessions;

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use posthaste_core::runtime::timeout_at;
use posthaste_core::sync::Mutex;
use posthaste_core::sync::atomic::{AtomicU64, Ordering};
use posthaste_core::task::{ReadySet, lock};
use posthaste_core::transport::{Endpoint, Transport};
use posthaste_core::{Broker, Capability, DrainReport, Error, SharedRuntime};
use posthaste_wire::{Auth, Config, Limits};

use crate::codes;
use crate::pump::after;
use sessions::Sessions;

/// How long clients may take to read a goodbye once the server has drained.
const GOODBYE: Duration = Duration::from_secs(1);

/// Exposes a broker to clients that connect.
///
/// Any [`Broker`] on any [`Transport`]: a broker in memory makes a message server, a remote one
/// makes a gateway. Each connection is one task. Dropping the server stops its listeners and its
/// connections without waiting; see [`drain`](Self::drain) for an end in good order.
///
/// ```
/// use posthaste_link::{Pipe, Server, ServerOptions};
/// use posthaste_memory::Memory;
/// use posthaste_smol::Smol;
///
/// # smol::block_on(async {
/// let server = Server::new(Smol::global(), Memory::new(), ServerOptions::new());
/// let here = server.listen(Pipe::new(), "pipe:here".parse()?).await?;
/// assert_eq!((here.to_string(), server.connections()), ("pipe://here".to_owned(), 0));
/// # Ok::<(), posthaste_core::Error>(())
/// # }).unwrap();
/// ```
pub struct Server {
    shared: Arc<Shared>,
}

/// What a server allows.
///
/// ```
/// use posthaste_link::ServerOptions;
///
/// let options = ServerOptions::new().connections(100);
/// assert_eq!(options.connections, 100);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Connections at a time; more are refused.
    pub connections: usize,
    /// How long a peer may take from its arrival until it is established.
    pub handshake: Duration,
    /// How long nothing may be heard before a client is asked whether it is there; after twice as
    /// long it is taken for dead.
    pub heartbeat: Duration,
    /// How long what belongs to a client waits for it after its connection was lost: what it was
    /// sent and has not settled, and what became of what it sent. Zero is not at all.
    pub session_linger: Duration,
    /// What clients have to prove at least.
    pub auth: Auth,
    /// This side's limits; the smaller of both sides' hold.
    pub limits: Limits,
    /// What clients' logs call this program.
    pub software: String,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            session_linger: Duration::from_secs(5),
            auth: Auth::None,
            limits: Limits::default(),
            software: concat!("posthaste-link/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl ServerOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Connections at a time; more are refused.
    #[must_use]
    pub fn connections(mut self, at_most: usize) -> Self {
        self.connections = at_most;
        self
    }

    /// How long a peer may take from its arrival until it is established.
    #[must_use]
    pub fn handshake(mut self, within: Duration) -> Self {
        self.handshake = within;
        self
    }

    /// How long nothing may be heard before a client is asked whether it is there.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// How long what belongs to a client waits for it after its connection was lost.
    #[must_use]
    pub fn session_linger(mut self, time: Duration) -> Self {
        self.session_linger = time;
        self
    }

    /// What clients have to prove at least.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// This side's limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What clients' logs call this program.
    #[must_use]
    pub fn software(mut self, name: impl Into<String>) -> Self {
        self.software = name.into();
        self
    }

    fn config(&self, handshake: Duration, session: [u8; 16]) -> Config {
        Config {
            limits: self.limits,
            heartbeat: self.heartbeat,
            handshake,
            session,
            software: self.software.clone(),
            auth: self.auth,
            linger: self.session_linger,
            runs: true,
            ..Config::default()
        }
    }
}

/// What the server shares with its listeners and connections.
struct Shared {
    runtime: SharedRuntime,
    broker: Arc<dyn Broker>,
    options: ServerOptions,
    /// Who this server says it is.
    session: [u8; 16],
    established: AtomicU64,
    /// Numbers for connections, and for the lives of links.
    numbers: AtomicU64,
    sessions: Sessions,
    /// Whether the broker knows what to do with a message that may have come before.
    heeds_repeats: bool,
    /// Peers that are being told that there is no room for them.
    turned_away: AtomicU64,
    members: Mutex<Members>,
}

/// Every task of the server, and what they are all told.
#[derive(Default)]
struct Members {
    /// Where the server listens, in the order in which it was told to.
    endpoints: Vec<Endpoint>,
    phase: Phase,
    tasks: Vec<Option<ReadySet>>,
    free: Vec<usize>,
    /// Connections among the tasks, those that are not established included.
    connections: usize,
    /// Tasks that keep a session whose connection was lost.
    lingering: usize,
    /// Wakes whoever waits for the tasks to end.
    waiting: Option<Waker>,
}

/// What the tasks of a server are told, in the order in which it happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Everything goes on.
    #[default]
    Open,
    /// No more connections; clients are told that the server is going away.
    Draining,
    /// Everything ends.
    Closed,
}

/// The number under which a task is told that the phase has changed.
const PHASE: usize = usize::MAX;

/// A task's place among the members; leaves when it is dropped.
struct Member {
    shared: Arc<Shared>,
    at: usize,
    counts: Counts,
}

/// As what a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Listener,
    Connection,
    Lingering,
}

impl Member {
    /// Its connection is lost, and it keeps what belongs to the session: false if too many do, or
    /// the server is about to end.
    fn linger(&mut self) -> bool {
        let mut members = lock(&self.shared.members);
        let most = self.shared.options.connections;
        if members.phase > Phase::Open || members.lingering >= most {
            return false;
        }
        members.count(self.counts, false);
        self.counts = Counts::Lingering;
        members.count(self.counts, true);
        true
    }
}

impl Members {
    fn count(&mut self, counts: Counts, more: bool) {
        let number = match counts {
            Counts::Listener => return,
            Counts::Connection => &mut self.connections,
            Counts::Lingering => &mut self.lingering,
        };
        *number = if more { *number + 1 } else { *number - 1 };
    }
}

impl Shared {
    fn phase(&self) -> Phase {
        lock(&self.members).phase
    }

    /// Adds a task, unless the server is closed or, for a connection, full.
    fn join(self: &Arc<Self>, ready: &ReadySet, connection: bool) -> Option<Member> {
        let mut members = lock(&self.members);
        let full = connection && members.connections >= self.options.connections;
        if members.phase > Phase::Open || full {
            return None;
        }
        let counts = if connection { Counts::Connection } else { Counts::Listener };
        members.count(counts, true);
        let at = members.free.pop().unwrap_or_else(|| {
            members.tasks.push(None);
            members.tasks.len() - 1
        });
        members.tasks[at] = Some(ready.clone());
        Some(Member { shared: Arc::clone(self), at, counts })
    }

    fn enter(&self, phase: Phase) {
        let tasks: Vec<_> = {
            let mut members = lock(&self.members);
            if members.phase >= phase {
                return;
            }
            members.phase = phase;
            members.tasks.iter().flatten().cloned().collect()
        };
        for ready in tasks {
            ready.mark(PHASE);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let waiting = {
            let mut members = lock(&self.shared.members);
            members.tasks[self.at] = None;
            members.free.push(self.at);
            members.count(self.counts, false);
            members.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl Server {
    /// A server of `broker`, which listens nowhere yet.
    pub fn new(
        runtime: impl Into<SharedRuntime>,
        broker: impl Broker + 'static,
        options: ServerOptions,
    ) -> Self {
        let runtime = runtime.into();
        let mut session = [0; 16];
        runtime.fill_random(&mut session);
        let heeds_repeats = broker.capabilities().has(Capability::Deduplication);
        Self {
            shared: Arc::new(Shared {
                runtime,
                broker: Arc::new(broker),
                options,
                session,
                established: AtomicU64::new(0),
                numbers: AtomicU64::new(0),
                sessions: Sessions::default(),
                heeds_repeats,
                turned_away: AtomicU64::new(0),
                members: Mutex::default(),
            }),
        }
    }

    /// Listens at `endpoint`, besides wherever it listens already, and says where that really is
    /// (a port of 0 is replaced).
    ///
    /// # Errors
    /// What the transport answers, naming the endpoint; `Closed` once the server drains.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn listen(
        &self,
        transport: impl Transport,
        endpoint: Endpoint,
    ) -> Result<Endpoint, Error> {
        let listener = transport
            .bind(&endpoint)
            .await
            .map_err(|error| codes::at_endpoint(error, "listen at", &endpoint))?;
        let here = listener.endpoint();
        let ready = ReadySet::new();
        let member = self.shared.join(&ready, false).ok_or_else(|| Error::closed("the server"))?;
        let accepting = accept::accept(Arc::clone(&self.shared), listener, ready, member);
        self.shared.runtime.spawn(Box::pin(accepting));
        lock(&self.shared.members).endpoints.push(here.clone());
        tracing::info!(endpoint = %here, "listening");
        Ok(here)
    }

    /// Where the server listens, in a form to connect to, in the order in which it was told to.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        lock(&self.shared.members).endpoints.clone()
    }

    /// How many clients are connected.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.established.load(Ordering::Relaxed)
    }

    /// Ends in good order: accepts nobody any more, tells the clients, drains the broker, says
    /// goodbye, and waits until the connections are gone.
    ///
    /// # Errors
    /// What the broker's drain answers; the clients are told goodbye all the same.
    ///
    /// # Cancel safety
    /// Safe to call again; the server accepts nobody any more.
    pub async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.shared.enter(Phase::Draining);
        let report = self.shared.broker.drain(within).await;
        self.shutdown().await;
        report
    }

    /// Says goodbye to every client and waits until the connections are gone, a second at most.
    ///
    /// # Cancel safety
    /// Safe to call again; the connections end either way.
    pub async fn shutdown(&self) {
        self.shared.enter(Phase::Closed);
        let gone = std::future::poll_fn(|cx| {
            let mut members = lock(&self.shared.members);
            if members.tasks.iter().all(Option::is_none) {
                return Poll::Ready(());
            }
            members.waiting = Some(cx.waker().clone());
            Poll::Pending
        });
        let runtime = &*self.shared.runtime;
        let _ = timeout_at(runtime, after(runtime.now(), GOODBYE), gone).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.enter(Phase::Closed);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("connections", &self.connections())
            .field("phase", &self.shared.phase())
            .finish_non_exhaustive()
    }
}
