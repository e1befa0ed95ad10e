//! librdkafka's own client instances, and the thread that serves them.
//!
//! Neither a producer nor an admin client of rdkafka may be dropped where nothing may block, so a
//! thread of their own holds them until nobody else does. It blocks for as long as the client
//! lives, which is no work for a runtime's pool: one that shuts down waits for what it runs there.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use posthaste_core::task::lock;
use posthaste_core::{Error, ErrorKind};
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use crate::publisher::Delivered;
use crate::{Create, KafkaOptions, errors};

/// How often the thread looks whether anybody still needs it.
const LOOK: Duration = Duration::from_millis(100);

/// After how many records in a row that nobody confirmed a producer that is idle is made anew.
const FAILED_MAX: u32 = 3;

/// What a message may have at most; what a topic takes is the broker's to say.
pub(crate) const MESSAGE_BYTES_MAX: usize = (16 << 20) + (1 << 20);

/// The instances that a client shares.
pub(crate) struct Native {
    pub(crate) producer: BaseProducer<Deliveries>,
    pub(crate) admin: AdminClient<Quiet>,
    /// Asks for metadata as consumers do, which creates no topics.
    pub(crate) asker: BaseConsumer<Quiet>,
    pub(crate) troubles: Troubles,
}

impl Native {
    /// Starts the instances and their thread.
    pub(crate) fn start(options: &KafkaOptions) -> Result<Arc<Self>, Error> {
        let started = |error| errors::of("starting a client of Kafka", error);
        let troubles = Troubles::default();
        let quiet = || Quiet(troubles.clone());
        let native = Arc::new(Self {
            producer: BaseProducer::from_config_and_context(
                &producer_config(options),
                Deliveries { troubles: troubles.clone(), failed: AtomicU32::new(0) },
            )
            .map_err(started)?,
            admin: AdminClient::from_config_and_context(&config(options), quiet())
                .map_err(started)?,
            asker: BaseConsumer::from_config_and_context(&asker_config(options), quiet())
                .map_err(started)?,
            troubles,
        });
        let (served, within) = (Arc::clone(&native), options.delivery_timeout);
        thread::Builder::new()
            .name(String::from("posthaste-kafka"))
            .spawn(move || served.serve(within))?;
        Ok(native)
    }

    /// Hands delivery reports on until nobody else holds the instances.
    fn serve(self: Arc<Self>, within: Duration) {
        while Arc::strong_count(&self) > 1 {
            self.producer.poll(LOOK);
            // Nothing comes but errors, which are noted.
            let _nothing = self.asker.poll(Duration::ZERO);
        }
        // What was taken is sent all the same; whoever is still told of a failure is gone.
        let _told = self.producer.flush(within);
    }

    /// Whether the producer can do nothing any more, as far as can be told: one that brokers know no
    /// longer, because they lost what they knew, may try the same for ever. One that has something
    /// on its way is kept, so that nothing overtakes it.
    pub(crate) fn is_broken(&self) -> bool {
        let failed = self.producer.context().failed.load(Ordering::Relaxed) >= FAILED_MAX;
        self.producer.client().fatal_error().is_some()
            || (failed && self.producer.in_flight_count() == 0)
    }
}

/// What every instance is told.
pub(crate) fn config(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.servers)
        .set("client.id", &options.client_id)
        .set("socket.timeout.ms", millis(options.request_timeout.max(Duration::from_secs(1))))
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.max.ms", "2000")
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
    if let Some((name, password)) = &options.user {
        config
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", name)
            .set("sasl.password", password);
    }
    for (name, value) in &options.properties {
        config.set(name, value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

fn producer_config(options: &KafkaOptions) -> ClientConfig {
    let mut config = config(options);
    // Idempotence means acks=all, and that retries neither double nor reorder.
    config
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", millis(options.delivery_timeout))
        .set("partitioner", "murmur2_random")
        // Or what is sent to a topic that was deleted would make it anew.
        .set("allow.auto.create.topics", (options.create == Create::Broker).to_string());
    if !options.properties.contains_key("linger.ms") {
        config.set("linger.ms", "0");
    }
    config
}

/// What a consumer is told that consumes nothing.
fn asker_config(options: &KafkaOptions) -> ClientConfig {
    let mut config = config(options);
    config.set("session.timeout.ms", millis(options.session_timeout));
    config
}

/// What a consumer is told; without a group it commits nothing anywhere.
pub(crate) fn consumer_config(options: &KafkaOptions, group: Option<&str>) -> ClientConfig {
    let mut config = config(options);
    let session = options.session_timeout;
    if !options.properties.contains_key("max.poll.interval.ms") {
        config.set("max.poll.interval.ms", millis(rebalance_timeout(options)));
    }
    config
        .set("group.id", group.unwrap_or("posthaste-without-a-group"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", if group.is_none() { "true" } else { "false" })
        .set("session.timeout.ms", millis(session))
        .set("heartbeat.interval.ms", millis((session / 12).min(Duration::from_secs(3))))
        .set("topic.metadata.refresh.interval.ms", millis(options.discovery))
        // An empty fetch waits that long at the broker, and so does whoever waits for the end.
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "100")
        // What is read ahead is bounded by bytes, and looked at again soon where it is full.
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "10");
    config
}

/// How long a group waits for this member while it gives its partitions out anew: the thread of the
/// consumer asks all the time, so it need not be the minutes that others need.
pub(crate) fn rebalance_timeout(options: &KafkaOptions) -> Duration {
    (options.session_timeout * 6).max(Duration::from_secs(60))
}

fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

/// The last thing that an instance complained of: why nobody answers, usually.
#[derive(Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<Option<(Code, String)>>>);

impl Troubles {
    pub(crate) fn note(&self, error: &KafkaError, reason: &str) {
        if let Some(code) = errors::code(error)
            && code != Code::PartitionEOF
            // "All brokers are down" says less than why each of them is.
            && (code != Code::AllBrokersDown || lock(&self.0).is_none())
        {
            *lock(&self.0) = Some((code, errors::tidy(reason)));
        }
    }

    /// The error of `what`, by what was complained of if that tells more than `error`.
    pub(crate) fn explain(&self, what: &str, error: KafkaError) -> Error {
        let of = errors::of(what, error);
        if !matches!(of.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut) {
            return of;
        }
        match lock(&self.0).take() {
            Some((code, reason)) => {
                let kind = match errors::kind(code) {
                    ErrorKind::Refused => ErrorKind::Refused,
                    _ => of.kind(),
                };
                Error::new(kind, format!("{what} failed: {reason}")).caused_by(of)
            }
            None => of,
        }
    }
}

/// Of an instance that says nothing by itself.
pub(crate) struct Quiet(pub(crate) Troubles);

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// Hands delivery reports to whoever waits for them.
pub(crate) struct Deliveries {
    troubles: Troubles,
    /// How many records in a row were not confirmed in time.
    failed: AtomicU32,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.note(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Delivered>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivered: Arc<Delivered>) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        match result.as_ref().map_err(errors::code) {
            Err(Some(Code::MessageTimedOut)) => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
            _ => self.failed.store(0, Ordering::Relaxed),
        }
        delivered.put(result);
    }
}
