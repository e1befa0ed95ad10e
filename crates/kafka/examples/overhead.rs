//! What Posthaste costs over Kafka's own client: the same messages through the same server, round by
//! round in turn, with medians.
//!
//! ```text
//! cargo run --release -p posthaste-kafka --example overhead -- kafka://HOST:PORT
//! ```
//!
//! There are two bare sides: the client as a program uses it that blocks on a thread of its own, and
//! as one does that is written with async calls.
#![allow(clippy::print_stdout, reason = "a program that measures prints what it found")]
#![allow(clippy::disallowed_methods, reason = "a program that measures reads the clock")]

use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use posthaste_core::{
    Broker, Message, Queue, ReceiverExt, SenderExt, SenderOptions, Subscription, Topic,
};
use posthaste_kafka::{Kafka, KafkaOptions};
use posthaste_tokio::Tokio;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{
    BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _, ProducerContext,
};

const ROUNDS: usize = 7;
const MESSAGES: usize = 200_000;
const IN_FLIGHT: usize = 10_000;
const PAYLOAD: &[u8] = &[b'x'; 256];

/// What both sides are told.
const SETTINGS: [(&str, &str); 2] = [
    // As librdkafka has it by itself; Posthaste's is 0, which is measured in latency.
    ("linger.ms", "5"),
    // Some servers forget who joins a group, and who joins asks again after this time.
    ("max.poll.interval.ms", "6000"),
];

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("name a server: kafka://HOST:PORT")?;
    let servers = url.trim_start_matches("kafka://");
    let mut options = KafkaOptions::new(servers).session_timeout(Duration::from_secs(6));
    for (name, value) in SETTINGS {
        options = options.property(name, value);
    }
    let kafka = Kafka::with_options(Tokio::current(), options).await?;
    let config = producer_config(servers);
    let blocking = BaseProducer::from_config_and_context(&config, Delivered::default())?;
    let asynchronous: FutureProducer = config.create()?;
    let mut rows: [[Vec<Duration>; 3]; 2] = Default::default();
    for round in 0..=ROUNDS {
        let queue = Topic::new(format!("overhead.{}.{round}", std::process::id()))?;
        kafka.declare(Queue::new(queue.clone())).await?;
        // All of them send to one topic, and each reads the whole of it first thing.
        let sent = [
            send_blocking(&blocking, queue.as_str())?,
            send_async(&asynchronous, queue.as_str()).await?,
            send_ours(&kafka, &queue).await?,
        ];
        let received = [
            receive_blocking(servers, queue.as_str())?,
            receive_async(servers, queue.as_str()).await?,
            receive_ours(&kafka, &queue).await?,
        ];
        // The first is for warming up.
        if round > 0 {
            for (row, times) in rows.iter_mut().zip([sent, received]) {
                row.iter_mut().zip(times).for_each(|(row, time)| row.push(time));
            }
        }
    }
    for (name, times) in ["send", "receive and commit"].into_iter().zip(rows) {
        let [blocking, asynchronous, ours] =
            times.map(|times| MESSAGES as f64 / median(times).as_secs_f64());
        println!(
            "{name}: blocking {blocking:.0}/s, async {asynchronous:.0}/s, ours {ours:.0}/s, \
             ratios {:.2} and {:.2}",
            ours / blocking,
            ours / asynchronous
        );
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

// ---- Sending

/// The settings that Posthaste's producers have.
fn producer_config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("socket.nagle.disable", "true");
    SETTINGS.iter().for_each(|(name, value)| {
        config.set(*name, *value);
    });
    config
}

/// Counts what was delivered.
#[derive(Default)]
struct Delivered(AtomicUsize);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.fetch_add(usize::from(result.is_ok()), Ordering::Relaxed);
    }
}

fn send_blocking(producer: &BaseProducer<Delivered>, topic: &str) -> Result<Duration, Failure> {
    producer.client().fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let begun = Instant::now();
    for _ in 0..MESSAGES {
        let record = BaseRecord::<(), [u8], ()>::to(topic).payload(PAYLOAD).partition(0);
        producer.send(record).map_err(|(error, _)| error)?;
        while producer.in_flight_count() as usize >= IN_FLIGHT {
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(60))?;
    let took = begun.elapsed();
    match producer.context().0.swap(0, Ordering::Relaxed) {
        MESSAGES => Ok(took),
        fewer => Err(format!("{fewer} messages were delivered").into()),
    }
}

async fn send_async(producer: &FutureProducer, topic: &str) -> Result<Duration, Failure> {
    producer.client().fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let begun = Instant::now();
    let mut waiting = VecDeque::new();
    for _ in 0..MESSAGES {
        if waiting.len() >= IN_FLIGHT
            && let Some(delivery) = waiting.pop_front()
        {
            delivered(delivery).await?;
        }
        let record = FutureRecord::<(), [u8]>::to(topic).payload(PAYLOAD).partition(0);
        waiting.push_back(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    for delivery in waiting {
        delivered(delivery).await?;
    }
    Ok(begun.elapsed())
}

async fn delivered(delivery: rdkafka::producer::DeliveryFuture) -> Result<(), Failure> {
    delivery.await?.map_err(|(error, _)| error)?;
    Ok(())
}

async fn send_ours(kafka: &Kafka, queue: &Topic) -> Result<Duration, Failure> {
    let options = SenderOptions::new().window(IN_FLIGHT, 1 << 30);
    let mut sender = kafka.sender(options).await?;
    let begun = Instant::now();
    for _ in 0..MESSAGES {
        sender.feed(Message::to_queue(queue.clone(), PAYLOAD)).await?;
    }
    match sender.flush().await?.returned {
        0 => Ok(begun.elapsed()),
        returned => Err(format!("{returned} messages came back").into()),
    }
}

// ---- Receiving

/// Everything in the topic so far, for a group that is new, with the settings that Posthaste's
/// consumers have.
fn consumer_config(servers: &str, group: String) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("group.id", group)
        .set("socket.nagle.disable", "true")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "10")
        .set("auto.offset.reset", "earliest")
        // What was processed is stored, one by one, and committed by the clock.
        .set("enable.auto.offset.store", "false")
        .set("session.timeout.ms", "6000");
    SETTINGS.iter().for_each(|(name, value)| {
        config.set(*name, *value);
    });
    config
}

fn receive_blocking(servers: &str, topic: &str) -> Result<Duration, Failure> {
    let config = consumer_config(servers, format!("{topic}.blocking"));
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[topic])?;
    let mut begun = None;
    let mut left = 3 * MESSAGES;
    while left > 0 {
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let record = record?;
        // Joining a group takes seconds, and is not what is measured.
        begun.get_or_insert_with(Instant::now);
        check(record.payload().unwrap_or_default())?;
        consumer.store_offset_from_message(&record)?;
        left -= 1;
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    per_message(begun)
}

async fn receive_async(servers: &str, topic: &str) -> Result<Duration, Failure> {
    let config = consumer_config(servers, format!("{topic}.async"));
    let consumer: StreamConsumer = config.create()?;
    consumer.subscribe(&[topic])?;
    let mut begun = None;
    for _ in 0..3 * MESSAGES {
        let record = consumer.recv().await?;
        begun.get_or_insert_with(Instant::now);
        check(record.payload().unwrap_or_default())?;
        consumer.store_offset_from_message(&record)?;
    }
    tokio::task::block_in_place(|| consumer.commit_consumer_state(CommitMode::Sync))?;
    per_message(begun)
}

async fn receive_ours(kafka: &Kafka, queue: &Topic) -> Result<Duration, Failure> {
    let subscription = Subscription::queue(queue)?.prefetch(IN_FLIGHT);
    let mut receiver = kafka.receiver(subscription).await?;
    let mut begun = None;
    for _ in 0..3 * MESSAGES {
        let delivery = receiver.next_delivery().await?;
        begun.get_or_insert_with(Instant::now);
        check(delivery.payload())?;
        delivery.ack();
    }
    receiver.settled().await?;
    let took = per_message(begun);
    receiver.close().await?;
    took
}

fn check(payload: &[u8]) -> Result<(), KafkaError> {
    match payload.len() {
        256 => Ok(()),
        _ => Err(KafkaError::NoMessageReceived),
    }
}

/// What a third of all took, which is what one side has sent.
fn per_message(begun: Option<Instant>) -> Result<Duration, Failure> {
    Ok(begun.ok_or("nothing came")?.elapsed() / 3)
}
