//! Queues as streams: declared, looked at, remembered and deleted.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use posthaste_core::task::lock;
use posthaste_core::{
    Capability, Error, ErrorKind, Ledger, Level, Overflow, Queue, QueueInfo, QueueSettings, Topic,
};
use posthaste_engine::Confirmed;

use crate::broker::Link;
use crate::names;

const MAX_ATTEMPTS: &str = "posthaste.max-attempts";
const BACKOFF_MS: &str = "posthaste.backoff-ms";
const DEAD_LETTER: &str = "posthaste.dead-letter";
const OVERFLOW: &str = "posthaste.overflow";
const DEDUP: &str = "posthaste.dedup";

/// What is remembered of a queue.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) settings: QueueSettings,
    confirmed: Confirmed,
}

impl Entry {
    /// What a confirmation of the stream says.
    pub(crate) fn confirmed(&self) -> Confirmed {
        self.confirmed
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.settings.overflow
    }

    pub(crate) fn deduplicates(&self) -> bool {
        !self.settings.dedup_window.is_zero()
    }
}

impl Link {
    /// What is remembered of a queue, or asked now.
    pub(crate) async fn entry(&self, queue: &Topic) -> Result<Arc<Entry>, Error> {
        if let Some(entry) = lock(self.queues()).get(queue) {
            return Ok(Arc::clone(entry));
        }
        let info = self.info(queue).await?;
        Ok(self.remember(queue, &info.config))
    }

    fn remember(&self, queue: &Topic, config: &Config) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            settings: settings(config),
            confirmed: Confirmed {
                matched: 1,
                level: self.level(config),
                nodes: u32::try_from(config.num_replicas / 2 + 1).unwrap_or(1),
            },
        });
        lock(self.queues()).insert(queue.clone(), Arc::clone(&entry));
        entry
    }

    /// The level of what the stream confirms.
    fn level(&self, config: &Config) -> Level {
        match config.storage {
            StorageType::Memory => Level::Held,
            StorageType::File if self.options().synced => Level::Stored,
            // Replicas write what they have agreed upon after they have said so.
            StorageType::File if config.num_replicas > 1 => Level::Held,
            StorageType::File => Level::Written,
        }
    }

    /// What the server says of a queue's stream.
    pub(crate) async fn info(&self, queue: &Topic) -> Result<Info, Error> {
        self.up().await?;
        let stream = self.jetstream().get_stream(names::stream(queue)?).await;
        let stream = stream.map_err(|error| match error.kind() {
            jetstream::context::GetStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                not_found(queue)
            }
            _ => api_error(&error),
        })?;
        Ok(stream.cached_info().clone())
    }

    /// Declares a queue unless it is there, with its consumer.
    pub(crate) async fn ensure(&self, queue: &Topic) -> Result<Arc<Entry>, Error> {
        match self.entry(queue).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.declare_stream(&Queue::new(queue.clone())).await
            }
            entry => entry,
        }
    }

    /// Declares a queue, or updates the settings that are named.
    pub(crate) async fn declare_stream(&self, queue: &Queue) -> Result<Arc<Entry>, Error> {
        self.check(queue)?;
        self.up().await?;
        let name = names::stream(&queue.name)?;
        let before = match self.info(&queue.name).await {
            Ok(info) => Some(info.config),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let fresh = Config {
            name: name.clone(),
            subjects: vec![names::queue_subject(&queue.name)],
            retention: RetentionPolicy::WorkQueue,
            storage: if self.options().memory { StorageType::Memory } else { StorageType::File },
            num_replicas: self.options().replicas,
            discard: DiscardPolicy::New,
            // Without a window of its own a queue takes every message.
            duplicate_window: Duration::from_millis(100),
            max_messages: -1,
            max_bytes: -1,
            allow_direct: true,
            ..Config::default()
        };
        let config = apply(queue, before.clone().unwrap_or(fresh))?;
        let jetstream = self.jetstream();
        let info = match before {
            Some(before) if before == config => None,
            Some(_) => {
                Some(jetstream.update_stream(&config).await.map_err(|error| api_error(&error))?)
            }
            None => {
                let created = jetstream.create_stream(&config).await;
                Some(created.map_err(|error| api_error(&error))?.cached_info().clone())
            }
        };
        self.open_consumer(&queue.name).await?;
        let config = info.map_or(config, |info| info.config);
        Ok(self.remember(&queue.name, &config))
    }

    /// Refuses what JetStream has not.
    fn check(&self, queue: &Queue) -> Result<(), Error> {
        let lacking = |what: &str| Err(Error::unsupported(what, "NATS"));
        if !queue.bindings.is_empty() {
            return lacking("bindings of queues");
        }
        if queue.keyed == Some(true) {
            return lacking("keyed order");
        }
        if queue.retain.is_some() {
            return Err(Error::unsupported(Capability::Replay, "NATS"));
        }
        if queue.durable == Some(false) {
            return lacking("queues that are not durable");
        }
        if queue.consumer_timeout.is_some_and(|time| !time.is_zero()) {
            return lacking("a consumer time-out");
        }
        if queue.expiry.is_some_and(|time| !time.is_zero()) {
            return lacking("an expiry of queues");
        }
        let is_bounded = queue.capacity_messages.is_some() || queue.capacity_bytes.is_some();
        if is_bounded && queue.overflow.unwrap_or_default() == Overflow::Block {
            return lacking("queues whose senders wait; choose reject, drop-oldest or drop-newest");
        }
        // What makes no sense anywhere.
        QueueSettings::of(queue).map(drop)
    }

    /// Opens the consumer that all receivers of the queue share.
    pub(crate) async fn open_consumer(&self, queue: &Topic) -> Result<(), Error> {
        let config = pull::Config {
            durable_name: Some(names::CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.options().ack_wait,
            max_deliver: -1,
            max_ack_pending: -1,
            max_waiting: 10_000,
            ..pull::Config::default()
        };
        let stream = names::stream(queue)?;
        let created = self.jetstream().create_consumer_on_stream(config, stream).await;
        created.map(drop).map_err(|error| api_error(&error))
    }

    /// Deletes a queue and what is noted beside it.
    pub(crate) async fn delete_stream(&self, queue: &Topic) -> Result<(), Error> {
        self.info(queue).await?;
        lock(self.queues()).remove(queue);
        let jetstream = self.jetstream();
        jetstream.delete_stream(names::stream(queue)?).await.map_err(|error| api_error(&error))?;
        // Most queues have none.
        let _ = jetstream.delete_stream(names::uncounted_stream(queue)?).await;
        Ok(())
    }

    /// What a queue is and holds, as far as JetStream tells.
    pub(crate) async fn queue_info(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        let info = self.info(queue).await?;
        let stream = names::stream(queue)?;
        let consumer = self
            .jetstream()
            .get_consumer_from_stream::<pull::Config, _, _>(names::CONSUMER, stream)
            .await
            .ok()
            .map(|consumer| consumer.cached_info().clone());
        let unsettled = consumer.as_ref().map_or(0, |info| info.num_ack_pending as u64);
        Ok(QueueInfo {
            name: queue.clone(),
            messages: info.state.messages,
            unsettled,
            bytes: info.state.bytes,
            consumers: consumer.map_or(0, |info| info.num_waiting as u64),
            settings: settings(&info.config),
            bindings: Vec::new(),
            ledger: Ledger::default(),
        })
    }
}

/// The settings that are named, on top of a stream's.
fn apply(queue: &Queue, mut config: Config) -> Result<Config, Error> {
    let number = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    if let Some(messages) = queue.capacity_messages {
        config.max_messages = number(messages);
    }
    if let Some(bytes) = queue.capacity_bytes {
        config.max_bytes = number(bytes);
    }
    let mut note = |name: &str, value: String| config.metadata.insert(name.to_owned(), value);
    if let Some(overflow) = queue.overflow {
        note(OVERFLOW, overflow.to_string());
    }
    if let Some(attempts) = queue.max_attempts {
        note(MAX_ATTEMPTS, attempts.to_string());
    }
    if let Some(backoff) = queue.backoff {
        note(BACKOFF_MS, backoff.as_millis().to_string());
    }
    if let Some(dead_letter) = &queue.dead_letter {
        if *dead_letter == queue.name {
            let text = format!("the queue {dead_letter} may not be its own dead-letter queue");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        note(DEAD_LETTER, dead_letter.to_string());
    }
    if let Some(window) = queue.dedup_window {
        note(DEDUP, window.as_millis().to_string());
        config.duplicate_window = window.max(Duration::from_millis(100));
    }
    if let Some(ttl) = queue.ttl {
        config.max_age = ttl;
        if !ttl.is_zero() && ttl < config.duplicate_window {
            config.duplicate_window = ttl;
        }
    }
    if let Some(overflow) = queue.overflow {
        config.discard = match overflow {
            Overflow::DropOldest => DiscardPolicy::Old,
            _ => DiscardPolicy::New,
        };
    }
    Ok(config)
}

/// What a stream is as a queue.
fn settings(config: &Config) -> QueueSettings {
    let mut settings = QueueSettings::default();
    let noted = |name: &str| config.metadata.get(name).map(String::as_str);
    let millis = |name: &str| {
        Duration::from_millis(noted(name).and_then(|text| text.parse().ok()).unwrap_or_default())
    };
    let limit = |limit: i64| usize::try_from(limit).ok().filter(|limit| *limit > 0);
    settings.capacity_messages = limit(config.max_messages).unwrap_or(usize::MAX);
    settings.capacity_bytes = limit(config.max_bytes).unwrap_or(usize::MAX);
    settings.overflow =
        noted(OVERFLOW).and_then(|text| text.parse().ok()).unwrap_or(match config.discard {
            DiscardPolicy::Old => Overflow::DropOldest,
            DiscardPolicy::New => Overflow::Reject,
        });
    let attempts = noted(MAX_ATTEMPTS).and_then(|text| text.parse().ok());
    settings.max_attempts = attempts.unwrap_or(settings.max_attempts);
    settings.backoff = millis(BACKOFF_MS);
    settings.dead_letter = noted(DEAD_LETTER).and_then(|text| Topic::new(text).ok());
    settings.ttl = config.max_age;
    settings.dedup_window = millis(DEDUP);
    settings.durable = config.storage == StorageType::File;
    settings
}

fn not_found(queue: &Topic) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no queue {queue}; declare it first"))
}

/// What JetStream answered, in a sentence.
pub(crate) fn api_error(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut text = error.to_string();
    let mut source = error.source();
    let mut kind = ErrorKind::Failed;
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<jetstream::Error>() {
            text = error.to_string();
            kind = match error.error_code() {
                ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND => ErrorKind::NotFound,
                ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT | ErrorCode::JETSTREAM_NOT_ENABLED => {
                    ErrorKind::Unsupported
                }
                ErrorCode::INSUFFICIENT_RESOURCES => ErrorKind::Limit,
                _ => kind,
            };
        }
        source = error.source();
    }
    let text = text.replace(['\n', '\r'], " ");
    if text.contains("no responders") {
        let text = "NATS has no queues here: JetStream is not enabled on this server";
        return Error::new(ErrorKind::Unsupported, text);
    }
    if text.contains("timed out") {
        let text = "NATS did not answer in time; is the server overloaded, or was it restarted?";
        return Error::new(ErrorKind::TimedOut, text);
    }
    Error::new(kind, format!("NATS refused: {}", text.trim_end_matches('.')))
}
