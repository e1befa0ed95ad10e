//! RabbitMQ as a Posthaste [`Broker`](posthaste_core::Broker), on any runtime.
//!
//! ```no_run
//! use posthaste_amqp::Amqp;
//! use posthaste_core::{Bus, ReceiverExt};
//! use posthaste_smol::Smol;
//!
//! # fn main() -> Result<(), posthaste_core::Error> { smol::block_on(async {
//! let broker = Amqp::connect(Smol::global(), "amqp://guest:guest@127.0.0.1:5672").await?;
//! let bus = Bus::with_runtime(broker, Smol::global().into());
//! bus.send("jobs", "work").await?;
//! let mut jobs = bus.consume("jobs").await?;
//! jobs.next_delivery().await?.ack();
//! # Ok(()) }) }
//! ```
//!
//! It speaks AMQP 0-9-1 through lapin, over sockets and timers of the runtime that it is given.
//! Tested against RabbitMQ 3.10; what depends on the version goes by what the server says of itself.
//!
//! # What is what
//!
//! | Posthaste | RabbitMQ |
//! |---|---|
//! | topic | routing key at the durable topic exchange `posthaste` (an option names another); a word `#` travels as `%23` |
//! | a topic that begins with `_ph.` | the same at the exchange `posthaste.reserved`, so that no binding that begins with a wildcard has it |
//! | `*`, final `>` | `*`, `*.#` |
//! | subscription | an exclusive, auto-deleted queue `_ph.sub.…` |
//! | group | one auto-deleted queue `_ph.group.…` for each pattern and group |
//! | queue `jobs` | the durable queue `jobs`, classic (with `x-max-priority` 3) or quorum |
//! | binding | binding of the queue to the exchange |
//! | message to a queue | default exchange, `mandatory` |
//! | message id, reply address, correlation, priority | properties of the same name |
//! | deadline | `expiration`, and the header `ph-expires` to look at on arrival |
//! | key, kind, history, … | headers `ph-…`, see [`posthaste_engine::properties`] |
//! | headers | headers, under their own names |
//! | receipt | publisher confirm; returned by `basic.return`: nobody matched, or `NotFound` of a queue |
//! | prefetch | `basic.qos`, at most 65,535 |
//! | ack | `basic.ack` |
//! | retry, release, reject | a confirmed copy, then `basic.ack`: attempts and reasons are headers |
//! | capacity, time to live | `x-max-length`, `x-max-length-bytes`, `x-message-ttl` |
//! | reject, drop-oldest | `x-overflow` `reject-publish`, `drop-head` |
//! | maximum attempts, backoff, dead-letter queue | the one message in the queue `_ph.settings.jobs`, which consumers obey |
//! | delay, backoff | a queue `_ph.delay.…` whose messages expire into their target, at most 1 % late |
//! | inbox | an exclusive queue `_ph.inbox.…` of at most 65,536 answers, the oldest of which makes room, answered through the default exchange |
//!
//! # What receipts claim
//!
//! | copy | level |
//! |---|---|
//! | in a durable classic queue | `Stored` before RabbitMQ 4, which syncs before it confirms; `Written` since |
//! | in a quorum queue | `Stored`; `Held` for the first two seconds, after which a crash leaves the queue |
//! | in any other queue, or of a message to a topic | `Held` |
//!
//! On one node at least: AMQP does not say how many members a quorum queue has. A message to a topic
//! has matched 0 or 1: AMQP says whether it went anywhere, not how often.
//!
//! # What is different
//!
//! - Nothing holds senders up at a full queue, so a capacity needs a policy that does not block. A
//!   subscription that blocks leaves what it has no room for at the server, however much that is.
//! - What is retried or given back goes to the end of its queue, and its time to live begins anew. If
//!   the connection is lost between copy and ack, both are there: delivery is at least once.
//! - A full queue of a topic gives the message back, while others may have a copy.
//! - A classic queue does not count; a redelivered message is first written anew with its attempt
//!   counted, so that one that kills its consumers dies all the same.
//! - Settings of a queue cannot be changed, except for those of its consumers; these apply to
//!   receivers that are opened later.
//! - A request to a topic that only a queue without consumers is bound to waits there.
//! - [`queue`](posthaste_core::Broker::queue) counts what waits, and not what is handed out.
//! - Names are at most 255 bytes.
//!
//! # When the connection is lost
//!
//! Everything goes on when it is back. What was not confirmed comes back as `Unknown`. Consumers of
//! queues go on by themselves, and what they had unsettled comes again; settling it late is in vain.
//! Subscriptions, groups and inboxes say `SessionLost`, because their queues may have been gone, and
//! go on. Attempts to connect are 50 ms to 2 s apart, at random; a call waits for
//! [`patience`](AmqpOptions::patience), a receiver for ever. Who is refused is not tried again.
//!
//! # Cancel safety
//!
//! Every future may be dropped at any point: what it was opening is closed.

mod broker;
mod consumer;
mod delay;
mod fault;
mod greeting;
mod kit;
mod link;
mod moves;
mod options;
mod outgoing;
mod plan;
mod publisher;
mod replay;
mod settings;
mod shared;
mod topology;
mod wire;

pub use broker::{Amqp, card};
pub use options::{AmqpOptions, QueueType};
