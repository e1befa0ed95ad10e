//! Copies of a durable queue that are in its store alone, and how they come back into memory.
//!
//! As long as there is room in memory a copy that comes in stays there, too. Beyond that only its
//! place is kept, and so is that of all that come behind it, until those before were read back: what
//! is in memory is what goes out next, and some more is read before the last of it is handed out.
//!
//! Copies that wait until a time are in the store alone, too, if there is no room for them, and are read
//! back shortly before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste_core::Error;

use super::keeping::{delayed_until, paged};
use super::{Ending, State};
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::aside::Why;
use crate::books::reason;
use crate::copies::Entry;
use crate::history::History;
use crate::home::InMemory;
use crate::lanes::Lanes;
use crate::store::{Change, Kept, Paged, Pages};

/// How many places are released at a time.
const RELEASED: usize = 1_024;

/// How long before its time a copy is read back that waits for it, and so much more for every million
/// that do: to look through all of them is to take a small part of the time until that is done again.
const AHEAD: Duration = Duration::from_secs(1);

/// Which of the copies that are in the store alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InStore {
    /// Those that go out in the order of their positions, or are read in it.
    InOrder,
    /// Those that wait until a time.
    Delayed,
}

/// How a queue stands with its store.
#[derive(Debug, Default)]
pub(super) struct Paging {
    /// Copies are being read back.
    reads: bool,
    /// Somebody has asked for a copy, and there was none in memory to be handed out.
    wanted: bool,
    /// Why none can be any more.
    failed: Option<Error>,
    /// Some of those that wait until a time are being read back.
    reads_delayed: bool,
    /// When the next of those is to be, by the wall clock, and as the agenda knows it.
    ready: Option<(Duration, Instant)>,
    /// Why none of those can be any more.
    failed_delayed: Option<Error>,
    /// When the first one expires, as the agenda knows it.
    expires: Option<(Duration, Instant)>,
    /// As what the copies in memory were counted.
    counted: usize,
    /// How many were dropped before the one that is read back next.
    missed: u32,
    /// Copies aside that may be behind others of their key, which nobody knows before those in front
    /// of them are read back.
    behind: BTreeSet<u64>,
}

impl State {
    /// Whether a copy that comes in now is to be in the store alone.
    pub(super) fn stays_in_store(&self, entry: &Entry, due: Option<Instant>) -> bool {
        if self.keep.is_none() || entry.place == u64::MAX || !entry.may_be_paged() {
            return false;
        }
        if due.is_some() && self.keys.is_none() {
            let size = Lanes::footprint(1, entry.message.size());
            return entry.may_be_delayed_in_store()
                && !self.home.memory.has_room(self.in_memory(), size);
        }
        if !self.lanes.pages().is_empty() {
            // Of a key none may come before another.
            return true;
        }
        let size = Lanes::footprint(1, entry.message.size());
        !self.home.memory.has_room(self.in_memory(), size)
    }

    /// How many bytes the messages take that are in memory.
    fn in_memory(&self) -> usize {
        let leased = Lanes::footprint(self.leases.len(), self.leases.bytes());
        let retained = self.history.as_deref().map_or(0, History::in_memory);
        self.lanes.in_memory() + self.aside.in_memory() + leased + retained
    }

    /// How many bytes the places of those take that are in the store alone.
    fn places(&self) -> usize {
        let retained = self.history.as_deref().map_or(0, |history| history.pages().held());
        self.lanes.pages().held() + self.aside.delayed().held() + retained
    }

    /// Keeps only the place of a copy in mind.
    pub(super) fn page_out(&mut self, entry: Entry, due: Option<Instant>, after: &mut Aftermath) {
        match due.filter(|_| self.keys.is_none()) {
            Some(due) => self.aside.delayed_mut().push(delayed_until(&self.home, &entry, due)),
            None => self.lanes.page(paged(&self.home, &entry)),
        }
        after.forget(entry.message);
        self.make_room_for_places(after);
    }

    /// Leaves some more to the store where places have taken the room of what is in memory: what goes out
    /// last, a little at a time. Only what comes in does so, not what is read back: a replay goes through that.
    fn make_room_for_places(&mut self, after: &mut Aftermath) {
        let memory = &self.home.memory;
        let is_much = memory.is_over() && InMemory::is_much(self.lanes.in_memory());
        // Of a keyed queue it is known which keys are in memory.
        if !is_much || self.keys.is_some() {
            return;
        }
        let home = Arc::clone(&self.home);
        self.lanes.page_last(home.memory.at_once(), |entry| {
            let copy = paged(&home, &entry);
            after.forget(entry.message);
            copy
        });
        self.count_memory();
    }

    fn count_memory(&mut self) {
        let in_memory = self.in_memory() + self.places();
        let counted = std::mem::replace(&mut self.paging.counted, in_memory);
        self.home.memory.count(counted, in_memory);
    }

    /// Whether others of its key may be in front of a copy and in the store alone.
    pub(super) fn may_be_behind_pages(&self, entry: &Entry) -> bool {
        // One that was handed out has been the first of its key.
        entry.attempts == 0 && self.lanes.pages().begin() < entry.position
    }

    /// A copy waits until those in front of it are read back.
    pub(super) fn wait_behind_pages(&mut self, entry: Entry, due: Option<Instant>) {
        self.paging.behind.insert(entry.position);
        self.aside.put(entry, Why::Parked(due));
    }

    /// What waited for those in front of it is lined up: all that is before this position.
    fn line_up_behind_pages(&mut self, before: u64, after: &mut Aftermath) {
        while let Some(position) = self.paging.behind.first().copied().filter(|at| *at < before) {
            self.paging.behind.remove(&position);
            if let Some((entry, Why::Parked(due))) = self.aside.take_waiting(position) {
                self.line_up(entry, self.still_to_come(due), after);
            }
        }
    }

    /// Whether more may be read back beside what is in memory.
    pub(crate) fn has_room_to_read(&self) -> bool {
        self.home.memory.has_room(self.in_memory(), 0)
    }

    /// Whether more may be read back that stays, as far as anybody knows: a share of its own each queue has
    /// in any case.
    pub(crate) fn has_room_to_stay(&self) -> bool {
        self.has_room_to_read() || InMemory::is_share(self.in_memory())
    }

    /// What is to be read back next.
    pub(crate) fn next_pages(&self) -> Vec<Paged> {
        self.lanes.next_pages(self.home.memory.at_once())
    }

    /// Copies were read back, or the first one cannot be.
    pub(crate) fn read_back(&mut self, copies: Result<Vec<Kept>, Error>, after: &mut Aftermath) {
        (self.paging.reads, self.paging.wanted) = (false, false);
        match copies {
            Ok(copies) => {
                let mut copies = copies.into_iter();
                let position = |copy: &Kept| copy.position;
                // As a rule nothing of a page went meanwhile.
                while let Some(page) = self.lanes.unpage_all(copies.as_slice().iter().map(position))
                {
                    for (paged, copy) in page.into_iter().zip(copies.by_ref()) {
                        self.take_in(copy, paged, after);
                    }
                }
                for copy in copies {
                    if let Some(paged) = self.lanes.unpage(copy.position) {
                        self.take_in(copy, paged, after);
                    }
                }
                self.line_up_behind_pages(self.lanes.pages().begin(), after);
                // What was behind them may be next, although they are not.
                self.wake_idle(after);
            }
            // What was purged meanwhile is nobody's concern.
            Err(_) if self.lanes.pages().is_empty() => {}
            Err(error) => {
                self.paging.failed = Some(error);
                self.idle.notify_all(after);
            }
        }
    }

    /// Puts a copy that was read back where it waits.
    fn take_in(&mut self, copy: Kept, paged: Paged, after: &mut Aftermath) {
        let Kept { position, message, due, expires, .. } = copy;
        self.line_up_behind_pages(position, after);
        let missed = paged.missed.saturating_add(std::mem::take(&mut self.paging.missed));
        let mut entry = Entry::new(message, position, missed);
        // It may have another place by now.
        entry.place = paged.place;
        entry.set_expiry(expires.and_then(|at| self.home.time_of(at)));
        let due = due.and_then(|due| self.home.time_of(due));
        self.mind(&entry);
        self.line_up(entry, self.still_to_come(due), after);
    }

    /// What is to be read back next of those that wait until a time.
    pub(crate) fn next_delayed(&mut self) -> Vec<Paged> {
        let ahead = if self.has_room_to_read() { self.ahead_of_time() } else { Duration::ZERO };
        let by = self.home.unix_time() + ahead;
        self.aside.due(by, self.home.memory.at_once())
    }

    /// Copies were read back that waited until a time, or cannot be.
    pub(crate) fn read_back_delayed(
        &mut self,
        copies: Result<Vec<Kept>, Error>,
        after: &mut Aftermath,
    ) {
        (self.paging.reads_delayed, self.paging.wanted) = (false, false);
        match copies {
            Ok(copies) => {
                for Kept { position, message, due, .. } in copies {
                    let Some(paged) = self.aside.delayed_mut().remove(position) else { continue };
                    let mut entry = Entry::new(message, position, paged.missed);
                    entry.place = paged.place;
                    let due = due.and_then(|due| self.home.time_of(due));
                    self.line_up(entry, self.still_to_come(due), after);
                }
            }
            Err(_) if self.aside.delayed().is_empty() => {}
            Err(error) => {
                self.paging.failed_delayed = Some(error);
                self.idle.notify_all(after);
            }
        }
    }

    /// How long before their time those are read back that wait for it.
    fn ahead_of_time(&self) -> Duration {
        let millions = self.aside.delayed().len() / 1_000_000;
        AHEAD.saturating_mul(u32::try_from(millions + 1).unwrap_or(u32::MAX))
    }

    /// Nothing could be handed out. Says why nothing more can be, if something should.
    pub(super) fn found_nothing(&mut self) -> Option<&Error> {
        self.paging.wanted = !(self.lanes.pages().is_empty() && self.aside.delayed().is_empty());
        self.reading_failed()
    }

    fn reading_failed(&self) -> Option<&Error> {
        if self.lanes.has_next() {
            return None;
        }
        match self.lanes.pages().is_empty() {
            true => self.paging.failed_delayed.as_ref().filter(|_| self.is_delayed_due()),
            false => self.paging.failed.as_ref(),
        }
    }

    /// Whether one that waits until a time in the store alone has done so.
    fn is_delayed_due(&self) -> bool {
        self.aside.delayed().expires().is_some_and(|at| at <= self.home.unix_time())
    }

    /// Counts what is in memory, and sees to it that what goes out next is there in time, and that
    /// nothing stays that has outlived its time.
    pub(super) fn plan_paging(&mut self, after: &mut Aftermath) {
        self.count_memory();
        self.plan_delayed(after);
        if self.lanes.pages().is_empty() && self.paging.expires.is_none() {
            return;
        }
        if self.wants_pages() && !std::mem::replace(&mut self.paging.reads, true) {
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

    /// Sees to it that what waits until a time is there by then, unless there is no room and nobody waits
    /// for it.
    fn plan_delayed(&mut self, after: &mut Aftermath) {
        let ready = self.aside.delayed().expires();
        if ready.is_none() && self.paging.ready.is_none() {
            return;
        }
        let goes_on = self.ending == Ending::Open && !self.paging.reads_delayed;
        let (now, has_room) = (self.home.unix_time(), self.has_room_to_read());
        // Of those that are read by then some are later still, so that it is not done again at once.
        let ahead = if has_room { self.ahead_of_time() / 2 } else { Duration::ZERO };
        let mut planned = None;
        match ready.filter(|_| goes_on) {
            // By then its consumers are told.
            Some(at) if self.paging.failed_delayed.is_some() => {
                planned = Some(at).filter(|at| *at > now);
            }
            Some(at) if at > now + ahead => planned = Some(at.saturating_sub(ahead)),
            Some(_) if has_room || self.wants_more() => {
                self.paging.reads_delayed = true;
                self.errand(Errand::ReadDelayed, after);
            }
            _ => {}
        }
        if planned == self.paging.ready.map(|(wall, _)| wall) {
            return;
        }
        if let Some((_, at)) = self.paging.ready.take() {
            self.agenda.remove(at, Due::PageReady);
        }
        if let Some((wall, at)) = planned.and_then(|wall| Some((wall, self.home.time_of(wall)?))) {
            self.agenda.add(at, Due::PageReady);
            self.paging.ready = Some((wall, at));
        }
    }

    /// The next of those that wait until a time is to be there.
    pub(super) fn delayed_are_ready(&mut self, after: &mut Aftermath) {
        self.paging.ready = None;
        if self.paging.failed_delayed.is_some() {
            self.idle.notify_all(after);
        }
    }

    /// Whether somebody waits for a copy, and there is none to be handed out.
    fn is_waited_for(&self) -> bool {
        !self.lanes.has_next() && (self.paging.wanted || !self.idle.is_empty())
    }

    /// Whether copies are to be read back now: before what is in memory runs out, and when somebody waits
    /// for one that may be handed out, however much waits behind those, or for others of its key.
    fn wants_pages(&self) -> bool {
        let goes_on = self.ending == Ending::Open && self.paging.failed.is_none();
        if !goes_on || self.lanes.pages().is_empty() {
            return false;
        }
        self.wants_more()
    }

    /// Whether what may be handed out runs out.
    fn wants_more(&self) -> bool {
        let parked = self.keys.as_ref().map_or(0, |_| self.aside.in_memory());
        self.is_waited_for() || self.home.memory.runs_out(self.lanes.in_memory() + parked)
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
        self.line_up_behind_pages(self.lanes.pages().begin(), after);
        self.wake_idle(after);
    }

    /// Drops the first copy of those that are in the store alone, of which nobody knows the topic;
    /// false if there is none.
    pub(super) fn drop_page(&mut self, after: &mut Aftermath) -> bool {
        let in_order = self.lanes.pages().front();
        let delayed = self.aside.delayed().front();
        let first = in_order.into_iter().chain(delayed).min_by_key(|copy| copy.position);
        let Some(copy) = first else { return false };
        if self.lanes.unpage(copy.position).is_none() {
            self.aside.delayed_mut().remove(copy.position);
        }
        self.books.drop_copies(reason::FULL, 1);
        self.report_drops(1, &self.name.clone(), reason::FULL, after);
        self.note_page_gone(&copy);
        self.room_was_freed(after);
        self.miss_before_page(copy.missed.saturating_add(1));
        (self.paging.failed, self.paging.failed_delayed) = (None, None);
        self.go_on_without_pages(after);
        true
    }

    /// So many were dropped before the copy that is read back next.
    pub(super) fn miss_before_page(&mut self, count: u32) {
        self.paging.missed = self.paging.missed.saturating_add(count);
    }

    /// Of the copies that are in the store alone, some whose places are before this one.
    pub(crate) fn pages_before(&self, what: InStore, place: u64) -> Vec<Paged> {
        match self.ending {
            Ending::Closed(_) => Vec::new(),
            Ending::Open | Ending::Draining => self.in_store(what).placed_before(place),
        }
    }

    /// Copies that are in the store alone.
    fn in_store(&self, what: InStore) -> &Pages {
        match (what, &self.history) {
            (InStore::Delayed, _) => self.aside.delayed(),
            (InStore::InOrder, Some(history)) => history.pages(),
            (InStore::InOrder, None) => self.lanes.pages(),
        }
    }

    /// Notes copies again that are in the store alone, and whose places are before another one.
    pub(crate) fn relocate_pages(&mut self, what: InStore, copies: Vec<Kept>, before: u64) {
        let Some(keep) = &self.keep else { return };
        let mut there = self.in_store(what).placed_before(before).into_iter().peekable();
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
        match (what, &mut self.history) {
            (InStore::Delayed, _) => self.aside.delayed_mut().replace(&moved),
            (InStore::InOrder, Some(history)) => history.pages_mut().replace(&moved),
            (InStore::InOrder, None) => self.lanes.replace_pages(&moved),
        }
    }

    /// Forgets all copies that are in the store alone, and says how many those were.
    pub(super) fn release_pages(&mut self) -> usize {
        (self.paging.failed, self.paging.failed_delayed, self.paging.missed) = (None, None, 0);
        self.paging.behind.clear();
        let pages = match &mut self.history {
            Some(history) => std::mem::take(history.pages_mut()),
            None => self.lanes.take_pages(),
        };
        let delayed = std::mem::take(self.aside.delayed_mut());
        if let Some(keep) = &self.keep {
            let mut released = Vec::new();
            for copy in pages.after(None).chain(delayed.after(None)) {
                released.push((copy.place, copy.size));
                if released.len() == RELEASED {
                    keep.store.release(&std::mem::take(&mut released));
                }
            }
            keep.store.release(&released);
        }
        pages.len() + delayed.len()
    }

    fn note_page_gone(&self, copy: &Paged) {
        if let Some(keep) = &self.keep {
            keep.gone(copy.position, (copy.place, copy.size));
        }
    }
}
