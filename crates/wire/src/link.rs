//! Links: their handles, and what a session knows about each.

use bytes::Bytes;

use crate::frame::{Payloads, Violation};
use crate::transfer::Hop;

const OVERDRAWN: Violation = Violation::protocol("a message comes without credit for it");

/// The handle of a link within one session.
///
/// Numbers are used again after a link has closed, handles are not: a command with the handle of a
/// link that has closed does nothing, even if its number is in use again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    pub(crate) id: u16,
    pub(crate) life: u32,
}

impl Link {
    /// The number that travels: from 1, and never more than the most links that were open at a
    /// time, so that it can index a table.
    #[must_use]
    pub const fn id(self) -> u16 {
        self.id
    }
}

/// Which end of a link the client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The client sends, the server confirms.
    Sender,
    /// The server sends, the client settles.
    Receiver,
}

impl Role {
    pub(crate) const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Sender),
            1 => Some(Self::Receiver),
            _ => None,
        }
    }

    pub(crate) const fn as_u8(self) -> u8 {
        match self {
            Self::Sender => 0,
            Self::Receiver => 1,
        }
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done with.
    Ack,
    /// Again, perhaps later.
    Retry,
    /// Never again.
    Reject,
    /// It was not looked at; this was no attempt.
    Release,
    /// Its handle was dropped unsettled.
    Dropped,
    /// Done with, because an automatic consumer's application took it.
    Taken,
    /// An automatic consumer was lost before it said what it took: never again.
    Lost,
}

impl Outcome {
    pub(crate) const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Ack),
            1 => Some(Self::Retry),
            2 => Some(Self::Reject),
            3 => Some(Self::Release),
            4 => Some(Self::Dropped),
            5 => Some(Self::Taken),
            6 => Some(Self::Lost),
            _ => None,
        }
    }

    pub(crate) const fn as_u8(self) -> u8 {
        match self {
            Self::Ack => 0,
            Self::Retry => 1,
            Self::Reject => 2,
            Self::Release => 3,
            Self::Dropped => 4,
            Self::Taken => 5,
            Self::Lost => 6,
        }
    }
}

/// Where a link is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The number is free.
    Free,
    /// OPEN is sent or received, not yet answered.
    Opening,
    /// Both sides know it.
    Open,
    /// CLOSE is sent or received, not yet answered.
    Closing,
    /// Server only: it refused or closed the link unasked. What the client had sent by then is
    /// still coming in and is discarded; the client's next OPEN of this number ends this.
    Gone,
}

/// A link's state. A link carries messages one way, so one set of counters serves either end.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) life: u32,
    pub(crate) stage: Stage,
    pub(crate) role: Role,
    /// Client: OPENED has come, be it after this side's CLOSE.
    pub(crate) opened: bool,
    /// STOP is sent or received.
    pub(crate) stopping: bool,
    /// STOPPED is sent or received.
    pub(crate) stopped: bool,
    /// The link is in the session's list of links that have credit or a confirm to write.
    pub(crate) dirty: bool,
    /// A `Credit` event waits to be polled.
    pub(crate) announced: bool,
    /// A transfer was refused as `Full`; a `Writable` event is owed.
    pub(crate) owed: bool,
    /// What is to be written once the fragmented message under way is out.
    pub(crate) then: Option<Then>,
    /// Messages and bytes that have been sent or received.
    pub(crate) used: Credit,
    /// Messages and bytes that have been granted, ever.
    pub(crate) granted: Credit,
    /// What of `granted` has been written, at the granting end.
    pub(crate) stated: Credit,
    /// Up to where messages are confirmed.
    pub(crate) confirmed: u64,
    /// A confirm that is to be written.
    pub(crate) confirm: Option<Confirm>,
    /// The message that goes out in fragments.
    pub(crate) outgoing: Option<Box<Outgoing>>,
    /// The message that comes in in fragments.
    pub(crate) incoming: Option<Box<Incoming>>,
}

impl State {
    pub(crate) fn free() -> Self {
        Self {
            life: 0,
            stage: Stage::Free,
            role: Role::Sender,
            opened: false,
            stopping: false,
            stopped: false,
            dirty: false,
            announced: false,
            owed: false,
            then: None,
            used: Credit::default(),
            granted: Credit::default(),
            stated: Credit::default(),
            confirmed: 0,
            confirm: None,
            outgoing: None,
            incoming: None,
        }
    }

    /// Begins the next life of this number. `dirty` survives: it says where the number is listed.
    pub(crate) fn begin(&mut self, role: Role) {
        let (life, dirty) = (self.life.wrapping_add(1), self.dirty);
        *self = Self { life, dirty, role, stage: Stage::Opening, ..Self::free() };
    }

    /// Whether credit is left at the sending end: bytes may be overdrawn by one message.
    pub(crate) fn has_credit(&self) -> bool {
        self.used.messages < self.granted.messages && self.used.bytes < self.granted.bytes
    }

    /// The same at the granting end, where what has not been written is not granted yet.
    pub(crate) fn gave_credit(&self) -> bool {
        self.used.messages < self.stated.messages && self.used.bytes < self.stated.bytes
    }

    /// Counts one more message that has come, if there is credit for it.
    #[inline]
    pub(crate) fn take(&mut self, cost: u64) -> Result<u64, Violation> {
        if self.gave_credit() { Ok(self.count(cost)) } else { Err(OVERDRAWN) }
    }

    /// Counts the messages of a run that has come, if there is credit for all of them; the number
    /// of the first.
    pub(crate) fn take_run(
        &mut self,
        head: usize,
        payloads: Payloads<'_>,
    ) -> Result<u64, Violation> {
        let first = self.used.messages.saturating_add(1);
        for payload in payloads {
            self.take(charge(head, payload.len()))?;
        }
        Ok(first)
    }

    /// Counts one more message of `cost` bytes and returns its number.
    pub(crate) fn count(&mut self, cost: u64) -> u64 {
        self.used.messages = self.used.messages.saturating_add(1);
        self.used.bytes = self.used.bytes.saturating_add(cost);
        self.used.messages
    }
}

/// Messages and bytes since the link opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// A confirm that waits to be written, so that many become one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirm {
    pub(crate) matched: u64,
    pub(crate) level: u8,
    pub(crate) nodes: u32,
}

/// What follows a fragmented message that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Stopped,
}

/// A message that goes out in fragments.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) hop: Hop,
    pub(crate) head: Bytes,
    pub(crate) payload: Bytes,
    /// How much of the payload is out.
    pub(crate) at: usize,
    /// It takes of the peer's reassembly budget.
    pub(crate) started: bool,
    /// Its TRANSFER is out.
    pub(crate) begun: bool,
}

impl Outgoing {
    /// What it takes of the reassembly budget.
    pub(crate) fn charge(&self) -> u64 {
        charge(self.head.len(), self.payload.len())
    }
}

/// A message that comes in in fragments.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) seq: u64,
    pub(crate) hop: Hop,
    pub(crate) head: Bytes,
    pub(crate) payload: Vec<u8>,
    pub(crate) total: usize,
}

impl Incoming {
    /// What it takes of the reassembly budget.
    pub(crate) fn charge(&self) -> u64 {
        charge(self.head.len(), self.total)
    }

    /// Takes one more piece. The buffer grows with what has really come, never past the total.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        const STEP: usize = 64 << 10;
        let needed = self.payload.len().saturating_add(piece.len());
        if needed > self.payload.capacity() {
            let doubled = self.payload.capacity().saturating_mul(2).max(STEP);
            let capacity = doubled.min(self.total).max(needed);
            self.payload.reserve_exact(capacity.saturating_sub(self.payload.len()));
        }
        self.payload.extend_from_slice(piece);
    }
}

/// The cost of a message, in credit and in reassembly: its end-to-end bytes.
pub(crate) fn charge(head: usize, payload: usize) -> u64 {
    u64::try_from(head.saturating_add(payload)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_what_has_come_and_never_past_the_total() {
        let total = 1_000_000;
        let (hop, head) = (Hop::default(), Bytes::new());
        let mut incoming = Incoming { seq: 1, hop, head, payload: Vec::new(), total };
        while incoming.payload.len() < total {
            let left = total.saturating_sub(incoming.payload.len());
            incoming.push(&vec![0; left.min(1_000)]);
            let come = incoming.payload.len();
            let allowed = come.saturating_mul(2).max(64 << 10).min(total);
            assert!(incoming.payload.capacity() <= allowed, "after {come} bytes");
        }
        assert_eq!(incoming.payload.capacity(), total);
    }
}
