//! The books: what became of every copy of every message, per queue and in total.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Message, Pattern, QueueSettings, Topic};

/// Counts copies: `accepted = acked + auto + dead_lettered + expired + dropped + held`.
///
/// ```
/// use posthaste_core::Ledger;
///
/// let ledger = Ledger { accepted: 3, acked: 2, held: 1, ..Ledger::default() };
/// assert!(ledger.is_balanced());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Copies taken in.
    pub accepted: u64,
    /// Copies settled by their consumer: done.
    pub acked: u64,
    /// Copies settled when they were handed out.
    pub auto: u64,
    /// Copies moved to a dead-letter queue.
    pub dead_lettered: u64,
    /// Copies that outlived their time.
    pub expired: u64,
    /// Copies dropped, for the reasons below.
    pub dropped: u64,
    /// Copies still here, unsettled ones included.
    pub held: u64,
    /// The dropped copies by reason; the sum is `dropped`.
    pub dropped_by: BTreeMap<String, u64>,
    /// Messages that matched nothing. Not copies, so beside the balance.
    pub unmatched: u64,
    /// Messages given back to their sender. Not copies, so beside the balance.
    pub returned: u64,
    /// Messages that a queue knew by their id already. Not copies, so beside the balance.
    pub duplicates: u64,
}

impl Ledger {
    /// Whether every accepted copy is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let gone = self.acked + self.auto + self.dead_lettered + self.expired + self.dropped;
        self.accepted == gone + self.held && self.dropped == self.dropped_by.values().sum::<u64>()
    }

    /// Adds the books of another queue or subscription.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.acked += other.acked;
        self.auto += other.auto;
        self.dead_lettered += other.dead_lettered;
        self.expired += other.expired;
        self.dropped += other.dropped;
        self.held += other.held;
        self.unmatched += other.unmatched;
        self.returned += other.returned;
        self.duplicates += other.duplicates;
        for (reason, count) in &other.dropped_by {
            *self.dropped_by.entry(reason.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted {} = acked {} + auto {} + dead-lettered {} + expired {} + dropped {} + held {}",
            self.accepted,
            self.acked,
            self.auto,
            self.dead_lettered,
            self.expired,
            self.dropped,
            self.held
        )?;
        if !self.is_balanced() {
            f.write_str(" (does not balance)")?;
        }
        Ok(())
    }
}

/// A client's own books: what became of the messages that its senders took.
///
/// ```
/// use posthaste_core::Sends;
///
/// let sends = Sends { taken: 5, confirmed: 3, returned: 1, pending: 1 };
/// assert!(sends.is_balanced());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sends {
    /// Messages that senders took.
    pub taken: u64,
    /// Of these, confirmed.
    pub confirmed: u64,
    /// Of these, given back with a reason.
    pub returned: u64,
    /// Of these, without an outcome yet: counted where they lie.
    pub pending: u64,
}

impl Sends {
    /// Whether every message that was taken is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.taken == self.confirmed + self.returned + self.pending
    }
}

/// What a queue is and holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInfo {
    /// The name.
    pub name: Topic,
    /// Messages in it: waiting and unsettled ones.
    pub messages: u64,
    /// Of these, handed out and not settled yet.
    pub unsettled: u64,
    /// The bytes of the messages in it.
    pub bytes: u64,
    /// Consumers that are there now.
    pub consumers: u64,
    /// Its settings.
    pub settings: QueueSettings,
    /// Patterns whose messages are copied into it.
    pub bindings: Vec<Pattern>,
    /// Its own books.
    pub ledger: Ledger,
}

/// A message in a queue, looked at and left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browsed {
    /// Its place in the queue, which no other message of the queue ever has.
    pub position: u64,
    /// How often it has been handed out.
    pub attempts: u32,
    /// Whether it is handed out now.
    pub unsettled: bool,
    /// How many bytes its payload has.
    pub payload_bytes: u64,
    /// The message, of whose payload there are at most [`BROWSED_BYTES`](Self::BROWSED_BYTES).
    pub message: Message,
}

impl Browsed {
    /// How much of a payload is shown.
    pub const BROWSED_BYTES: usize = 4 << 10;
}

/// What replaying a dead-letter queue came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Messages that are back in the queue in which they died last.
    pub moved: u64,
    /// Messages that were looked at and stay.
    pub kept: u64,
    /// Why the first of those stays.
    pub why: Option<String>,
}

/// A broker at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// The books of everything, queues and subscriptions that are gone included.
    pub ledger: Ledger,
    /// Connections to the server in front of the broker; 0 in process.
    pub connections: u64,
    /// Topic subscriptions that are live now; a group counts once.
    pub subscriptions: u64,
    /// The queues, in the order of their names.
    pub queues: Vec<QueueInfo>,
}

/// What a drain found and left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Deliveries that were settled while the drain waited.
    pub finished: u64,
    /// Deliveries that had not been seen and went back to their queues.
    pub requeued: u64,
    /// Deliveries that were handed out and not settled in time.
    pub abandoned: u64,
    /// Messages still in queues; a broker in memory loses them when it goes.
    pub held: u64,
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "finished {}, requeued {}, abandoned {}, held {}",
            self.finished, self.requeued, self.abandoned, self.held
        )
    }
}
