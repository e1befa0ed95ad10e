//! The broker: what Kafka is to Posthaste.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::{
    Ack, BoxReceiver, BoxSender, Broker, Capabilities, Capability, DrainReport, Error, ErrorKind,
    Overflow, Pattern, Queue, QueueInfo, SenderOptions, Sends, SharedRuntime, Source, Stats,
    Subscription, Topic,
};

use crate::client::Client;
use crate::consumer::{self, Reader};
use crate::names::{self, INBOX_PREFIX, kafka_name};
use crate::publisher::Publisher;
use crate::record::Wants;
use crate::{KafkaOptions, Position};

/// A client of a Kafka cluster.
///
/// Cloning it makes another handle of the same client. What it does is in the documentation of the
/// [crate](crate).
#[derive(Clone)]
pub struct Kafka(Arc<Client>);

impl Kafka {
    /// Connects to the cluster that a URL names; see [`KafkaOptions`] for what a URL may say.
    ///
    /// ```no_run
    /// use posthaste_core::{Bus, SharedRuntime};
    /// use posthaste_kafka::Kafka;
    /// use posthaste_smol::Smol;
    ///
    /// # pollster::block_on(async {
    /// let runtime: SharedRuntime = Smol::global().into();
    /// let kafka = Kafka::connect(runtime.clone(), "kafka://127.0.0.1:9092?partitions=6").await?;
    /// let bus = Bus::with_runtime(kafka, runtime);
    /// bus.send("jobs", "work").await?;
    /// # Ok::<(), posthaste_core::Error>(())
    /// # });
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a URL that is not understood; `Disconnected` or `TimedOut` if no broker
    /// answers in time, `Refused` if one does not accept who this is.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt and leaves nothing behind.
    pub async fn connect(
        runtime: impl Into<SharedRuntime>,
        url: impl AsRef<str>,
    ) -> Result<Self, Error> {
        Self::with_options(runtime, url.as_ref().parse()?).await
    }

    /// Connects as the options say.
    ///
    /// ```no_run
    /// use posthaste_kafka::{Kafka, KafkaOptions};
    /// use posthaste_smol::Smol;
    ///
    /// # pollster::block_on(async {
    /// let options = KafkaOptions::new("127.0.0.1:9092").property("compression.type", "lz4");
    /// let kafka = Kafka::with_options(Smol::global(), options).await?;
    /// # drop(kafka);
    /// # Ok::<(), posthaste_core::Error>(())
    /// # });
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt and leaves nothing behind.
    pub async fn with_options(
        runtime: impl Into<SharedRuntime>,
        options: KafkaOptions,
    ) -> Result<Self, Error> {
        Ok(Self(Client::connect(runtime.into(), options).await?))
    }

    /// Reads a topic, or a queue, from a position on and then what comes, without taking anything
    /// from anybody: it belongs to no group, and settling does nothing.
    ///
    /// ```no_run
    /// use posthaste_core::{ReceiverExt, Subscription};
    /// use posthaste_kafka::{Kafka, Position};
    /// use posthaste_smol::Smol;
    ///
    /// # pollster::block_on(async {
    /// let kafka = Kafka::connect(Smol::global(), "kafka://127.0.0.1:9092").await?;
    /// let all = Subscription::topic("orders.>")?;
    /// let mut history = kafka.replay(all, Position::Beginning).await?;
    /// while let Some(order) = history.recv().await? {
    ///     println!("{:?}", order.message());
    /// }
    /// # Ok::<(), posthaste_core::Error>(())
    /// # });
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a group, which has a position of its own; `NotFound` for a queue that
    /// is not there; `Disconnected`, `TimedOut`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn replay(
        &self,
        subscription: Subscription,
        from: Position,
    ) -> Result<BoxReceiver, Error> {
        let (pattern, wants) = match &subscription.source {
            Source::Topic(pattern) => (pattern.clone(), Wants::Topics(pattern.clone())),
            Source::Queue(queue) => {
                self.0.topic(kafka_name(queue)?).await?;
                (Pattern::from(queue), Wants::Queue(queue.clone()))
            }
            Source::Shared(..) => {
                let text = "a group has a position of its own; replay a topic or a queue";
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
        };
        names::subscription(&pattern)?;
        self.assigned(&subscription, pattern, from, wants).await
    }

    /// A receiver that reads without a group.
    async fn assigned(
        &self,
        subscription: &Subscription,
        pattern: Pattern,
        from: Position,
        wants: Wants,
    ) -> Result<BoxReceiver, Error> {
        let source = consumer::Source::Assigned(pattern, from);
        let settles = subscription.ack == Ack::Manual;
        let engine = &self.0.engine;
        // The log holds what is not read, so that nobody has to wait; whoever would rather lose
        // messages than be late has to read all of them.
        Ok(match subscription.overflow {
            Overflow::Block => {
                let reader = Reader::<true>::open(&self.0, source, None, wants, settles).await?;
                engine.receiver(subscription, reader)
            }
            _ => {
                let reader = Reader::<false>::open(&self.0, source, None, wants, settles).await?;
                engine.receiver(subscription, reader)
            }
        })
    }

    /// A receiver that shares what it reads with its group.
    async fn grouped(
        &self,
        subscription: &Subscription,
        pattern: Pattern,
        group: &str,
        wants: Wants,
    ) -> Result<BoxReceiver, Error> {
        let from_end = matches!(wants, Wants::Topics(_));
        let regex = names::subscription(&pattern)?;
        let source = consumer::Source::Grouped { pattern, subscription: regex, from_end };
        let reader = Reader::<true>::open(&self.0, source, Some(group), wants, true).await?;
        Ok(self.0.engine.receiver(subscription, reader))
    }

    /// Has the Kafka topic of a pattern that names one.
    async fn literal(&self, pattern: &Pattern) -> Result<(), Error> {
        names::subscription(pattern)?;
        if pattern.is_literal() {
            self.0.topic_created(pattern.as_str(), &[]).await?;
        }
        Ok(())
    }

    fn lacks(&self, capability: Capability) -> Error {
        Error::unsupported(capability, self.capabilities().backend())
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kafka").field(&self.0.options).finish()
    }
}

#[async_trait]
impl Broker for Kafka {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        if let Some(queue) = &options.queue {
            self.0.topic_created(kafka_name(queue)?, &[]).await?;
        }
        Ok(self.0.engine.sender(&options, Publisher::new(Arc::clone(&self.0))))
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        if subscription.start.is_some() {
            self.capabilities().require(Capability::Replay)?;
        }
        match &subscription.source {
            Source::Topic(pattern) => {
                check_events(pattern, self)?;
                if let Some(address) = inbox_of(pattern) {
                    return self.inbox_at(&address, &subscription).await;
                }
                self.literal(pattern).await?;
                let (pattern, wants) = (pattern.clone(), Wants::Topics(pattern.clone()));
                self.assigned(&subscription, pattern, Position::End, wants).await
            }
            Source::Shared(pattern, group) => {
                check_events(pattern, self)?;
                if subscription.overflow != Overflow::Block {
                    return Err(self.lacks(Capability::Overflow));
                }
                self.literal(pattern).await?;
                let wants = Wants::Topics(pattern.clone());
                self.grouped(&subscription, pattern.clone(), group.as_str(), wants).await
            }
            Source::Queue(queue) => {
                self.0.topic_created(kafka_name(queue)?, &[]).await?;
                let group = self.0.options.group.as_deref().unwrap_or(queue.as_str()).to_owned();
                let wants = Wants::Queue(queue.clone());
                self.grouped(&subscription, Pattern::from(queue), &group, wants).await
            }
        }
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        let mut random = [0; 16];
        self.0.runtime().fill_random(&mut random);
        let address = format!("{INBOX_PREFIX}{:032x}", u128::from_le_bytes(random));
        let address = Topic::new(address)?;
        let subscription = Subscription::topic(&address)?.overflow(Overflow::DropNewest);
        let receiver = self.inbox_at(&address, &subscription).await?;
        Ok((address, receiver))
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        refuse(&queue, self)?;
        self.0.topic_created(kafka_name(&queue.name)?, &[]).await?;
        Ok(())
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        self.0.delete(kafka_name(queue)?).await
    }

    async fn queue(&self, _queue: &Topic) -> Result<QueueInfo, Error> {
        Err(self.lacks(Capability::Inspection))
    }

    async fn stats(&self) -> Result<Stats, Error> {
        Err(self.lacks(Capability::Inspection))
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

impl Kafka {
    /// A receiver of what is sent to an address, through the reply topic.
    async fn inbox_at(
        &self,
        address: &Topic,
        subscription: &Subscription,
    ) -> Result<BoxReceiver, Error> {
        self.0.reply_topic().await?;
        let replies = Pattern::new(&self.0.options.reply_topic)?;
        let wants = Wants::Inbox(address.clone());
        self.assigned(subscription, replies, Position::End, wants).await
    }
}

/// The address of an inbox, if a pattern is one.
fn inbox_of(pattern: &Pattern) -> Option<Topic> {
    let is_inbox = pattern.is_literal() && pattern.as_str().starts_with(INBOX_PREFIX);
    is_inbox.then(|| Topic::new(pattern.as_str()).ok()).flatten()
}

/// Kafka tells of nothing that happens in it.
fn check_events(pattern: &Pattern, kafka: &Kafka) -> Result<(), Error> {
    match pattern.as_str().starts_with("_ph.event.") {
        true => Err(kafka.lacks(Capability::Events)),
        false => Ok(()),
    }
}

/// Refuses what a Kafka topic cannot be told.
fn refuse(queue: &Queue, kafka: &Kafka) -> Result<(), Error> {
    let asked = [
        (!queue.bindings.is_empty(), Capability::Bindings),
        (queue.capacity_messages.is_some(), Capability::BackPressure),
        (queue.capacity_bytes.is_some(), Capability::ByteLimits),
        (queue.overflow.is_some_and(|policy| policy != Overflow::Block), Capability::Overflow),
        (queue.max_attempts.is_some() || queue.dead_letter.is_some(), Capability::DeadLetters),
        (queue.backoff.is_some_and(|time| !time.is_zero()), Capability::RetryDelay),
        (queue.dedup_window.is_some_and(|time| !time.is_zero()), Capability::Deduplication),
        (queue.consumer_timeout.is_some_and(|time| !time.is_zero()), Capability::ConsumerTimeout),
        (queue.keyed == Some(true), Capability::KeyedOrder),
        (queue.retain.is_some(), Capability::Replay),
    ];
    if let Some((_, capability)) = asked.into_iter().find(|(asked, _)| *asked) {
        return Err(kafka.lacks(capability));
    }
    for (asked, what) in [
        (queue.ttl.is_some_and(|time| !time.is_zero()), "a time to live of a queue's messages"),
        (queue.expiry.is_some_and(|time| !time.is_zero()), "an expiry of queues"),
        (queue.durable == Some(false), "queues that are not durable"),
    ] {
        if asked {
            return Err(Error::unsupported(what, kafka.capabilities().backend()));
        }
    }
    Ok(())
}
