//! Posthaste over NATS: core subjects for topics, groups and requests, JetStream for queues.
//!
//! ```no_run
//! use posthaste_core::{Bus, SharedRuntime};
//! use posthaste_nats::Nats;
//!
//! # async fn with(runtime: SharedRuntime) -> Result<(), posthaste_core::Error> {
//! let nats = Nats::connect(runtime.clone(), "nats://127.0.0.1:4222").await?;
//! let bus = Bus::with_runtime(nats, runtime);
//! bus.send("jobs", "work").await?;
//! # Ok(()) }
//! ```
//!
//! It runs on any executor: the client's own tasks run on tokio, the application's if there is
//! one, else on one thread of their own.
//!
//! # What becomes what
//!
//! | Posthaste | NATS |
//! |---|---|
//! | topic `orders.eu` | subject `orders.eu`; subjects that begin with `$` are NATS's own |
//! | pattern `orders.*.>` | the same wildcards; one that begins with a wildcard sees neither `_ph.` topics nor `$` and `_INBOX` subjects |
//! | `Subscription::shared` | a queue group |
//! | queue `jobs` | the stream `PH_jobs` over the subject `_ph.queue.jobs`, with the consumer `posthaste` that all of its receivers share |
//! | a request's answer | the reply subject, whose last word is the correlation; so clients of NATS can ask and answer |
//! | headers, key, id, ... | headers, see [`posthaste_engine::properties`]; the id also goes as `Nats-Msg-Id` to queues with a deduplication window |
//! | a queue's settings | the stream's own, and metadata that begins with `posthaste.` |
//!
//! # What is promised
//!
//! **Topics and groups** are at most once: a receipt says `Sent`, because core NATS confirms
//! nothing, on no node. How many a message was handed to is not known ([`Capability::MatchCount`]
//! is lacking), but a request that nobody is there to answer is told so at once. Core NATS holds
//! nothing: a subscription that is full and has no policy that drops is cut off with
//! `SlowConsumer`, and what was published while a connection was lost is missed, which its
//! receivers are told with `SessionLost`.
//!
//! **Queues** are at least once, on JetStream. A receipt says `Written` for a stream in files,
//! because the server has handed the message to its operating system and syncs it later (every two
//! minutes unless told otherwise), `Held` for one in memory, and `Held` for one with replicas, which
//! write behind their answers. With `sync=always` in the URL the operator says that the servers run
//! with `sync_interval: always`, and it is `Stored`. The nodes are the one that answered, or the
//! majority of the replicas.
//!
//! Attempts count as they do everywhere: JetStream's own number also counts deliveries that the
//! application gave back or never saw, so these are noted beside the queue, in the stream `PHU_jobs`,
//! and subtracted. Retries with a delay are JetStream's; dead letters and maximum attempts are written
//! here: a letter is confirmed in its queue before it goes from where it died.
//!
//! # URLs
//!
//! `nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][?OPTION=VALUE&...]` with the options of
//! [`NatsOptions`]: `replicas`, `storage` (`file` or `memory`), `sync` (`always`), `ack_wait`
//! (seconds).

mod broker;
mod events;
mod letters;
mod messages;
mod names;
mod options;
mod publish;
mod queue;
mod replay;
mod streams;
mod subscribe;

pub use broker::{Nats, card};
pub use options::NatsOptions;
#[cfg(doc)]
use posthaste_core::Capability;
