//! What happens when there is no room: who is dropped, and who is cut off.

use posthaste_core::sync::atomic::Ordering;
use posthaste_core::{Kind, Message, Overflow};

use super::State;
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::books::reason;
use crate::copies::{Admission, Entrance, Unanswered};
use crate::home::later;
use crate::mailbox::Role;
use crate::room::Room;

/// Who is dropped when a full mailbox takes a message in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The one that goes out next.
    Oldest,
    /// The one at this position, whose place the message takes.
    Predecessor(u64),
    /// The message itself.
    Newest,
}

impl State {
    /// Makes room as the policy says; an answer means that none was made.
    pub(super) fn make_room(
        &mut self,
        slot: &Option<Message>,
        size: usize,
        entrance: Entrance<'_>,
        after: &mut Aftermath,
    ) -> Option<Admission> {
        match (self.settings.queue.overflow, entrance) {
            (_, Entrance::Replay(_))
            | (Overflow::Block | Overflow::Reject | Overflow::Disconnect, _) => {
                Some(self.refuse_full(size, entrance, after))
            }
            (Overflow::DropOldest | Overflow::LatestPerKey, _) if self.could_fit(size) => {
                while !self.room().fits(size) && self.drop_oldest(after) {}
                None
            }
            _ => {
                self.drop_newest(slot, after);
                Some(Admission::Taken)
            }
        }
    }

    /// How a full mailbox takes a [plain](Message::is_plain) message in without more ado: nobody
    /// waits for one, or wants to hear of what is dropped.
    #[inline]
    pub(super) fn way_of(&self, message: &Message) -> Option<Way> {
        let plain = self.usual_or_latest
            && self.idle.is_empty()
            && self.aside.len() == 0
            && self.lanes.are_ordinary()
            && !self.home.hears_drops()
            && message.size() <= self.home.payload_limit.load(Ordering::Relaxed);
        match self.settings.queue.overflow {
            Overflow::DropOldest if plain => Some(Way::Oldest),
            Overflow::DropNewest if plain => Some(Way::Newest),
            Overflow::LatestPerKey if plain => self.predecessor(message).map(Way::Predecessor),
            _ => None,
        }
    }

    /// Takes a plain message in [its way](Self::way_of) and returns the one that is dropped for it, if
    /// that is all there is to it; else nothing has happened.
    #[cold]
    pub(crate) fn replace_plainly(&mut self, slot: &mut Option<Message>) -> Option<Message> {
        let message = slot.as_ref()?;
        let (way, size, mut room) = (self.way_of(message)?, message.size(), self.room());
        if let Way::Predecessor(position) = way {
            let gone = self.lanes.replace(position, slot)?;
            self.books.accepted += 1;
            self.books.drop_copies(reason::REPLACED, 1);
            return Some(gone);
        }
        if room.fits(size) {
            return None;
        }
        if way == Way::Newest {
            self.books.accepted += 1;
            self.missed = self.missed.saturating_add(1);
            self.books.drop_copies(reason::FULL, 1);
            return slot.take();
        }
        room.messages = room.messages.saturating_sub(1);
        room.bytes -= self.lanes.next_mut()?.message.size();
        if !room.fits(size) {
            return None;
        }
        let (oldest, message) = (self.lanes.pop()?, slot.take()?);
        self.books.drop_copies(reason::FULL, 1);
        self.pass_on_missed(oldest.missed.saturating_add(1));
        self.push_plainly(message, size);
        Some(oldest.message)
    }

    /// The same for a message for which room was kept.
    pub(crate) fn replace_plainly_reserved(&mut self, message: &Message) -> Option<Message> {
        let size = message.size();
        self.release_reserved(size);
        let gone = self.replace_plainly(&mut Some(message.clone()));
        if gone.is_none() {
            self.reserved += 1;
            self.reserved_bytes += size;
        }
        gone
    }

    #[inline]
    fn predecessor(&self, message: &Message) -> Option<u64> {
        self.latest.as_ref()?.predecessor(message)
    }

    /// Puts the message in the place of its predecessor, if that still waits. (Should it be the
    /// larger one, the oldest make room for it.)
    pub(super) fn replace(&mut self, slot: &mut Option<Message>, after: &mut Aftermath) -> bool {
        let Some(message) = slot.as_ref() else { return false };
        if !message.delay().is_zero() {
            return false;
        }
        let Some(mut entry) =
            self.predecessor(message).and_then(|position| self.take_out(position))
        else {
            return false;
        };
        self.count_drop(&entry.message, reason::REPLACED, after);
        self.books.accepted += 1;
        entry.missed = entry.missed.saturating_add(1);
        entry.attempts = 0;
        entry.set_expiry(self.expiry());
        if let Some(message) = slot.take() {
            after.forget(std::mem::replace(&mut entry.message, message));
        }
        self.mind(&entry);
        self.place(entry, None, after);
        while self.room().is_exceeded() && self.drop_oldest(after) {}
        true
    }

    /// Whether dropping what may be dropped makes room for `size` bytes.
    fn could_fit(&self, size: usize) -> bool {
        let (leaving, leaving_bytes) = self.aside.leaving();
        Room {
            messages: self.leases.len() + self.reserved + leaving,
            bytes: self.leases.bytes() + self.reserved_bytes + leaving_bytes,
            ..self.room()
        }
        .fits(size)
    }

    /// Drops the copy that has waited longest; false if none waits.
    fn drop_oldest(&mut self, after: &mut Aftermath) -> bool {
        let entry = if self.aside.len() == 0 && self.lanes.are_ordinary() {
            // The next one.
            self.take_next()
        } else {
            let oldest = [self.lanes.position_after(None), self.aside.waiting_after(None)];
            let oldest = oldest.into_iter().flatten().min();
            let in_store = self.lanes.pages().begin().min(self.aside.delayed().begin());
            let oldest = oldest.filter(|position| *position < in_store);
            oldest.and_then(|position| self.take_out(position))
        };
        let Some(entry) = entry else {
            return self.drop_page(after);
        };
        let missed = entry.missed.saturating_add(1);
        self.drop_copy(entry, reason::FULL, after);
        self.pass_on_missed(missed);
        true
    }

    fn drop_newest(&mut self, slot: &Option<Message>, after: &mut Aftermath) {
        self.books.accepted += 1;
        self.missed = self.missed.saturating_add(1);
        let Some(message) = slot else { return };
        self.count_drop(message, reason::FULL, after);
        if message.kind() == Kind::Request {
            let request = message.clone();
            after.unanswered(&self.home, Unanswered { request, begun: false });
        }
    }

    // ---- subscriptions that hold others up

    /// Ends the subscription, or the group, because it was too slow.
    pub(super) fn cut_off(&mut self, after: &mut Aftermath) {
        self.close(reason::SLOW_CONSUMER, after);
        self.errand(Errand::CutOff, after);
    }

    /// A sender has to wait.
    pub(super) fn begin_stall(&mut self) {
        if self.stalled.is_none() && matches!(self.role, Role::Subscription | Role::Group) {
            self.stalled = self.home.now();
            self.plan_stall();
        }
    }

    /// Room was freed, but for whoever still waits.
    pub(super) fn restart_stall(&mut self) {
        self.end_stall();
        if self.blocked.waiters() > 0 {
            self.begin_stall();
        }
    }

    pub(super) fn end_stall(&mut self) {
        if let Some(since) = self.stalled.take() {
            self.agenda.remove(later(since, self.settings.stall_limit), Due::Stalled);
        }
    }

    fn plan_stall(&mut self) {
        if let Some(since) = self.stalled {
            self.agenda.add(later(since, self.settings.stall_limit), Due::Stalled);
        }
    }

    /// A sender has waited for the whole limit.
    pub(super) fn stall_is_over(&mut self, after: &mut Aftermath) {
        self.stalled = None;
        if self.blocked.waiters() > 0 {
            self.cut_off(after);
        }
    }
}
