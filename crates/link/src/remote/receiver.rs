//! Receiving through a remote: the driver fills a mailbox, the handle takes it over whole, and
//! credit goes back in batches.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use posthaste_core::task::remember;
use posthaste_core::{
    Ack, Delivery, Error, ErrorKind, Message, Outcome, Overflow, Parts, Receiver, Settle,
    Subscription, Topic,
};
use posthaste_wire::{self as wire, Transfer};

use super::state::{Alive, Key, RoleState, Shared, State, poll_open};
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

/// A receiver at this end of a connection.
pub(crate) struct RemoteReceiver {
    alive: Arc<Alive>,
    key: Key,
    /// What was taken over from the mailbox and is not handed out yet.
    batch: VecDeque<Arrived>,
    /// The number of the first message in `batch`.
    next: u64,
    /// The connection that `batch` came over.
    epoch: u64,
    /// Handed out since the state was told.
    untold: Untold,
    lease: Option<Arc<Lease>>,
    auto: bool,
    /// How many may still be handed out.
    left: u64,
    closed: bool,
    ended: bool,
}

/// What was handed out since the state was told.
#[derive(Debug, Clone, Copy, Default)]
struct Untold {
    messages: u64,
    bytes: u64,
}

/// A message that has arrived, before its head is checked.
#[derive(Debug)]
pub(crate) struct Arrived {
    parts: Parts,
    attempt: u32,
    missed: u64,
}

impl Arrived {
    fn size(&self) -> u64 {
        u64::try_from(self.parts.head.len() + self.parts.payload.len()).unwrap_or(u64::MAX)
    }
}

impl RemoteReceiver {
    /// Opens a receiver; it is live once this resolves.
    pub(crate) async fn open(alive: Arc<Alive>, wanted: Wanted) -> Result<Self, Error> {
        alive.0.up().await?;
        let auto = match &wanted {
            Wanted::Subscription(subscription) => subscription.ack == Ack::Auto,
            Wanted::Inbox(_) => true,
        };
        let role = ReceiverState::new(wanted);
        let left = role.limit.unwrap_or(u64::MAX);
        let key = {
            let mut state = alive.0.lock();
            let key = state.open(RoleState::Receiver(role))?;
            alive.0.unlock(state);
            key
        };
        // From here on dropping the future drops the handle, which closes the link.
        let receiver = Self {
            alive,
            key,
            batch: VecDeque::new(),
            next: 1,
            epoch: 0,
            untold: Untold::default(),
            lease: None,
            auto,
            left,
            closed: false,
            ended: false,
        };
        std::future::poll_fn(|cx| match receiver.shared().lock().entry(key) {
            Some((_, entry)) => poll_open(entry, cx),
            None => Poll::Ready(Err(Error::closed("the receiver"))),
        })
        .await?;
        // The credit for it waits in the session.
        receiver.shared().unlock(receiver.shared().lock());
        Ok(receiver)
    }

    /// The address of an inbox.
    pub(crate) fn address(&self) -> Option<Topic> {
        match &self.shared().lock().receiver(self.key)?.wanted {
            Wanted::Inbox(address) => address.clone(),
            Wanted::Subscription(_) => None,
        }
    }

    fn shared(&self) -> &Shared {
        &self.alive.0
    }

    /// Makes sure that the batch is not empty, or waits, or says that this is the end.
    fn poll_batch(&mut self, cx: &Context<'_>) -> Poll<Result<bool, Error>> {
        if !self.batch.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.ended || self.left == 0 {
            return Poll::Ready(Ok(false));
        }
        let alive = Arc::clone(&self.alive);
        let mut state = alive.0.lock();
        self.tell(&mut state);
        let epoch = state.epoch;
        let Some((_, entry)) = state.entry(self.key) else {
            self.ended = true;
            return Poll::Ready(Ok(false));
        };
        let RoleState::Receiver(receiver) = &mut entry.role else {
            self.ended = true;
            return Poll::Ready(Ok(false));
        };
        receiver.waiting = None;
        if receiver.stale.is_empty() {
            self.next = receiver.received + 1 - wide(receiver.mailbox.len());
            std::mem::swap(&mut self.batch, &mut receiver.mailbox);
            let key = self.key;
            if self.epoch != epoch {
                let lease = || {
                    Arc::new(Lease {
                        shared: Arc::clone(&alive.0),
                        key,
                        epoch,
                    })
                };
                self.lease = receiver.settles.then(lease);
                self.epoch = epoch;
            }
        } else {
            // From a connection that is gone: nobody waits for their settlement any more.
            std::mem::swap(&mut self.batch, &mut receiver.stale);
            self.lease = None;
            self.epoch = 0;
        }
        receiver.delivered += wide(self.batch.len());
        if !self.batch.is_empty() {
            alive.0.unlock(state);
            return Poll::Ready(Ok(true));
        }
        let over = match &entry.ended {
            Some(error) if error.kind() == ErrorKind::Closed => Some(Ok(false)),
            Some(error) => Some(Err(error.clone())),
            None if receiver.stopped || self.closed => Some(Ok(false)),
            None => None,
        };
        if let Some(over) = over {
            self.ended = true;
            return Poll::Ready(over);
        }
        remember(&mut receiver.waiting, cx);
        alive.0.unlock(state);
        Poll::Pending
    }

    /// The next of the batch, as the application sees it.
    fn hand_out(&mut self) -> Option<Result<Delivery, Error>> {
        let arrived = self.batch.pop_front()?;
        let seq = self.next;
        self.next += 1;
        self.left -= 1;
        self.untold.messages += 1;
        self.untold.bytes += arrived.size();
        let Arrived {
            parts,
            attempt,
            missed,
        } = arrived;
        let message = match Message::from_parts(parts) {
            Ok(message) => message,
            Err(error) => {
                if let Some(lease) = self.lease.as_ref().filter(|_| !self.auto) {
                    lease.settle(seq, Outcome::Reject { why: error.text() });
                }
                return Some(Err(error));
            }
        };
        let delivery = match &self.lease {
            Some(lease) if !self.auto => {
                Delivery::leased(message, attempt, Arc::clone(lease) as _, seq)
            }
            _ => Delivery::settled(message, attempt),
        };
        Some(Ok(delivery.with_missed(missed)))
    }

    /// Where settling is this side's business: what the application has taken is settled as soon
    /// as nothing else is at hand, because it is the application's from then on.
    fn settle_taken(&mut self) {
        if self.auto && self.lease.is_some() && self.batch.is_empty() {
            let alive = Arc::clone(&self.alive);
            let mut state = alive.0.lock();
            self.tell(&mut state);
            alive.0.unlock(state);
        }
    }

    /// Tells the state what was handed out: its credit goes back.
    fn tell(&mut self, state: &mut State) {
        let untold = std::mem::take(&mut self.untold);
        if untold.messages == 0 {
            return;
        }
        if self.epoch != state.epoch {
            return;
        }
        let Some((session, entry)) = state.entry(self.key) else {
            return;
        };
        let Some(link) = entry.wire else { return };
        let RoleState::Receiver(receiver) = &mut entry.role else {
            return;
        };
        if self.auto && receiver.settles {
            let last = self.next - 1;
            let first = self.next - untold.messages;
            session.settle(link, first, last, wire::Outcome::Ack, None, "");
            receiver.settled(untold.messages);
        }
        receiver.handed_out(untold);
        receiver.grant(session, link);
    }

    /// Gives back what was not handed out; nothing more is wanted.
    fn give_back(&mut self, state: &mut State) {
        self.tell(state);
        let current = self.epoch == state.epoch;
        let batch = std::mem::take(&mut self.batch);
        let Some((session, entry)) = state.entry(self.key) else {
            return;
        };
        let RoleState::Receiver(receiver) = &mut entry.role else {
            return;
        };
        if let Some(link) = entry.wire {
            let unseen = if current { wide(batch.len()) } else { 0 };
            receiver.give_back(session, link, unseen);
        }
    }
}

impl Receiver for RemoteReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        match std::task::ready!(self.poll_batch(cx)) {
            Ok(true) => {
                let next = self.hand_out();
                self.settle_taken();
                Poll::Ready(next)
            }
            Ok(false) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        if !std::task::ready!(self.poll_batch(cx))? {
            return Poll::Ready(Ok(0));
        }
        let before = into.len();
        while into.len() - before < limit.get() {
            match self.hand_out() {
                Some(Ok(delivery)) => into.push(delivery),
                Some(Err(error)) if into.len() == before => {
                    self.settle_taken();
                    return Poll::Ready(Err(error));
                }
                // A message that cannot be read ends the batch; it is dropped, as its sender said
                // nothing that anybody could use.
                Some(Err(_)) | None => break,
            }
        }
        self.settle_taken();
        Poll::Ready(Ok(into.len() - before))
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let alive = Arc::clone(&self.alive);
        let mut state = alive.0.lock();
        self.tell(&mut state);
        let Some((session, entry)) = state.entry(self.key) else {
            return Poll::Ready(Ok(()));
        };
        let link = entry.wire;
        let RoleState::Receiver(receiver) = &mut entry.role else {
            return Poll::Ready(Ok(()));
        };
        receiver.waiting = None;
        if receiver.dirty
            && let Some(link) = link
        {
            receiver.dirty = false;
            receiver.sync_sent += 1;
            session.sync(link, receiver.sync_sent);
        }
        let outcome = if let Some(error) = receiver.sync_error.take() {
            Poll::Ready(Err(error))
        } else if receiver.sync_done >= receiver.sync_sent {
            Poll::Ready(Ok(()))
        } else {
            remember(&mut receiver.waiting, cx);
            Poll::Pending
        };
        alive.0.unlock(state);
        outcome
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let alive = Arc::clone(&self.alive);
        if !self.closed {
            self.closed = true;
            let mut state = alive.0.lock();
            self.give_back(&mut state);
            if let Some((session, entry)) = state.entry(self.key)
                && let Some(link) = entry.wire
            {
                session.stop(link);
            }
            alive.0.unlock(state);
        }
        std::task::ready!(self.poll_settled(cx))?;
        let mut state = alive.0.lock();
        let Some((_, entry)) = state.entry(self.key) else {
            return Poll::Ready(Ok(()));
        };
        let gone = entry.wire.is_none();
        let RoleState::Receiver(receiver) = &mut entry.role else {
            return Poll::Ready(Ok(()));
        };
        if gone || receiver.stopped {
            return Poll::Ready(Ok(()));
        }
        remember(&mut receiver.waiting, cx);
        Poll::Pending
    }

    fn disarm(&mut self) {
        // The mailbox is this handle's own, so there is nobody to pass a wake-up on to.
        if let Some(receiver) = self.alive.0.lock().receiver(self.key) {
            receiver.waiting = None;
        }
    }
}

impl Drop for RemoteReceiver {
    fn drop(&mut self) {
        let alive = Arc::clone(&self.alive);
        let mut state = alive.0.lock();
        self.give_back(&mut state);
        if let Some((session, entry)) = state.entry(self.key) {
            entry.orphaned = true;
            entry.opener = None;
            if let RoleState::Receiver(receiver) = &mut entry.role {
                receiver.waiting = None;
                receiver.stale = VecDeque::new();
                // Deliveries that are still out keep the link until they are settled.
                match entry.wire {
                    Some(link) if receiver.unsettled == 0 => session.close(link),
                    Some(link) => session.stop(link),
                    None => {}
                }
            }
        }
        state.reap(self.key);
        alive.0.unlock(state);
    }
}

/// Settles the deliveries of one receiver that came over one connection.
struct Lease {
    shared: Arc<Shared>,
    key: Key,
    epoch: u64,
}

impl Settle for Lease {
    fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        let mut state = self.shared.lock();
        let stale = state.epoch != self.epoch;
        let Some((session, entry)) = state.entry(self.key) else {
            return;
        };
        if stale {
            // It is out again already, or will be: only who wanted that has what he wanted.
            if let (RoleState::Receiver(receiver), Outcome::Ack | Outcome::Reject { .. }) =
                (&mut entry.role, outcome)
            {
                receiver.sync_error = Some(Error::new(
                    ErrorKind::Unknown,
                    "a delivery was settled after its connection was lost; it is delivered again",
                ));
            }
            return;
        }
        let orphaned = entry.orphaned;
        let Some(link) = entry.wire else { return };
        let RoleState::Receiver(receiver) = &mut entry.role else {
            return;
        };
        let (outcome, after, why) = on_the_wire(outcome);
        session.settle(link, tag, tag, outcome, after, why);
        receiver.settled(1);
        if receiver.credit_by_settling {
            receiver.owed_messages += 1;
        }
        if orphaned && receiver.unsettled == 0 {
            session.close(link);
        } else {
            receiver.grant(session, link);
        }
        let drainer = state.drainer.take();
        self.shared.unlock(state);
        if let Some(drainer) = drainer {
            drainer.wake();
        }
    }
}

fn on_the_wire(outcome: Outcome<'_>) -> (wire::Outcome, Option<Duration>, &str) {
    match outcome {
        // What an automatic consumer behind a gateway took, or was lost with, is final here too.
        Outcome::Ack | Outcome::Taken => (wire::Outcome::Ack, None, ""),
        Outcome::Lost => (
            wire::Outcome::Reject,
            None,
            "the consumer's connection was lost",
        ),
        Outcome::Retry { after, why } => (
            wire::Outcome::Retry,
            (!after.is_zero()).then_some(after),
            why,
        ),
        Outcome::Reject { why } => (wire::Outcome::Reject, None, why),
        Outcome::Release => (wire::Outcome::Release, None, ""),
        Outcome::Dropped => (wire::Outcome::Dropped, None, ""),
    }
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
    stopping: bool,
    pub(crate) stopped: bool,
    /// Whether something was settled since the last SYNC.
    dirty: bool,
    sync_sent: u64,
    sync_done: u64,
    sync_error: Option<Error>,
    waiting: Option<Waker>,
}

impl ReceiverState {
    fn new(wanted: Wanted) -> Self {
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

    /// The link is open: what may be on its way at first, in messages and bytes.
    pub(crate) fn opened(&mut self, opened: Opened) -> (u64, u64) {
        self.settles = opened.settles;
        if let (Wanted::Inbox(address), Some(given)) = (&mut self.wanted, opened.address) {
            *address = Some(given);
        }
        (self.received, self.received_bytes) = (0, 0);
        (self.owed_messages, self.owed_bytes) = (0, 0);
        self.granted = self.may_grant(self.window_messages);
        self.granted_bytes = self.window_bytes;
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

    fn settled(&mut self, count: u64) {
        self.unsettled = self.unsettled.saturating_sub(count);
        self.dirty = true;
    }

    fn handed_out(&mut self, untold: Untold) {
        self.owed_bytes += untold.bytes;
        if !self.credit_by_settling {
            self.owed_messages += untold.messages;
        }
    }

    /// Gives credit back, once it is half of all there is, or once the server has none left: the
    /// handle may well wait for more while it keeps what it has.
    fn grant(&mut self, session: &mut wire::Session, link: wire::Link) {
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

    /// Gives back what is unseen, `more` included, which came right before the mailbox; nothing
    /// more is wanted. Says how many that were.
    pub(crate) fn give_back(
        &mut self,
        session: &mut wire::Session,
        link: wire::Link,
        more: u64,
    ) -> u64 {
        self.stopping = true;
        let unseen = wide(std::mem::take(&mut self.mailbox).len()) + more;
        if self.settles && unseen > 0 {
            let first = self.received + 1 - unseen;
            session.settle(link, first, self.received, wire::Outcome::Release, None, "");
            self.settled(unseen);
        }
        unseen
    }

    /// The connection, or the link, is gone.
    pub(crate) fn lost(&mut self) {
        let unseen = std::mem::take(&mut self.mailbox);
        let auto = match &self.wanted {
            Wanted::Subscription(subscription) => subscription.ack == Ack::Auto,
            Wanted::Inbox(_) => true,
        };
        if auto && !self.stopping {
            // They will not come again.
            self.stale.extend(unseen);
        }
        if self.dirty || self.sync_done < self.sync_sent {
            self.dirty = false;
            self.sync_done = self.sync_sent;
            self.sync_error = Some(Error::new(
                ErrorKind::Unknown,
                "the connection was lost before the settlements were confirmed",
            ));
        }
        self.unsettled = 0;
        self.stopped = false;
        (self.granted, self.granted_bytes) = (0, 0);
        (self.received, self.received_bytes) = (0, 0);
    }
}

fn window(subscription: &Subscription) -> u64 {
    let prefetch = subscription.prefetch.map(wide);
    let window = match (subscription.overflow, subscription.ack) {
        // What the application may keep unsettled is not less because it may lose the rest.
        (Overflow::Block, _) | (_, Ack::Manual) => prefetch.unwrap_or(WINDOW_MESSAGES),
        _ => prefetch.unwrap_or(WINDOW_LOSSY).min(WINDOW_LOSSY),
    };
    window.max(1)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
