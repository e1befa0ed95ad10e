//! What a backend can do: natively, by emulation, or not at all.

use std::collections::BTreeMap;
use std::fmt;

use crate::Error;

/// Something that a backend does or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Publish-subscribe by topic and pattern.
    Topics,
    /// Groups whose members share a subscription.
    Groups,
    /// Queues that hold while nobody listens.
    Queues,
    /// Inboxes for replies.
    Inboxes,
    /// Requests that nobody can answer are answered at once.
    NoResponders,
    /// Settling by hand: ack, retry, reject, release.
    ManualAck,
    /// Redelivery of what was not settled, with its attempt.
    Redelivery,
    /// Copying a topic's messages into queues.
    Bindings,
    /// Bounds in bytes as well as in messages.
    ByteLimits,
    /// Deadlines: what is too late is not handed out. Needs a clock.
    Deadlines,
    /// Draining with a time limit. Needs a clock.
    Drain,
    /// Reading what queues hold.
    Inspection,
    /// Retrying after a while.
    RetryDelay,
    /// Surviving the end of the broker's process.
    Durability,
    /// Maximum attempts and dead-letter queues with history, and replaying them.
    DeadLetters,
    /// Messages that are not handed out before a while has passed. Needs a clock.
    Delay,
    /// Priorities from 0 to 3.
    Priority,
    /// Deduplication by message id within a window. Needs a clock.
    Deduplication,
    /// Order per key with many consumers.
    KeyedOrder,
    /// Every overflow policy, not only waiting.
    Overflow,
    /// Taking a delivery back from a consumer that takes too long. Needs a clock.
    ConsumerTimeout,
    /// Cancelling requests that nobody waits for any more.
    Cancellation,
    /// Events, such as drops with their reasons.
    Events,
    /// Sessions that are resumed after a lost connection.
    Sessions,
}

impl Capability {
    /// Every capability, in the order of the capability card.
    pub const ALL: [Self; 24] = [
        Self::Topics,
        Self::Groups,
        Self::Queues,
        Self::Inboxes,
        Self::NoResponders,
        Self::ManualAck,
        Self::Redelivery,
        Self::Bindings,
        Self::ByteLimits,
        Self::Deadlines,
        Self::Drain,
        Self::Inspection,
        Self::RetryDelay,
        Self::Durability,
        Self::DeadLetters,
        Self::Delay,
        Self::Priority,
        Self::Deduplication,
        Self::KeyedOrder,
        Self::Overflow,
        Self::ConsumerTimeout,
        Self::Cancellation,
        Self::Events,
        Self::Sessions,
    ];

    /// The capability's number on the wire.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        Self::ALL
            .iter()
            .position(|this| *this == self)
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or(u8::MAX)
    }

    /// The capability of that number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Topics => "topics",
            Self::Groups => "groups",
            Self::Queues => "queues",
            Self::Inboxes => "inboxes",
            Self::NoResponders => "no-responders",
            Self::ManualAck => "manual-ack",
            Self::Redelivery => "redelivery",
            Self::Bindings => "bindings",
            Self::ByteLimits => "byte-limits",
            Self::Deadlines => "deadlines",
            Self::Drain => "drain",
            Self::Inspection => "inspection",
            Self::RetryDelay => "retry-delay",
            Self::Durability => "durability",
            Self::DeadLetters => "dead-letters",
            Self::Delay => "delay",
            Self::Priority => "priority",
            Self::Deduplication => "deduplication",
            Self::KeyedOrder => "keyed-order",
            Self::Overflow => "overflow",
            Self::ConsumerTimeout => "consumer-timeout",
            Self::Cancellation => "cancellation",
            Self::Events => "events",
            Self::Sessions => "sessions",
        })
    }
}

/// How a backend comes by a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// Not at all: using it is `Unsupported`.
    Lacking,
    /// The framework adds it on top.
    Emulated,
    /// The backend does it itself.
    Native,
}

/// A backend's card: its name, and how it comes by each capability.
///
/// ```
/// use posthaste_core::{Capabilities, Capability, ErrorKind};
///
/// let card = Capabilities::new("memory").native(&[Capability::Topics]);
/// assert!(card.require(Capability::Topics).is_ok());
/// let lacking = card.require(Capability::Durability).unwrap_err();
/// assert_eq!(lacking.kind(), ErrorKind::Unsupported);
/// assert_eq!(lacking.to_string(), "memory does not support durability");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    backend: String,
    support: BTreeMap<Capability, Support>,
}

impl Capabilities {
    /// A backend that lacks everything.
    pub fn new(backend: impl Into<String>) -> Self {
        Self { backend: backend.into(), support: BTreeMap::new() }
    }

    /// Adds what the backend does itself.
    #[must_use]
    pub fn native(mut self, capabilities: &[Capability]) -> Self {
        self.support.extend(capabilities.iter().map(|this| (*this, Support::Native)));
        self
    }

    /// Adds what the framework emulates.
    #[must_use]
    pub fn emulated(mut self, capabilities: &[Capability]) -> Self {
        self.support.extend(capabilities.iter().map(|this| (*this, Support::Emulated)));
        self
    }

    /// The backend's name.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// The same card under another name.
    #[must_use]
    pub fn named(mut self, backend: impl Into<String>) -> Self {
        self.backend = backend.into();
        self
    }

    /// How the backend comes by a capability.
    #[must_use]
    pub fn support(&self, capability: Capability) -> Support {
        self.support.get(&capability).copied().unwrap_or(Support::Lacking)
    }

    /// Whether a capability is there, natively or emulated.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.support(capability) > Support::Lacking
    }

    /// Refuses what is lacking.
    ///
    /// # Errors
    /// `Unsupported`, naming the capability and the backend.
    pub fn require(&self, capability: Capability) -> Result<(), Error> {
        if self.has(capability) {
            return Ok(());
        }
        Err(Error::unsupported(capability, &self.backend))
    }

    /// Every capability with its support, in the order of the card.
    pub fn iter(&self) -> impl Iterator<Item = (Capability, Support)> {
        Capability::ALL.into_iter().map(|this| (this, self.support(this)))
    }
}
