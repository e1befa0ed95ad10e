//! Queues: how one is declared, and the settings that it then has.

use std::time::Duration;

use crate::limits::{QUEUE_ATTEMPTS, QUEUE_BYTES, QUEUE_MESSAGES};
use crate::{Error, ErrorKind, Overflow, Pattern, Retention, Topic};

/// The declaration of a queue. A setting that is not named keeps what it is, or the default; a
/// time of zero switches its setting off.
///
/// ```
/// use std::time::Duration;
/// use posthaste_core::{Overflow, Pattern, Queue, Topic};
///
/// let audit = Queue::new(Topic::new("audit")?)
///     .bind(Pattern::new("orders.>")?)
///     .capacity(10_000)
///     .overflow(Overflow::Reject)
///     .backoff(Duration::from_millis(200))
///     .dead_letter(Topic::new("audit.dead")?);
/// assert_eq!(audit.capacity_messages, Some(10_000));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queue {
    /// The name.
    pub name: Topic,
    /// Patterns whose matching messages are copied into the queue; added to those it has.
    pub bindings: Vec<Pattern>,
    /// How many messages it holds.
    pub capacity_messages: Option<usize>,
    /// How many bytes it holds.
    pub capacity_bytes: Option<usize>,
    /// What happens when it is full.
    pub overflow: Option<Overflow>,
    /// How often it hands a message out at most.
    pub max_attempts: Option<u32>,
    /// How long the second attempt waits; see [`backoff`](Self::backoff).
    pub backoff: Option<Duration>,
    /// Where messages go that died.
    pub dead_letter: Option<Topic>,
    /// How long a message lives in it.
    pub ttl: Option<Duration>,
    /// How long it remembers the ids of messages.
    pub dedup_window: Option<Duration>,
    /// How long a consumer may take for a delivery.
    pub consumer_timeout: Option<Duration>,
    /// How long it stays without being used.
    pub expiry: Option<Duration>,
    /// Whether it keeps the order of each key with many consumers.
    pub keyed: Option<bool>,
    /// Whether it outlives the broker's process.
    pub durable: Option<bool>,
    /// What stays in it although it was read, if it is read and not consumed.
    pub retain: Option<Retention>,
}

/// What a queue is like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSettings {
    /// How many messages it holds at most.
    pub capacity_messages: usize,
    /// How many bytes it holds at most.
    pub capacity_bytes: usize,
    /// What happens when it is full.
    pub overflow: Overflow,
    /// How often it hands a message out at most.
    pub max_attempts: u32,
    /// How long the second attempt waits; each further one twice as long as the one before.
    pub backoff: Duration,
    /// Where messages go that died; without it they are dropped.
    pub dead_letter: Option<Topic>,
    /// How long a message lives in it; zero is for ever.
    pub ttl: Duration,
    /// How long it remembers the ids of messages; zero is not at all.
    pub dedup_window: Duration,
    /// How long a consumer may take for a delivery; zero is for ever.
    pub consumer_timeout: Duration,
    /// How long it stays without consumers, messages and use; zero is for ever.
    pub expiry: Duration,
    /// Whether it keeps the order of each key with many consumers.
    pub keyed: bool,
    /// Whether it outlives the broker's process.
    pub durable: bool,
    /// What stays in it although it was read, if it is read and not consumed.
    pub retain: Option<Retention>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            capacity_messages: QUEUE_MESSAGES,
            capacity_bytes: QUEUE_BYTES,
            overflow: Overflow::Block,
            max_attempts: QUEUE_ATTEMPTS,
            backoff: Duration::ZERO,
            dead_letter: None,
            ttl: Duration::ZERO,
            dedup_window: Duration::ZERO,
            consumer_timeout: Duration::ZERO,
            expiry: Duration::ZERO,
            keyed: false,
            durable: false,
            retain: None,
        }
    }
}

impl QueueSettings {
    /// The longest wait that doubling leads to, unless the backoff itself is longer.
    const BACKOFF_MAX: Duration = Duration::from_secs(300);

    /// The settings of a new queue.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn of(queue: &Queue) -> Result<Self, Error> {
        let (keyed, durable) = (queue.keyed == Some(true), queue.durable == Some(true));
        let mut settings = Self { keyed, durable, retain: queue.retain, ..Self::default() };
        settings.update(queue)?;
        Ok(settings)
    }

    /// Changes what a declaration names, or nothing at all if it cannot be had.
    ///
    /// # Errors
    /// `Conflict`, naming what cannot be changed; `InvalidArgument`.
    pub fn update(&mut self, queue: &Queue) -> Result<(), Error> {
        for (what, named, is) in [
            ("keyed", queue.keyed, self.keyed),
            ("durable", queue.durable, self.durable),
            ("retain", queue.retain.map(|_| true), self.retain.is_some()),
        ] {
            if named.is_some_and(|named| named != is) {
                let text = format!(
                    "the queue {} is declared with {what} = {is}; delete it first, or choose \
                     another name",
                    queue.name
                );
                return Err(Error::new(ErrorKind::Conflict, text));
            }
        }
        if let Some(what) = self.does_not_apply(queue) {
            let text = format!(
                "the queue {} retains its messages, to which {what} does not apply; leave it out",
                queue.name
            );
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let overflow = queue.overflow.unwrap_or(self.overflow);
        if !overflow.suits_queues() {
            let text = format!("{overflow} is no policy of queues; choose another one");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        if queue.dead_letter.as_ref() == Some(&queue.name) {
            let text = format!("the queue {} may not be its own dead-letter queue", queue.name);
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        self.capacity_messages = queue.capacity_messages.unwrap_or(self.capacity_messages).max(1);
        self.capacity_bytes = queue.capacity_bytes.unwrap_or(self.capacity_bytes).max(1);
        self.overflow = overflow;
        self.max_attempts = queue.max_attempts.unwrap_or(self.max_attempts).max(1);
        self.backoff = queue.backoff.unwrap_or(self.backoff);
        self.dead_letter = queue.dead_letter.clone().or_else(|| self.dead_letter.take());
        self.ttl = queue.ttl.unwrap_or(self.ttl);
        self.dedup_window = queue.dedup_window.unwrap_or(self.dedup_window);
        self.consumer_timeout = queue.consumer_timeout.unwrap_or(self.consumer_timeout);
        self.expiry = queue.expiry.unwrap_or(self.expiry);
        self.retain = queue.retain.or(self.retain);
        Ok(())
    }

    /// What a declaration names of a queue that retains although such a queue has no use for it.
    fn does_not_apply(&self, queue: &Queue) -> Option<&'static str> {
        self.retain?;
        let named = [
            ("a capacity", queue.capacity_messages.is_some() || queue.capacity_bytes.is_some()),
            ("an overflow policy", queue.overflow.is_some()),
            ("a maximum of attempts", queue.max_attempts.is_some()),
            ("a backoff", is_on(queue.backoff)),
            ("a dead-letter queue", queue.dead_letter.is_some()),
            ("a time to live (but an age of retention)", is_on(queue.ttl)),
            ("a consumer time-out", is_on(queue.consumer_timeout)),
            ("the order of keys", queue.keyed == Some(true)),
        ];
        named.into_iter().find_map(|(what, named)| named.then_some(what))
    }

    /// Whether any of the settings needs a clock; the answer names it.
    #[must_use]
    pub fn needs_clock(&self) -> Option<&'static str> {
        [
            ("a backoff", self.backoff),
            ("a time to live", self.ttl),
            ("a deduplication window", self.dedup_window),
            ("a consumer time-out", self.consumer_timeout),
            ("an expiry", self.expiry),
            ("an age of retention", self.retain.and_then(|retain| retain.age).unwrap_or_default()),
        ]
        .into_iter()
        .find_map(|(what, time)| (!time.is_zero()).then_some(what))
    }

    /// How long a message waits that was handed out `attempts` times.
    #[must_use]
    pub fn backoff_after(&self, attempts: u32) -> Duration {
        let longest = self.backoff.max(Self::BACKOFF_MAX);
        self.backoff.saturating_mul(1 << attempts.saturating_sub(1).min(30)).min(longest)
    }
}

fn is_on(time: Option<Duration>) -> bool {
    time.is_some_and(|time| !time.is_zero())
}

crate::setters! { Queue:
    /// How many messages it holds; at least 1.
    capacity(messages: usize) => capacity_messages = Some(messages.max(1));

    /// How many bytes it holds; at least 1. One larger message is let in when it is empty.
    capacity_bytes(bytes: usize) => capacity_bytes = Some(bytes.max(1));

    /// What happens when it is full.
    overflow(overflow: Overflow) => overflow = Some(overflow);

    /// How often it hands a message out at most, at least once; then the message goes to the
    /// dead-letter queue, or is dropped and counted without one.
    max_attempts(attempts: u32) => max_attempts = Some(attempts.max(1));

    /// How long a message waits that was not settled at its first attempt, unless its consumer
    /// says so itself; twice as long after each further attempt, up to five minutes.
    backoff(backoff: Duration) => backoff = Some(backoff);

    /// Where messages go that were rejected or handed out too often, with their history. It is
    /// declared with the broker's defaults if it is not there.
    dead_letter(queue: Topic) => dead_letter = Some(queue);

    /// How long a message lives in it, unless its own deadline is earlier.
    ttl(ttl: Duration) => ttl = Some(ttl);

    /// How long it remembers the ids of messages: a second one with the same id is confirmed,
    /// counted and not taken.
    dedup_window(window: Duration) => dedup_window = Some(window);

    /// How long a consumer may take for a delivery without settling or
    /// [extending](crate::Delivery::extend) it; then it goes to another.
    consumer_timeout(timeout: Duration) => consumer_timeout = Some(timeout);

    /// Whether it outlives the broker's process, with everything in it: by default where the broker
    /// has a store.
    durable(durable: bool) => durable = Some(durable);

    /// Messages stay whoever has read them, as long as the retention says: the queue is read by
    /// [readers](crate::Subscription::start), each on its own, and not consumed. What the retention
    /// says may be changed by declaring again, whether there is one may not.
    retain(retention: Retention) => retain = Some(retention);

    /// How long it stays when it has no consumers and no messages and nobody sends to it.
    expiry(expiry: Duration) => expiry = Some(expiry);
}

impl Queue {
    /// A queue with the broker's defaults.
    #[must_use]
    pub fn new(name: Topic) -> Self {
        Self {
            name,
            bindings: Vec::new(),
            capacity_messages: None,
            capacity_bytes: None,
            overflow: None,
            max_attempts: None,
            backoff: None,
            dead_letter: None,
            ttl: None,
            dedup_window: None,
            consumer_timeout: None,
            expiry: None,
            keyed: None,
            durable: None,
            retain: None,
        }
    }

    /// Copies the messages that match into the queue.
    #[must_use]
    pub fn bind(mut self, pattern: Pattern) -> Self {
        self.bindings.push(pattern);
        self
    }

    /// Keeps the order of each key with many consumers: a key's next message is handed out when
    /// the one before is settled. Such a queue knows no priorities.
    #[must_use]
    pub fn keyed(mut self) -> Self {
        self.keyed = Some(true);
        self
    }
}
