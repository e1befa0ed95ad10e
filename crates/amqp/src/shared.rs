//! What the broker and all of its handles share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lapin::types::AMQPValue;
use lapin::{Channel, options::ExchangeDeclareOptions};
use lapin::{ExchangeKind, types::FieldTable};
use posthaste_core::task::lock;
use posthaste_core::{Error, Level, SharedRuntime, Topic};
use posthaste_engine::Engine;

use crate::fault::fault;
use crate::link::{Link, Live};
use crate::options::{AmqpOptions, QueueType};
use crate::outgoing::Outgoing;
use crate::wire::short;

/// Three connections, because RabbitMQ stops reading from one that publishes when it runs short of
/// memory or disk, and acknowledgements have to come through then; and because each question that is
/// answered with no uses a channel up.
pub(crate) struct Shared {
    pub(crate) runtime: SharedRuntime,
    pub(crate) options: AmqpOptions,
    pub(crate) engine: Engine,
    /// Publishes.
    pub(crate) outward: Link,
    /// Consumes: exclusive queues belong to the connection that declared them.
    pub(crate) inward: Link,
    /// Declares and asks.
    pub(crate) asking: Link,
    /// Channels of it that nobody uses now.
    idle: Mutex<Vec<Channel>>,
    /// What is to be said on behalf of others: answers, dead letters.
    pub(crate) errands: futures::lock::Mutex<Outgoing>,
    facts: Mutex<BTreeMap<Topic, Facts>>,
}

/// What is known of a queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    pub(crate) durable: bool,
    pub(crate) kind: Option<QueueType>,
    /// Whether it heeds priorities.
    pub(crate) priorities: bool,
    /// What it was declared with, as far as that could be found out.
    pub(crate) arguments: BTreeMap<String, AMQPValue>,
    /// When that was found out.
    pub(crate) at: Instant,
    /// Since when it is known to be there.
    pub(crate) since: Instant,
}

/// How long what is known of a queue is believed: another program may delete it and declare another
/// one under its name.
const BELIEVED: Duration = Duration::from_secs(30);
/// How many channels are kept.
const IDLE_MAX: usize = 8;
/// Of how many queues something is known.
const FACTS_MAX: usize = 4_096;

impl Facts {
    /// What a message in the queue that is confirmed at `now` has reached. A server's confirm of a
    /// persistent message means that it is synced, for quorum queues always and for classic ones
    /// before version 4. But which quorum queues there are is noted later than what is in them: one
    /// that was made just before a crash is gone.
    pub(crate) fn level(&self, version: (u32, u32), now: Instant) -> Level {
        let is_new = now.saturating_duration_since(self.since) < NOTED;
        match (self.durable, self.kind, version.0) {
            (false, ..) => Level::Held,
            (true, Some(QueueType::Quorum), _) if is_new => Level::Held,
            (true, Some(QueueType::Quorum), _) => Level::Stored,
            (true, Some(QueueType::Classic), 1..=3) => Level::Stored,
            (true, ..) => Level::Written,
        }
    }
}

/// How long it takes at most until it is noted that there is a quorum queue: RabbitMQ's library
/// syncs its list of them half a second after the last change.
const NOTED: Duration = Duration::from_secs(2);

impl Shared {
    pub(crate) fn new(
        runtime: SharedRuntime,
        options: AmqpOptions,
        engine: Engine,
        outward: Link,
        inward: Link,
        asking: Link,
    ) -> Arc<Self> {
        let errands = futures::lock::Mutex::default();
        Arc::new(Self {
            runtime,
            options,
            engine,
            outward,
            inward,
            asking,
            idle: Mutex::default(),
            errands,
            facts: Mutex::default(),
        })
    }

    pub(crate) fn known(&self, queue: &Topic) -> Option<Facts> {
        let now = self.runtime.now();
        let facts = lock(&self.facts);
        facts.get(queue).filter(|facts| now.saturating_duration_since(facts.at) < BELIEVED).cloned()
    }

    pub(crate) fn learn(&self, queue: &Topic, mut learnt: Facts) {
        let mut facts = lock(&self.facts);
        if let Some(known) = facts.get(queue).filter(|known| known.kind == learnt.kind) {
            learnt.since = known.since;
        }
        if facts.len() >= FACTS_MAX {
            facts.clear();
        }
        facts.insert(queue.clone(), learnt);
    }

    pub(crate) fn forget(&self, queue: &Topic) {
        lock(&self.facts).remove(queue);
    }

    /// A channel for questions and declarations, of which one that is refused is the last.
    pub(crate) async fn channel(&self) -> Result<Channel, Error> {
        loop {
            // Not under the lock: dropping one that is lost is lapin's code.
            let idle = lock(&self.idle).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {}
                None => return self.asking.live().await?.channel().await,
            }
        }
    }

    /// Gives a channel back whose question was answered; one that is not given back is closed.
    pub(crate) fn give_back(&self, channel: Channel) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_MAX {
            idle.push(channel);
        }
    }

    /// A name that nobody else has.
    pub(crate) fn name(&self, prefix: &str) -> String {
        let mut random = [0; 12];
        self.runtime.fill_random(&mut random);
        random.iter().fold(prefix.to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// A channel on which the exchanges of topics are known to be there: if somebody deleted them,
    /// they are declared again without waiting.
    pub(crate) async fn channel_to_exchanges(&self, live: &Live) -> Result<Channel, Error> {
        let channel = live.channel().await?;
        let options = ExchangeDeclareOptions {
            durable: true,
            nowait: true,
            ..ExchangeDeclareOptions::default()
        };
        for name in [self.options.exchange.clone(), self.options.reserved_exchange()] {
            let declared = channel.exchange_declare(
                short(&name)?,
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            );
            declared.await.map_err(|error| fault("declare its exchanges", &error))?;
        }
        Ok(channel)
    }
}
