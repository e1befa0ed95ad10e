//! How messages come in.

use std::task::Waker;
use std::time::Instant;

use posthaste_core::sync::atomic::Ordering;
use posthaste_core::{Error, ErrorKind, Message, Overflow};

use super::{Ending, Gate, State};
use crate::aftermath::Aftermath;
use crate::agenda::Due;
use crate::aside::Why;
use crate::copies::{Admission, Entrance, Entry, Origin, uncertain};
use crate::home::later;
use crate::wait::Ticket;

impl State {
    /// Takes a [plain](Message::is_plain) message in if the gate is open for it; else nothing has
    /// happened.
    #[inline(always)]
    pub(crate) fn admit_plainly(&mut self, slot: &mut Option<Message>) -> bool {
        let Some(size) = slot.as_ref().map(Message::size) else {
            return false;
        };
        if self.gate.messages == 0 || size > self.gate.bytes {
            return false;
        }
        let Some(message) = slot.take() else {
            return false;
        };
        self.gate.messages -= 1;
        self.gate.bytes -= size;
        self.push_plainly(message, size);
        true
    }

    /// Keeps room for a [plain](Message::is_plain) message if the gate is open for it, or another
    /// makes way; else nothing has happened.
    #[inline]
    pub(crate) fn reserve_plainly(&mut self, message: &Message) -> bool {
        let size = message.size();
        let is_open = self.gate.messages > 0 && size <= self.gate.bytes;
        if is_open {
            self.gate.messages -= 1;
            self.gate.bytes -= size;
        }
        let kept = is_open || self.way_of(message).is_some();
        if kept {
            self.reserved += 1;
            self.reserved_bytes += size;
        }
        kept
    }

    /// Takes a copy of a plain message into the room that was kept, unless something else happened
    /// meanwhile; then nothing has.
    #[inline]
    pub(crate) fn admit_reserved_plainly(&mut self, message: &Message) -> bool {
        let is_open = self.gate.messages > 0;
        if is_open {
            let size = message.size();
            self.release_reserved(size);
            self.push_plainly(message.clone(), size);
        }
        is_open
    }

    #[inline(always)]
    pub(super) fn push_plainly(&mut self, message: Message, size: usize) {
        self.books.accepted += 1;
        let position = self.next_position;
        self.next_position += 1;
        let missed = std::mem::take(&mut self.missed);
        self.lanes.push(Entry::new(message, position, missed), size);
    }

    /// Opens the gate for as much as there is room for, unless more is to be asked of a message
    /// than that. It is closed again by whatever else happens to the mailbox.
    pub(crate) fn open_gate(&mut self) {
        let room = self.room();
        if self.usual && self.missed == 0 && self.idle.is_empty() && !room.is_full() {
            let largest = self.home.payload_limit.load(Ordering::Relaxed);
            self.gate = Gate {
                messages: room.capacity_messages.max(1).saturating_sub(room.messages),
                bytes: room.capacity_bytes.saturating_sub(room.bytes).min(largest),
            };
        }
    }

    /// Takes the message out of `slot` if it may come in and there is room. What is confirmed
    /// without being taken stays in the slot.
    pub(crate) fn admit(
        &mut self,
        slot: &mut Option<Message>,
        entrance: Entrance<'_>,
        after: &mut Aftermath,
    ) -> Admission {
        let Some(message) = slot.as_ref() else {
            return Admission::Gone;
        };
        if let Some(refused) = self.refusal(message, entrance) {
            return refused;
        }
        self.touch();
        if matches!(entrance, Entrance::Sender(_)) && self.is_duplicate(message) {
            return Admission::Taken;
        }
        if self.latest.is_some() && self.replace(slot, after) {
            return Admission::Taken;
        }
        let Some(size) = slot.as_ref().map(Message::size) else {
            return Admission::Gone;
        };
        if !self.room().fits(size)
            && let Some(answer) = self.make_room(slot, size, entrance, after)
        {
            return answer;
        }
        if let Some(message) = slot.take() {
            self.push(message, entrance.origin(), after);
        }
        Admission::Taken
    }

    /// Keeps room for a copy, or puts the sender on the list of those that wait for some; `Taken`
    /// is the promise. Where a full mailbox makes nobody wait, what is promised is only that no
    /// one else is given the room.
    pub(crate) fn reserve(
        &mut self,
        message: &Message,
        waker: &Waker,
        after: &mut Aftermath,
    ) -> Admission {
        let entrance = Entrance::Sender(Some(waker));
        if let Some(refused) = self.refusal(message, entrance) {
            return refused;
        }
        let size = message.size();
        // What is known already takes no room when it comes to it.
        let has_room = self.room().fits(size) || self.knows(message);
        if !has_room && !self.settings.queue.overflow.is_lossy() {
            return self.refuse_full(size, entrance, after);
        }
        self.reserved += 1;
        self.reserved_bytes += size;
        Admission::Taken
    }

    /// Gives up the room that was kept.
    pub(crate) fn unreserve(&mut self, size: usize, after: &mut Aftermath) {
        self.release_reserved(size);
        self.wake_blocked(after);
    }

    /// Keeps room for copies of the first of `messages`, as many as may simply come in, and says
    /// how many those are.
    pub(crate) fn reserve_run<'a>(&mut self, messages: impl Iterator<Item = &'a Message>) -> usize {
        let mut kept = 0;
        for message in messages {
            let size = message.size();
            let comes_in = self.settings.queue.overflow.is_lossy() || self.room().fits(size);
            if !comes_in || self.refusal(message, Entrance::Sender(None)).is_some() {
                break;
            }
            self.reserved += 1;
            self.reserved_bytes += size;
            kept += 1;
        }
        kept
    }

    /// Gives up the room that was kept for `count` messages of `bytes` bytes in all.
    pub(crate) fn unreserve_run(&mut self, count: usize, bytes: usize, after: &mut Aftermath) {
        self.reserved = self.reserved.saturating_sub(count);
        self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
        self.wake_blocked(after);
    }

    /// Takes copies into the room that was kept, and says how many it took.
    pub(crate) fn admit_reserved_run(
        &mut self,
        copies: impl Iterator<Item = Message>,
        after: &mut Aftermath,
    ) -> usize {
        let taken = |copy: Message| matches!(self.admit_reserved(copy, after), Admission::Taken);
        copies.map(taken).filter(|taken| *taken).count()
    }

    /// Takes a copy into the room that was kept.
    pub(crate) fn admit_reserved(&mut self, message: Message, after: &mut Aftermath) -> Admission {
        self.release_reserved(message.size());
        if self.settings.queue.overflow.is_lossy() {
            return self.admit(&mut Some(message), Entrance::Sender(None), after);
        }
        // The room that was kept is there: a bound that was lowered since takes no promise back,
        // and neither does a drain that began since.
        if let Ending::Closed(_) = self.ending {
            return Admission::Gone;
        }
        self.touch();
        if self.is_duplicate(&message) {
            self.wake_blocked(after);
            after.forget(message);
        } else {
            self.push(message, None, after);
        }
        Admission::Taken
    }

    /// A sender no longer waits. Room that it was woken for and did not take is passed on.
    pub(crate) fn leave_blocked(&mut self, ticket: Ticket, after: &mut Aftermath) {
        if self.blocked.leave(ticket, after) {
            self.wake_blocked(after);
        } else if self.stalled.is_some() && self.blocked.waiters() == 0 {
            self.end_stall();
        }
    }

    fn refusal(&self, message: &Message, entrance: Entrance<'_>) -> Option<Admission> {
        match self.ending {
            Ending::Open => {}
            Ending::Draining => return Some(Admission::Draining),
            Ending::Closed(_) => return Some(Admission::Gone),
        }
        if self.settings.queue.keyed
            && message.priority() > 0
            && matches!(entrance, Entrance::Sender(_))
        {
            let text = format!("the queue {} is keyed and knows no priorities", self.name);
            return Some(Admission::Refused(Error::new(ErrorKind::InvalidArgument, text)));
        }
        if self.history.is_some()
            && matches!(entrance, Entrance::Sender(_))
            && let Some(error) = self.not_retained(message)
        {
            return Some(Admission::Refused(error));
        }
        // One that may have come before comes in only where a duplicate would be noticed.
        if message.is_repeat() && (self.seen.is_none() || message.id().is_none()) {
            return Some(Admission::Refused(uncertain()));
        }
        None
    }

    /// Whether the message came before, by its id.
    fn knows(&mut self, message: &Message) -> bool {
        let (Some(seen), Some(id)) = (&mut self.seen, message.id()) else {
            return false;
        };
        let window = self.settings.queue.dedup_window;
        self.home.now().is_some_and(|now| seen.knows(id, window, now))
    }

    /// Counts a message whose id is known.
    fn is_duplicate(&mut self, message: &Message) -> bool {
        let known = self.knows(message);
        self.books.duplicates += u64::from(known);
        known
    }

    fn remember_id(&mut self, message: &Message) {
        let (Some(seen), Some(id)) = (&mut self.seen, message.id()) else {
            return;
        };
        if let Some(now) = self.home.now()
            && !self.home.planted.forgets_ids
            && seen.insert(id, now)
        {
            self.agenda.add(later(now, self.settings.queue.dedup_window), Due::Forget);
        }
    }

    pub(super) fn release_reserved(&mut self, size: usize) {
        self.reserved = self.reserved.saturating_sub(1);
        self.reserved_bytes = self.reserved_bytes.saturating_sub(size);
    }

    /// Takes a message in.
    fn push(&mut self, mut message: Message, origin: Origin, after: &mut Aftermath) {
        self.remember_id(&message);
        if self.history.is_some() {
            return self.retain(message, origin, after);
        }
        let delay = message.delay();
        let mut due = None;
        if !delay.is_zero() {
            due = self.home.now().map(|now| later(now, delay));
            message = message.without_delay();
        }
        if message.is_repeat() {
            message = message.without_repeat();
        }
        self.books.accepted += 1;
        let position = self.next_position;
        self.next_position += 1;
        let mut entry = Entry::new(message, position, std::mem::take(&mut self.missed));
        entry.set_expiry(self.expiry());
        entry.place = self.note_put(&entry, due, origin);
        if self.stays_in_store(&entry, due) {
            return self.page_out(entry, due, after);
        }
        self.mind(&entry);
        self.line_up(entry, due, after);
    }

    /// Puts a copy where it waits, which may be behind others of its key.
    pub(super) fn line_up(&mut self, entry: Entry, due: Option<Instant>, after: &mut Aftermath) {
        let is_behind = self.may_be_behind_pages(&entry);
        if let (Some(keys), Some(key)) = (&mut self.keys, entry.message.key()) {
            if is_behind {
                return self.wait_behind_pages(entry, due);
            }
            if !keys.enter(key, entry.position) {
                self.aside.put(entry, Why::Parked(due));
                return;
            }
        }
        self.place(entry, due, after);
    }

    /// When the queue has no more use for a message that comes now.
    pub(super) fn expiry(&self) -> Option<Instant> {
        let ttl = self.settings.queue.ttl;
        match ttl.is_zero() {
            true => None,
            false => self.home.now().map(|now| later(now, ttl)),
        }
    }

    /// What a full mailbox that drops nothing says.
    pub(super) fn refuse_full(
        &mut self,
        size: usize,
        entrance: Entrance<'_>,
        after: &mut Aftermath,
    ) -> Admission {
        match (self.settings.queue.overflow, entrance) {
            (Overflow::Disconnect, _) => {
                self.cut_off(after);
                Admission::Gone
            }
            (Overflow::Reject, Entrance::Sender(_)) => {
                self.books.returned += 1;
                let text = format!("the queue {} is full", self.name);
                Admission::Refused(Error::new(ErrorKind::Full, text))
            }
            (_, Entrance::Sender(Some(waker)) | Entrance::Burial(waker, _)) => {
                self.begin_stall();
                Admission::Full(Some(self.blocked.wait(waker, size)))
            }
            (_, Entrance::Sender(None) | Entrance::Replay(_)) => Admission::Full(None),
        }
    }
}
