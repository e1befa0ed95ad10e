//! Receiving through a remote: the driver fills a mailbox, the handle takes it over whole, and
//! credit goes back in batches.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use posthaste_core::{
    Delivery, Error, ErrorKind, Heads, Message, Outcome, Parts, Receiver, Settle, Topic,
};
use posthaste_wire as wire;

use super::mailbox::{Arrived, From, ReceiverState, Untold, messages};
use super::state::{Alive, Shared, State, poll_open};
use super::table::{Entry, Key, RoleState};
use crate::control::Wanted;

/// A receiver at this end of a connection.
pub(crate) struct RemoteReceiver {
    alive: Arc<Alive>,
    key: Key,
    /// What was taken over from the mailbox and is not handed out yet.
    batch: VecDeque<Arrived>,
    heads: Heads,
    /// The number of the first message in `batch`.
    next: u64,
    /// The session of the link that `batch` belongs to; 0 if nobody waits for its settlement.
    generation: u64,
    /// How many sessions of links had been lost when that was looked at last.
    losses: u64,
    /// Handed out since the state was told.
    untold: Untold,
    lease: Option<Arc<Lease>>,
    auto: bool,
    /// How many may still be handed out.
    left: u64,
    /// What is wrong with the message after the last that was handed out.
    failed: Option<Error>,
    closed: bool,
    ended: bool,
}

impl RemoteReceiver {
    /// Opens a receiver; it is live once this resolves.
    pub(crate) async fn open(alive: Arc<Alive>, wanted: Wanted) -> Result<Self, Error> {
        alive.0.up().await?;
        let role = ReceiverState::new(wanted);
        let (auto, left) = (role.is_auto(), role.limit().unwrap_or(u64::MAX));
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
            heads: Heads::default(),
            next: 1,
            generation: 0,
            losses: 0,
            untold: Untold::default(),
            lease: None,
            auto,
            left,
            failed: None,
            closed: false,
            ended: false,
        };
        std::future::poll_fn(|cx| match receiver.shared().lock().entry(key) {
            Some((_, entry)) => poll_open(entry, cx),
            None => Poll::Ready(Err(Error::closed("the receiver"))),
        })
        .await?;
        Ok(receiver)
    }

    /// The address of an inbox.
    pub(crate) fn address(&self) -> Option<Topic> {
        self.shared().lock().receiver(self.key)?.address()
    }

    fn shared(&self) -> &Shared {
        &self.alive.0
    }

    /// Makes sure that the batch is not empty, or waits, or says that this is the end.
    fn poll_batch(&mut self, cx: &Context<'_>) -> Poll<Result<bool, Error>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        self.forget_stale();
        if !self.batch.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.ended || self.left == 0 {
            return Poll::Ready(Ok(false));
        }
        let alive = Arc::clone(&self.alive);
        let mut state = alive.0.lock();
        self.tell(&mut state);
        let Some((session, entry)) = state.entry(self.key) else {
            self.ended = true;
            return Poll::Ready(Ok(false));
        };
        let (ended, link) = (entry.ended.clone(), entry.link());
        let Some(receiver) = as_receiver(entry) else {
            return Poll::Ready(Ok(false));
        };
        drop(receiver.take_waker());
        if let Some(interruption) = receiver.take_interruption() {
            return Poll::Ready(Err(interruption));
        }
        match receiver.take(&mut self.batch) {
            From::Session { first } => {
                self.next = first;
                let generation = receiver.generation();
                if self.generation != generation {
                    self.generation = generation;
                    let (shared, key) = (Arc::clone(&alive.0), self.key);
                    let lease = || Arc::new(Lease { shared, key, generation });
                    self.lease = receiver.settles().then(lease);
                }
            }
            From::Nobody => {
                (self.generation, self.lease) = (0, None);
                if let Some(link) = link {
                    receiver.grant(session, link);
                }
            }
        }
        let over = match ended {
            _ if !self.batch.is_empty() => Some(Ok(true)),
            Some(error) if error.kind() == ErrorKind::Closed => Some(Ok(false)),
            Some(error) => Some(Err(error)),
            None if receiver.is_stopped() || self.closed => Some(Ok(false)),
            None => None,
        };
        if let Some(over) = over {
            self.ended = !matches!(over, Ok(true));
            alive.0.unlock(state);
            return Poll::Ready(over);
        }
        receiver.wait(cx);
        alive.0.unlock(state);
        Poll::Pending
    }

    /// What is settled by hand and was taken over from a session that is lost is delivered again, so
    /// it is not handed out here any more.
    fn forget_stale(&mut self) {
        let losses = self.alive.0.losses();
        if losses == self.losses {
            return;
        }
        self.losses = losses;
        if self.auto || self.batch.is_empty() || self.generation == 0 {
            return;
        }
        let mut state = self.alive.0.lock();
        let current = state.receiver(self.key).map(|receiver| receiver.generation());
        if current != Some(self.generation) {
            self.batch.clear();
        }
    }

    /// The next of the batch, as the application sees it.
    fn hand_out(&mut self) -> Option<Result<Delivery, Error>> {
        let next = self.batch.front_mut()?;
        let (attempt, missed, offset) = (next.attempt, next.missed, next.offset);
        let parts =
            if next.count() > 1 { next.take_first() } else { self.batch.pop_front()?.parts };
        let seq = self.next;
        self.next += 1;
        self.left -= 1;
        self.untold.messages += 1;
        self.untold.bytes += size(&parts);
        let message = match Message::from_parts_after(parts, &mut self.heads) {
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
            _ => Delivery::settled(message, attempt).with_offset(offset),
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
        let Some((session, entry)) = state.entry(self.key) else {
            return;
        };
        let link = entry.link();
        match as_receiver(entry) {
            Some(receiver) if receiver.generation() == self.generation => {
                receiver.handed_out(untold, self.next - 1, session, link);
            }
            Some(receiver) => receiver.handed_out_late(untold),
            None => {}
        }
    }

    /// Gives back what was not handed out; nothing more is wanted.
    fn give_back(&mut self, state: &mut State) {
        self.tell(state);
        let batch = std::mem::take(&mut self.batch);
        let Some((session, entry)) = state.entry(self.key) else {
            return;
        };
        let link = entry.link();
        let Some(receiver) = as_receiver(entry) else {
            return;
        };
        if receiver.generation() == self.generation {
            let unseen = messages(&batch);
            receiver.release(session, link, self.next, unseen);
        }
        receiver.give_back(session, link);
    }
}

/// The bytes of one message.
fn size(parts: &Parts) -> u64 {
    u64::try_from(parts.head.len() + parts.payload.len()).unwrap_or(u64::MAX)
}

fn as_receiver(entry: &mut Entry) -> Option<&mut ReceiverState> {
    match &mut entry.role {
        RoleState::Receiver(receiver) => Some(receiver),
        RoleState::Sender(_) => None,
    }
}

impl Receiver for RemoteReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        match ready!(self.poll_batch(cx)) {
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
        if !ready!(self.poll_batch(cx))? {
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
                // The error comes with the next call.
                Some(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                None => break,
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
        let link = entry.link();
        let settled = match as_receiver(entry) {
            Some(receiver) => receiver.poll_synced(session, link, cx),
            None => Poll::Ready(Ok(())),
        };
        alive.0.unlock(state);
        settled
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
        ready!(self.poll_settled(cx))?;
        let mut state = alive.0.lock();
        let Some((_, entry)) = state.entry(self.key) else {
            return Poll::Ready(Ok(()));
        };
        let gone = entry.wire.is_none();
        match as_receiver(entry) {
            Some(receiver) if !gone && !receiver.is_stopped() => {
                receiver.wait(cx);
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    fn begins_at(&mut self) -> Option<u64> {
        self.shared().lock().receiver(self.key)?.begins_at()
    }

    fn disarm(&mut self) {
        // The mailbox is this handle's own, so there is nobody to pass a wake-up on to.
        if let Some(receiver) = self.alive.0.lock().receiver(self.key) {
            drop(receiver.take_waker());
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
            let (wire, closable) = (entry.wire, entry.closable());
            if let Some(receiver) = as_receiver(entry) {
                drop(receiver.take_waker());
                // Deliveries that are still out keep the link until they are settled.
                match (closable, wire) {
                    (Some(link), _) if receiver.is_done() => session.close(link),
                    (_, Some(link)) => session.stop(link),
                    _ => {}
                }
            }
        }
        state.reap(self.key);
        alive.0.unlock(state);
    }
}

/// Settles the deliveries of one receiver that belong to one session.
struct Lease {
    shared: Arc<Shared>,
    key: Key,
    generation: u64,
}

impl Settle for Lease {
    fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        let mut state = self.shared.lock();
        let Some((session, entry)) = state.entry(self.key) else {
            return;
        };
        let (orphaned, link) = (entry.orphaned, entry.link());
        let Some(receiver) = as_receiver(entry) else {
            return;
        };
        if receiver.generation() != self.generation {
            // It is out again already, or will be: only who wanted that has what he wanted.
            if let Outcome::Ack | Outcome::Reject { .. } | Outcome::Taken = outcome {
                receiver.settled_in_vain();
            }
            return;
        }
        let watching = receiver.settle(tag, on_the_wire(outcome), session, link);
        match link {
            Some(link) if orphaned && receiver.is_done() => session.close(link),
            Some(link) => receiver.grant(session, link),
            None => {}
        }
        self.shared.unlock(state);
        drop(watching);
    }

    fn extend(&self, tag: u64) {
        let mut state = self.shared.lock();
        if let Some((session, entry)) = state.entry(self.key)
            && let Some(link) = entry.link()
            && let Some(receiver) = as_receiver(entry)
            && receiver.generation() == self.generation
        {
            receiver.extend(tag, session, link);
        }
        self.shared.unlock(state);
    }

    fn poll_cancelled(&self, tag: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        let Some(receiver) = state.receiver(self.key) else {
            return Poll::Pending;
        };
        // What belongs to a session that is lost is delivered again, to be cancelled there.
        if receiver.generation() != self.generation {
            return Poll::Pending;
        }
        let known = receiver.poll_cancelled(tag, cx);
        drop(state);
        match known {
            Ok(()) => Poll::Ready(()),
            Err(before) => {
                drop(before);
                Poll::Pending
            }
        }
    }
}

fn on_the_wire(outcome: Outcome<'_>) -> (wire::Outcome, Option<Duration>, &str) {
    match outcome {
        Outcome::Ack => (wire::Outcome::Ack, None, ""),
        // What a gateway's automatic consumer took, or was lost with.
        Outcome::Taken => (wire::Outcome::Taken, None, ""),
        Outcome::Lost => (wire::Outcome::Lost, None, ""),
        Outcome::Retry { after, why } => {
            (wire::Outcome::Retry, (!after.is_zero()).then_some(after), why)
        }
        Outcome::Reject { why } => (wire::Outcome::Reject, None, why),
        Outcome::Release => (wire::Outcome::Release, None, ""),
        Outcome::Dropped => (wire::Outcome::Dropped, None, ""),
    }
}
