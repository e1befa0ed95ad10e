//! What a connection knows about a receiver: its mailbox, its credit, and what is not settled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Buf;
use posthaste_core::task::remember;
use posthaste_core::{
    Ack, Error, ErrorKind, Event, Message, Parts, Source, Start, Subscription, Topic,
};
use posthaste_wire::{self as wire, Outcome, Transfer};

use super::state::Wakeups;
use super::tray::{Recalled, Tray};
use crate::control::{self, Opened, Wanted};
use crate::numbering::Numbering;

/// Messages on their way to a subscription without a prefetch limit.
const WINDOW_MESSAGES: u64 = 65_536;
/// Bytes on their way to a subscription, unless it holds less itself.
const WINDOW_BYTES: u64 = 8 << 20;
/// Messages on their way to a subscription that may lose some: what waits here is not dropped, so
/// it has to be little if it is to be recent.
const WINDOW_LOSSY: u64 = 64;
/// Messages on their way to an inbox.
const WINDOW_INBOX: u64 = 4_096;

/// What was handed out since the state was told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Untold {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A message that has arrived, or a run of them, before its head is checked.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(super) parts: Parts,
    pub(super) attempt: u32,
    pub(super) missed: u64,
    /// Where in the queue that is read it is, or the first of them.
    pub(super) offset: Option<u64>,
}

impl Arrived {
    /// How many messages it is.
    pub(super) fn count(&self) -> u64 {
        u64::from(self.parts.count)
    }

    pub(super) fn size(&self) -> u64 {
        let (head, payload) = (wide(self.parts.head.len()), wide(self.parts.payload.len()));
        match self.count() {
            1 => head + payload,
            count => (count * head + payload).saturating_sub(count * wide(Message::RUN_PREFIX)),
        }
    }

    /// Takes the first message off a run, of which at least one is left.
    pub(super) fn take_first(&mut self) -> Parts {
        let parts = &mut self.parts;
        let len = parts.payload.try_get_u32_le().map_or(0, |len| usize::try_from(len).unwrap_or(0));
        let payload = parts.payload.split_to(len.min(parts.payload.len()));
        parts.count -= 1;
        self.offset = self.offset.map(|at| at.wrapping_add(1));
        if parts.count == 1 {
            // What is left is no run any more.
            parts.payload.advance(Message::RUN_PREFIX.min(parts.payload.len()));
        }
        Parts { payload, count: 1, head: parts.head.clone(), ..*parts }
    }
}

/// How many messages these are.
pub(super) fn messages(arrived: &VecDeque<Arrived>) -> u64 {
    arrived.iter().map(Arrived::count).sum()
}

/// What a batch is from.
pub(super) enum From {
    /// The current session: the first one's number in it.
    Session { first: u64 },
    /// Nobody waits for their settlement: a session that is lost, or this side itself.
    Nobody,
}

/// What is known about a receiver.
///
/// Deliveries are counted from 1 for as long as the session lasts; [`Numbering`] knows what the
/// current connection calls them.
pub(crate) struct ReceiverState {
    wanted: Wanted,
    limit: Option<u64>,
    window_messages: u64,
    window_bytes: u64,
    /// Whether message credit goes back when a delivery is settled, not when it is handed out.
    credit_by_settling: bool,
    /// Whether the server waits for a settlement of each message.
    settles: bool,
    mailbox: VecDeque<Arrived>,
    /// What nobody waits for the settlement of: it is handed out first.
    stale: VecDeque<Arrived>,
    /// Which session of the link this is, from 1: what belonged to an earlier one is stale.
    generation: u64,
    numbering: Numbering,
    tray: Tray,
    /// The number of the last message that came in this session, and the bytes of all of them.
    received: u64,
    received_bytes: u64,
    /// How much of that was handed out.
    seen: u64,
    seen_bytes: u64,
    /// How many have come over this connection, those that are told again included, how many of
    /// those are still to come, and the bytes of all.
    on_wire: u64,
    to_recall: u64,
    on_wire_bytes: u64,
    granted: u64,
    granted_bytes: u64,
    /// Credit that is free again and has not gone back.
    owed_messages: u64,
    owed_bytes: u64,
    /// How many have gone to the handle, in all sessions, and how many the application has taken.
    delivered: u64,
    handed: u64,
    /// Where in the queue that is read the next message is, as far as that is known.
    next_offset: Option<u64>,
    begins_at: Option<u64>,
    /// Deliveries whose result nobody waits for any more, and who wants to know that of which.
    cancelled: BTreeSet<u64>,
    watching: BTreeMap<u64, Waker>,
    stopping: bool,
    stopped: bool,
    /// What whoever receives has to know before anything else of the new session.
    interruption: Option<Error>,
    /// Whether something was settled since the last SYNC.
    dirty: bool,
    sync_sent: u64,
    sync_done: u64,
    sync_error: Option<Error>,
    waiting: Option<Waker>,
}

impl ReceiverState {
    pub(super) fn new(wanted: Wanted) -> Self {
        let mut state = Self {
            limit: None,
            window_messages: WINDOW_INBOX,
            window_bytes: WINDOW_BYTES,
            credit_by_settling: false,
            settles: false,
            mailbox: VecDeque::new(),
            stale: VecDeque::new(),
            generation: 0,
            numbering: Numbering::default(),
            tray: Tray::default(),
            received: 0,
            received_bytes: 0,
            seen: 0,
            seen_bytes: 0,
            on_wire: 0,
            to_recall: 0,
            on_wire_bytes: 0,
            granted: 0,
            granted_bytes: 0,
            owed_messages: 0,
            owed_bytes: 0,
            delivered: 0,
            handed: 0,
            next_offset: None,
            begins_at: None,
            cancelled: BTreeSet::new(),
            watching: BTreeMap::new(),
            stopping: false,
            stopped: false,
            interruption: None,
            dirty: false,
            sync_sent: 0,
            sync_done: 0,
            sync_error: None,
            waiting: None,
            wanted,
        };
        if let Wanted::Subscription(subscription) = &state.wanted {
            state.limit = subscription.limit;
            state.credit_by_settling =
                subscription.ack == Ack::Manual && subscription.prefetch.is_some();
            state.window_messages = window(subscription);
            state.window_bytes = wide(subscription.capacity_bytes).clamp(1, WINDOW_BYTES);
        }
        state
    }

    pub(crate) fn options(&self) -> Vec<u8> {
        // They hold where the session does not go on: then what is settled by hand and was not
        // handed out comes again.
        let taken = if self.is_auto() { self.delivered } else { self.handed };
        let gone = taken + messages(&self.stale);
        let left = self.limit.map(|limit| limit.saturating_sub(gone));
        match (&self.wanted, self.next_offset) {
            // It has everything before that.
            (Wanted::Subscription(wanted), Some(next)) if wanted.start.is_some() => {
                let wanted = wanted.clone().start(Start::Offset(next));
                control::receiver::encode(&Wanted::Subscription(wanted), left)
            }
            (wanted, _) => control::receiver::encode(wanted, left),
        }
    }

    /// How many deliveries there are in all.
    pub(super) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The address of an inbox.
    pub(super) fn address(&self) -> Option<Topic> {
        match &self.wanted {
            Wanted::Inbox(address) => address.clone(),
            Wanted::Subscription(_) => None,
        }
    }

    /// Where in the queue that is read it began.
    pub(super) fn begins_at(&self) -> Option<u64> {
        self.begins_at
    }

    /// The server says where in the queue that is read the next message is.
    pub(crate) fn next_is_at(&mut self, offset: u64) {
        self.next_offset = Some(offset);
    }

    /// Whether the application settles nothing itself.
    pub(super) fn is_auto(&self) -> bool {
        match &self.wanted {
            Wanted::Subscription(subscription) => subscription.ack == Ack::Auto,
            Wanted::Inbox(_) => true,
        }
    }

    /// Whether the server waits for a settlement of each message.
    pub(super) fn settles(&self) -> bool {
        self.settles
    }

    /// Which session of the link this is.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Where it goes on: after this many messages of the session.
    pub(crate) fn resume_at(&self) -> u64 {
        self.received
    }

    /// What is to be said before anything of the new session, once nothing is left of the old.
    pub(super) fn take_interruption(&mut self) -> Option<Error> {
        if self.stale.is_empty() { self.interruption.take() } else { None }
    }

    /// Hands over all that is there, into an empty batch.
    pub(super) fn take(&mut self, batch: &mut VecDeque<Arrived>) -> From {
        let from = if self.stale.is_empty() {
            let first = self.received + 1 - messages(&self.mailbox);
            std::mem::swap(batch, &mut self.mailbox);
            From::Session { first }
        } else {
            std::mem::swap(batch, &mut self.stale);
            // They were in the way of as much new.
            self.owed_messages += messages(batch);
            self.owed_bytes += bytes(batch);
            From::Nobody
        };
        self.delivered += messages(batch);
        from
    }

    /// Keeps the waker of the handle.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        remember(&mut self.waiting, cx);
    }

    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        self.waiting.take()
    }

    /// How many deliveries of the session are not settled yet.
    pub(crate) fn unsettled(&self) -> u64 {
        self.tray.open()
    }

    /// How many deliveries the server may still wait for.
    pub(crate) fn may_be_told(&self) -> u64 {
        self.tray.len()
    }

    /// Whether the server has still to tell again some of what it waits for.
    pub(crate) fn is_recalling(&self) -> bool {
        self.to_recall > 0
    }

    /// Whether the server waits for nothing from here any more, as far as that is known.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.tray.is_empty() && !self.is_asking()
    }

    /// Whether nothing is open here, and the server has told again all that it waits for.
    pub(crate) fn is_done(&self) -> bool {
        self.tray.open() == 0 && self.to_recall == 0
    }

    /// Whether its handle wants nothing more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Nothing more is wanted.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.stale = VecDeque::new();
    }

    /// The server sends no more.
    pub(crate) fn stopped(&mut self) {
        self.stopped = true;
    }

    /// Whether the server sends no more.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The link is open, and a session begins: what may be on its way at first, in messages and
    /// bytes.
    pub(crate) fn opened(&mut self, opened: Opened) -> (u64, u64) {
        self.settles = opened.settles;
        self.next_offset = opened.offset.or(self.next_offset);
        self.begins_at = self.begins_at.or(opened.offset);
        if let (Wanted::Inbox(address), Some(given)) = (&mut self.wanted, opened.address) {
            *address = Some(given);
        }
        self.generation += 1;
        self.numbering = Numbering::default();
        (self.received, self.received_bytes) = (0, 0);
        (self.seen, self.seen_bytes) = (0, 0);
        // What is still here from before takes its part of the window: a connection that is lost
        // again and again must not fill the memory.
        let free = self.window_messages.saturating_sub(messages(&self.stale));
        let free_bytes = self.window_bytes.saturating_sub(bytes(&self.stale));
        self.begin(0, free, free_bytes)
    }

    /// The link is open, and the session goes on where it was; the server tells `carried` deliveries
    /// again. What may be on its way at first, in messages and bytes.
    pub(crate) fn resumed(&mut self, carried: u64) -> (u64, u64) {
        self.numbering = Numbering::after(self.received, Vec::new());
        let unseen = self.received.saturating_sub(self.seen);
        let held = if self.credit_by_settling { self.tray.open() } else { unseen };
        let held_bytes = self.received_bytes.saturating_sub(self.seen_bytes);
        let free = self.window_messages.saturating_sub(held);
        // One message may overdraw it, so that a single byte is enough for those told again.
        let free_bytes = self.window_bytes.saturating_sub(held_bytes).max(1);
        self.begin(carried, free, free_bytes)
    }

    /// A connection begins on which `carried` deliveries are told again.
    fn begin(&mut self, carried: u64, free: u64, free_bytes: u64) -> (u64, u64) {
        (self.on_wire, self.on_wire_bytes) = (0, 0);
        (self.owed_messages, self.owed_bytes) = (0, 0);
        self.granted = 0;
        self.granted = carried.saturating_add(self.may_grant(free));
        self.granted_bytes = free_bytes;
        self.to_recall = carried;
        (self.granted, self.granted_bytes)
    }

    /// How many of `more` messages the subscription's limit leaves room for. What is here, was
    /// handed out, or may be on its way counts.
    fn may_grant(&self, more: u64) -> u64 {
        let Some(limit) = self.limit else { return more };
        let here = messages(&self.stale) + messages(&self.mailbox);
        let under_way = self.granted.saturating_sub(self.on_wire).saturating_sub(self.to_recall);
        let spent = self.delivered.saturating_add(here).saturating_add(under_way);
        more.min(limit.saturating_sub(spent))
    }

    /// Whether whatever comes next is for the mailbox.
    pub(crate) fn takes_all(&self) -> bool {
        self.to_recall == 0 && !self.stopping
    }

    /// A message has come for the mailbox.
    pub(crate) fn took(&mut self, transfer: Transfer, now: Instant) {
        self.on_wire += u64::from(transfer.count);
        let arrived = self.enter(transfer, now);
        self.mailbox.push_back(arrived);
    }

    /// A message has come. If it is one from before that is told again, or that nobody wants any
    /// more, the server has to be told what becomes of it.
    pub(crate) fn arrived(
        &mut self,
        transfer: Transfer,
        orphaned: bool,
        now: Instant,
        session: &mut wire::Session,
        link: wire::Link,
    ) {
        self.on_wire += u64::from(transfer.count);
        if transfer.head.is_empty() && self.to_recall > 0 {
            let number = transfer.hop.correlation.map_or(0, std::num::NonZero::get);
            self.recalled(number, session, link);
            return;
        }
        let arrived = self.enter(transfer, now);
        if orphaned || self.stopping {
            self.seen += arrived.count();
            self.seen_bytes = self.seen_bytes.saturating_add(arrived.size());
            let (first, last) = (self.received + 1 - arrived.count(), self.received);
            self.settle_range(first, last, Outcome::Release, session, Some(link));
        } else {
            self.mailbox.push_back(arrived);
        }
    }

    /// Counts a message that has come.
    fn enter(&mut self, transfer: Transfer, now: Instant) -> Arrived {
        let Transfer { hop, head, payload, count } = transfer;
        let arrived = Arrived {
            attempt: hop.attempt,
            missed: hop.missed,
            offset: self.next_offset,
            parts: Parts {
                head: head.into(),
                payload,
                attributes: hop.attributes,
                correlation: hop.correlation.map_or(0, std::num::NonZero::get),
                deadline: hop.deadline.and_then(|left| now.checked_add(left)),
                count,
            },
        };
        let size = arrived.size();
        self.received_bytes = self.received_bytes.saturating_add(size);
        self.on_wire_bytes = self.on_wire_bytes.saturating_add(size);
        if self.settles {
            self.tray.arrived(self.received + 1, count);
        }
        self.received += arrived.count();
        self.next_offset = self.next_offset.map(|at| at.wrapping_add(arrived.count()));
        arrived
    }

    /// The server still waits for what becomes of an earlier delivery.
    fn recalled(&mut self, number: u64, session: &mut wire::Session, link: wire::Link) {
        self.to_recall -= 1;
        self.numbering.carry(number);
        if let Recalled::Settled(outcome, beside) = self.tray.recall(number) {
            let on_wire = self.on_wire;
            session.settle(link, on_wire, on_wire, outcome, beside.after, &beside.why);
            self.dirty = true;
        }
    }

    /// Nobody waits any more for what is to come of a delivery, by the connection's number; who
    /// wants to know that.
    pub(super) fn cancelled(&mut self, on_wire: u64) -> Option<Waker> {
        let number = self.numbering.in_session(on_wire);
        // A server that names what is settled long ago must not fill the memory.
        if wide(self.cancelled.len()) < self.tray.open() {
            self.cancelled.insert(number);
        }
        self.watching.remove(&number)
    }

    /// Whether nobody waits any more for what is to come of a delivery; else keeps the waker, and
    /// hands back the one that was there.
    pub(super) fn poll_cancelled(
        &mut self,
        number: u64,
        cx: &Context<'_>,
    ) -> Result<(), Option<Waker>> {
        if self.cancelled.contains(&number) {
            return Ok(());
        }
        Err(self.watching.insert(number, cx.waker().clone()))
    }

    /// The application has settled one delivery; who waited to hear that it is cancelled. Without a
    /// connection the server hears it on the next one.
    pub(super) fn settle(
        &mut self,
        number: u64,
        (outcome, after, why): (Outcome, Option<Duration>, &str),
        session: &mut wire::Session,
        link: Option<wire::Link>,
    ) -> Option<Waker> {
        if !self.tray.settle(number, outcome, after, why) {
            return None;
        }
        self.dirty = true;
        self.cancelled.remove(&number);
        let watching = self.watching.remove(&number);
        if let Some((link, on_wire)) = link.zip(self.numbering.on_wire(number)) {
            session.settle(link, on_wire, on_wire, outcome, after, why);
        }
        if self.credit_by_settling {
            self.owed_messages += 1;
        }
        self.ask_if_long(session, link);
        watching
    }

    /// Settles what is open of a range, in the same way.
    fn settle_range(
        &mut self,
        first: u64,
        last: u64,
        outcome: Outcome,
        session: &mut wire::Session,
        link: Option<wire::Link>,
    ) {
        if !self.settles || first > last {
            return;
        }
        self.tray.settle_range(first, last, outcome);
        self.dirty = true;
        let on_wire = |number| self.numbering.on_wire(number);
        match link {
            Some(link) if let (Some(first), Some(last)) = (on_wire(first), on_wire(last)) => {
                session.settle(link, first, last, outcome, None, "");
            }
            // Some of them are from before: those that the server told again have numbers.
            Some(link) => {
                for on_wire in (first..=last).filter_map(on_wire) {
                    session.settle(link, on_wire, on_wire, outcome, None, "");
                }
            }
            None => {}
        }
        self.ask_if_long(session, link);
    }

    /// The application is still working on a delivery.
    pub(super) fn extend(&self, number: u64, session: &mut wire::Session, link: wire::Link) {
        if let Some(on_wire) = self.numbering.on_wire(number) {
            session.extend(link, on_wire);
        }
    }

    /// What was told is kept until it is known to have been heard, so now and then that is asked.
    fn ask_if_long(&mut self, session: &mut wire::Session, link: Option<wire::Link>) {
        let may_ask = self.tray.is_long() && !self.is_asking() && self.to_recall == 0;
        if let Some(link) = link.filter(|_| may_ask) {
            self.ask(session, link);
        }
    }

    fn ask(&mut self, session: &mut wire::Session, link: wire::Link) {
        self.dirty = false;
        self.sync_sent += 1;
        self.tray.ask();
        session.sync(link, self.sync_sent);
    }

    /// The application has settled a delivery of a session that is lost.
    pub(super) fn settled_in_vain(&mut self) {
        self.sync_error = Some(Error::new(
            ErrorKind::SessionLost,
            "a delivery was settled after its session was lost; it is delivered again",
        ));
    }

    /// The application has taken messages of a session that is lost.
    pub(super) fn handed_out_late(&mut self, untold: Untold) {
        self.handed = self.handed.saturating_add(untold.messages);
    }

    /// The application has taken messages, the last of them of number `last`.
    pub(super) fn handed_out(
        &mut self,
        untold: Untold,
        last: u64,
        session: &mut wire::Session,
        link: Option<wire::Link>,
    ) {
        self.handed = self.handed.saturating_add(untold.messages);
        self.seen = self.seen.saturating_add(untold.messages);
        self.seen_bytes = self.seen_bytes.saturating_add(untold.bytes);
        if self.is_auto() {
            let first = last + 1 - untold.messages;
            self.settle_range(first, last, Outcome::Ack, session, link);
        }
        self.owed_bytes += untold.bytes;
        if !self.credit_by_settling {
            self.owed_messages += untold.messages;
        }
        if let Some(link) = link {
            self.grant(session, link);
        }
    }

    /// Whether the server has been asked about settlements and has not answered.
    pub(super) fn is_asking(&self) -> bool {
        self.sync_done < self.sync_sent
    }

    /// Asks whether everything that was settled is at its queue's own level.
    pub(super) fn poll_synced(
        &mut self,
        session: &mut wire::Session,
        link: Option<wire::Link>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Error>> {
        // One question at a time, however often this is asked: the answer wakes whoever waits, and
        // what was settled meanwhile is asked about then.
        let may_ask = self.dirty && !self.is_asking() && self.to_recall == 0;
        if let Some(link) = link.filter(|_| may_ask) {
            self.ask(session, link);
        }
        self.waiting = None;
        if let Some(error) = self.sync_error.take() {
            return Poll::Ready(Err(error));
        }
        if !self.dirty && !self.is_asking() {
            return Poll::Ready(Ok(()));
        }
        self.wait(cx);
        Poll::Pending
    }

    /// Gives credit back, once it is half of all there is, or once the server has none left: the
    /// handle may well wait for more while it keeps what it has.
    pub(super) fn grant(&mut self, session: &mut wire::Session, link: wire::Link) {
        if self.stopping {
            return;
        }
        let dry = self.granted <= self.on_wire || self.granted_bytes <= self.on_wire_bytes;
        let half = self.owed_messages.saturating_mul(2) >= self.window_messages
            || self.owed_bytes.saturating_mul(2) >= self.window_bytes;
        if !(dry || half) {
            return;
        }
        let messages = self.may_grant(self.owed_messages);
        let bytes = self.owed_bytes;
        (self.owed_messages, self.owed_bytes) = (0, 0);
        if messages > 0 || bytes > 0 {
            self.granted += messages;
            self.granted_bytes += bytes;
            session.grant(link, messages, bytes);
        }
    }

    /// The answer to a SYNC; a later one answers those before.
    pub(crate) fn synced(&mut self, token: u64, error: Option<Error>) {
        let done = self.sync_done.max(token.min(self.sync_sent));
        if done > self.sync_done {
            self.sync_done = done;
            self.tray.answered();
        }
        if error.is_some() {
            self.sync_error = error;
        }
    }

    /// Gives back what is in the mailbox; nothing more is wanted. Says how many that were.
    pub(crate) fn give_back(
        &mut self,
        session: &mut wire::Session,
        link: Option<wire::Link>,
    ) -> u64 {
        self.stop();
        let unseen = messages(&std::mem::take(&mut self.mailbox));
        self.release(session, link, self.received + 1 - unseen, unseen);
        if self.settles { unseen } else { 0 }
    }

    /// Gives back `count` messages that nobody has seen, from number `first` on.
    pub(super) fn release(
        &mut self,
        session: &mut wire::Session,
        link: Option<wire::Link>,
        first: u64,
        count: u64,
    ) {
        if count > 0 {
            self.settle_range(first, first + count - 1, Outcome::Release, session, link);
        }
    }

    /// The connection is gone; the session may go on over another.
    pub(super) fn disconnected(&mut self) {
        if self.is_asking() {
            self.dirty = true;
            self.sync_done = self.sync_sent;
        }
        self.tray.unanswered();
        self.stopped = false;
        (self.granted, self.granted_bytes) = (0, 0);
        (self.on_wire, self.on_wire_bytes, self.to_recall) = (0, 0, 0);
    }

    /// The session, or the link, is gone.
    pub(super) fn lost(&mut self, wakers: &mut Wakeups) {
        let unseen = std::mem::take(&mut self.mailbox);
        if self.is_auto() && !self.stopping {
            // They will not come again.
            self.stale.extend(unseen);
        } else {
            self.delivered = self.handed;
        }
        let unheard = self.dirty || self.is_asking();
        self.dirty = false;
        self.sync_done = self.sync_sent;
        // What nobody settles by hand, nobody waits to hear of.
        if unheard && !self.is_auto() {
            self.sync_error = Some(Error::new(
                ErrorKind::SessionLost,
                "the session was lost before the settlements were confirmed",
            ));
        }
        self.generation += 1;
        self.numbering = Numbering::default();
        self.tray = Tray::default();
        self.cancelled = BTreeSet::new();
        wakers.add(std::mem::take(&mut self.watching).into_values());
        self.stopped = false;
        (self.granted, self.granted_bytes) = (0, 0);
        (self.received, self.received_bytes) = (0, 0);
        (self.seen, self.seen_bytes) = (0, 0);
        (self.on_wire, self.on_wire_bytes, self.to_recall) = (0, 0, 0);
    }

    /// The session was lost, and the link goes on: whoever awaits answers has to know.
    pub(super) fn interrupt(&mut self) {
        if matches!(self.wanted, Wanted::Inbox(Some(_))) {
            let text = "the session with the broker was lost, and answers may be lost with it";
            self.interruption = Some(Error::new(ErrorKind::SessionLost, text));
        }
    }

    /// Something happened to the session: those who subscribe to such events are told.
    pub(super) fn tell(&mut self, event: &Event) {
        let Wanted::Subscription(Subscription { source: Source::Topic(pattern), .. }) =
            &self.wanted
        else {
            return;
        };
        if let Ok(message) = event.to_message()
            && pattern.matches(&message.topic())
            && !self.stopping
        {
            let parts = Message::into_parts(message);
            self.stale.push_back(Arrived { parts, attempt: 1, missed: 0, offset: None });
        }
    }
}

fn bytes(arrived: &VecDeque<Arrived>) -> u64 {
    arrived.iter().map(Arrived::size).fold(0, u64::saturating_add)
}

fn window(subscription: &Subscription) -> u64 {
    let prefetch = subscription.prefetch.map(wide);
    match subscription.overflow.is_lossy() {
        true => prefetch.unwrap_or(WINDOW_LOSSY).clamp(1, WINDOW_LOSSY),
        false => prefetch.unwrap_or(WINDOW_MESSAGES).max(1),
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
