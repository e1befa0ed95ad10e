//! The limits that everything is held to; each has an error, and each boundary a test.

/// The largest topic, queue name or pattern, in bytes.
pub const TOPIC_BYTES_MAX: usize = 1_024;
/// The most words that a topic, queue name or pattern has.
pub const TOPIC_WORDS_MAX: usize = 32;
/// The largest payload, in bytes (16 MiB), unless a broker and the connections to it are told
/// otherwise.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// The largest payload that anybody may be told to take, in bytes (1 GiB).
pub const PAYLOAD_BYTES_CEILING: usize = 1 << 30;
/// The most headers that a message carries.
pub const HEADERS_MAX: usize = 64;
/// The most bytes that a message's headers take together, names and values (64 KiB).
pub const HEADERS_BYTES_MAX: usize = 64 << 10;
/// The longest key or message id, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;
/// The most queues in which a message may die; one that would die in another is dropped.
pub const DEATHS_MAX: usize = 16;
/// How many reasons of failed attempts a dead letter keeps: the last ones.
pub const DEATH_REASONS: usize = 16;
/// The longest reason of a failed attempt that a dead letter keeps, in bytes.
pub const DEATH_REASON_BYTES: usize = 256;
/// What a subscription holds unless it says otherwise, in messages.
pub const SUBSCRIPTION_MESSAGES: usize = 65_536;
/// What a subscription holds unless it says otherwise, in bytes (8 MiB).
pub const SUBSCRIPTION_BYTES: usize = 8 << 20;
/// What a queue holds unless it says otherwise, in messages.
pub const QUEUE_MESSAGES: usize = 1_000_000;
/// What a queue holds unless it says otherwise, in bytes (256 MiB).
pub const QUEUE_BYTES: usize = 256 << 20;
/// What a durable queue holds unless it says otherwise, in bytes (16 GiB).
pub const DURABLE_QUEUE_BYTES: u64 = 16 << 30;
/// How often a queue hands a message out at most, unless it says otherwise.
pub const QUEUE_ATTEMPTS: u32 = 16;
/// How long a subscription that blocks its senders may free no room before it is cut off.
pub const STALL_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
