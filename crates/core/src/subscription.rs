//! What a receiver receives, and what happens when it is full.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::{STALL_LIMIT, SUBSCRIPTION_BYTES, SUBSCRIPTION_MESSAGES};
use crate::{Error, ErrorKind, Pattern, Start, Topic};

/// What a receiver receives, and how.
///
/// ```
/// use posthaste_core::{Ack, Subscription};
///
/// let prices = Subscription::topic("px.>")?.capacity(64, 1 << 20);
/// assert_eq!(prices.ack, Ack::Auto);
/// let jobs = Subscription::queue("jobs")?.prefetch(10);
/// assert_eq!(jobs.ack, Ack::Manual);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Subscription {
    /// Where the messages come from.
    pub source: Source,
    /// Who settles a delivery.
    pub ack: Ack,
    /// How many deliveries may be unsettled, or on their way, at a time. `None` is no limit.
    pub prefetch: Option<usize>,
    /// How many deliveries there are in all; after the last one comes the end, and no more than
    /// that are ever taken from the source. `None` is no limit.
    pub limit: Option<u64>,
    /// How many messages a topic subscription or a group holds.
    pub capacity_messages: usize,
    /// How many bytes a topic subscription or a group holds.
    pub capacity_bytes: usize,
    /// What happens when it is full.
    pub overflow: Overflow,
    /// How long it may free no room while it blocks its senders, before it is cut off with
    /// `SlowConsumer`. Needs a clock; without one it never is.
    pub stall_limit: Duration,
    /// Where it begins in a queue that retains; [`start`](Self::start) sets it. Without it a queue
    /// is consumed.
    pub start: Option<Start>,
}

/// Where a receiver's messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A copy of everything that matches.
    Topic(Pattern),
    /// Of everything that matches, each message to one live member of the group.
    Shared(Pattern, Topic),
    /// A queue, each message to exactly one of its consumers.
    Queue(Topic),
}

/// Who settles a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// It is settled when the application takes it: at most once.
    Auto,
    /// The application settles it: at least once.
    Manual,
}

/// What happens when a subscription or a queue is full.
///
/// ```
/// use posthaste_core::Overflow;
///
/// assert_eq!("drop-oldest".parse::<Overflow>()?, Overflow::DropOldest);
/// assert!(Overflow::Reject.suits_queues() && !Overflow::Reject.suits_subscriptions());
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Overflow {
    /// The sender waits. A subscription that frees no room for its
    /// [stall limit](Subscription::stall_limit) is cut off.
    #[default]
    Block,
    /// The newest message is dropped and counted.
    DropNewest,
    /// The oldest message is dropped and counted.
    DropOldest,
    /// The message goes back to its sender. Queues only.
    Reject,
    /// A newer message takes the place of its predecessor with the same key, or without one the
    /// same topic; beyond the bound the oldest is dropped. Subscriptions only.
    LatestPerKey,
    /// The subscriber is cut off with `SlowConsumer`. Subscriptions only.
    Disconnect,
}

impl Overflow {
    /// Every policy, by its number on the wire.
    pub const ALL: [Self; 6] = [
        Self::Block,
        Self::DropNewest,
        Self::DropOldest,
        Self::Reject,
        Self::LatestPerKey,
        Self::Disconnect,
    ];

    /// Whether a queue may have it.
    #[must_use]
    pub fn suits_queues(self) -> bool {
        matches!(self, Self::Block | Self::DropNewest | Self::DropOldest | Self::Reject)
    }

    /// Whether a subscription or a group may have it.
    #[must_use]
    pub fn suits_subscriptions(self) -> bool {
        self != Self::Reject
    }

    /// Whether messages may be dropped for want of room.
    #[must_use]
    pub fn is_lossy(self) -> bool {
        matches!(self, Self::DropNewest | Self::DropOldest | Self::LatestPerKey)
    }

    /// The policy's number on the wire.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        Self::ALL
            .iter()
            .position(|this| *this == self)
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or(u8::MAX)
    }

    /// The policy of that number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block",
            Self::DropNewest => "drop-newest",
            Self::DropOldest => "drop-oldest",
            Self::Reject => "reject",
            Self::LatestPerKey => "latest-per-key",
            Self::Disconnect => "disconnect",
        })
    }
}

impl FromStr for Overflow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|this| this.to_string() == text).ok_or_else(|| {
            let all = Self::ALL.map(|this| this.to_string()).join(", ");
            let text = format!("an overflow policy is one of {all}, not {text:?}");
            Error::new(ErrorKind::InvalidArgument, text)
        })
    }
}

crate::setters! { Subscription:
    /// Who settles a delivery.
    ack(ack: Ack) => ack = ack;

    /// What happens when a topic subscription or a group is full.
    overflow(overflow: Overflow) => overflow = overflow;

    /// How long it may free no room while it blocks its senders.
    stall_limit(limit: Duration) => stall_limit = limit;

    /// How many deliveries may be unsettled, or on their way, at a time; at least 1.
    prefetch(deliveries: usize) => prefetch = Some(deliveries.max(1));

    /// At most `deliveries` in all; after the last one comes the end.
    limit(deliveries: u64) => limit = Some(deliveries);
}

impl Subscription {
    /// A copy of everything whose topic matches; settled automatically.
    ///
    /// # Errors
    /// `InvalidTopic`.
    pub fn topic<P>(pattern: P) -> Result<Self, Error>
    where
        P: TryInto<Pattern>,
        Error: From<P::Error>,
    {
        Ok(Self::new(Source::Topic(pattern.try_into()?), Ack::Auto))
    }

    /// Of everything whose topic matches, each message to one live member of `group`; settled
    /// automatically.
    ///
    /// # Errors
    /// `InvalidTopic`.
    pub fn shared<P, G>(pattern: P, group: G) -> Result<Self, Error>
    where
        P: TryInto<Pattern>,
        G: TryInto<Topic>,
        Error: From<P::Error> + From<G::Error>,
    {
        Ok(Self::new(Source::Shared(pattern.try_into()?, group.try_into()?), Ack::Auto))
    }

    /// A consumer of a queue, which is declared if it is not there; settled by hand.
    ///
    /// # Errors
    /// `InvalidTopic`.
    pub fn queue<Q>(queue: Q) -> Result<Self, Error>
    where
        Q: TryInto<Topic>,
        Error: From<Q::Error>,
    {
        Ok(Self::new(Source::Queue(queue.try_into()?), Ack::Manual))
    }

    fn new(source: Source, ack: Ack) -> Self {
        Self {
            source,
            ack,
            prefetch: Some(1_024),
            limit: None,
            capacity_messages: SUBSCRIPTION_MESSAGES,
            capacity_bytes: SUBSCRIPTION_BYTES,
            overflow: Overflow::Block,
            stall_limit: STALL_LIMIT,
            start: None,
        }
    }

    /// Any number of deliveries may be unsettled.
    #[must_use]
    pub fn unlimited_prefetch(mut self) -> Self {
        self.prefetch = None;
        self
    }

    /// How much a topic subscription or a group holds. A queue's capacity is its own.
    #[must_use]
    pub fn capacity(mut self, messages: usize, bytes: usize) -> Self {
        (self.capacity_messages, self.capacity_bytes) = (messages.max(1), bytes.max(1));
        self
    }
}
