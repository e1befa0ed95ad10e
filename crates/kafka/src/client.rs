//! What the handles of one client share: the instances, and what is known of the cluster's topics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use posthaste_core::runtime::{blocking, timeout_at};
use posthaste_core::task::lock;
use posthaste_core::{Error, ErrorKind, SharedRuntime};
use posthaste_engine::Engine;
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::card::card;
use crate::native::{MESSAGE_BYTES_MAX, Native};
use crate::{Create, KafkaOptions, errors};

/// How long what is known of a topic counts as true.
pub(crate) const FRESH: Duration = Duration::from_secs(5);

/// Of how many topics something is known at a time.
const KNOWN_MAX: usize = 10_000;

/// How long it takes at least until a topic that was just created is asked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is known of a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicFacts {
    pub(crate) partitions: i32,
    /// On how many brokers a confirmed message is at least.
    pub(crate) in_sync_min: u32,
    /// The largest record that the topic takes, as far as is known.
    pub(crate) record_bytes_max: Option<usize>,
}

struct Known {
    facts: TopicFacts,
    since: Instant,
}

/// One client of a cluster.
pub(crate) struct Client {
    pub(crate) engine: Engine,
    pub(crate) options: KafkaOptions,
    /// What has no key goes to one partition of each topic, so that the order is kept in which this
    /// client sent it, by whichever of its senders.
    pub(crate) place: u32,
    native: Mutex<Arc<Native>>,
    topics: Mutex<BTreeMap<String, Known>>,
    /// Changes whenever something that was known turns out to be otherwise.
    changes: AtomicU64,
    /// The broker tells no topic's settings, and is not asked again.
    tells_no_settings: Mutex<bool>,
}

impl Client {
    /// Starts a client and waits until a broker has answered.
    pub(crate) async fn connect(
        runtime: SharedRuntime,
        options: KafkaOptions,
    ) -> Result<Arc<Self>, Error> {
        options.check()?;
        let at = options.clone();
        let native = blocking(&*runtime, move || {
            let native = Native::start(&at)?;
            let what = format!("connecting to {}", at.servers);
            // One topic is asked for, so that a large cluster need not list them all.
            let asked = native.asker.fetch_metadata(Some(&at.reply_topic), at.connect_timeout);
            asked.map_err(|error| native.troubles.explain(&what, error))?;
            Ok::<_, Error>(native)
        })
        .await?;
        let mut place = [0; 4];
        runtime.fill_random(&mut place);
        Ok(Arc::new(Self {
            place: u32::from_le_bytes(place),
            engine: Engine::new(runtime, card()),
            options,
            native: Mutex::new(native),
            topics: Mutex::default(),
            changes: AtomicU64::new(0),
            tells_no_settings: Mutex::default(),
        }))
    }

    pub(crate) fn runtime(&self) -> &SharedRuntime {
        self.engine.runtime()
    }

    /// The instances; new ones after the producer has failed for good.
    pub(crate) fn native(&self) -> Result<Arc<Native>, Error> {
        let mut native = lock(&self.native);
        if native.is_broken() {
            *native = Native::start(&self.options)?;
        }
        Ok(Arc::clone(&native))
    }

    /// The error of `what`, by what librdkafka complained of if that tells more.
    pub(crate) fn explain(&self, what: &str, error: KafkaError) -> Error {
        let native = Arc::clone(&lock(&self.native));
        native.troubles.explain(what, error)
    }

    /// What is known of a topic, from lately.
    fn known(&self, name: &str) -> Option<TopicFacts> {
        let topics = lock(&self.topics);
        let known = topics.get(name)?;
        (self.runtime().now() < known.since + FRESH).then_some(known.facts)
    }

    /// What is known of a topic is not true any more.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.topics).remove(name);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// What was known counts for as long as this is the same, or until it is no longer
    /// [`FRESH`].
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// What a topic is like that is there; `NotFound` if it is not.
    pub(crate) async fn topic(&self, name: &str) -> Result<TopicFacts, Error> {
        if let Some(facts) = self.known(name) {
            return Ok(facts);
        }
        match self.look(name).await? {
            Some(facts) => Ok(facts),
            None => {
                self.forget(name);
                let text =
                    format!("there is no Kafka topic {name}; declare the queue, or create it");
                Err(Error::new(ErrorKind::NotFound, text))
            }
        }
    }

    /// What a topic is like that is there now, created if need be and `settings` given to it then.
    pub(crate) async fn topic_created(
        &self,
        name: &str,
        settings: &[(&str, &str)],
    ) -> Result<TopicFacts, Error> {
        if let Some(facts) = self.known(name) {
            return Ok(facts);
        }
        if let Some(facts) = self.look(name).await? {
            return Ok(facts);
        }
        match self.options.create {
            Create::Nobody => return self.topic(name).await,
            Create::Broker => self.ask_to_create(name).await?,
            Create::Client => self.create(name, settings).await?,
        }
        self.until_there(name).await
    }

    /// The topic through which replies go.
    pub(crate) async fn reply_topic(&self) -> Result<TopicFacts, Error> {
        // Nobody reads an old reply.
        self.topic_created(&self.options.reply_topic, &[("retention.ms", "3600000")]).await
    }

    async fn create(&self, name: &str, settings: &[(&str, &str)]) -> Result<(), Error> {
        let options = &self.options;
        let partitions = options.partitions.map_or(-1, i32::from);
        let replication = TopicReplication::Fixed(options.replication.map_or(-1, i32::from));
        let largest = MESSAGE_BYTES_MAX.to_string();
        let mut topic = NewTopic::new(name, partitions, replication);
        topic = topic.set("max.message.bytes", &largest);
        topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let what = format!("creating the Kafka topic {name}");
        let native = self.native()?;
        let created = native.admin.create_topics([&topic], &self.asking()).await;
        let created = created.map_err(|error| native.troubles.explain(&what, error))?;
        match created.into_iter().next() {
            None | Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => {
                let text = format!("{what} failed: {}", errors::tidy(&code.to_string()));
                Err(Error::new(errors::kind(code), text).caused_by(code))
            }
        }
    }

    /// Has the broker create a topic, as it does where it is set to when a producer asks for one.
    async fn ask_to_create(&self, name: &str) -> Result<(), Error> {
        let (native, topic) = (self.native()?, name.to_owned());
        let within = self.options.request_timeout;
        blocking(&**self.runtime(), move || {
            use rdkafka::producer::Producer as _;
            let asked = native.producer.client().fetch_metadata(Some(&topic), within);
            let what = format!("asking for the Kafka topic {topic}");
            asked.map(drop).map_err(|error| native.troubles.explain(&what, error))
        })
        .await
    }

    /// Waits until the cluster tells of a topic that was created.
    async fn until_there(&self, name: &str) -> Result<TopicFacts, Error> {
        let deadline = self.runtime().now() + self.options.request_timeout;
        loop {
            if let Some(facts) = self.look(name).await? {
                return Ok(facts);
            }
            let pause = self.runtime().now() + LOOK_AGAIN;
            if pause >= deadline {
                let text = format!(
                    "the Kafka topic {name} was created and is not to be seen; look whether the \
                     brokers are well"
                );
                return Err(Error::new(ErrorKind::TimedOut, text));
            }
            let _elapsed = timeout_at(&**self.runtime(), pause, std::future::pending::<()>()).await;
        }
    }

    /// Asks the cluster for a topic.
    async fn look(&self, name: &str) -> Result<Option<TopicFacts>, Error> {
        let (native, topic) = (self.native()?, name.to_owned());
        let within = self.options.request_timeout;
        let partitions = blocking(&**self.runtime(), move || {
            let partitions = partitions_of(&native.asker, &topic, within);
            let what = format!("asking for the Kafka topic {topic}");
            partitions.map_err(|error| native.troubles.explain(&what, error))
        })
        .await?;
        let Some(partitions) = partitions else { return Ok(None) };
        let before = lock(&self.topics).get(name).map(|known| known.facts);
        let facts = match before {
            Some(facts) => TopicFacts { partitions, ..facts },
            None => self.settings(name, partitions).await,
        };
        let since = self.runtime().now();
        let mut topics = lock(&self.topics);
        if topics.len() >= KNOWN_MAX {
            topics.clear();
        }
        topics.insert(name.to_owned(), Known { facts, since });
        Ok(Some(facts))
    }

    /// What a topic's settings promise; the least where they are not told.
    async fn settings(&self, name: &str, partitions: i32) -> TopicFacts {
        let mut facts = TopicFacts { partitions, in_sync_min: 1, record_bytes_max: None };
        if self.options.create == Create::Broker || *lock(&self.tells_no_settings) {
            return facts;
        }
        let Ok(native) = self.native() else { return facts };
        let topic = [ResourceSpecifier::Topic(name)];
        let Ok(described) = native.admin.describe_configs(&topic, &self.asking()).await else {
            // It may know nothing of such requests, and none has to wait for it twice.
            *lock(&self.tells_no_settings) = true;
            return facts;
        };
        for resource in described.into_iter().flatten() {
            let value = |name| resource.get(name).and_then(|entry| entry.value.as_deref());
            if let Some(brokers) = value("min.insync.replicas").and_then(|text| text.parse().ok()) {
                facts.in_sync_min = std::cmp::max(brokers, 1);
            }
            facts.record_bytes_max = value("max.message.bytes").and_then(|text| text.parse().ok());
        }
        facts
    }

    /// Deletes a topic.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Error> {
        self.forget(name);
        let what = format!("deleting the Kafka topic {name}");
        let native = self.native()?;
        let deleted = native.admin.delete_topics(&[name], &self.asking()).await;
        let deleted = deleted.map_err(|error| native.troubles.explain(&what, error))?;
        match deleted.into_iter().next() {
            None | Some(Ok(_)) => Ok(()),
            Some(Err((_, code))) => {
                let text = format!("{what} failed: {}", errors::tidy(&code.to_string()));
                Err(Error::new(errors::kind(code), text).caused_by(code))
            }
        }
    }

    fn asking(&self) -> AdminOptions {
        let within = self.options.request_timeout;
        AdminOptions::new().request_timeout(Some(within)).operation_timeout(Some(within))
    }
}

/// How many partitions a topic has; `None` if there is no such topic.
pub(crate) fn partitions_of<C: ConsumerContext>(
    asker: &BaseConsumer<C>,
    name: &str,
    within: Duration,
) -> Result<Option<i32>, KafkaError> {
    let metadata = asker.fetch_metadata(Some(name), within)?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Ok(None);
    };
    match topic.error().map(Code::from) {
        None => {
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            Ok((partitions > 0).then_some(partitions))
        }
        // One that is being created is not there yet.
        Some(Code::UnknownTopicOrPartition | Code::LeaderNotAvailable) => Ok(None),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}
