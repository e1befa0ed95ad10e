//! What a mailbox shows of itself.

use posthaste_core::{Ledger, Message, QueueInfo};

use super::{Settings, State};
use crate::copies::Entry;
use crate::drain::Outstanding;
use crate::mailbox::Role;
use crate::store::Paged;

/// A copy that was looked at.
pub(crate) struct Looked {
    pub(crate) position: u64,
    pub(crate) attempts: u32,
    pub(crate) unsettled: bool,
    pub(crate) content: Content,
}

/// The message of a copy, or where it is.
pub(crate) enum Content {
    Here(Message),
    InStore(Paged),
}

impl State {
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The position that the next copy gets.
    pub(crate) fn next_position(&self) -> u64 {
        self.next_position
    }

    /// The copies behind `after` in the order of their positions, `limit` at most.
    pub(crate) fn browse(&self, after: Option<u64>, limit: usize) -> Vec<Looked> {
        let mut found: Vec<Looked> = Vec::new();
        let looked = |entry: &Entry, unsettled| Looked {
            position: entry.position,
            attempts: entry.attempts,
            unsettled,
            content: Content::Here(entry.message.clone()),
        };
        for run in self.lanes.runs(after) {
            found.extend(run.take(limit).map(|entry| looked(entry, false)));
        }
        let paged = |copy: Paged| Looked {
            position: copy.position,
            attempts: 0,
            unsettled: false,
            content: Content::InStore(copy),
        };
        found.extend(self.lanes.pages().after(after).take(limit).map(paged));
        found.extend(self.aside.delayed().after(after).take(limit).map(paged));
        let aside = self.aside.behind(after).take(limit);
        found.extend(aside.map(|(entry, _)| looked(entry, false)));
        let is_behind = |entry: &&Entry| after.is_none_or(|after| entry.position > after);
        let leased = self.leases.iter().map(|lease| &lease.entry).filter(is_behind);
        found.extend(leased.map(|entry| looked(entry, true)));
        found.extend(self.retained_behind(after).take(limit));
        found.sort_unstable_by_key(|this| this.position);
        found.truncate(limit);
        found
    }

    /// Copies that are here, with those in the batch of an exclusive automatic receiver that has
    /// handed out `handed`.
    pub(crate) fn held(&self, handed: u64) -> u64 {
        let here = self.lanes.len() + self.aside.len() + self.leases.len();
        here as u64 + self.unhanded(handed) + self.retained()
    }

    /// What a drain finds here. Copies are counted as soon as room is kept for them: their senders
    /// are about to put them in.
    pub(crate) fn outstanding(&self, handed: u64) -> Outstanding {
        let aside = self.aside.len() as u64;
        let ready = self.lanes.len() as u64 + self.reserved as u64 + self.unhanded(handed);
        let leased = self.leases.len() as u64;
        match self.role == Role::Queue {
            true => Outstanding { leased, undelivered: 0, kept: ready + aside + self.retained() },
            false => Outstanding { leased, undelivered: ready, kept: aside },
        }
    }

    pub(crate) fn ledger(&self, handed: u64) -> Ledger {
        let mut ledger = self.books.ledger(self.held(handed));
        ledger.auto += self.batched - self.unhanded(handed);
        ledger
    }

    pub(crate) fn info(&self, handed: u64) -> QueueInfo {
        QueueInfo {
            name: self.name.clone(),
            messages: self.held(handed),
            unsettled: self.leases.len() as u64,
            bytes: (self.held_bytes() + self.bytes_ahead(handed)) as u64 + self.retained_bytes(),
            consumers: self.consumers.takers() as u64,
            settings: self.settings.queue.clone(),
            bindings: self.settings.bindings.clone(),
            ledger: self.ledger(handed),
        }
    }

    /// The bytes of what a consumer took in advance and did not hand out, if all of that is of one
    /// size, as it mostly is.
    fn bytes_ahead(&self, handed: u64) -> usize {
        let (count, bytes) = self.ahead;
        let unhanded = usize::try_from(self.unhanded(handed)).unwrap_or(usize::MAX).min(count);
        bytes * unhanded / count.max(1)
    }

    pub(super) fn unhanded(&self, handed: u64) -> u64 {
        self.batched.saturating_sub(handed)
    }
}
