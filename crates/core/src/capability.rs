//! What a backend can do: natively, by emulation, or not at all.

use std::collections::BTreeMap;
use std::fmt;

use crate::Error;

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Something that a backend does or does not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Capability {
            $($(#[$doc])* $name,)+
        }

        impl Capability {
            /// Every capability, in the order of the capability card.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$name),+];
        }

        impl fmt::Display for Capability {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)+
                })
            }
        }
    };
}

// Their numbers on the wire follow from their order, so new ones come last.
capabilities! {
    /// Publish-subscribe by topic and pattern.
    Topics = "topics",
    /// Groups whose members share a subscription.
    Groups = "groups",
    /// Queues that hold while nobody listens.
    Queues = "queues",
    /// Inboxes for replies.
    Inboxes = "inboxes",
    /// Requests that nobody can answer are answered at once.
    NoResponders = "no-responders",
    /// Settling by hand: ack, retry, reject, release.
    ManualAck = "manual-ack",
    /// Redelivery of what was not settled, with its attempt.
    Redelivery = "redelivery",
    /// Copying a topic's messages into queues.
    Bindings = "bindings",
    /// Bounds in bytes as well as in messages.
    ByteLimits = "byte-limits",
    /// Deadlines: what is too late is not handed out. Needs a clock.
    Deadlines = "deadlines",
    /// Draining with a time limit. Needs a clock.
    Drain = "drain",
    /// Reading what queues hold.
    Inspection = "inspection",
    /// Retrying after a while.
    RetryDelay = "retry-delay",
    /// Surviving the end of the broker's process.
    Durability = "durability",
    /// Maximum attempts and dead-letter queues with history, and replaying them.
    DeadLetters = "dead-letters",
    /// Messages that are not handed out before a while has passed. Needs a clock.
    Delay = "delay",
    /// Priorities from 0 to 3.
    Priority = "priority",
    /// Deduplication by message id within a window. Needs a clock.
    Deduplication = "deduplication",
    /// Order per key with many consumers.
    KeyedOrder = "keyed-order",
    /// Every overflow policy, not only waiting.
    Overflow = "overflow",
    /// Taking a delivery back from a consumer that takes too long. Needs a clock.
    ConsumerTimeout = "consumer-timeout",
    /// Cancelling requests that nobody waits for any more.
    Cancellation = "cancellation",
    /// Events, such as drops with their reasons.
    Events = "events",
    /// Sessions that are resumed after a lost connection.
    Sessions = "sessions",
    /// A queue or a subscription that is full and blocks holds its senders up.
    BackPressure = "back-pressure",
    /// Receipts tell when a message matched nobody.
    Unroutable = "unroutable",
    /// Receipts tell how many a message was handed to.
    MatchCount = "match-count",
    /// What a lost member of a group had not seen goes to the others.
    HandOver = "hand-over",
    /// A queue tells how many messages wait in it, and how many consumers it has.
    QueueDepth = "queue-depth",
    /// Topics and queues may have any valid name, up to the longest.
    AnyName = "any-name",
    /// Queues that retain what was read, and reading them from a start.
    Replay = "replay",
}

impl Capability {
    /// The capability's number on the wire.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        self as u8
    }

    /// The capability of that number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
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
