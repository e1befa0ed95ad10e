//! What became of the messages of a client's sender, kept for as long as the client may not have
//! heard it.

use std::collections::VecDeque;

use posthaste_core::{Error, Level};
use posthaste_wire::{Code, Link, Session};

use crate::codes::code_of;

/// Bytes of reasons that are kept for one link; beyond them only the codes are.
const REASONS: usize = 64 << 10;

/// The outcomes of a link, by the session's numbers, in the order in which they came.
///
/// Each is told when its message has come on the current connection, and kept until the client must
/// have heard it, because it sends no more than a window of messages without an outcome.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    entries: VecDeque<Entry>,
    /// How many of the entries have been told on this connection.
    told: usize,
    /// Up to where confirms have been told on this connection.
    told_upto: u64,
    /// Up to where there are confirms.
    upto: u64,
    reasons: usize,
    /// The session's number of the last message before this connection.
    base: u64,
}

#[derive(Debug)]
enum Entry {
    /// Everything after `after`, up to `upto`, has its outcome.
    Confirmed { after: u64, upto: u64, matched: u64, level: Level, nodes: u32 },
    /// This one is an exception; it comes before the entry that covers it.
    Returned { number: u64, code: Code, reason: String },
}

impl Entry {
    fn last(&self) -> u64 {
        match self {
            Self::Confirmed { upto, .. } => *upto,
            Self::Returned { number, .. } => *number,
        }
    }
}

impl Outcomes {
    /// Everything up to `upto` has its outcome; what is newly covered matched so many receivers.
    pub(super) fn confirm(&mut self, upto: u64, matched: u64, level: Level, nodes: u32) {
        if upto <= self.upto {
            return;
        }
        let after = std::mem::replace(&mut self.upto, upto);
        if let Some(Entry::Confirmed { after: first, upto: last, matched: sum, level: l, nodes: n }) =
            self.entries.back_mut()
            && (*l, *n) == (level, nodes)
            && let Some(each) = each(*sum, *last - *first)
            && each.checked_mul(upto - after) == Some(matched)
        {
            // The same for every one of them: the entry can still be cut anywhere.
            *last = upto;
            *sum += matched;
            self.told = self.told.min(self.entries.len() - 1);
        } else {
            self.entries.push_back(Entry::Confirmed { after, upto, matched, level, nodes });
        }
    }

    /// One message comes back.
    pub(super) fn give_back(&mut self, number: u64, error: &Error) {
        let mut reason = error.text().to_owned();
        if self.reasons + reason.len() > REASONS {
            reason = String::new();
        }
        self.reasons += reason.len();
        self.entries.push_back(Entry::Returned { number, code: code_of(error.kind()), reason });
    }

    /// Tells what has not been told, as far as its messages have come: up to number `received`.
    pub(super) fn tell(&mut self, session: &mut Session, link: Link, received: u64) {
        while let Some(entry) = self.entries.get(self.told)
            && entry.last() <= received
        {
            match entry {
                Entry::Confirmed { after, upto, matched, level, nodes } => {
                    // What the client has heard of this entry is of equal parts.
                    let heard = self.told_upto.max(self.base).saturating_sub(*after);
                    let each = each(*matched, upto - after).unwrap_or(0);
                    let matched = matched.saturating_sub(heard.saturating_mul(each));
                    if let Some(on_wire) = upto.checked_sub(self.base) {
                        session.confirm(link, on_wire, matched, level.as_u8(), *nodes);
                    }
                    self.told_upto = *upto;
                }
                Entry::Returned { number, code, reason } => {
                    if let Some(on_wire) = number.checked_sub(self.base).filter(|this| *this > 0) {
                        session.return_(link, on_wire, *code, 0, reason);
                    }
                }
            }
            self.told += 1;
        }
    }

    /// Goes on over another connection, whose client has heard everything up to `base`.
    pub(super) fn resume(&mut self, base: u64) {
        self.base = base;
        self.told_upto = base;
        self.told = self.entries.iter().take_while(|entry| entry.last() <= base).count();
    }

    /// Forgets what the client must have heard: everything up to `number`.
    pub(super) fn forget(&mut self, number: u64) {
        while self.told > 0
            && let Some(entry) = self.entries.front()
            && entry.last() <= number
        {
            if let Some(Entry::Returned { reason, .. }) = self.entries.pop_front() {
                self.reasons -= reason.len();
            }
            self.told -= 1;
        }
    }
}

/// What each of `count` contributes to `sum`, if that is the same for all.
fn each(sum: u64, count: u64) -> Option<u64> {
    (count > 0 && sum.is_multiple_of(count)).then(|| sum / count)
}
