//! Queues that are read and not consumed: what comes in, what retention lets go, and who reads.

use std::task::{Context, Poll};
use std::time::Instant;

use posthaste_core::{Error, ErrorKind, Kind, Level, Message, Start};

use super::State;
use super::looking::{Content, Looked};
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::books::reason;
use crate::copies::{Entry, Handed, Origin, Taken, Taking};
use crate::history::{Oldest, Retained};
use crate::home::{Home, later};
use crate::store::{Change, Kept, Paged, Pages};

/// How many messages are left to the store for one that comes.
const PAGED_AT_ONCE: usize = 4;

impl State {
    /// Why a message is not for a queue that retains.
    pub(super) fn not_retained(&self, message: &Message) -> Option<Error> {
        if message.kind() == Kind::Request {
            let text = format!("the queue {} retains what comes, and nobody answers", self.name);
            return Some(Error::new(ErrorKind::NoResponders, text));
        }
        if !message.delay().is_zero() {
            let text = format!("the queue {} retains, and takes no delayed messages", self.name);
            return Some(Error::new(ErrorKind::Unsupported, text));
        }
        None
    }

    /// Takes a message in to stay.
    pub(super) fn retain(&mut self, mut message: Message, from: Origin, after: &mut Aftermath) {
        if message.is_repeat() {
            message = message.without_repeat();
        }
        let position = self.next_position;
        self.next_position += 1;
        let (mut came, since) = (self.home.unix_time(), self.home.now());
        if let Some(history) = &self.history {
            // The clock may have gone back.
            came = came.max(history.newest());
        }
        let mut retained = Retained { position, place: 0, came, since, message };
        if let Some(keep) = &self.keep {
            let change = Change::Put { queue: keep.queue, copy: &retained.kept(&self.home), from };
            retained.place = keep.store.note(&change);
            if let (Some(seen), Some(id)) = (&mut self.seen, retained.message.id()) {
                seen.note_place(id, retained.place);
            }
        }
        self.add_retained(retained, after);
        self.let_go(after);
        self.leave_to_store(after);
        self.idle.notify_all(after);
    }

    /// Leaves the oldest messages to the store if there is enough in memory: more than come, but not so
    /// many that somebody would have to wait for that.
    fn leave_to_store(&mut self, after: &mut Aftermath) {
        let Some(history) = self.history.as_mut().filter(|_| self.keep.is_some()) else { return };
        for _ in 0..PAGED_AT_ONCE {
            if self.home.memory.has_room(history.in_memory(), 0) {
                return;
            }
            let Some(retained) = history.page_out() else { return };
            after.forget(retained.message);
        }
    }

    fn add_retained(&mut self, retained: Retained, after: &mut Aftermath) {
        self.books.accepted += 1;
        let replaced = self.history.as_mut().and_then(|history| history.push(retained));
        replaced.into_iter().for_each(|before| self.is_replaced(before, after));
    }

    /// A newer message has taken the place of this one.
    fn is_replaced(&mut self, before: Retained, after: &mut Aftermath) {
        if let Some(keep) = &self.keep {
            keep.gone(before.position, (before.place, before.message.size()));
        }
        self.count_drop(&before.message, reason::REPLACED, after);
        after.forget(before.message);
    }

    /// Lets go what the retention does not keep any longer.
    fn let_go(&mut self, after: &mut Aftermath) {
        let (Some(history), Some(retain)) = (&mut self.history, self.settings.queue.retain) else {
            return;
        };
        let now = retain.age.and_then(|_| self.home.now());
        let home = &self.home;
        let over = |first: &Oldest| {
            let since = first.since.or_else(|| home.time_of(first.came));
            Some(later(since?, retain.age?))
        };
        let (mut before, mut released) = (None, Vec::new());
        while let Some(first) = history.first() {
            let many = retain.messages.is_some_and(|most| history.len() as u64 > most);
            let large = retain.bytes.is_some_and(|most| history.bytes() as u64 > most);
            let old = over(&first).zip(now).is_some_and(|(over, now)| over <= now);
            if !(many || old || large && history.len() > 1) {
                break;
            }
            let Some(gone) = history.pop() else { break };
            self.books.expired += 1;
            before = Some(gone.position + 1);
            if self.keep.is_some() {
                released.push((gone.place, gone.size));
            }
            gone.message.into_iter().for_each(|message| after.forget(message));
        }
        if let (Some(keep), Some(before)) = (&self.keep, before) {
            keep.purged(before, &[]);
            keep.store.release(&released);
        }
        if history.visit.is_none()
            && let Some(at) = history.first().and_then(|first| over(&first))
        {
            history.visit = Some(at);
            self.agenda.add(at, Due::Retained);
        }
    }

    /// The oldest may be too old now.
    pub(super) fn look_for_old(&mut self, after: &mut Aftermath) {
        if let Some(history) = &mut self.history {
            history.visit = None;
        }
        self.let_go(after);
    }

    /// What the retention says may have changed.
    pub(super) fn retain_as_declared(&mut self, after: &mut Aftermath) {
        let Some((history, retain)) = self.history.as_mut().zip(self.settings.queue.retain) else {
            return;
        };
        if let Some(at) = history.visit.take() {
            self.agenda.remove(at, Due::Retained);
        }
        for before in history.keep_latest(retain.last_per_key) {
            self.is_replaced(before, after);
        }
        self.let_go(after);
    }

    /// Puts back what was there when the process before this one ended.
    pub(super) fn restore_history(
        &mut self,
        pages: Pages,
        copies: Vec<Kept>,
        after: &mut Aftermath,
    ) {
        self.books.accepted += pages.len() as u64;
        if let Some(history) = &mut self.history {
            history.restore(pages);
        }
        self.retain_as_declared(after);
        for Kept { position, place, message, came, .. } in copies {
            let since = self.home.time_of(came);
            self.add_retained(Retained { position, place, came, since, message }, after);
        }
        self.let_go(after);
    }

    /// Takes everything out that is in memory; what is in the store alone is gone already.
    pub(super) fn drain_history(&mut self) -> impl Iterator<Item = Entry> + use<'_> {
        let retained = std::iter::from_fn(|| self.history.as_mut()?.pop());
        retained.filter_map(|Oldest { position, place, message, .. }| {
            let mut entry = Entry::new(message?, position, 0);
            entry.place = place;
            Some(entry)
        })
    }

    /// Whether the last of each key may be all that stays from now on: what is in the store alone has
    /// no keys that anybody knows.
    pub(super) fn may_retain_last(&self) -> Result<(), Error> {
        let has_pages = self.history.as_ref().is_some_and(|history| !history.pages().is_empty());
        if has_pages {
            let text = format!(
                "the queue {} has more than fits in memory, and cannot be made to retain the last \
                 of each key alone; declare another one for that",
                self.name
            );
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        Ok(())
    }

    // ---- readers

    /// A consumer reads from `start` on; says at which offset that is, unless it is a time to come.
    pub(crate) fn enter(&mut self, consumer: u64, start: Start) -> Option<u64> {
        let next = self.next_position;
        self.history.as_mut()?.enter(consumer, start, next)
    }

    /// Hands a reader what is next, and has more read back for it if that is in the store alone. What could
    /// still be lost is not handed out: its offset would be another message's then, which a reader that
    /// goes on behind it would never get.
    pub(super) fn take_retained(
        &mut self,
        taking: Taking,
        cx: &mut Context<'_>,
        hand: &mut impl FnMut(Handed),
        after: &mut Aftermath,
    ) -> Taken {
        let mut count = self.read(taking, hand);
        while count == 0 && taking.waits {
            match self.poll_next_is_stored(taking.consumer, cx) {
                Some(Poll::Ready(Ok(()))) => count = self.read(taking, hand),
                Some(Poll::Ready(Err(error))) => return Taken::Unreadable(error),
                Some(Poll::Pending) | None => break,
            }
        }
        let Some(history) = &mut self.history else { return Taken::Some(count) };
        if history.begins_to_read(taking.consumer) {
            self.errand(Errand::ReadOn(taking.consumer), after);
            return Taken::Some(count);
        }
        match history.failed(taking.consumer) {
            Some(error) if count == 0 => Taken::Unreadable(error.clone()),
            _ => Taken::Some(count),
        }
    }

    /// Waits until what a reader would get next is stored; nothing if it waits for something else. While
    /// the disk is full this does not fail, as waiting for what is stored does.
    fn poll_next_is_stored(
        &self,
        consumer: u64,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<(), Error>>> {
        let store = &self.keep.as_ref()?.store;
        let upto = self.history.as_ref()?.not_yet(consumer)?.saturating_add(1);
        let written = store.poll_reached(upto, Level::Written, cx);
        Some(match written {
            Poll::Ready(Ok(())) => store.poll_reached(upto, Level::Stored, cx),
            other => other,
        })
    }

    fn read(&mut self, taking: Taking, hand: &mut impl FnMut(Handed)) -> usize {
        let Some(history) = &mut self.history else { return 0 };
        let (home, mut now) = (&self.home, None);
        let mut is_over = |at: Instant| {
            now = now.or_else(|| home.now());
            now.is_some_and(|now| at <= now)
        };
        let wants = |this: &Retained| !this.message.deadline().is_some_and(&mut is_over);
        let safe = self.keep.as_ref().map_or(u64::MAX, |keep| keep.store.reached(Level::Stored));
        history.read(taking.consumer, (taking.limit, safe), wants, |retained, missing| {
            hand(Handed {
                message: retained.message.clone(),
                attempt: 1,
                missed: u32::try_from(missing).unwrap_or(u32::MAX),
                tag: retained.position.wrapping_add(1),
            });
        })
    }

    /// What is to be read back for a reader.
    pub(crate) fn next_pages_of(&self, consumer: u64) -> Vec<Paged> {
        let Some(history) = &self.history else { return Vec::new() };
        history.next_pages(consumer, self.home.memory.for_each_of(history.readers()))
    }

    /// Messages were read back for a reader, or cannot be.
    pub(crate) fn read_back_for(
        &mut self,
        consumer: u64,
        copies: Result<Vec<Kept>, Error>,
        after: &mut Aftermath,
    ) {
        let retained = |Kept { position, place, came, message, .. }: Kept| Retained {
            position,
            place,
            came,
            since: None,
            message,
        };
        let read = copies.map(|copies| copies.into_iter().map(retained).collect());
        if let Some(history) = &mut self.history {
            history.read_back(consumer, read);
        }
        self.idle.notify_all(after);
    }

    // ---- looking

    /// How many messages are retained.
    pub(super) fn retained(&self) -> u64 {
        self.history.as_ref().map_or(0, |history| history.len() as u64)
    }

    pub(super) fn retained_bytes(&self) -> u64 {
        self.history.as_ref().map_or(0, |history| history.bytes() as u64)
    }

    pub(super) fn retained_behind(&self, after: Option<u64>) -> impl Iterator<Item = Looked> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let looked =
            |position, content| Looked { position, attempts: 0, unsettled: false, content };
        self.history.iter().flat_map(move |history| {
            let in_store = history.pages().after(after);
            let in_store = in_store.map(move |copy| looked(copy.position, Content::InStore(copy)));
            let here = history.from(from);
            in_store.chain(
                here.map(move |this| looked(this.position, Content::Here(this.message.clone()))),
            )
        })
    }
}

impl Retained {
    /// As a store notes it: when it came stays what it is, wherever the store has it.
    pub(super) fn kept(&self, home: &Home) -> Kept {
        Kept {
            position: self.position,
            place: self.place,
            message: self.message.clone(),
            came: self.came,
            attempts: 0,
            due: None,
            expires: None,
            deadline: self.message.deadline().map(|at| home.wall_time(at)),
            death: None,
            dying: false,
            out: false,
        }
    }
}
