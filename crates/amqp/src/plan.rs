//! What a consumer consumes: which queue, how it is declared, and how much may be under way.

use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use posthaste_core::limits::SUBSCRIPTION_MESSAGES;
use posthaste_core::{Error, Pattern, Topic};

use crate::fault::fault;
use crate::link::Live;
use crate::settings::Care;
use crate::shared::Shared;
use crate::wire::{binding, short};

/// What is consumed, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) queue: Topic,
    /// What a subscription receives.
    pub(crate) pattern: Option<Pattern>,
    pub(crate) prefetch: u16,
    pub(crate) limit: u64,
    pub(crate) care: Care,
    /// What is taken in is done at once, because what finds no room is dropped.
    pub(crate) lossy: bool,
}

impl Plan {
    /// Of everything in a queue.
    pub(crate) fn of(queue: Topic) -> Self {
        Self {
            kind: Kind::Queue,
            queue,
            pattern: None,
            prefetch: 1,
            limit: u64::MAX,
            care: Care::default(),
            lossy: false,
        }
    }

    /// Begins to consume, on a channel of its own.
    pub(crate) async fn consume(
        &self,
        shared: &Shared,
        live: &Live,
        prefetch: u16,
    ) -> Result<(Channel, lapin::Consumer), Error> {
        let queue = short(self.queue.as_str())?;
        let channel = match &self.pattern {
            Some(_) => {
                let channel = shared.channel_to_exchanges(live).await?;
                self.declare(&channel).await?;
                self.bind(shared, &channel).await?;
                channel
            }
            None => live.channel().await?,
        };
        if self.kind == Kind::Inbox {
            self.declare(&channel).await?;
        }
        let refused = |error: lapin::Error| fault(&format!("consume the queue {queue}"), &error);
        let consumer = begin(&channel, &queue, prefetch).await.map_err(refused)?;
        if self.kind == Kind::Group {
            // A member that left just now, and took itself for the last one, may have unbound it.
            self.bind(shared, &channel).await?;
        }
        Ok((channel, consumer))
    }

    /// Binds the queue of a subscription or a group to what it receives.
    pub(crate) async fn bind(&self, shared: &Shared, channel: &Channel) -> Result<(), Error> {
        let Some(pattern) = &self.pattern else { return Ok(()) };
        let (exchange, key) = binding(pattern, &shared.options)?;
        shared.bind(channel, self.queue.as_str(), exchange, key).await
    }

    /// Undoes that: what comes from now on finds no queue.
    pub(crate) async fn unbind(&self, shared: &Shared, channel: &Channel) -> Result<(), Error> {
        let Some(pattern) = &self.pattern else { return Ok(()) };
        let (exchange, key) = binding(pattern, &shared.options)?;
        let queue = short(self.queue.as_str())?;
        let unbound = channel.queue_unbind(queue, exchange, key, FieldTable::default()).await;
        unbound.map_err(|error| fault(&format!("unbind the queue {}", self.queue), &error))
    }

    /// How many consume the queue; 0 if that cannot be known.
    pub(crate) async fn members(&self, channel: &Channel) -> u32 {
        let Ok(name) = short(self.queue.as_str()) else { return 0 };
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(name, options, FieldTable::default()).await;
        found.map_or(0, |found| found.consumer_count())
    }

    /// Declares the queue of a subscription, a group or an inbox.
    async fn declare(&self, channel: &Channel) -> Result<(), Error> {
        let options = QueueDeclareOptions {
            exclusive: self.kind != Kind::Group,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let name = short(self.queue.as_str())?;
        let mut arguments = FieldTable::default();
        if self.kind == Kind::Inbox {
            // Nobody waits for the reader of an inbox: what it does not read in time makes room.
            let most = i64::try_from(SUBSCRIPTION_MESSAGES).unwrap_or(i64::MAX);
            arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(most));
        }
        let declared = channel.queue_declare(name, options, arguments).await;
        declared
            .map_err(|error| fault(&format!("declare the queue {}", self.queue), &error))
            .map(|_| ())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A queue that is there by itself.
    Queue,
    /// One that a group shares while it has members.
    Group,
    /// One of a subscription's own.
    Subscription,
    /// One of a requester's own.
    Inbox,
}

impl Kind {
    /// Whether what waits in the queue may be for another consumer.
    pub(crate) fn is_shared(self) -> bool {
        matches!(self, Self::Queue | Self::Group)
    }
}

/// How many deliveries the server may send, of those that a limited receiver may have in all: those
/// before this consumer, as many as it may have unsettled, and one more for each that it settles.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Room {
    pub(crate) before: u64,
    pub(crate) settled: u64,
    pub(crate) prefetch: u16,
}

impl Room {
    /// Whether so many settled ones more could bring more than `limit`.
    pub(crate) fn is_exceeded(self, settled: u64, limit: u64) -> bool {
        self.before + self.settled + settled + u64::from(self.prefetch) > limit
    }

    /// How many may be unsettled, if so many are there already.
    pub(crate) fn after(taken: u64, plan: &Plan) -> Self {
        let left = plan.limit.saturating_sub(taken);
        let prefetch = u16::try_from(left).unwrap_or(u16::MAX).min(plan.prefetch);
        Self { before: taken, settled: 0, prefetch }
    }
}

/// Begins to consume a queue.
pub(crate) async fn begin(
    channel: &Channel,
    queue: &ShortString,
    prefetch: u16,
) -> lapin::Result<lapin::Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (options, tag) = (BasicConsumeOptions::default(), ShortString::default());
    channel.basic_consume(queue.clone(), tag, options, FieldTable::default()).await
}
