//! The broker: opens senders and receivers at a RabbitMQ server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::{
    Ack, BoxFuture, BoxReceiver, BoxSender, Broker, Capabilities, Capability, DrainReport, Error,
    ErrorKind, Ledger, Overflow, Queue, QueueInfo, Replayed, SenderOptions, Sends, SharedRuntime,
    Source, Stats, Subscription, Topic,
};
use posthaste_engine::Engine;

use crate::consumer::{Consumer, Lossy};
use crate::fault::{BACKEND, is_lost, unsupported};
use crate::kit::sleep;
use crate::link::Link;
use crate::options::{Address, AmqpOptions, QueueType};
use crate::plan::{Kind, Plan};
use crate::publisher::Publisher;
use crate::shared::Shared;
use crate::topology::{not_found, settings_of};
use crate::wire::{INBOX, short};

/// A RabbitMQ server as a broker.
///
/// A value is a handle; clones share its three connections, which are made when they are needed and
/// made again when they are lost.
///
/// ```no_run
/// use posthaste_amqp::Amqp;
/// use posthaste_core::Bus;
/// use posthaste_smol::Smol;
///
/// # async fn example() -> Result<(), posthaste_core::Error> {
/// let broker = Amqp::connect(Smol::global(), "amqp://guest:guest@127.0.0.1:5672").await?;
/// let bus = Bus::with_runtime(broker, Smol::global().into());
/// bus.send("jobs", "work").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Amqp {
    shared: Arc<Shared>,
}

impl Amqp {
    /// Connects to a server: `amqp://user:password@host:port/vhost?option=value&...`, where the
    /// options are those of [`AmqpOptions`], written as `queue-type=quorum`, `exchange=orders`,
    /// `priorities=false`, `connect-timeout=10s`, `heartbeat=10s` and `patience=30s`.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no such URL, `Refused` if the server does not accept who we
    /// are, `Disconnected` or `TimedOut` if it cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(runtime: impl Into<SharedRuntime>, url: &str) -> Result<Self, Error> {
        Self::connect_with(runtime, url, AmqpOptions::new()).await
    }

    /// The same, with options; those that the URL names come before them.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect_with(
        runtime: impl Into<SharedRuntime>,
        url: &str,
        mut options: AmqpOptions,
    ) -> Result<Self, Error> {
        let runtime = runtime.into();
        let address = Address::parse(url, &mut options)?;
        let link = |name| Link::new(Arc::clone(&runtime), address.clone(), options.clone(), name);
        let (outward, inward) = (link("publishing"), link("consuming"));
        let asking = link("asking").renewed_after(CHANNELS_MAX);
        asking.live_now().await?;
        let engine = Engine::new(Arc::clone(&runtime), card_of(&options));
        Ok(Self { shared: Shared::new(runtime, options, engine, outward, inward, asking) })
    }

    /// What a queue holds for a subscriber: the plan of its consumer.
    async fn plan(&self, subscription: &Subscription) -> Result<Plan, Error> {
        let shared = &self.shared;
        let most = subscription.prefetch.unwrap_or(usize::MAX);
        let most =
            most.min(usize::try_from(subscription.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX));
        let mut plan = Plan {
            prefetch: u16::try_from(most.max(1)).unwrap_or(u16::MAX),
            limit: subscription.limit.unwrap_or(u64::MAX),
            ..Plan::of(Topic::new(shared.name("_ph.sub."))?)
        };
        match &subscription.source {
            Source::Topic(pattern) => {
                plan.kind = Kind::Subscription;
                plan.pattern = Some(pattern.clone());
                plan.lossy = self.is_lossy(subscription)?;
            }
            Source::Shared(pattern, group) => {
                if subscription.overflow != Overflow::Block {
                    return Err(unsupported("groups that drop what finds no room"));
                }
                plan.kind = Kind::Group;
                plan.queue = group_queue(&shared.options, pattern.as_str(), group)?;
                plan.pattern = Some(pattern.clone());
            }
            Source::Queue(queue) => {
                if shared.depth(queue).await?.is_none() {
                    shared.declare_default(queue).await?;
                }
                plan.queue = queue.clone();
                plan.care = shared.care(queue).await?;
            }
        }
        Ok(plan)
    }

    async fn info(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        let depth = self.shared.depth(queue).await?.ok_or_else(|| not_found(queue))?;
        let facts = self.shared.facts(queue).await?.ok_or_else(|| not_found(queue))?;
        let care = self.shared.care(queue).await?;
        let mut settings = settings_of(&facts);
        settings.max_attempts = care.max_attempts;
        settings.backoff = care.backoff;
        settings.dead_letter = care.dead_letter;
        Ok(QueueInfo {
            name: queue.clone(),
            messages: depth.messages,
            unsettled: 0,
            bytes: 0,
            consumers: depth.consumers,
            settings,
            bindings: Vec::new(),
            ledger: Ledger::default(),
        })
    }

    async fn publisher(&self, options: &SenderOptions) -> Result<Publisher, Error> {
        if let Some(queue) = &options.queue
            && self.shared.depth(queue).await?.is_none()
        {
            self.shared.declare_default(queue).await?;
        }
        Publisher::open(&self.shared).await
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<Consumer, Error> {
        let plan = self.plan(subscription).await?;
        Consumer::open(&self.shared, plan).await
    }

    /// Does what may be done twice again if the connection is lost meanwhile, for as long as a call
    /// is patient.
    async fn persist<'a, T>(
        &'a self,
        call: impl Fn() -> BoxFuture<'a, Result<T, Error>> + Send + Sync,
    ) -> Result<T, Error> {
        let runtime = &self.shared.runtime;
        let until = runtime.now() + self.shared.options.patience;
        loop {
            match call().await {
                Err(error) if is_lost(&error) && runtime.now() < until => {
                    sleep(runtime, ASK_AGAIN).await;
                }
                done => return done,
            }
        }
    }

    /// Whether the receiver drops what finds no room, instead of leaving it at the server.
    fn is_lossy(&self, subscription: &Subscription) -> Result<bool, Error> {
        if subscription.overflow == Overflow::Block {
            return Ok(false);
        }
        if subscription.ack == Ack::Manual {
            return Err(unsupported("settling by hand what a subscription may drop"));
        }
        Ok(true)
    }
}

/// How long it is waited before a call is made again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Well below the 2,047 channels that RabbitMQ allows by default.
const CHANNELS_MAX: u32 = 1_500;

/// The queue that the members of a group share: the same for all who name the same.
fn group_queue(options: &AmqpOptions, pattern: &str, group: &Topic) -> Result<Topic, Error> {
    // Wildcards are no words of topics; no word of a pattern begins with these.
    let words = pattern.split('.').map(|word| match word {
        "*" => "(any)",
        ">" => "(rest)",
        word => word,
    });
    let pattern = words.collect::<Vec<_>>().join(".");
    let name = format!("_ph.group.{}.of.{}.at.{}", group, pattern, options.exchange);
    short(&name)?;
    Topic::new(name)
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp")
            .field("server", &self.shared.inward)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

/// The capability card of a broker with the default options, as it is without a connection.
///
/// ```
/// use posthaste_core::Capability;
///
/// assert!(posthaste_amqp::card().has(Capability::DeadLetters));
/// assert!(!posthaste_amqp::card().has(Capability::KeyedOrder));
/// ```
#[must_use]
pub fn card() -> Capabilities {
    card_of(&AmqpOptions::new())
}

/// What RabbitMQ does itself, what is added here, and what is lacking.
fn card_of(options: &AmqpOptions) -> Capabilities {
    use Capability as C;
    let card = Capabilities::new(BACKEND)
        .native(&[C::Topics, C::Groups, C::Queues, C::Inboxes, C::NoResponders, C::ManualAck])
        .native(&[C::Bindings, C::Deadlines, C::Durability, C::Unroutable, C::QueueDepth])
        .emulated(&[C::Redelivery, C::RetryDelay, C::DeadLetters, C::Delay, C::HandOver])
        .emulated(&[C::Drain]);
    match options.queue_type == QueueType::Classic && options.priorities {
        true => card.native(&[C::Priority]),
        false => card,
    }
}

#[async_trait]
impl Broker for Amqp {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        let publisher = self.persist(|| Box::pin(self.publisher(&options))).await?;
        Ok(self.shared.engine.sender(&options, publisher))
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        if subscription.start.is_some() {
            self.capabilities().require(Capability::Replay)?;
        }
        if !subscription.overflow.suits_subscriptions() {
            let overflow = subscription.overflow;
            let text = format!("{overflow} is no policy of subscriptions; choose another one");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        self.shared.engine.others_left().await;
        let consumer = self.persist(|| Box::pin(self.consumer(&subscription))).await?;
        Ok(match consumer.is_lossy() {
            true => self.shared.engine.receiver(&subscription, Lossy(consumer)),
            false => self.shared.engine.receiver(&subscription, consumer),
        })
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        let address = Topic::new(self.shared.name(INBOX))?;
        let subscription = Subscription::topic(&address)?;
        let plan = Plan { kind: Kind::Inbox, prefetch: 1_024, ..Plan::of(address.clone()) };
        let open = || Consumer::open(&self.shared, plan.clone());
        let consumer = self.persist(|| Box::pin(open())).await?;
        Ok((address, self.shared.engine.receiver(&subscription, consumer)))
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        self.persist(|| Box::pin(self.shared.declare(&queue))).await
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        self.shared.delete(queue).await
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        self.persist(|| Box::pin(self.info(queue))).await
    }

    async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        self.shared.purge(queue).await
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        self.shared.replay(queue, limit).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        Err(unsupported("inspection"))
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.shared.engine.drain(within).await
    }

    fn sends(&self) -> Option<Sends> {
        Some(self.shared.engine.sends())
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.engine.card().clone()
    }
}
