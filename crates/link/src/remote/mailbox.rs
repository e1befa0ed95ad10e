//! What a connection knows about a receiver: its mailbox, its credit, and what is not settled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use posthaste_core::task::remember;
use posthaste_core::{Ack, Error, ErrorKind, Parts, Subscription, Topic};
use posthaste_wire::{self as wire, Transfer};

use super::state::Wakeups;
use crate::control::{self, Opened, Wanted};

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

/// A message that has arrived, before its head is checked.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(super) parts: Parts,
    pub(super) attempt: u32,
    pub(super) missed: u64,
}

impl Arrived {
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.parts.head.len() + self.parts.payload.len()).unwrap_or(u64::MAX)
    }
}

/// What a batch is from.
pub(super) enum From {
    /// The current connection: the first one's number.
    Connection { first: u64 },
    /// A connection that is gone: nobody waits for their settlement any more.
    Lost,
}

/// What a connection knows about a receiver.
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
    /// What came over an earlier connection and is settled there, one way or the other.
    stale: VecDeque<Arrived>,
    /// The number of the last message that came, and the bytes of all of them.
    received: u64,
    received_bytes: u64,
    granted: u64,
    granted_bytes: u64,
    /// Credit that is free again and has not gone back.
    owed_messages: u64,
    owed_bytes: u64,
    /// How many have gone to the handle, over all connections.
    delivered: u64,
    unsettled: u64,
    /// Deliveries whose result nobody waits for any more, and who wants to know that of which.
    cancelled: BTreeSet<u64>,
    watching: BTreeMap<u64, Waker>,
    stopping: bool,
    stopped: bool,
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
            received: 0,
            received_bytes: 0,
            granted: 0,
            granted_bytes: 0,
            owed_messages: 0,
            owed_bytes: 0,
            delivered: 0,
            unsettled: 0,
            cancelled: BTreeSet::new(),
            watching: BTreeMap::new(),
            stopping: false,
            stopped: false,
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
        let gone = self.delivered + wide(self.stale.len());
        let left = self.limit.map(|limit| limit.saturating_sub(gone));
        control::receiver::encode(&self.wanted, left)
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

    /// Hands over all that is there, into an empty batch.
    pub(super) fn take(&mut self, batch: &mut VecDeque<Arrived>) -> From {
        let from = if self.stale.is_empty() {
            let first = self.received + 1 - wide(self.mailbox.len());
            std::mem::swap(batch, &mut self.mailbox);
            From::Connection { first }
        } else {
            std::mem::swap(batch, &mut self.stale);
            // They were in the way of as much new.
            self.owed_messages += wide(batch.len());
            self.owed_bytes += bytes(batch);
            From::Lost
        };
        self.delivered += wide(batch.len());
        from
    }

    /// Keeps the waker of the handle.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        remember(&mut self.waiting, cx);
    }

    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        self.waiting.take()
    }

    /// How many deliveries of the current connection are not settled yet.
    pub(crate) fn unsettled(&self) -> u64 {
        self.unsettled
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

    /// The link is open: what may be on its way at first, in messages and bytes.
    pub(crate) fn opened(&mut self, opened: Opened) -> (u64, u64) {
        self.settles = opened.settles;
        if let (Wanted::Inbox(address), Some(given)) = (&mut self.wanted, opened.address) {
            *address = Some(given);
        }
        (self.received, self.received_bytes) = (0, 0);
        (self.owed_messages, self.owed_bytes) = (0, 0);
        // What is still here from before takes its part of the window: a connection that is lost
        // again and again must not fill the memory.
        let free = self.window_messages.saturating_sub(wide(self.stale.len()));
        self.granted = self.may_grant(free);
        self.granted_bytes = self.window_bytes.saturating_sub(bytes(&self.stale));
        (self.granted, self.granted_bytes)
    }

    /// How many of `more` messages the subscription's limit leaves room for. What has been granted
    /// and what was delivered over earlier connections both count.
    fn may_grant(&self, more: u64) -> u64 {
        match self.limit {
            None => more,
            Some(limit) => {
                let here = self.received.saturating_sub(wide(self.mailbox.len()));
                let before = (self.delivered + wide(self.stale.len())).saturating_sub(here);
                more.min(limit.saturating_sub(before.saturating_add(self.granted)))
            }
        }
    }

    /// A message has come; `true` if it is to go back at once.
    pub(crate) fn arrived(&mut self, transfer: Transfer, orphaned: bool, now: Instant) -> bool {
        let Transfer { hop, head, payload } = transfer;
        let arrived = Arrived {
            attempt: hop.attempt,
            missed: hop.missed,
            parts: Parts {
                head,
                payload,
                attributes: hop.attributes,
                correlation: hop.correlation.map_or(0, std::num::NonZero::get),
                deadline: hop.deadline.and_then(|left| now.checked_add(left)),
            },
        };
        self.received += 1;
        self.received_bytes = self.received_bytes.saturating_add(arrived.size());
        if orphaned || self.stopping {
            return self.settles;
        }
        self.unsettled += u64::from(self.settles);
        self.mailbox.push_back(arrived);
        false
    }

    /// Nobody waits any more for what is to come of a delivery; who wants to know that.
    pub(super) fn cancelled(&mut self, number: u64) -> Option<Waker> {
        // A server that names what is settled long ago must not fill the memory.
        if wide(self.cancelled.len()) < self.unsettled {
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

    /// The application has settled one delivery; who waited to hear that it is cancelled.
    pub(super) fn settled_one(&mut self, number: u64) -> Option<Waker> {
        self.settled(1);
        self.cancelled.remove(&number);
        let watching = self.watching.remove(&number);
        if self.credit_by_settling {
            self.owed_messages += 1;
        }
        watching
    }

    /// The application has settled a delivery of a connection that is gone.
    pub(super) fn settled_in_vain(&mut self) {
        self.sync_error = Some(Error::new(
            ErrorKind::Unknown,
            "a delivery was settled after its connection was lost; it is delivered again",
        ));
    }

    /// The application has taken messages, the last of them of number `last`.
    pub(super) fn handed_out(
        &mut self,
        untold: Untold,
        last: u64,
        session: &mut wire::Session,
        link: wire::Link,
    ) {
        if self.settles && self.is_auto() {
            let first = last + 1 - untold.messages;
            session.settle(link, first, last, wire::Outcome::Ack, None, "");
            self.settled(untold.messages);
        }
        self.owed_bytes += untold.bytes;
        if !self.credit_by_settling {
            self.owed_messages += untold.messages;
        }
        self.grant(session, link);
    }

    fn settled(&mut self, count: u64) {
        self.unsettled = self.unsettled.saturating_sub(count);
        self.dirty = true;
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
        let may_ask = self.dirty && !self.is_asking();
        if let Some(link) = link.filter(|_| may_ask) {
            self.dirty = false;
            self.sync_sent += 1;
            session.sync(link, self.sync_sent);
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
        let dry = self.granted <= self.received || self.granted_bytes <= self.received_bytes;
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
        self.sync_done = self.sync_done.max(token.min(self.sync_sent));
        if error.is_some() {
            self.sync_error = error;
        }
    }

    /// Gives back what is in the mailbox; nothing more is wanted. Says how many that were.
    pub(crate) fn give_back(&mut self, session: &mut wire::Session, link: wire::Link) -> u64 {
        self.stop();
        let unseen = wide(std::mem::take(&mut self.mailbox).len());
        self.release(session, link, self.received + 1 - unseen, unseen);
        unseen
    }

    /// Gives back `count` messages that nobody has seen, from number `first` on.
    pub(super) fn release(
        &mut self,
        session: &mut wire::Session,
        link: wire::Link,
        first: u64,
        count: u64,
    ) {
        if self.settles && count > 0 {
            let last = first + count - 1;
            session.settle(link, first, last, wire::Outcome::Release, None, "");
            self.settled(count);
        }
    }

    /// The connection, or the link, is gone.
    pub(super) fn lost(&mut self, wakers: &mut Wakeups) {
        let unseen = std::mem::take(&mut self.mailbox);
        if self.is_auto() && !self.stopping {
            // They will not come again.
            self.stale.extend(unseen);
        }
        if self.dirty || self.is_asking() {
            self.dirty = false;
            self.sync_done = self.sync_sent;
            self.sync_error = Some(Error::new(
                ErrorKind::Unknown,
                "the connection was lost before the settlements were confirmed",
            ));
        }
        self.unsettled = 0;
        self.cancelled = BTreeSet::new();
        wakers.add(std::mem::take(&mut self.watching).into_values());
        self.stopped = false;
        (self.granted, self.granted_bytes) = (0, 0);
        (self.received, self.received_bytes) = (0, 0);
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
