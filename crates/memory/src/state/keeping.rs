//! What a durable queue has its store note, and how it is made again of what was noted.

use std::time::{Duration, Instant};

use super::{Ending, InStore, State};
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::aside::Why;
use crate::books::reason;
use crate::copies::{Entry, Origin};
use crate::history::Retained;
use crate::home::{Home, later};
use crate::store::{self, Change, Kept, KeptQueue, Paged, Pages};

/// How many ids are noted in a record.
const IDS_AT_ONCE: usize = 256;

/// Why an attempt failed.
const BROKER_ENDED: &str = "the broker ended before it was settled";

impl State {
    pub(crate) fn note_declared(&mut self) {
        let Some(keep) = &mut self.keep else { return };
        keep.declared = keep.store.note(&Change::Declared {
            queue: keep.queue,
            name: &self.name,
            settings: &self.settings.queue,
            bindings: &self.settings.bindings,
            next_position: self.next_position,
        });
    }

    pub(super) fn note_deleted(&self) {
        if let Some(keep) = &self.keep {
            keep.deleted();
        }
    }

    /// Notes a copy that comes in, and says at which place.
    pub(super) fn note_put(&mut self, entry: &Entry, due: Option<Instant>, from: Origin) -> u64 {
        let Some(keep) = &self.keep else { return 0 };
        let copy = kept(&self.home, entry, due, Standing::Waits);
        let place = keep.store.note(&Change::Put { queue: keep.queue, copy: &copy, from });
        if let (Some(seen), Some(id)) = (&mut self.seen, entry.message.id()) {
            seen.note_place(id, place);
        }
        place
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

    pub(super) fn note_gone(&self, entry: &Entry) {
        if let Some(keep) = &self.keep {
            keep.gone(entry.position, (entry.place, entry.message.size()));
        }
    }

    /// Copies are gone, and that has been noted.
    pub(super) fn note_released(&self, copies: &[Entry]) {
        if let Some(keep) = &self.keep {
            let released: Vec<_> =
                copies.iter().map(|copy| (copy.place, copy.message.size())).collect();
            keep.store.release(&released);
        }
    }

    /// Everything goes but what is handed out, and what is on its way to another queue.
    pub(super) fn note_purged(&self) {
        let Some(keep) = &self.keep else { return };
        let leased = self.leases.iter().map(|lease| lease.entry.position);
        let moving = self.aside.behind(None).filter(|(_, why)| *why == Why::Moving);
        let mut but: Vec<_> = leased.chain(moving.map(|(entry, _)| entry.position)).collect();
        but.sort_unstable();
        keep.purged(self.next_position, &but);
    }

    /// Notes again what is not about single copies and was noted before a place.
    pub(crate) fn renew(&mut self, before: u64) {
        if let Ending::Closed(_) = self.ending {
            return;
        }
        if self.keep.as_ref().is_some_and(|keep| keep.declared < before) {
            self.note_declared();
        }
        self.renew_ids(before);
    }

    /// Notes the ids again that were noted before a place.
    fn renew_ids(&mut self, before: u64) {
        if let (Some(keep), Some(seen)) = (&self.keep, &mut self.seen) {
            seen.renew(before, |ids| {
                let wall = |(id, came)| (id, self.home.wall_time(came));
                let ids: Vec<_> = ids.into_iter().map(wall).collect();
                // In records that find room wherever there is some.
                let note = |ids| keep.store.note(&Change::Ids { queue: keep.queue, ids });
                ids.chunks(IDS_AT_ONCE).map(note).min().unwrap_or(u64::MAX)
            });
        }
    }

    /// Notes all that there is; false if a copy is just on its way to another queue.
    pub(crate) fn snapshot(&mut self) -> bool {
        let Some(keep) = self.keep.as_mut().filter(|_| !matches!(self.ending, Ending::Closed(_)))
        else {
            return true;
        };
        if self.aside.behind(None).any(|(_, why)| why == Why::Moving) {
            return false;
        }
        let (home, keyed) = (&self.home, self.keys.is_some());
        let (mut delayed, mut others) = (Pages::default(), Vec::new());
        let unusual = self.lanes.iter().filter(|entry| !entry.may_be_paged());
        others.extend(unusual.map(|entry| standing(home, entry, None, Standing::Waits)));
        others.extend(
            self.leases.iter().map(|lease| standing(home, &lease.entry, None, Standing::Out)),
        );
        for (entry, why) in self.aside.behind(None) {
            let (due, what) = match why {
                Why::Delayed(due) => (Some(due), Standing::Waits),
                Why::Parked(due) => (due, Standing::Waits),
                Why::Dying | Why::Moving => (None, Standing::Dying),
            };
            match due.filter(|_| !keyed && entry.may_be_delayed_in_store()) {
                Some(due) => delayed.push(delayed_until(home, entry, due)),
                None => others.push(standing(home, entry, due, what)),
            }
        }
        let retained = self.history.iter().flat_map(|history| history.from(0));
        let mut waiting = Pages::default();
        waiting.extend(retained.map(Retained::paged));
        let in_memory = self.lanes.in_order().filter(|entry| entry.may_be_paged());
        waiting.extend(in_memory.map(|entry| paged(home, entry)));
        let in_store = self.history.as_ref().map_or(self.lanes.pages(), |history| history.pages());
        // What is much comes in parts, which are not all there at a time.
        let (queue, part, mut parts, none) = (keep.queue, home.memory.part(), 0, Pages::default());
        let mut in_parts = |pages: &Pages, delayed| {
            if pages.encoded_len() <= part {
                return false;
            }
            for pages in pages.parts(part) {
                keep.store.note(&Change::Part { queue, nth: parts, delayed, pages: &pages });
                parts += 1;
            }
            true
        };
        let in_store = if in_parts(in_store, false) { &none } else { in_store };
        let all_delayed = self.aside.delayed();
        let all_delayed = if in_parts(all_delayed, true) { &none } else { all_delayed };
        keep.declared = keep.store.note(&Change::Snapshot {
            queue: keep.queue,
            name: &self.name,
            settings: &self.settings.queue,
            bindings: &self.settings.bindings,
            next_position: self.next_position,
            parts,
            waiting: [&waiting, in_store],
            delayed: [&delayed, all_delayed],
            others: &others,
        });
        self.renew_ids(u64::MAX);
        true
    }

    /// Notes the copies in memory again whose places are before another one; whether others with such
    /// places are in the store alone.
    pub(crate) fn relocate(&mut self, before: u64) -> bool {
        if let Ending::Closed(_) = self.ending {
            // What is handed out of a queue that is gone is not to come back.
            return false;
        }
        let Some(keep) = &self.keep else { return false };
        let mut released = Vec::new();
        let mut note = |entry: &mut Entry, due, standing| {
            if entry.place >= before {
                return;
            }
            // It is not new: its id came when it did.
            let copy = Kept { came: Duration::ZERO, ..kept(&self.home, entry, due, standing) };
            let change = Change::Put { queue: keep.queue, copy: &copy, from: None };
            let old = std::mem::replace(&mut entry.place, keep.store.note(&change));
            released.push((old, entry.message.size()));
        };
        self.lanes.each_mut(&mut |entry| note(entry, None, Standing::Waits));
        self.leases.iter_mut().for_each(|lease| note(&mut lease.entry, None, Standing::Out));
        for (entry, why) in self.aside.iter_mut() {
            match *why {
                Why::Delayed(due) => note(entry, Some(due), Standing::Waits),
                Why::Parked(due) => note(entry, due, Standing::Waits),
                Why::Dying => note(entry, None, Standing::Dying),
                // Where it is from now on is about to be noted.
                Why::Moving => {}
            }
        }
        if let Some(history) = &mut self.history {
            history.each_mut(|retained| {
                if retained.place < before {
                    let change = Change::Put {
                        queue: keep.queue,
                        copy: &retained.kept(&self.home),
                        from: None,
                    };
                    let old = std::mem::replace(&mut retained.place, keep.store.note(&change));
                    released.push((old, retained.message.size()));
                }
            });
        }
        keep.store.release(&released);
        [InStore::InOrder, InStore::Delayed]
            .iter()
            .any(|what| !self.pages_before(*what, before).is_empty())
    }

    /// Puts everything back where it was when the process before this one ended.
    pub(crate) fn restore(&mut self, kept: KeptQueue, after: &mut Aftermath) {
        self.next_position = kept.next_position;
        let (now, window) = (self.home.now(), self.settings.queue.dedup_window);
        for (id, came) in kept.ids {
            if let (Some(seen), Some(came)) = (&mut self.seen, self.home.time_of(came))
                && seen.insert(id, came)
            {
                self.agenda.add(later(came, window), Due::Forget);
            }
        }
        if self.history.is_some() {
            return self.restore_history(kept.pages, kept.copies, after);
        }
        self.books.accepted += kept.pages.len() as u64;
        self.lanes.set_pages(kept.pages);
        self.books.accepted += kept.delayed.len() as u64;
        *self.aside.delayed_mut() = kept.delayed;
        for copy in kept.copies {
            let Kept { position, place, message, attempts, due, expires, death, .. } = copy;
            let Kept { dying, out, .. } = copy;
            let mut entry = Entry::new(message, position, 0);
            (entry.place, entry.attempts) = (place, attempts);
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

/// What a copy is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waits,
    Out,
    Dying,
}

/// Where a copy is.
pub(super) fn paged(home: &Home, entry: &Entry) -> Paged {
    Paged {
        position: entry.position,
        place: entry.place,
        size: entry.message.size(),
        expires: entry.expires().map(|at| home.wall_time(at)),
        missed: entry.missed,
    }
}

/// Where a copy is that waits until a time.
pub(super) fn delayed_until(home: &Home, entry: &Entry, due: Instant) -> Paged {
    paged(home, entry).with_expiry(Some(home.wall_time(due)))
}

/// What there is to a copy beside its message.
fn standing(
    home: &Home,
    entry: &Entry,
    due: Option<Instant>,
    standing: Standing,
) -> store::Standing {
    store::Standing {
        paged: paged(home, entry),
        may_be_paged: entry.may_be_paged(),
        attempts: entry.attempts,
        due: due.map(|due| home.wall_time(due)),
        death: entry.death().cloned(),
        dying: standing == Standing::Dying,
        out: standing == Standing::Out,
    }
}

/// A copy, as a store notes it.
fn kept(home: &Home, entry: &Entry, due: Option<Instant>, standing: Standing) -> Kept {
    let wall = |at: Option<Instant>| at.map(|at| home.wall_time(at));
    Kept {
        position: entry.position,
        place: entry.place,
        message: entry.message.clone(),
        came: home.unix_time(),
        attempts: entry.attempts,
        due: wall(due),
        expires: wall(entry.own_expiry()),
        deadline: wall(entry.message.deadline()),
        death: entry.death().cloned(),
        dying: standing == Standing::Dying,
        out: standing == Standing::Out,
    }
}
