//! The broker: a connection to NATS, and what is opened over it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_compat::Compat;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::{Either, select};
use posthaste_core::runtime::timeout_at;
use posthaste_core::task::lock;
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Capabilities, Capability, DrainReport, Error, ErrorKind,
    Overflow, Queue, QueueInfo, Replayed, SenderOptions, Sends, SharedRuntime, Source, Stats,
    Subscription, Topic,
};
use posthaste_engine::Engine;

use crate::events::Events;
use crate::names;
use crate::options::{NatsOptions, Target};
use crate::publish::Publisher;
use crate::queue::Consuming;
use crate::streams::Entry;
use crate::subscribe::Subscribed;

/// What messages are awaited at most before more of them wait.
const UNCONFIRMED_MAX: usize = 65_536;
/// How long the server has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often something is asked again whose answer was lost.
const ASKS_MAX: usize = 5;
/// How many messages the client keeps for a subscription that is not polled; its task always does.
const SUBSCRIPTION_CAPACITY: usize = 1 << 18;

/// A broker over a connection to NATS. Clones share the connection.
#[derive(Clone)]
pub struct Nats(Arc<Link>);

/// The connection, and what is known of what is behind it.
pub(crate) struct Link {
    engine: Engine,
    client: Client,
    jetstream: jetstream::Context,
    options: NatsOptions,
    events: Events,
    queues: Mutex<BTreeMap<Topic, Arc<Entry>>>,
}

impl Nats {
    /// Connects to the servers that a URL names; see the [crate's documentation](crate#urls).
    ///
    /// # Errors
    /// `InvalidArgument` for what is no URL of NATS; `Refused` for credentials that the server does
    /// not take; `Disconnected` or `TimedOut` if no server is to be had in time.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt.
    pub async fn connect(runtime: SharedRuntime, url: impl AsRef<str>) -> Result<Self, Error> {
        Self::connect_with(runtime, url, NatsOptions::new()).await
    }

    /// Connects with options; those of the URL come on top.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt.
    pub async fn connect_with(
        runtime: SharedRuntime,
        url: impl AsRef<str>,
        options: NatsOptions,
    ) -> Result<Self, Error> {
        let target = Target::parse(url.as_ref(), options)?;
        let options = target.options.clone();
        let events = Events::new();
        let (client, jetstream) = Compat::new(async {
            let client = connect(&runtime, target, &events).await?;
            let jetstream = ContextBuilder::new()
                .timeout(ANSWER_WITHIN)
                .ack_timeout(ANSWER_WITHIN)
                .max_ack_inflight(UNCONFIRMED_MAX)
                .backpressure_on_inflight(true)
                .build(client.clone());
            Ok::<_, Error>((client, jetstream))
        })
        .await?;
        let engine = Engine::new(runtime, card_of(&options));
        let engine = engine.within(|task| Box::pin(Compat::new(task)));
        let queues = Mutex::default();
        Ok(Self(Arc::new(Link { engine, client, jetstream, options, events, queues })))
    }
}

/// Connects, and tries again while the server cannot be reached and there is time.
async fn connect(
    runtime: &SharedRuntime,
    target: Target,
    events: &Events,
) -> Result<Client, Error> {
    let deadline = runtime.now() + target.options.connect_timeout;
    let mut wait = Duration::from_millis(50);
    loop {
        let (noted, random) = (events.clone(), runtime.clone());
        let mut options = ConnectOptions::new()
            .name("posthaste")
            .connection_timeout(target.options.connect_timeout)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .max_reconnects(None)
            .ping_interval(Duration::from_secs(10))
            .request_timeout(Some(ANSWER_WITHIN))
            .reconnect_delay_callback(move |attempt| jittered(&random, attempt))
            .event_callback(move |event| {
                noted.note(&event);
                std::future::ready(())
            });
        if let Some((user, password)) = &target.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        let connecting = timeout_at(&**runtime, deadline, options.connect(&target.servers[..]));
        let error = match connecting.await {
            None => {
                let text =
                    format!("no NATS server answered at {} in time", target.servers.join(","));
                return Err(Error::new(ErrorKind::TimedOut, text));
            }
            Some(Ok(client)) => return Ok(client),
            Some(Err(error)) => error,
        };
        let servers = target.servers.join(",");
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                let text = format!("NATS at {servers} refuses this user and password");
                return Err(Error::new(ErrorKind::Refused, text));
            }
            ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => {
                let text = format!("cannot connect to NATS at {servers}: {error}");
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
            _ if runtime.now() + wait >= deadline => {
                let text =
                    format!("cannot connect to NATS at {servers}: is a server running there?");
                return Err(Error::new(ErrorKind::Disconnected, text).caused_by(error));
            }
            _ => {}
        }
        sleep(runtime, wait).await;
        wait = (wait * 2).min(Duration::from_secs(1));
    }
}

/// Full jitter, 50 ms doubling up to 2 s.
fn jittered(runtime: &SharedRuntime, attempt: usize) -> Duration {
    let most = 50_u64.saturating_mul(1 << attempt.min(6)).min(2_000);
    let mut random = [0; 8];
    runtime.fill_random(&mut random);
    Duration::from_millis(u64::from_le_bytes(random) % most + 1)
}

async fn sleep(runtime: &SharedRuntime, time: Duration) {
    let mut timer = runtime.timer();
    timer.as_mut().reset(runtime.now() + time);
    timer.await;
}

impl Link {
    pub(crate) fn runtime(&self) -> &SharedRuntime {
        self.engine.runtime()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    pub(crate) fn options(&self) -> &NatsOptions {
        &self.options
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    pub(crate) fn queues(&self) -> &Mutex<BTreeMap<Topic, Arc<Entry>>> {
        &self.queues
    }

    /// Waits until there is a connection, as long as the policy says.
    pub(crate) async fn up(&self) -> Result<(), Error> {
        self.events.connected(self.runtime(), self.options.reconnect).await
    }

    /// Asks something that may be asked twice: again, if the connection is lost before the answer.
    pub(crate) async fn ask<T, F>(&self, mut question: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        for _ in 0..ASKS_MAX {
            self.up().await?;
            let lost = std::pin::pin!(self.events.lost());
            match select(std::pin::pin!(question()), lost).await {
                Either::Left((Err(error), _)) if error.kind() == ErrorKind::TimedOut => {}
                Either::Left((answer, _)) => return answer,
                Either::Right(_) => {}
            }
        }
        let text = "the connection to NATS is lost again and again; is the server well?";
        Err(Error::new(ErrorKind::Disconnected, text))
    }

    /// Waits until the connection is lost, and what had not been written has had its time on the next
    /// one.
    pub(crate) async fn lost(&self) {
        self.events.lost().await;
        // Where there is none any more, nothing is heard of it either.
        let _ = self.up().await;
        sleep(self.runtime(), Duration::from_secs(1)).await;
    }

    /// Waits a little.
    pub(crate) async fn pause(&self) {
        sleep(self.runtime(), Duration::from_millis(200)).await;
    }

    /// Waits until the server has taken in whatever was sent to it before: it hands back a message
    /// that was sent behind all that.
    pub(crate) async fn round_trip(&self) -> Result<(), Error> {
        let lost = |error: &dyn fmt::Display| {
            Error::new(ErrorKind::Disconnected, format!("NATS did not answer: {error}"))
        };
        let probe = self.client.new_inbox();
        let mut echo = self.client.subscribe(probe.clone()).await.map_err(|error| lost(&error))?;
        self.client.publish(probe, "".into()).await.map_err(|error| lost(&error))?;
        let deadline = self.runtime().now() + ANSWER_WITHIN;
        match timeout_at(&**self.runtime(), deadline, echo.next()).await {
            Some(Some(_)) => Ok(()),
            _ => Err(lost(&"the connection was lost")),
        }
    }

    /// The address of an inbox that nobody else has.
    fn inbox(&self) -> Result<Topic, Error> {
        let mut random = [0; 12];
        self.runtime().fill_random(&mut random);
        let mut name = String::from(names::INBOX);
        for byte in random {
            name.push_str(&format!("{byte:02x}"));
        }
        Topic::new(name)
    }
}

/// The capability card of queues in files, as it is without a connection.
///
/// ```
/// use posthaste_core::Capability;
///
/// assert!(posthaste_nats::card().has(Capability::NoResponders));
/// assert!(!posthaste_nats::card().has(Capability::KeyedOrder));
/// ```
#[must_use]
pub fn card() -> Capabilities {
    card_of(&NatsOptions::new())
}

/// What NATS does, what is done here for it, and what neither does.
fn card_of(options: &NatsOptions) -> Capabilities {
    let card = Capabilities::new("NATS")
        .native(&[
            Capability::Topics,
            Capability::Groups,
            Capability::Queues,
            Capability::Inboxes,
            Capability::NoResponders,
            Capability::ManualAck,
            Capability::Redelivery,
            Capability::ByteLimits,
            Capability::RetryDelay,
            Capability::Deduplication,
            Capability::QueueDepth,
        ])
        .emulated(&[
            Capability::Deadlines,
            Capability::DeadLetters,
            Capability::Overflow,
            Capability::Drain,
        ]);
    match options.memory {
        true => card,
        false => card.native(&[Capability::Durability]),
    }
}

#[async_trait]
impl Broker for Nats {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        if let Some(queue) = &options.queue {
            Compat::new(self.0.ask(|| self.0.ensure(queue))).await?;
        }
        Ok(self.0.engine.sender(&options, Publisher::new(Arc::clone(&self.0))))
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        if subscription.start.is_some() {
            self.capabilities().require(Capability::Replay)?;
        }
        self.0.engine.others_left().await;
        let (pattern, group) = match &subscription.source {
            Source::Queue(queue) => {
                let open = || Consuming::open(Arc::clone(&self.0), queue, &subscription);
                let consuming = Compat::new(self.0.ask(open)).await?;
                return Ok(self.0.engine.receiver(&subscription, consuming));
            }
            Source::Topic(pattern) => (pattern, None),
            Source::Shared(pattern, group) => (pattern, Some(group.to_string())),
        };
        if !subscription.overflow.suits_subscriptions() {
            let text = format!("{} is no policy of subscriptions", subscription.overflow);
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let (subject, pattern) = (names::subject(pattern.as_str())?, Some(pattern.clone()));
        let open = || {
            let (subject, group, pattern) = (subject.clone(), group.clone(), pattern.clone());
            Subscribed::open(Arc::clone(&self.0), subject, group, pattern)
        };
        let subscribed = Compat::new(self.0.ask(open)).await?;
        Ok(self.0.engine.receiver(&subscription, subscribed))
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        let inbox = self.0.inbox()?;
        let subject = format!("{inbox}.*");
        let open = || Subscribed::open(Arc::clone(&self.0), subject.clone(), None, None);
        let subscribed = Compat::new(self.0.ask(open)).await?;
        let subscription = Subscription::topic(&inbox)?.overflow(Overflow::DropNewest);
        Ok((inbox, self.0.engine.receiver(&subscription, subscribed)))
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        Compat::new(self.0.ask(|| self.0.declare_stream(&queue))).await.map(drop)
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        Compat::new(self.0.delete_stream(queue)).await
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        Compat::new(self.0.ask(|| self.0.queue_info(queue))).await
    }

    async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        Compat::new(self.0.purge(queue)).await
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        Compat::new(self.0.replay(queue, limit)).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        Err(Error::unsupported(Capability::Inspection, "NATS"))
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.0.engine.drain(within).await
    }

    fn sends(&self) -> Option<Sends> {
        Some(self.0.engine.sends())
    }

    fn capabilities(&self) -> Capabilities {
        self.0.engine.card().clone()
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("options", &self.0.options)
            .field("queues", &lock(&self.0.queues).len())
            .finish_non_exhaustive()
    }
}
