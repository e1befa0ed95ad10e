//! The broker: what opens senders and receivers, whether in process, remote or somebody else's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::capability::Capabilities;
use crate::ledger::{DrainReport, QueueInfo, Stats};
use crate::limits::{SUBSCRIPTION_BYTES, SUBSCRIPTION_MESSAGES};
use crate::{BoxReceiver, BoxSender, Error, Level, Pattern, Topic};

/// Opens senders and receivers, and manages queues.
///
/// The in-process broker, a remote one, RabbitMQ, Kafka and NATS are all brokers, so every pattern
/// and every tool works on each. Users hold a `Bus` over one.
///
/// # Laws
///
/// - **B1** A capability that is lacking is `Unsupported` at the call, never silence.
/// - **B2** A subscription is live once `receiver` resolves: a publish that starts after that is
///   seen.
/// - **B3** Of competing consumers each message goes to exactly one.
/// - **B4** Of subscriptions each matching one gets its own copy.
/// - **B5** The ledger balances.
/// - **B6** A dropped pending `receiver` or `declare` leaves nothing behind.
/// - **D1** Dropping the broker or any handle, anywhere, neither panics, blocks nor spawns.
/// - **D2** Empty, non-UTF-8 and maximum-size payloads pass; one byte more is `TooLarge`.
/// - **Q1** A request that was dropped or timed out frees its slot; a late reply is counted, not
///   delivered. **Q2** A request that nobody can answer is answered `NoResponders` at once.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Opens a sender.
    ///
    /// # Errors
    /// `Unsupported`, `Limit`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error>;

    /// Opens a receiver; it is live once this resolves.
    ///
    /// # Errors
    /// `Unsupported`, `Limit`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error>;

    /// Opens a receiver at an address of the backend's choosing, for replies. It never blocks a
    /// sender: when it is full, what comes next is dropped and counted.
    ///
    /// # Errors
    /// As [`receiver`](Self::receiver).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error>;

    /// Declares a queue, or updates the settings that are named.
    ///
    /// # Errors
    /// `Conflict`, which names the field; `Unsupported`, `Limit`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future either declared the queue or did not.
    async fn declare(&self, queue: Queue) -> Result<(), Error>;

    /// Deletes a queue; what it held is dropped and counted, its consumers end.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future either deleted the queue or did not.
    async fn delete(&self, queue: &Topic) -> Result<(), Error>;

    /// What a queue is and holds.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe.
    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error>;

    /// The ledger, the queues in the order of their names, and how much is connected.
    ///
    /// # Errors
    /// `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe.
    async fn stats(&self) -> Result<Stats, Error>;

    /// Stops taking, waits `within` for what was handed out, returns what was not, and reports.
    /// On a remote broker it drains the client's side.
    ///
    /// # Errors
    /// `Unsupported` on a broker without a clock.
    ///
    /// # Cancel safety
    /// Safe to call again; the broker stays closed to new messages.
    async fn drain(&self, within: Duration) -> Result<DrainReport, Error>;

    /// What this backend does natively, what the framework emulates, what it lacks.
    fn capabilities(&self) -> Capabilities;
}

macro_rules! forward_broker {
    ($($(#[$meta:meta])* <$b:ident> $ty:ty;)+) => {$(
        #[async_trait]
        impl<$b: Broker + ?Sized> Broker for $ty {
            async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
                (**self).sender(options).await
            }
            async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
                (**self).receiver(subscription).await
            }
            async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
                (**self).inbox().await
            }
            async fn declare(&self, queue: Queue) -> Result<(), Error> {
                (**self).declare(queue).await
            }
            async fn delete(&self, queue: &Topic) -> Result<(), Error> {
                (**self).delete(queue).await
            }
            async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
                (**self).queue(queue).await
            }
            async fn stats(&self) -> Result<Stats, Error> {
                (**self).stats().await
            }
            async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
                (**self).drain(within).await
            }
            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }
        }
    )+};
}

forward_broker! {
    <B> Arc<B>;
    <B> Box<B>;
    <B> &B;
}

/// How a sender behaves.
///
/// ```
/// use posthaste_core::{Level, SenderOptions, Topic};
///
/// let options = SenderOptions::new().queue(Topic::new("jobs")?).confirm(Level::Held);
/// assert_eq!(options.window_messages, 16_384);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SenderOptions {
    /// A queue to declare, with the broker's defaults, if it is not there.
    pub queue: Option<Topic>,
    /// How many messages may wait for their outcome.
    pub window_messages: usize,
    /// How many bytes may wait for their outcome; one larger message is let through when nothing
    /// else waits.
    pub window_bytes: usize,
    /// The level that every message has to reach; `None` is each queue's own.
    pub confirm: Option<Level>,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self { queue: None, window_messages: 16_384, window_bytes: 8 << 20, confirm: None }
    }
}

impl SenderOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares `queue` with the broker's defaults if it is not there.
    #[must_use]
    pub fn queue(mut self, queue: Topic) -> Self {
        self.queue = Some(queue);
        self
    }

    /// How many messages and bytes may wait for their outcome.
    #[must_use]
    pub fn window(mut self, messages: usize, bytes: usize) -> Self {
        (self.window_messages, self.window_bytes) = (messages.max(1), bytes.max(1));
        self
    }

    /// Asks for a level: a message that reaches less comes back as `Unconfirmed`.
    #[must_use]
    pub fn confirm(mut self, level: Level) -> Self {
        self.confirm = Some(level);
        self
    }
}

/// What a receiver receives, and how.
///
/// ```
/// use posthaste_core::{Ack, Subscription};
///
/// let prices = Subscription::topic("px.>")?.capacity(64, 1 << 20);
/// assert_eq!(prices.ack, Ack::Auto);
/// let jobs = Subscription::queue("jobs")?.prefetch(10);
/// assert_eq!(jobs.ack, Ack::Manual);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Subscription {
    /// Where the messages come from.
    pub source: Source,
    /// Who settles a delivery.
    pub ack: Ack,
    /// How many deliveries may be unsettled, or on their way, at a time. `None` is no limit.
    pub prefetch: Option<usize>,
    /// How many deliveries there are in all; after the last one comes the end, and no more than
    /// that are ever taken from the source. `None` is no limit.
    pub limit: Option<u64>,
    /// How many messages a topic subscription or a group holds.
    pub capacity_messages: usize,
    /// How many bytes a topic subscription or a group holds.
    pub capacity_bytes: usize,
    /// What happens when it is full.
    pub overflow: Overflow,
}

/// Where a receiver's messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A copy of everything that matches.
    Topic(Pattern),
    /// Of everything that matches, each message to one live member of the group.
    Shared(Pattern, Topic),
    /// A queue, each message to exactly one of its consumers.
    Queue(Topic),
}

/// Who settles a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// It is settled when the application takes it: at most once.
    Auto,
    /// The application settles it: at least once.
    Manual,
}

/// What happens when a subscription or a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The sender waits.
    #[default]
    Block,
    /// The newest message is dropped and counted.
    DropNewest,
}

impl Subscription {
    /// A copy of everything whose topic matches; settled automatically.
    ///
    /// # Errors
    /// `InvalidTopic`.
    pub fn topic<P>(pattern: P) -> Result<Self, Error>
    where
        P: TryInto<Pattern>,
        Error: From<P::Error>,
    {
        Ok(Self::new(Source::Topic(pattern.try_into()?), Ack::Auto))
    }

    /// Of everything whose topic matches, each message to one live member of `group`; settled
    /// automatically.
    ///
    /// # Errors
    /// `InvalidTopic`.
    pub fn shared<P, G>(pattern: P, group: G) -> Result<Self, Error>
    where
        P: TryInto<Pattern>,
        G: TryInto<Topic>,
        Error: From<P::Error> + From<G::Error>,
    {
        Ok(Self::new(Source::Shared(pattern.try_into()?, group.try_into()?), Ack::Auto))
    }

    /// A consumer of a queue, which is declared if it is not there; settled by hand.
    ///
    /// # Errors
    /// `InvalidTopic`.
    pub fn queue<Q>(queue: Q) -> Result<Self, Error>
    where
        Q: TryInto<Topic>,
        Error: From<Q::Error>,
    {
        Ok(Self::new(Source::Queue(queue.try_into()?), Ack::Manual))
    }

    fn new(source: Source, ack: Ack) -> Self {
        Self {
            source,
            ack,
            prefetch: Some(1_024),
            limit: None,
            capacity_messages: SUBSCRIPTION_MESSAGES,
            capacity_bytes: SUBSCRIPTION_BYTES,
            overflow: Overflow::Block,
        }
    }

    /// Who settles a delivery.
    #[must_use]
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// How many deliveries may be unsettled, or on their way, at a time; at least 1.
    #[must_use]
    pub fn prefetch(mut self, deliveries: usize) -> Self {
        self.prefetch = Some(deliveries.max(1));
        self
    }

    /// Any number of deliveries may be unsettled.
    #[must_use]
    pub fn unlimited_prefetch(mut self) -> Self {
        self.prefetch = None;
        self
    }

    /// At most `deliveries` in all; after the last one comes the end.
    #[must_use]
    pub fn limit(mut self, deliveries: u64) -> Self {
        self.limit = Some(deliveries);
        self
    }

    /// How much a topic subscription or a group holds. A queue's capacity is its own.
    #[must_use]
    pub fn capacity(mut self, messages: usize, bytes: usize) -> Self {
        (self.capacity_messages, self.capacity_bytes) = (messages.max(1), bytes.max(1));
        self
    }

    /// What happens when a topic subscription or a group is full.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }
}

/// The declaration of a queue. A setting that is not named keeps what it is, or the default.
///
/// ```
/// use posthaste_core::{Pattern, Queue, Topic};
///
/// let audit = Queue::new(Topic::new("audit")?)
///     .bind(Pattern::new("orders.>")?)
///     .capacity(10_000);
/// assert_eq!(audit.capacity_messages, Some(10_000));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Queue {
    /// The name.
    pub name: Topic,
    /// Patterns whose matching messages are copied into the queue; added to those it has.
    pub bindings: Vec<Pattern>,
    /// How many messages it holds.
    pub capacity_messages: Option<usize>,
    /// How many bytes it holds.
    pub capacity_bytes: Option<usize>,
}

impl Queue {
    /// A queue with the broker's defaults.
    #[must_use]
    pub fn new(name: Topic) -> Self {
        Self { name, bindings: Vec::new(), capacity_messages: None, capacity_bytes: None }
    }

    /// Copies the messages that match into the queue.
    #[must_use]
    pub fn bind(mut self, pattern: Pattern) -> Self {
        self.bindings.push(pattern);
        self
    }

    /// How many messages it holds; at least 1.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity_messages = Some(messages.max(1));
        self
    }

    /// How many bytes it holds; at least 1. One larger message is let in when it is empty.
    #[must_use]
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.capacity_bytes = Some(bytes.max(1));
        self
    }
}
