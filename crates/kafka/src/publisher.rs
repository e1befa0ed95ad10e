//! How the messages of a sender become records.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use posthaste_core::runtime::timeout_at;
use posthaste_core::task::OneShot;
use posthaste_core::{Error, ErrorKind, Level, Message};
use posthaste_engine::{Confirmation, Confirmed, Publish};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;

use crate::client::{Client, FRESH, TopicFacts};
use crate::record::{self, To};
use crate::{errors, names};

/// How long a record waits for room among those that are on their way before it is tried again.
const ROOM: Duration = Duration::from_millis(5);

/// What a record has beside its key, payload and headers, generously.
const OVERHEAD: usize = 512;

/// Sends the messages of one sender.
pub(crate) struct Publisher {
    client: Arc<Client>,
    last: Option<Last>,
}

/// The target of the message before, which is most often that of the next.
struct Last {
    topic: Vec<u8>,
    target: Arc<Target>,
    until: Instant,
    changes: u64,
}

/// Where records go.
struct Target {
    client: Arc<Client>,
    name: String,
    to: To,
    facts: TopicFacts,
    headers: OwnedHeaders,
}

/// A record on its way, and what became of it once that is known.
pub(crate) struct Delivered {
    target: Arc<Target>,
    result: OneShot<Result<(), KafkaError>>,
}

impl Delivered {
    pub(crate) fn put(&self, result: Result<(), KafkaError>) {
        self.result.put(result);
    }
}

/// Resolves with what became of a record.
struct Delivery(Arc<Delivered>);

impl Future for Delivery {
    type Output = Result<Confirmed, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let target = &self.0.target;
        self.0.result.poll_take(cx).map(|result| match result {
            // acks=all: it is in the page cache of every in-sync replica, and there are at least so
            // many of them.
            Ok(()) => Ok(Confirmed {
                matched: u64::from(target.to == To::Queue),
                level: Level::Written,
                nodes: target.facts.in_sync_min,
            }),
            Err(error) => Err(returned(&target.client, &target.name, error)),
        })
    }
}

impl Publisher {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self { client, last: None }
    }

    async fn target(&mut self, message: &Message, to: To) -> Result<Arc<Target>, Error> {
        let now = self.client.runtime().now();
        if let Some(last) = &self.last
            && (last.target.to, &*last.topic) == (to, message.topic_bytes())
            && (now < last.until && last.changes == self.client.changes())
        {
            return Ok(Arc::clone(&last.target));
        }
        let changes = self.client.changes();
        let (client, topic) = (&self.client, message.topic());
        let (name, facts) = match to {
            To::Queue => (topic.as_str(), client.topic(names::kafka_name(&topic)?).await?),
            To::Topic => {
                let name = names::kafka_name(&topic)?;
                (name, client.topic_created(name, &[]).await?)
            }
            To::Inbox => (client.options.reply_topic.as_str(), client.reply_topic().await?),
        };
        let client = Arc::clone(client);
        let target = Arc::new(Target {
            client,
            name: name.to_owned(),
            to,
            facts,
            headers: record::plain_headers(to),
        });
        let (topic, kept) = (message.topic_bytes().to_vec(), Arc::clone(&target));
        self.last = Some(Last { topic, target: kept, until: now + FRESH, changes });
        Ok(target)
    }

    /// Hands a record to librdkafka, and waits while that has as many on their way as it may.
    async fn enqueue(&self, message: &Message, target: Arc<Target>) -> Result<Delivery, Error> {
        let runtime = self.client.runtime();
        let (key, result) = (record::key(message), OneShot::new());
        let delivered = Arc::new(Delivered { target, result });
        let target = &delivered.target;
        let mut deadline = None;
        loop {
            let native = self.client.native()?;
            let mut record = BaseRecord::with_opaque_to(&target.name, Arc::clone(&delivered))
                .payload(&message.payload()[..])
                .headers(record::headers(message, target.to, &target.headers, &**runtime));
            record = match key {
                Some(key) => record.key(key),
                // The key decides elsewhere, by the hash that all clients of Kafka share.
                None => record.partition(self.partition_of(target.facts.partitions)),
            };
            let Err((error, _)) = native.producer.send(record) else { break };
            let now = runtime.now();
            let deadline =
                *deadline.get_or_insert_with(|| now + self.client.options.delivery_timeout);
            let full = errors::code(&error) == Some(Code::QueueFull);
            if !full || now >= deadline {
                return Err(errors::of(&format!("sending to {}", target.name), error));
            }
            let pending = std::future::pending::<()>();
            let _elapsed = timeout_at(&**runtime, now + ROOM, pending).await;
        }
        Ok(Delivery(delivered))
    }

    fn partition_of(&self, partitions: i32) -> i32 {
        let count = u32::try_from(partitions).unwrap_or(1).max(1);
        i32::try_from(self.client.place % count).unwrap_or_default()
    }
}

impl Publish for Publisher {
    async fn publish(&mut self, message: &Message) -> Result<Confirmation, Error> {
        if message.deadline().is_some_and(|at| at <= self.client.runtime().now()) {
            let text = "the message's deadline had passed before it was sent; give it more time";
            return Err(Error::new(ErrorKind::Expired, text));
        }
        let to = To::of(message);
        let target = self.target(message, to).await?;
        check_size(message, &target)?;
        let delivery = self.enqueue(message, target).await?;
        Ok(Confirmation::Later(Box::pin(delivery)))
    }
}

/// Whether the topic takes a record of that size: a batch with one that is too large is refused as
/// a whole, those that are not included.
fn check_size(message: &Message, target: &Target) -> Result<(), Error> {
    let (size, most) = (message.size() + OVERHEAD, target.facts.record_bytes_max);
    if most.is_none_or(|most| size <= most) {
        return Ok(());
    }
    let (name, most) = (&target.name, most.unwrap_or_default());
    let text = format!(
        "a message of {size} bytes is too large for the Kafka topic {name}, which takes {most}; \
         raise its max.message.bytes or send less"
    );
    Err(Error::new(ErrorKind::TooLarge, text))
}

/// Why a message comes back.
fn returned(client: &Client, name: &str, error: KafkaError) -> Error {
    let error = errors::of(&format!("sending to {name}"), error);
    match error.kind() {
        ErrorKind::NotFound => {
            client.forget(name);
            error
        }
        ErrorKind::TooLarge | ErrorKind::Refused | ErrorKind::InvalidTopic => error,
        // It was on its way: nobody can say any more whether it arrived.
        _ => Error::new(ErrorKind::Unknown, error.to_string()).caused_by(error),
    }
}
