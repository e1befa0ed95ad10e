//! Sending through a remote: messages go straight into the connection's shared output, and are
//! kept until they have their outcome.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::task::remember;
use posthaste_core::{
    Error, ErrorKind, Level, Message, Parts, Receipt, Returned, Sender, SenderOptions, Seq,
};
use posthaste_wire::{Hop, Limits, TransferError};

use super::state::{Alive, Key, RoleState, Shared, State, poll_open};
use crate::control;

/// A sender at this end of a connection.
pub(crate) struct RemoteSender {
    alive: Arc<Alive>,
    key: Key,
    closed: bool,
}

impl RemoteSender {
    /// Opens a sender.
    pub(crate) async fn open(alive: Arc<Alive>, options: SenderOptions) -> Result<Self, Error> {
        alive.0.up().await?;
        let key = {
            let mut state = alive.0.lock();
            let key = state.open(RoleState::Sender(SenderState::new(options)))?;
            alive.0.unlock(state);
            key
        };
        // From here on dropping the future drops the handle, which closes the link.
        let sender = Self { alive, key, closed: false };
        std::future::poll_fn(|cx| match sender.shared().lock().entry(key) {
            Some((_, entry)) => poll_open(entry, cx),
            None => Poll::Ready(Err(Error::closed("the sender"))),
        })
        .await?;
        Ok(sender)
    }

    fn shared(&self) -> &Shared {
        &self.alive.0
    }

    /// Waits until everything up to `upto` has its outcome.
    fn poll_outcome(&mut self, cx: &Context<'_>, upto: u64) -> Poll<Result<(), Error>> {
        let mut state = self.alive.0.lock();
        let Some(sender) = state.sender(self.key) else {
            return Poll::Ready(Err(Error::closed("the sender")));
        };
        let target = upto.min(sender.taken);
        if sender.settled >= target {
            sender.disarm();
            return Poll::Ready(Ok(()));
        }
        sender.target = Some(target);
        remember(&mut sender.waiting, cx);
        Poll::Pending
    }
}

impl Sender for RemoteSender {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        if self.closed {
            return Poll::Ready(Err(Error::closed("the sender")));
        }
        let Some(message) = slot else {
            return Poll::Ready(Err(Error::new(
                ErrorKind::InvalidArgument,
                "there is no message in the slot",
            )));
        };
        let shared = &*self.alive.0;
        // Only messages with a deadline pay for a look at the clock.
        let now = message.deadline().map(|_| shared.runtime.now());
        let mut state = shared.lock();
        let taken = take(&mut state, self.key, slot, now);
        match &taken {
            Poll::Ready(_) => shared.unlock(state),
            Poll::Pending => {
                if let Some(sender) = state.sender(self.key) {
                    sender.wants_room = true;
                    remember(&mut sender.waiting, cx);
                }
            }
        }
        taken
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>> {
        if self.closed {
            return Poll::Ready(Err(Error::closed("the sender")));
        }
        std::task::ready!(self.poll_outcome(cx, upto.get()))?;
        let mut state = self.alive.0.lock();
        Poll::Ready(match state.sender(self.key) {
            Some(sender) => Ok(sender.take_receipt()),
            None => Err(Error::closed("the sender")),
        })
    }

    fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        let mut state = self.alive.0.lock();
        let returned = &mut state.sender(self.key)?.returned;
        let at = returned.iter().position(|returned| returned.seq >= from)?;
        returned.remove(at)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        std::task::ready!(self.poll_outcome(cx, u64::MAX))?;
        self.closed = true;
        let mut state = self.alive.0.lock();
        if let Some((session, entry)) = state.entry(self.key) {
            entry.ended.get_or_insert_with(|| Error::closed("the sender"));
            if let Some(link) = entry.wire {
                session.close(link);
            }
        }
        self.alive.0.unlock(state);
        Poll::Ready(Ok(()))
    }

    fn disarm(&mut self) {
        // Room and outcomes are this handle's own, so there is no wake-up to pass on.
        if let Some(sender) = self.alive.0.lock().sender(self.key) {
            sender.disarm();
        }
    }
}

impl Drop for RemoteSender {
    fn drop(&mut self) {
        let shared = &*self.alive.0;
        let mut state = shared.lock();
        if let Some((session, entry)) = state.entry(self.key) {
            entry.orphaned = true;
            entry.opener = None;
            if let RoleState::Sender(sender) = &mut entry.role {
                sender.abandon();
            }
            if let Some(link) = entry.wire {
                session.close(link);
            }
        }
        state.reap(self.key);
        shared.unlock(state);
    }
}

/// Takes the message out of the slot, if there is room for it now.
fn take(
    state: &mut State,
    key: Key,
    slot: &mut Option<Message>,
    now: Option<Instant>,
) -> Poll<Result<Seq, Error>> {
    let draining = state.draining;
    let Some((session, entry)) = state.entry(key) else {
        return Poll::Ready(Err(Error::closed("the sender")));
    };
    let (wire, ended) = (entry.wire.filter(|_| entry.open), &entry.ended);
    let RoleState::Sender(sender) = &mut entry.role else {
        return Poll::Ready(Err(Error::closed("the sender")));
    };
    sender.disarm();
    if let Some(error) = ended {
        return Poll::Ready(Err(error.clone()));
    }
    if draining {
        return Poll::Ready(Err(Error::closed("the connection")));
    }
    // While the connection is being made again the message waits where it is.
    let Some(link) = wire else {
        return Poll::Pending;
    };
    let Some(message) = slot.as_ref() else {
        return Poll::Pending;
    };
    if let Err(error) = within_limits(message, session.limits()) {
        return Poll::Ready(Err(error));
    }
    if !sender.has_window(message.size()) {
        return Poll::Pending;
    }
    if !session.room(link) {
        let (messages, bytes) = session.credit(link);
        if messages > 0 && bytes > 0 {
            state.starve(key);
        }
        return Poll::Pending;
    }
    let Some(parts) = slot.take().map(Message::into_parts) else {
        return Poll::Pending;
    };
    match session.transfer(link, &hop(&parts, now), &parts.head, &parts.payload) {
        Ok(_) => Poll::Ready(Ok(Seq::new(sender.took(parts)))),
        Err(error) => {
            // It was whole before it was taken apart, so it can be put together again.
            *slot = Message::from_parts(parts).ok();
            match error {
                TransferError::Closed => Poll::Ready(Err(Error::closed("the sender"))),
                // All else has been asked before, and passes.
                _ => Poll::Pending,
            }
        }
    }
}

/// Refuses what the connection never carries, before anything waits for room.
fn within_limits(message: &Message, limits: Limits) -> Result<(), Error> {
    let payload = message.payload().len();
    let wide = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    for (what, len, limit) in [
        ("payload", payload, wide(limits.payload).min(PAYLOAD_BYTES_MAX)),
        ("head", message.size() - payload, wide(limits.head)),
    ] {
        if len > limit {
            let text = format!(
                "a {what} has at most {limit} bytes on this connection, this has {len}; \
                 send it in pieces"
            );
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
    }
    Ok(())
}

fn hop(parts: &Parts, now: Option<Instant>) -> Hop {
    let deadline =
        parts.deadline.zip(now).map(|(deadline, now)| deadline.saturating_duration_since(now));
    Hop {
        attributes: parts.attributes,
        correlation: NonZeroU64::new(parts.correlation),
        deadline,
        ..Hop::default()
    }
}

/// What a connection knows about a sender.
pub(crate) struct SenderState {
    options: SenderOptions,
    /// The number of the last message that was taken.
    taken: u64,
    /// Every message up to this one has its outcome.
    settled: u64,
    /// What the numbers of the current link are behind the sender's own.
    base: u64,
    /// The messages after `settled`, except those that have come back.
    unconfirmed: VecDeque<Option<Parts>>,
    /// How many of them there are, and their bytes.
    pending: usize,
    pending_bytes: usize,
    returned: VecDeque<Returned>,
    receipt: Receipt,
    waiting: Option<Waker>,
    /// Whether a send waits, for room.
    wants_room: bool,
    /// Up to where a flush waits.
    target: Option<u64>,
}

impl SenderState {
    fn new(options: SenderOptions) -> Self {
        Self {
            options,
            taken: 0,
            settled: 0,
            base: 0,
            unconfirmed: VecDeque::new(),
            pending: 0,
            pending_bytes: 0,
            returned: VecDeque::new(),
            receipt: Receipt::empty(Seq::new(0)),
            waiting: None,
            wants_room: false,
            target: None,
        }
    }

    pub(crate) fn options(&self) -> Vec<u8> {
        control::sender::encode(&self.options)
    }

    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        self.wants_room = false;
        self.target = None;
        self.waiting.take()
    }

    /// Whether everything that was taken has its outcome.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled >= self.taken
    }

    /// The link is open, on a connection where it has sent nothing yet.
    pub(crate) fn opened(&mut self) -> Option<Waker> {
        self.base = self.taken;
        self.room_came()
    }

    /// There may be room where there was none.
    pub(crate) fn room_came(&mut self) -> Option<Waker> {
        if self.wants_room { self.take_waker() } else { None }
    }

    /// Some messages have got their outcome.
    pub(crate) fn outcome_came(&mut self) -> Option<Waker> {
        let flushed = self.target.is_some_and(|target| self.settled >= target);
        if self.wants_room || flushed { self.take_waker() } else { None }
    }

    fn disarm(&mut self) {
        self.waiting = None;
        self.wants_room = false;
        self.target = None;
    }

    fn has_window(&self, size: usize) -> bool {
        let bytes = self.pending_bytes.saturating_add(size);
        self.pending < self.options.window_messages
            && (bytes <= self.options.window_bytes || self.pending == 0)
    }

    fn took(&mut self, parts: Parts) -> u64 {
        self.taken += 1;
        self.pending += 1;
        self.pending_bytes += size(&parts);
        self.unconfirmed.push_back(Some(parts));
        self.taken
    }

    fn forget(&mut self, parts: &Parts) {
        self.pending -= 1;
        self.pending_bytes -= size(parts);
    }

    /// The server has confirmed everything up to `upto` that it has not returned.
    pub(crate) fn confirmed(&mut self, upto: u64, matched: u64, level: u8, nodes: u32) {
        let upto = self.base.saturating_add(upto).min(self.taken);
        let mut count = 0;
        while self.settled < upto {
            self.settled += 1;
            if let Some(parts) = self.unconfirmed.pop_front().flatten() {
                self.forget(&parts);
                count += 1;
            }
        }
        self.receipt.upto = Seq::new(self.settled);
        if count > 0 {
            self.receipt.confirm(count, matched, Level::from_u8(level), nodes);
        }
    }

    /// The server has handed one message back; the confirm that covers it is still to come.
    pub(crate) fn returned(&mut self, seq: u64, error: Error) {
        let seq = self.base.saturating_add(seq);
        let at = seq.checked_sub(self.settled + 1).and_then(|at| usize::try_from(at).ok());
        let Some(parts) = at.and_then(|at| self.unconfirmed.get_mut(at)).and_then(Option::take)
        else {
            return;
        };
        self.forget(&parts);
        self.hand_back(seq, parts, error);
    }

    fn hand_back(&mut self, seq: u64, parts: Parts, error: Error) {
        self.receipt.returned += 1;
        // It was taken apart here, so it is whole; should it not be, its error is still counted.
        if let Ok(message) = Message::from_parts(parts) {
            self.returned.push_back(Returned { seq: Seq::new(seq), message, error });
        }
    }

    /// The connection, or the link, is gone: what was on its way comes back as unknown.
    pub(crate) fn lost(&mut self) {
        while let Some(parts) = self.unconfirmed.pop_front() {
            self.settled += 1;
            if let Some(parts) = parts {
                self.forget(&parts);
                let text = "the connection was lost before the confirm came; \
                            the message may or may not have arrived";
                self.hand_back(self.settled, parts, Error::new(ErrorKind::Unknown, text));
            }
        }
        self.receipt.upto = Seq::new(self.settled);
    }

    /// Nobody asks for the outcomes any more.
    fn abandon(&mut self) {
        self.settled = self.taken;
        self.unconfirmed = VecDeque::new();
        (self.pending, self.pending_bytes) = (0, 0);
        self.returned = VecDeque::new();
        self.disarm();
    }

    fn take_receipt(&mut self) -> Receipt {
        let upto = Seq::new(self.settled);
        std::mem::replace(&mut self.receipt, Receipt::empty(upto))
    }
}

fn size(parts: &Parts) -> usize {
    parts.head.len() + parts.payload.len()
}
