//! Posthaste over Kafka: topics, queues as consumer groups, and request-reply over a reply topic, on
//! any runtime.
//!
//! ```no_run
//! use posthaste_core::{Bus, ReceiverExt, SharedRuntime};
//! use posthaste_kafka::Kafka;
//! use posthaste_smol::Smol;
//!
//! # fn main() -> Result<(), posthaste_core::Error> { pollster::block_on(async {
//! let runtime: SharedRuntime = Smol::global().into();
//! let kafka = Kafka::connect(runtime.clone(), "kafka://127.0.0.1:9092?partitions=6").await?;
//! let bus = Bus::with_runtime(kafka, runtime);
//! bus.send("jobs", "work").await?;
//! let mut jobs = bus.consume("jobs").await?;
//! jobs.next_delivery().await?.ack();
//! jobs.settled().await
//! # }) }
//! ```
//!
//! # What is what
//!
//! | Posthaste | Kafka |
//! |---|---|
//! | a topic or a queue `N` | the Kafka topic `N`: letters, digits, `.`, `_` and `-`, at most 249 bytes |
//! | declaring, and sending or subscribing to what is not there | creates the Kafka topic, unless [`Create`] says otherwise |
//! | the consumers of a queue | one consumer group, called as the queue unless [`KafkaOptions::group`] says otherwise |
//! | a subscription to a topic | partitions of its own choice, from their ends on, without a group |
//! | a subscription to a pattern | the same for every Kafka topic that matches, and for those that come to match, from their beginning on |
//! | a group ([`Subscription::shared`](posthaste_core::Subscription::shared)) | the consumer group of that name; one that is new stands at the ends |
//! | the key | the record's key, and by it the partition (murmur2, as in all clients of Kafka) |
//! | what has no key | one partition for each client, so that the order is kept in which it sent |
//! | headers | the record's headers; Posthaste's own begin with `ph-` |
//! | an inbox | an address within [`KafkaOptions::reply_topic`], of which every client reads everything |
//! | settling | commits, up to the first message that is not settled |
//! | a reject | a record in [`KafkaOptions::dead_letter`], if there is one, and a commit |
//! | a retry, a release or a drop | the message comes again from the same receiver, and [`settled`](posthaste_core::ReceiverExt::settled) says `Unsupported`: Kafka puts no single message back |
//! | a receipt | `Written`, on as many nodes as `min.insync.replicas` of the topic says: `acks=all`, idempotent |
//!
//! A Kafka topic can be read as a topic and as a queue. What Posthaste sends says which of them it
//! is for, in the header `ph-to`, and who reads it as the other leaves it out; what others write is
//! for both.
//!
//! # What is promised, and what is not
//!
//! - **Order** is per partition. With one partition, the default, what a client sends comes in its
//!   order; with more, what has the same key does, and what has none. Across Kafka topics, as a
//!   pattern reads them, there is none. Handlers of one consumer that work side by side see a key's
//!   next message before the one before is settled.
//! - **At least once** is what a queue promises. A commit never goes past a message that is not
//!   settled, so that what is settled behind it comes again if the consumer dies, and `settled`
//!   does not wait for it. When a group gives its partitions out anew, what is handed out has a
//!   second to be settled; what is not comes to another consumer as well, whose attempts count
//!   anew, and settling it here says so with `Unknown`. A small prefetch keeps that small.
//! - **At most once** ([`Ack::Auto`](posthaste_core::Ack::Auto)) in a group holds unless the consumer
//!   dies between taking a message and committing that, which follows within a tenth of a second.
//! - **Commits** are made ten times a second, and when somebody waits for what was settled, when a
//!   group gives its partitions out anew, and when a receiver ends.
//! - **Groups hold** what comes while nobody listens, as Kafka's do: who comes back goes on where
//!   the group stood.
//! - **Subscriptions** see what is published once they are there, from where each partition ends
//!   then. The log holds what is not read, so a slow subscriber with
//!   [`Overflow::Block`](posthaste_core::Overflow::Block) holds nobody up, for as long as Kafka keeps
//!   it; one with another policy takes in all of it and drops as that says. New topics of a pattern
//!   are found within [`KafkaOptions::discovery`].
//! - **What Kafka has deleted** before it was read is told as `SessionLost`, and reading goes on
//!   with the oldest that is there.
//! - **Deadlines** are compared with the clock of who receives.
//!
//! A topic may be read again from a [`Position`] with [`Kafka::replay`].
//!
//! # How it runs
//!
//! librdkafka has threads and sockets of its own and needs neither of the runtime's; its blocking
//! calls are made where they hold up no task. Every client has a thread that hands delivery reports
//! on, and every receiver one that polls its consumer, which also is where they end: dropping any
//! handle neither blocks nor spawns. Commits beside that have a thread for as long as they take. TLS
//! is there if rdkafka is built with its feature `ssl`; see [`KafkaOptions::property`].

mod card;
mod client;
mod consumer;
mod create;
mod errors;
mod kafka;
mod names;
mod native;
mod options;
mod publisher;
mod record;
mod replay;
mod tracker;
mod url;

pub use crate::card::card;
pub use crate::create::Create;
pub use crate::kafka::Kafka;
pub use crate::options::KafkaOptions;
pub use crate::replay::Position;
