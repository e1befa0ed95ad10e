//! Copies of a durable queue that are in its store alone, and how they come back into memory.
//!
//! As long as there is room in memory a copy that comes in stays there, too. Beyond that only its
//! place is kept, and so is that of all that come behind it, until those before were read back: what
//! is in memory is what goes out next, and some more is read before the last of it is handed out.

use std::time::{Duration, Instant};

use posthaste_core::Error;

use super::keeping::paged;
use super::{Ending, State};
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::books::reason;
use crate::copies::Entry;
use crate::lanes::Lanes;
use crate::store::{Change, Kept, Paged, Pages};

/// How many places are released at a time.
const RELEASED: usize = 1_024;

/// How a queue stands with its store.
#[derive(Debug, Default)]
pub(super) struct Paging {
    /// Copies are being read back.
    reads: bool,
    /// Somebody has asked for a copy, and there was none in memory to be handed out.
    wanted: bool,
    /// Why none can be any more.
    failed: Option<Error>,
    /// When the first one expires, as the agenda knows it.
    expires: Option<(Duration, Instant)>,
    /// As what the copies in memory were counted.
    counted: usize,
    /// How many were dropped before the one that is read back next.
    missed: u32,
}

impl State {
    /// Whether a copy that comes in now is to be in the store alone.
    pub(super) fn stays_in_store(&self, entry: &Entry, due: Option<Instant>) -> bool {
        if self.keep.is_none() || entry.place == u64::MAX || !entry.may_be_paged() {
            return false;
        }
        if !self.lanes.pages().is_empty() {
            // Of a key none may come before another.
            return due.is_none() || self.keys.is_some();
        }
        let size = Lanes::footprint(1, entry.message.size());
        due.is_none() && !self.home.memory.has_room(self.lanes.in_memory(), size)
    }

    /// Keeps only the place of a copy in mind.
    pub(super) fn page_out(&mut self, entry: Entry, after: &mut Aftermath) {
        self.lanes.page(paged(&self.home, &entry));
        after.forget(entry.message);
    }

    /// What is to be read back next.
    pub(crate) fn next_pages(&self) -> Vec<Paged> {
        self.lanes.next_pages(self.home.memory.at_once())
    }

    /// Copies were read back, or cannot be.
    pub(crate) fn read_back(&mut self, copies: Result<Vec<Kept>, Error>, after: &mut Aftermath) {
        (self.paging.reads, self.paging.wanted) = (false, false);
        match copies {
            Ok(copies) => {
                copies.into_iter().for_each(|copy| self.take_in(copy, after));
                // What was behind them may be next, although they are not.
                self.wake_idle(after);
            }
            Err(error) => {
                self.paging.failed = Some(error);
                self.idle.notify_all(after);
            }
        }
    }

    /// Puts a copy that was read back where it waits, unless it is not wanted any more.
    fn take_in(&mut self, copy: Kept, after: &mut Aftermath) {
        let Kept { position, message, due, expires, .. } = copy;
        let Some(paged) = self.lanes.unpage(position) else { return };
        let missed = paged.missed.saturating_add(std::mem::take(&mut self.paging.missed));
        let mut entry = Entry::new(message, position, missed);
        // It may have another place by now.
        entry.place = paged.place;
        entry.set_expiry(expires.and_then(|at| self.home.time_of(at)));
        let (due, now) = (due.and_then(|due| self.home.time_of(due)), self.home.now());
        self.mind(&entry);
        self.line_up(entry, due.filter(|due| now.is_some_and(|now| *due > now)), after);
    }

    /// Nothing could be handed out. Says why nothing more can be, if something should.
    pub(super) fn found_nothing(&mut self) -> Option<&Error> {
        self.paging.wanted = !self.lanes.pages().is_empty();
        self.reading_failed()
    }

    fn reading_failed(&self) -> Option<&Error> {
        let is_next = !self.lanes.pages().is_empty() && !self.lanes.has_next();
        self.paging.failed.as_ref().filter(|_| is_next)
    }

    /// Counts what is in memory, and sees to it that what goes out next is there in time, and that
    /// nothing stays that has outlived its time.
    pub(super) fn plan_paging(&mut self, after: &mut Aftermath) {
        let retained = self.history.as_ref().map_or(0, |history| history.in_memory());
        let in_memory = self.lanes.in_memory() + retained;
        let counted = std::mem::replace(&mut self.paging.counted, in_memory);
        self.home.memory.count(counted, in_memory);
        if self.lanes.pages().is_empty() && self.paging.expires.is_none() {
            return;
        }
        if self.wants_pages(in_memory) && !std::mem::replace(&mut self.paging.reads, true) {
            self.errand(Errand::ReadBack, after);
        }
        let expires = self.lanes.pages().expires();
        if expires != self.paging.expires.map(|(wall, _)| wall) {
            if let Some((_, at)) = self.paging.expires.take() {
                self.agenda.remove(at, Due::PageExpired);
            }
            if let Some(at) = expires.and_then(|wall| self.home.time_of(wall)) {
                self.agenda.add(at, Due::PageExpired);
                self.paging.expires = expires.map(|wall| (wall, at));
            }
        }
    }

    /// Whether copies are to be read back now: before what is in memory runs out, and when somebody waits
    /// for one that may be handed out, however much waits behind those, or for others of its key.
    fn wants_pages(&self, in_memory: usize) -> bool {
        let goes_on = self.ending == Ending::Open && self.paging.failed.is_none();
        if !goes_on || self.lanes.pages().is_empty() {
            return false;
        }
        let parked = match self.keys {
            Some(_) => Lanes::footprint(self.aside.len(), self.aside.bytes()),
            None => 0,
        };
        let is_waited_for = !self.lanes.has_next() && (self.paging.wanted || !self.idle.is_empty());
        is_waited_for || self.home.memory.runs_out(in_memory + parked)
    }

    /// Drops what has outlived its time.
    pub(super) fn expire_pages(&mut self, after: &mut Aftermath) {
        self.paging.expires = None;
        let expired = self.lanes.expire_pages(self.home.unix_time());
        for copy in &expired {
            self.books.expired += 1;
            self.miss_before_page(copy.missed);
            self.note_page_gone(copy);
        }
        if !expired.is_empty() {
            self.paging.failed = None;
            self.room_was_freed(after);
            self.go_on_without_pages(after);
        }
    }

    /// Some of the copies that are in the store alone are gone: those behind them may go out now.
    fn go_on_without_pages(&mut self, after: &mut Aftermath) {
        if self.lanes.pages().is_empty() {
            let missed = std::mem::take(&mut self.paging.missed);
            self.pass_on_missed(missed);
        }
        self.wake_idle(after);
    }

    /// Drops the first copy of those that are in the store alone, of which nobody knows the topic;
    /// false if there is none.
    pub(super) fn drop_page(&mut self, after: &mut Aftermath) -> bool {
        let Some(copy) = self.lanes.pages().front() else { return false };
        self.lanes.unpage(copy.position);
        self.books.drop_copies(reason::FULL, 1);
        self.report_drops(1, &self.name.clone(), reason::FULL, after);
        self.note_page_gone(&copy);
        self.room_was_freed(after);
        self.miss_before_page(copy.missed.saturating_add(1));
        self.paging.failed = None;
        self.go_on_without_pages(after);
        true
    }

    /// So many were dropped before the copy that is read back next.
    pub(super) fn miss_before_page(&mut self, count: u32) {
        self.paging.missed = self.paging.missed.saturating_add(count);
    }

    /// Of the copies that are in the store alone, some whose places are before this one.
    pub(crate) fn pages_before(&self, place: u64) -> Vec<Paged> {
        match self.ending {
            Ending::Closed(_) => Vec::new(),
            Ending::Open | Ending::Draining => self.pages().placed_before(place),
        }
    }

    /// The copies that are in the store alone.
    fn pages(&self) -> &Pages {
        self.history.as_ref().map_or(self.lanes.pages(), |history| history.pages())
    }

    /// Notes copies again that are in the store alone, and whose places are before another one.
    pub(crate) fn relocate_pages(&mut self, copies: Vec<Kept>, before: u64) {
        let Some(keep) = &self.keep else { return };
        let mut there = self.pages().placed_before(before).into_iter().peekable();
        let (mut moved, mut released) = (Vec::new(), Vec::new());
        for copy in copies {
            while there.next_if(|paged| paged.position < copy.position).is_some() {}
            let Some(paged) = there.next_if(|paged| paged.position == copy.position) else {
                continue;
            };
            // It is not new: its id came when it did. In a history that is what it is found by.
            let came = if self.history.is_some() { copy.came } else { Duration::ZERO };
            // What has happened to it is not in the record that was read, and nothing has.
            let (attempts, death, dying, out) = (0, None, false, false);
            let copy = Kept { came, attempts, death, dying, out, ..copy };
            let change = Change::Put { queue: keep.queue, copy: &copy, from: None };
            moved.push(Paged { place: keep.store.note(&change), ..paged });
            released.push((paged.place, paged.size));
        }
        keep.store.release(&released);
        match &mut self.history {
            Some(history) => history.pages_mut().replace(&moved),
            None => self.lanes.replace_pages(&moved),
        }
    }

    /// Forgets all copies that are in the store alone, and says how many those were.
    pub(super) fn release_pages(&mut self) -> usize {
        (self.paging.failed, self.paging.missed) = (None, 0);
        let pages = match &mut self.history {
            Some(history) => std::mem::take(history.pages_mut()),
            None => self.lanes.take_pages(),
        };
        if let Some(keep) = &self.keep {
            let mut released = Vec::new();
            for copy in pages.after(None) {
                released.push((copy.place, copy.size));
                if released.len() == RELEASED {
                    keep.store.release(&std::mem::take(&mut released));
                }
            }
            keep.store.release(&released);
        }
        pages.len()
    }

    fn note_page_gone(&self, copy: &Paged) {
        if let Some(keep) = &self.keep {
            keep.gone(copy.position, (copy.place, copy.size));
        }
    }
}
