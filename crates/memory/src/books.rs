//! The books of one mailbox: what went, counted when it goes.

use std::collections::BTreeMap;

use posthaste_core::Ledger;

/// Why a copy was dropped, as the ledger names it.
pub(crate) mod reason {
    pub(crate) const FULL: &str = "full";
    pub(crate) const REPLACED: &str = "replaced";
    pub(crate) const REJECTED: &str = "rejected";
    pub(crate) const MAX_ATTEMPTS: &str = "max_attempts";
    pub(crate) const DEAD_LETTER_LOOP: &str = "dead_letter_loop";
    pub(crate) const CANCELLED: &str = "cancelled";
    pub(crate) const PURGED: &str = "purged";
    pub(crate) const SLOW_CONSUMER: &str = "slow_consumer";
    pub(crate) const UNSUBSCRIBED: &str = "unsubscribed";
    pub(crate) const QUEUE_DELETED: &str = "queue_deleted";
    pub(crate) const CONNECTION_LOST: &str = "connection_lost";
    pub(crate) const RESPONDER_LOST: &str = "responder_lost";
}

/// Everything that is counted, but for what is held, which is counted where it lies.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) accepted: u64,
    pub(crate) acked: u64,
    pub(crate) auto: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) expired: u64,
    pub(crate) returned: u64,
    pub(crate) duplicates: u64,
    /// By reason; there are few.
    dropped: Vec<(&'static str, u64)>,
}

impl Books {
    pub(crate) fn drop_copies(&mut self, reason: &'static str, count: u64) {
        match self.dropped.iter_mut().find(|(why, _)| *why == reason) {
            Some((_, dropped)) => *dropped += count,
            None if count > 0 => self.dropped.push((reason, count)),
            None => {}
        }
    }

    /// The ledger, with what is held.
    pub(crate) fn ledger(&self, held: u64) -> Ledger {
        let dropped_by: BTreeMap<_, _> =
            self.dropped.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
        Ledger {
            accepted: self.accepted,
            acked: self.acked,
            auto: self.auto,
            dead_lettered: self.dead_lettered,
            expired: self.expired,
            dropped: dropped_by.values().sum(),
            held,
            dropped_by,
            unmatched: 0,
            returned: self.returned,
            duplicates: self.duplicates,
        }
    }
}
