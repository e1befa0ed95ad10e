//! The node as a broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::limits::{SUBSCRIPTION_BYTES, SUBSCRIPTION_MESSAGES};
use posthaste_core::transport::Endpoint;
use posthaste_core::{
    Ack, BoxReceiver, BoxSender, Broker, Capabilities, Capability, DrainReport, Error, ErrorKind,
    Level, Overflow, Queue, QueueInfo, SenderOptions, Sends, SharedRuntime, Source, Stats,
    Subscription, Topic,
};
use posthaste_engine::Engine;

use crate::consumer::Taking;
use crate::keep::transport;
use crate::lane::Lane;
use crate::node::{Dial, HighWater, Node, Seat, What, inbox_address};
use crate::options::ZmtpOptions;
use crate::publisher::Publisher;

/// The name of the backend on its card and in its errors.
pub(crate) const BACKEND: &str = "ZeroMQ";

/// A node that speaks ZeroMQ, as a broker; see the [crate](crate) for what becomes what.
///
/// It ends when the last of it, its senders and its receivers is dropped; what was confirmed is
/// with the operating system by then, except what waits in a queue that nobody pulls from.
#[derive(Clone)]
pub struct Zmtp {
    alive: Arc<Alive>,
    engine: Engine,
    endpoints: Vec<Endpoint>,
}

/// As long as there is one of these, the node lives.
pub(crate) struct Alive {
    pub(crate) node: Arc<Node>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.node.close();
    }
}

impl Zmtp {
    /// Opens a node as a URL describes it: `zmtp+tcp://HOST:PORT` or `zmtp+unix:/PATH`, with the
    /// options of the [crate](crate).
    ///
    /// Listening begins at once; connections are made when they are first needed.
    ///
    /// ```
    /// use posthaste_core::Broker;
    /// use posthaste_smol::Smol;
    /// use posthaste_zmtp::Zmtp;
    ///
    /// # fn main() -> Result<(), posthaste_core::Error> {
    /// # smol::block_on(async {
    /// let node = Zmtp::open(Smol::global(), "zmtp+tcp://127.0.0.1:0?bind").await?;
    /// assert_eq!(node.capabilities().backend(), "ZeroMQ");
    /// assert!(node.endpoints()[0].address().starts_with("127.0.0.1:"));
    /// # Ok(()) })
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for the URL; else as [`start`](Self::start).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(runtime: impl Into<SharedRuntime>, url: &str) -> Result<Self, Error> {
        Self::start(runtime, ZmtpOptions::from_url(url)?).await
    }

    /// Opens a node with these options.
    ///
    /// # Errors
    /// `Disconnected` if it cannot listen where it should, `InvalidArgument` for what is no place
    /// to do so.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn start(
        runtime: impl Into<SharedRuntime>,
        options: ZmtpOptions,
    ) -> Result<Self, Error> {
        let runtime = runtime.into();
        let is_client = options.security.mechanism() != "NULL" && !options.security.is_server();
        if is_client && options.binds.iter().any(|(lanes, _)| lanes.len() > 1) {
            let text = "a client says what socket it is before it knows its peer; bind it for one \
                        lane alone, or make this side the server of the mechanism";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let bound: BTreeSet<Lane> =
            options.binds.iter().flat_map(|(lanes, _)| lanes.iter().copied()).collect();
        let connects = options.connects.iter().cloned();
        let dials = connects.map(|(lane, endpoint)| Dial::new(lane, endpoint)).collect();
        let binds = options.binds.clone();
        let node = Arc::new(Node::new(Arc::clone(&runtime), options, bound, dials));
        let alive = Arc::new(Alive { node: Arc::clone(&node) });
        let mut endpoints = Vec::new();
        for (lanes, endpoint) in binds {
            let listener = transport(&node, &endpoint)?.bind(&endpoint).await.map_err(|error| {
                let invalid = error.kind() == std::io::ErrorKind::InvalidInput;
                let kind = match invalid {
                    true => ErrorKind::InvalidArgument,
                    false => ErrorKind::Disconnected,
                };
                Error::new(kind, error.to_string()).caused_by(error)
            })?;
            endpoints.push(listener.endpoint());
            node.start_listener(lanes, listener);
        }
        let engine = Engine::new(runtime, card());
        Ok(Self { alive, engine, endpoints })
    }

    /// Where it listens, with real ports, in the order of its options.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.clone()
    }

    /// How many messages came in whose frames are no topic and payload, and were dropped.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.alive.node.with(|state| state.malformed)
    }

    async fn subscribe(&self, of: &Subscription, what: What) -> Result<BoxReceiver, Error> {
        if !of.overflow.suits_subscriptions() {
            let text = format!("{} is no policy of subscriptions; choose another one", of.overflow);
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let node = &self.alive.node;
        let high = HighWater { messages: of.capacity_messages, bytes: of.capacity_bytes };
        let shared = Some(what.clone()).filter(|what| matches!(what, What::Shared(..)));
        let seat = node.enter(what, high);
        let lanes = self.subscribing(shared.is_some()).await?;
        self.synced(&lanes).await?;
        Ok(match of.overflow {
            Overflow::Block => self.taking::<true>(of, seat, shared),
            _ => self.taking::<false>(of, seat, shared),
        })
    }

    /// Connects what a subscription needs; on which lanes that is.
    async fn subscribing(&self, shared: bool) -> Result<Vec<Lane>, Error> {
        let node = &self.alive.node;
        let published = node.ensure(Lane::Subscribe).await;
        let posthaste = published.is_ok() && node.with(|state| state.is_posthaste(Lane::Subscribe));
        if shared && published.is_ok() && !posthaste {
            let text = "ZeroMQ does not support groups, and a publisher here is not Posthaste; \
                        subscribe to the topic, or leave the lane sub out";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        // Others keep one socket for each thing; a Posthaste peer takes requests where it publishes.
        let answers = match shared || posthaste {
            true => node.ensure(Lane::Answer).await,
            false => Err(Error::unsupported("requests", BACKEND)),
        };
        match (published, answers) {
            (Ok(()), Ok(())) => Ok(vec![Lane::Subscribe, Lane::Answer]),
            (Ok(()), Err(error)) if shared && error.kind() != ErrorKind::Unsupported => Err(error),
            (Ok(()), Err(_)) => Ok(vec![Lane::Subscribe]),
            (Err(_), Ok(())) if shared => Ok(vec![Lane::Answer]),
            (Err(error), _) => Err(error),
        }
    }

    /// Waits until peers have heard of what was asked of them.
    async fn synced(&self, lanes: &[Lane]) -> Result<(), Error> {
        let node = &self.alive.node;
        let marks = node.ping(lanes);
        let deadline = node.runtime.now() + node.options.patience;
        let reached = node.reached(&marks);
        match posthaste_core::runtime::timeout_at(&*node.runtime, deadline, reached).await {
            Some(()) => Ok(()),
            None => {
                let text = "a ZeroMQ peer did not take the subscription in time; ask it why";
                Err(Error::new(ErrorKind::TimedOut, text))
            }
        }
    }

    fn taking<const HOLDS: bool>(
        &self,
        of: &Subscription,
        seat: Seat,
        shared: Option<What>,
    ) -> BoxReceiver {
        let taking = Taking::<HOLDS>::new(Arc::clone(&self.alive), seat, shared);
        self.engine.receiver(of, taking)
    }
}

impl std::fmt::Debug for Zmtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zmtp").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// The capability card: what ZeroMQ does, what is added on top, and, by silence, what it lacks.
///
/// ```
/// use posthaste_core::Capability;
///
/// assert!(posthaste_zmtp::card().has(Capability::Topics));
/// assert!(!posthaste_zmtp::card().has(Capability::ManualAck));
/// ```
#[must_use]
pub fn card() -> Capabilities {
    Capabilities::new(BACKEND)
        .native(&[Capability::Topics, Capability::Queues, Capability::Inboxes, Capability::AnyName])
        .emulated(&[
            Capability::Groups,
            Capability::NoResponders,
            Capability::Unroutable,
            Capability::MatchCount,
            Capability::Drain,
        ])
}

#[async_trait]
impl Broker for Zmtp {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        if let Some(level) = options.confirm.filter(|level| *level > Level::Sent) {
            let text = format!(
                "ZeroMQ does not support confirming at the level {level}: it confirms nothing; \
                 leave the level out, or ask for sent"
            );
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        if options.queue.is_some() {
            self.alive.node.ensure(Lane::Push).await?;
        }
        Ok(self.engine.sender(&options, Publisher::new(Arc::clone(&self.alive))))
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        if subscription.start.is_some() {
            self.capabilities().require(Capability::Replay)?;
        }
        match subscription.source.clone() {
            Source::Topic(pattern) => self.subscribe(&subscription, What::Topic(pattern)).await,
            Source::Shared(pattern, group) => {
                self.subscribe(&subscription, What::Shared(pattern, group)).await
            }
            Source::Queue(queue) => {
                if subscription.ack == Ack::Manual {
                    let text = "ZeroMQ does not support manual-ack, it has no acknowledgements; \
                                consume the queue with Ack::Auto";
                    return Err(Error::new(ErrorKind::Unsupported, text));
                }
                let node = &self.alive.node;
                let what = What::Queue(queue);
                let seat = node.enter(what.clone(), node.high_water());
                node.ensure(Lane::Pull).await?;
                self.synced(&[Lane::Pull]).await?;
                Ok(self.taking::<true>(&subscription, seat, Some(what)))
            }
        }
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        let node = &self.alive.node;
        let mut number = [0; 8];
        node.runtime.fill_random(&mut number);
        let number = u64::from_be_bytes(number);
        let address = inbox_address(number)?;
        let high = HighWater { messages: SUBSCRIPTION_MESSAGES, bytes: SUBSCRIPTION_BYTES };
        let seat = node.enter(What::Inbox(number), high);
        // Peers are told of it on the lane on which answers come; should there be none, the first
        // request says so.
        if node.ensure(Lane::Ask).await.is_ok() {
            self.synced(&[Lane::Ask, Lane::Answer]).await?;
        }
        let of = Subscription::topic(&address)?;
        Ok((address, self.taking::<true>(&of, seat, None)))
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        if !queue.bindings.is_empty() {
            return Err(Error::unsupported(Capability::Bindings, BACKEND));
        }
        if queue.durable == Some(true) {
            return Err(Error::unsupported(Capability::Durability, BACKEND));
        }
        if queue.retain.is_some() {
            return Err(Error::unsupported(Capability::Replay, BACKEND));
        }
        let plain = queue
            .durable
            .iter()
            .fold(Queue::new(queue.name.clone()), |plain, _| plain.durable(false));
        if queue != plain {
            return Err(Error::unsupported("settings of queues", BACKEND));
        }
        Ok(())
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        // Who pulls from it is known where one pushes.
        let _nobody = self.alive.node.ensure(Lane::Push).await;
        match self.alive.node.with(|state| state.delete(queue)) {
            true => Ok(()),
            false => {
                let text = format!("this ZeroMQ node knows no queue {queue}; send into it first");
                Err(Error::new(ErrorKind::NotFound, text))
            }
        }
    }

    async fn queue(&self, _queue: &Topic) -> Result<QueueInfo, Error> {
        Err(Error::unsupported(Capability::Inspection, BACKEND))
    }

    async fn stats(&self) -> Result<Stats, Error> {
        Err(Error::unsupported(Capability::Inspection, BACKEND))
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        let mut report = self.engine.drain(within).await?;
        report.held = self.alive.node.with(|state| state.held());
        Ok(report)
    }

    fn sends(&self) -> Option<Sends> {
        Some(self.engine.sends())
    }

    fn capabilities(&self) -> Capabilities {
        self.engine.card().clone()
    }
}
