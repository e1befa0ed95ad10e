//! What a durable queue has its store note, and how it is made again of what was noted.

use std::time::{Duration, Instant};

use super::{Ending, State};
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::aside::Why;
use crate::books::reason;
use crate::copies::{Entry, Origin};
use crate::home::later;
use crate::store::{Change, Kept, KeptQueue};

/// Why an attempt failed.
const BROKER_ENDED: &str = "the broker ended before it was settled";

impl State {
    pub(crate) fn note_declared(&self) {
        let Some(keep) = &self.keep else { return };
        keep.store.note(&Change::Declared {
            queue: keep.queue,
            name: &self.name,
            settings: &self.settings.queue,
            bindings: &self.settings.bindings,
        });
    }

    pub(super) fn note_deleted(&self) {
        if let Some(keep) = &self.keep {
            keep.deleted();
        }
    }

    pub(super) fn note_put(&self, entry: &Entry, due: Option<Instant>, from: Origin) {
        let Some(keep) = &self.keep else { return };
        let wall = |at: Option<Instant>| at.map(|at| self.home.wall_time(at));
        let copy = Kept {
            position: entry.position,
            message: entry.message.clone(),
            came: self.home.unix_time(),
            attempts: entry.attempts,
            due: wall(due),
            expires: wall(entry.own_expiry()),
            deadline: wall(entry.message.deadline()),
            death: None,
            dying: false,
            out: false,
        };
        keep.store.note(&Change::Put { queue: keep.queue, copy: &copy, from });
    }

    pub(super) fn note_handed(&self, position: u64) {
        if let Some(keep) = &self.keep {
            keep.handed(position);
        }
    }

    pub(super) fn note_back(&self, entry: &Entry, due: Option<Instant>, dying: bool) {
        let Some(keep) = &self.keep else { return };
        keep.store.note(&Change::Back {
            queue: keep.queue,
            position: entry.position,
            attempts: entry.attempts,
            due: due.map(|due| self.home.wall_time(due)),
            death: entry.death(),
            dying,
        });
    }

    pub(super) fn note_gone(&self, position: u64) {
        if let Some(keep) = &self.keep {
            keep.gone(position);
        }
    }

    /// Everything is gone but what is handed out, and what is on its way to another queue.
    pub(super) fn note_purged(&self) {
        let Some(keep) = &self.keep else { return };
        let leased = self.leases.iter().map(|lease| lease.entry.position);
        let mut but: Vec<_> =
            leased.chain(self.aside.behind(None).map(|(entry, _)| entry.position)).collect();
        but.sort_unstable();
        keep.purged(self.next_position, &but);
    }

    /// Puts everything back where it was when the process before this one ended.
    pub(crate) fn restore(&mut self, kept: KeptQueue, after: &mut Aftermath) {
        self.next_position = kept.next_position;
        let (now, window) = (self.home.now(), self.settings.queue.dedup_window);
        for (id, came) in kept.ids {
            if let (Some(seen), Some(came)) = (&mut self.seen, self.home.time_of(came))
                && seen.insert(&id, came)
            {
                self.agenda.add(later(came, window), Due::Forget);
            }
        }
        for copy in kept.copies {
            let Kept { position, message, attempts, due, expires, death, dying, out, .. } = copy;
            let mut entry = Entry::new(message, position, 0);
            entry.attempts = attempts;
            entry.set_expiry(expires.and_then(|at| self.home.time_of(at)));
            if death.is_some() {
                *entry.death_mut() = death;
            }
            self.books.accepted += 1;
            if dying {
                self.burial.dying.push_back(position);
                self.aside.put(entry, Why::Dying);
                continue;
            }
            if out {
                self.take_back(entry, after);
                continue;
            }
            let due = due.and_then(|due| self.home.time_of(due));
            let due = due.filter(|due| now.is_none_or(|now| *due > now));
            self.mind(&entry);
            self.line_up(entry, due, after);
        }
        if !self.burial.dying.is_empty() && self.ending == Ending::Open {
            self.errand(Errand::Bury, after);
        }
    }

    /// Takes a copy back that was handed out when the process ended: its consumer is lost.
    fn take_back(&mut self, entry: Entry, after: &mut Aftermath) {
        if let (Some(keys), Some(key)) = (&mut self.keys, entry.message.key()) {
            keys.enter(key, entry.position);
        }
        match entry.is_request() {
            true => self.drop_copy(entry, reason::RESPONDER_LOST, after),
            false => self.give_back(entry, Some((Duration::ZERO, BROKER_ENDED)), after),
        }
    }
}
