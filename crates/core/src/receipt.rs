//! What becomes of a sent message: sequence numbers, levels, receipts and returns.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, Message, SendError};

/// Which message of a sender this is: 1 is its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// The number of a sender's first message.
    pub const FIRST: Self = Self(1);

    /// The sequence number `number`; 0 stands before the first message.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the next message.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How safe a confirmed message is.
///
/// ```
/// use posthaste_core::Level;
///
/// assert!(Level::Sent < Level::Held && Level::Written < Level::Stored);
/// assert_eq!(Level::Stored.to_string(), "stored");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Taken locally.
    Sent,
    /// In the broker's memory.
    Held,
    /// Handed to the operating system: survives a kill of the broker.
    Written,
    /// Synced to disk, directory entry included: survives a power cut.
    Stored,
}

impl Level {
    /// The level's number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Sent => 0,
            Self::Held => 1,
            Self::Written => 2,
            Self::Stored => 3,
        }
    }

    /// The level of that number; a number that is not known counts as the lowest, because a
    /// receipt never claims too much.
    #[must_use]
    pub const fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Held,
            2 => Self::Written,
            3 => Self::Stored,
            _ => Self::Sent,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "sent",
            Self::Held => "held",
            Self::Written => "written",
            Self::Stored => "stored",
        })
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Sent, Self::Held, Self::Written, Self::Stored]
            .into_iter()
            .find(|level| level.to_string() == text)
            .ok_or_else(|| {
                let text = format!("a level is sent, held, written or stored, not {text:?}");
                Error::new(ErrorKind::InvalidArgument, text)
            })
    }
}

/// What became of the messages since the last receipt of the same sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Every message up to this one has its outcome.
    pub upto: Seq,
    /// How many messages were confirmed.
    pub confirmed: u64,
    /// How many came back; [`Sender::take_returned`](crate::Sender::take_returned) hands them out.
    pub returned: u64,
    /// To how many subscriptions, group members and queues the confirmed ones were handed, summed
    /// over the messages.
    pub matched: u64,
    /// The lowest level that every confirmed message reached on every queue it went to.
    pub level: Level,
    /// On how many nodes, at least.
    pub nodes: u32,
}

impl Receipt {
    /// The receipt of a sender to which nothing has happened since the last one.
    #[must_use]
    pub const fn empty(upto: Seq) -> Self {
        Self { upto, confirmed: 0, returned: 0, matched: 0, level: Level::Stored, nodes: u32::MAX }
    }

    /// Adds the outcome of `count` confirmed messages.
    pub fn confirm(&mut self, count: u64, matched: u64, level: Level, nodes: u32) {
        self.confirmed += count;
        self.matched += matched;
        self.level = self.level.min(level);
        self.nodes = self.nodes.min(nodes);
    }

    /// Adds what a later receipt of the same sender says.
    pub fn merge(&mut self, later: &Self) {
        self.upto = self.upto.max(later.upto);
        self.returned += later.returned;
        self.confirm(later.confirmed, later.matched, later.level, later.nodes);
    }
}

/// A message that came back to its sender, with the reason.
#[derive(Debug)]
pub struct Returned {
    /// Which message of the sender it is.
    pub seq: Seq,
    /// The message, unharmed.
    pub message: Message,
    /// Why: refused (`Full`, `Unsupported`, ..), `Expired`, `Unconfirmed`, or `Unknown` if the
    /// connection died in between.
    pub error: Error,
}

impl From<Returned> for SendError {
    fn from(returned: Returned) -> Self {
        Self::new(returned.error, returned.message)
    }
}
