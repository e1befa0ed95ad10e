//! The client: a broker whose other half is at the far end of a connection.

mod call;
mod driver;
mod events;
mod mailbox;
mod outbox;
mod receiver;
mod sender;
mod state;
mod table;
mod tray;
mod unconfirmed;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::{Endpoint, Transport};
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Browsed, Cancel, Capabilities, Capability, DrainReport, Error,
    ErrorKind, Queue, QueueInfo, Replayed, SenderOptions, Sends, SharedRuntime, Stats,
    Subscription, Topic,
};
use posthaste_wire::{Auth, Config, Limits, Session};

use crate::control::queue_info::Through;
use crate::control::{self, Wanted, method};
use crate::pump::after;
use receiver::RemoteReceiver;
use sender::RemoteSender;
use state::{Alive, Shared};
use table::RoleState;

/// Messages wait where they are once this much output has gathered: more would only wait longer.
const GATHER: usize = 512 << 10;

/// How much longer than connecting the first answer may take.
const ANSWER: Duration = Duration::from_secs(1);

/// A broker at the other end of a connection.
///
/// It implements [`Broker`] over the wire protocol, on any [`Transport`]: what works with a broker
/// in the same process works with this one. One connection carries every sender and receiver that
/// is opened through it; clones share the connection. One task, spawned once, drives it.
///
/// When the last clone and the last handle are gone, what was sent is still written, and the
/// server is told goodbye.
///
/// A connection that is lost is made again (see [`RemoteOptions::reconnect`]), and the session goes on
/// over it, if the server has kept it: nothing is lost, nothing is doubled, and what was handed out
/// stays in hand. Otherwise subscriptions and inboxes begin anew, with the same addresses; what was
/// sent and not confirmed goes again if its id tells whether it had arrived, and comes back as
/// `Unknown` if not; what was delivered and not settled is delivered again. Those who subscribe to
/// [`Event::PATTERN`](posthaste_core::Event::PATTERN) are told which of the two it was.
///
/// ```
/// use posthaste_core::{
///     Broker, Message, ReceiverExt, SenderExt, SenderOptions, Subscription, Topic,
/// };
/// use posthaste_link::{Pipe, Remote, RemoteOptions, Server, ServerOptions};
/// use posthaste_memory::Memory;
/// use posthaste_smol::Smol;
///
/// # smol::block_on(async {
/// let pipe = Pipe::new();
/// let server = Server::new(Smol::global(), Memory::new(), ServerOptions::new());
/// let here = server.listen(pipe.clone(), "pipe:here".parse()?).await?;
///
/// let remote = Remote::connect(Smol::global(), pipe, here, RemoteOptions::new()).await?;
/// let mut orders = remote.receiver(Subscription::topic("orders.>")?).await?;
/// let mut sender = remote.sender(SenderOptions::new()).await?;
/// let receipt = sender.send(Message::new(Topic::new("orders.eu")?, "42")).await?;
/// assert_eq!(receipt.matched, 1);
/// assert_eq!(orders.next_delivery().await?.payload(), "42");
/// # Ok::<(), posthaste_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Remote {
    alive: Arc<Alive>,
    card: Arc<OnceLock<Capabilities>>,
}

/// How a remote connects, and what it does when the connection is lost.
///
/// ```
/// use std::time::Duration;
/// use posthaste_link::{Reconnect, RemoteOptions};
///
/// let options = RemoteOptions::new()
///     .connect_timeout(Duration::from_secs(1))
///     .reconnect(Reconnect::Never);
/// assert_eq!(options.heartbeat, Duration::from_secs(10));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// How long connecting may take in all, attempts that were refused included.
    pub connect_timeout: Duration,
    /// What happens when the connection is lost.
    pub reconnect: Reconnect,
    /// How long nothing may be heard before the server is asked whether it is there; after twice
    /// as long it is taken for dead.
    pub heartbeat: Duration,
    /// How the server knows who this is.
    pub auth: Auth,
    /// This side's limits; the smaller of both sides' hold.
    pub limits: Limits,
    /// What the server's log calls this program.
    pub software: String,
    /// Where servers are that stand in for the first one, tried in turn when a connection cannot be
    /// made. A session goes on only at the server that it began at.
    pub fallbacks: Vec<Endpoint>,
}

/// What happens when a connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reconnect {
    /// Everything ends.
    Never,
    /// It is made again, if that succeeds within this time.
    For(Duration),
    /// It is made again, however long that takes.
    #[default]
    Forever,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            reconnect: Reconnect::Forever,
            heartbeat: Duration::from_secs(10),
            auth: Auth::None,
            limits: Limits::default(),
            software: concat!("posthaste-link/", env!("CARGO_PKG_VERSION")).to_owned(),
            fallbacks: Vec::new(),
        }
    }
}

impl RemoteOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long connecting may take in all, attempts that were refused included.
    #[must_use]
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.connect_timeout = within;
        self
    }

    /// What happens when the connection is lost.
    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// How long nothing may be heard before the server is asked whether it is there.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// How the server knows who this is.
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

    /// What the server's log calls this program.
    #[must_use]
    pub fn software(mut self, name: impl Into<String>) -> Self {
        self.software = name.into();
        self
    }

    /// One more server that stands in for the first one.
    #[must_use]
    pub fn fallback(mut self, endpoint: Endpoint) -> Self {
        self.fallbacks.push(endpoint);
        self
    }

    fn config(&self, session: [u8; 16], handshake: Duration) -> Config {
        Config {
            limits: self.limits,
            heartbeat: self.heartbeat,
            handshake,
            session,
            software: self.software.clone(),
            auth: self.auth,
            linger: Duration::ZERO,
            gather: GATHER,
            runs: true,
        }
    }
}

impl Remote {
    /// Connects to a server.
    ///
    /// A server that is not there yet is tried again, and so are those that stand in for it, until
    /// `connect_timeout` has passed. Where all of them refuse, or speak something else, that is an
    /// error at once.
    ///
    /// # Errors
    /// `Disconnected` or `TimedOut`, naming the endpoint; `Refused`, `Protocol`, `Limit`,
    /// `Unsupported`: what the server answered.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt and leaves nothing behind.
    pub async fn connect(
        runtime: impl Into<SharedRuntime>,
        transport: impl Transport + 'static,
        endpoint: Endpoint,
        options: RemoteOptions,
    ) -> Result<Self, Error> {
        let runtime = runtime.into();
        let mut session = [0; 16];
        runtime.fill_random(&mut session);
        let config = options.config(session, options.connect_timeout);
        let scheme = endpoint.scheme().to_owned();
        let deadline = after(runtime.now(), options.connect_timeout);
        let first = Session::client(config, runtime.now());
        let shared = Arc::new(Shared::new(runtime, endpoint, options, first));
        let remote =
            Self { alive: Arc::new(Alive(Arc::clone(&shared))), card: Arc::new(OnceLock::new()) };
        let drive = driver::drive(Arc::clone(&shared), Box::new(transport), session);
        shared.runtime.spawn(Box::pin(drive));
        let card = remote.first_call(deadline).await?;
        let shared = &remote.alive.0;
        let name = format!("{} over {scheme}", card.backend());
        let keeps = !shared.lock().linger.is_zero();
        let card = if keeps { card.native(&[Capability::Sessions]) } else { card };
        // Set once, here, before anybody else has the remote.
        let _ = remote.card.set(card.named(name));
        Ok(remote)
    }

    /// Waits for the connection and asks what is behind it.
    async fn first_call(&self, deadline: Instant) -> Result<Capabilities, Error> {
        let shared = &self.alive.0;
        let answer = async {
            shared.up().await?;
            call::call(shared, method::CAPABILITIES, &[]).await
        };
        // The driver gives up by itself when there is no connection, and knows why; this is for a
        // server that accepts one and then says nothing.
        let patience = after(deadline, ANSWER);
        match timeout_at(&*shared.runtime, patience, answer).await {
            Some(card) => control::capabilities::decode(&card?),
            None => {
                let text = format!("{} does not answer", shared.endpoint);
                Err(Error::new(ErrorKind::TimedOut, text))
            }
        }
    }

    /// Where the server is, or the first of those that stand in for each other.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.alive.0.endpoint
    }

    /// Takes no more work: what has come and is unseen goes back.
    fn stop(&self) -> DrainReport {
        let shared = &self.alive.0;
        let mut report = DrainReport::default();
        let mut state = shared.lock();
        state.draining = true;
        let (session, entries) = state.entries_and_session();
        for entry in entries {
            let (link, wire) = (entry.link(), entry.wire);
            if let RoleState::Receiver(receiver) = &mut entry.role {
                report.requeued += receiver.give_back(session, link);
                report.abandoned += receiver.unsettled();
                if let Some(wire) = wire {
                    session.stop(wire);
                }
            }
        }
        shared.unlock(state);
        report
    }

    /// Waits until what was sent has its outcome and what was handed out is settled.
    async fn drained(&self, report: &mut DrainReport) {
        let shared = &self.alive.0;
        std::future::poll_fn(|cx| {
            let mut state = shared.lock();
            let mut left = 0;
            let mut quiet = true;
            for entry in state.entries() {
                // What was settled in a gap is told when the session goes on.
                quiet &= !entry.has_more_to_say();
                match &entry.role {
                    RoleState::Sender(sender) => quiet &= sender.is_settled(),
                    RoleState::Receiver(receiver) => {
                        left += receiver.unsettled();
                        // What is still on its way here goes back as unseen, unless the goodbye is
                        // faster.
                        let stopped = receiver.is_stopped() || entry.wire.is_none();
                        quiet &= (stopped || entry.orphaned)
                            && !receiver.is_asking()
                            && !receiver.is_recalling();
                    }
                }
            }
            // What is not settled when time runs out is abandoned.
            report.finished += report.abandoned.saturating_sub(left);
            report.abandoned = left;
            if quiet && left == 0 {
                return std::task::Poll::Ready(());
            }
            state.drainer = Some(cx.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }
}

#[async_trait]
impl Broker for Remote {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        Ok(Box::new(RemoteSender::open(Arc::clone(&self.alive), options).await?))
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        // A server that does not know what a start is would have the queue consumed.
        if subscription.start.is_some() {
            self.capabilities().require(Capability::Replay)?;
        }
        let wanted = Wanted::Subscription(subscription);
        Ok(Box::new(RemoteReceiver::open(Arc::clone(&self.alive), wanted).await?))
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        let inbox = RemoteReceiver::open(Arc::clone(&self.alive), Wanted::Inbox(None)).await?;
        let address = inbox.address().ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "the server opened an inbox without an address")
        })?;
        Ok((address, Box::new(inbox)))
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        if queue.retain.is_some() {
            self.capabilities().require(Capability::Replay)?;
        }
        let body = control::queue::encode(&queue);
        call::call(&self.alive.0, method::DECLARE, &body).await.map(|_| ())
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        let body = control::name::encode(queue);
        call::call(&self.alive.0, method::DELETE, &body).await.map(|_| ())
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        let body = control::name::encode(queue);
        let info = call::call(&self.alive.0, method::QUEUE, &body).await?;
        control::queue_info::decode(&info)
    }

    async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        let body = control::name::encode(queue);
        let count = call::call(&self.alive.0, method::PURGE, &body).await?;
        control::queue_info::purged::decode(&count)
    }

    async fn browse(
        &self,
        queue: &Topic,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Browsed>, Error> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let body = Through { queue: queue.clone(), after, limit }.encode();
        let messages = call::call(&self.alive.0, method::BROWSE, &body).await?;
        control::queue_info::browsed::decode(&messages)
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        let body = Through { queue: queue.clone(), after: None, limit }.encode();
        let replayed = call::call(&self.alive.0, method::REPLAY, &body).await?;
        control::queue_info::replayed::decode(&replayed)
    }

    async fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        loop {
            let seen = stats.queues.len();
            let after = stats.queues.last().map(|info| control::name::encode(&info.name));
            let page = call::call(&self.alive.0, method::STATS, &after.unwrap_or_default()).await?;
            let more = control::stats::decode(&page, &mut stats)?;
            if !more || stats.queues.len() == seen {
                return Ok(stats);
            }
        }
    }

    /// Drains this side: senders are flushed, receivers get no more, what was unseen goes back,
    /// what was handed out is waited for; then the server is told goodbye.
    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        let shared = &self.alive.0;
        let mut report = self.stop();
        let deadline = after(shared.runtime.now(), within);
        let _ = timeout_at(&*shared.runtime, deadline, self.drained(&mut report)).await;
        shared.end(&Error::closed("the connection"));
        shared.gone().await;
        Ok(report)
    }

    /// Goes the way that the request went, behind it. If that is not there any more, neither is
    /// whoever works on the request.
    fn cancel(&self, request: &Cancel) {
        let shared = &self.alive.0;
        let mut state = shared.lock();
        // What does not fit into a frame cannot have been sent either.
        let _ = state.session.cancel(&control::cancel::encode(request));
        shared.unlock(state);
    }

    fn sends(&self) -> Option<Sends> {
        Some(self.alive.0.lock().sends())
    }

    fn capabilities(&self) -> Capabilities {
        self.card.get().cloned().unwrap_or_else(|| Capabilities::new("remote"))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("endpoint", &self.alive.0.endpoint).finish_non_exhaustive()
    }
}
