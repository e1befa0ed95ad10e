//! Sending through a remote: messages go straight into the connection's shared output, and are
//! kept until they have their outcome.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use posthaste_core::{Error, ErrorKind, Message, Receipt, Returned, Sender, SenderOptions, Seq};
use posthaste_wire::{Limits, TransferError};

use super::outbox::{SenderState, hop};
use super::state::{Alive, Shared, State, poll_open};
use super::table::{Key, RoleState};

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
        if sender.is_settled_upto(upto, cx) { Poll::Ready(Ok(())) } else { Poll::Pending }
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
                    sender.wait_for_room(cx);
                }
            }
        }
        taken
    }

    fn poll_send_many(
        &mut self,
        cx: &mut Context<'_>,
        messages: &mut VecDeque<Message>,
    ) -> Poll<Result<(), Error>> {
        if self.closed {
            return Poll::Ready(Err(Error::closed("the sender")));
        }
        let shared = &*self.alive.0;
        let timed = messages.iter().any(|message| message.deadline().is_some());
        let now = timed.then(|| shared.runtime.now());
        let mut state = shared.lock();
        let mut outcome = Poll::Ready(Ok(()));
        while let Some(message) = messages.pop_front() {
            let mut slot = Some(message);
            outcome = take(&mut state, self.key, &mut slot, now).map_ok(|_| ());
            if let Some(message) = slot {
                messages.push_front(message);
                break;
            }
        }
        if outcome.is_pending()
            && let Some(sender) = state.sender(self.key)
        {
            sender.wait_for_room(cx);
        }
        shared.unlock(state);
        outcome
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
        self.alive.0.lock().sender(self.key)?.take_returned(from)
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
            let resending = match &mut entry.role {
                RoleState::Sender(sender) => {
                    sender.abandon();
                    sender.is_resending()
                }
                RoleState::Receiver(_) => false,
            };
            // What is to be sent again keeps the link until it is.
            if let Some(link) = entry.closable().filter(|_| !resending) {
                session.close(link);
            }
        }
        state.reap(self.key);
        shared.unlock(state);
    }
}

/// Takes the message out of the slot, if there is room for it now.
#[inline]
fn take(
    state: &mut State,
    key: Key,
    slot: &mut Option<Message>,
    now: Option<Instant>,
) -> Poll<Result<Seq, Error>> {
    match take_like_last(state, key, slot) {
        Some(seq) => Poll::Ready(Ok(seq)),
        None => take_anew(state, key, slot, now),
    }
}

/// Takes the message out of the slot, if it is like the last one and can simply follow it.
#[inline]
fn take_like_last(state: &mut State, key: Key, slot: &mut Option<Message>) -> Option<Seq> {
    let draining = state.draining;
    let (session, entry) = state.entry(key)?;
    let (link, message) = (entry.wire?, slot.as_ref()?);
    let RoleState::Sender(sender) = &mut entry.role else { return None };
    if draining || !sender.goes_on(message) {
        return None;
    }
    // Taken out of the slot before the payload is copied: what was just written there is read back
    // the sooner, the less is written in between.
    let message = slot.take()?;
    if session.transfer_like_last(link, message.payload()).is_none() {
        *slot = Some(message);
        return None;
    }
    Some(Seq::new(sender.took_like_last(message)))
}

/// Takes the message out of the slot, if there is room for it now, whatever came before it.
#[inline(never)]
fn take_anew(
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
    // While the connection is being made again the message waits where it is, and while what was
    // sent before goes again as well.
    let Some(link) = wire.filter(|_| !sender.is_resending()) else {
        return Poll::Pending;
    };
    let Some(message) = slot.as_ref() else {
        return Poll::Pending;
    };
    within_limits(message, session.limits())?;
    let size = message.size();
    if !sender.has_window(size) {
        if sender.is_full_of_returned(size) {
            // Nobody else can make room, so there is nothing to wait for.
            let text = format!(
                "{} messages have come back and fill the window: take them before sending more",
                sender.came_back()
            );
            return Poll::Ready(Err(Error::new(ErrorKind::Full, text)));
        }
        return Poll::Pending;
    }
    let (head, _) = message.on_wire();
    match session.transfer(link, &hop(message, now), head, message.payload()) {
        Ok(_) => match slot.take() {
            Some(message) => Poll::Ready(Ok(Seq::new(sender.took(message)))),
            None => Poll::Pending,
        },
        Err(error) => {
            if error == TransferError::Full {
                state.starve(key);
            }
            // All else passes, too: credit comes, and a link that is gone comes back or has ended.
            Poll::Pending
        }
    }
}

/// Refuses what the connection never carries, before anything waits for room.
#[inline]
fn within_limits(message: &Message, limits: Limits) -> Result<(), Error> {
    let wide = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    let (payload, most) = (message.payload().len(), wide(limits.payload));
    let head = message.size() - payload;
    if payload > most {
        return Err(too_large("payload", payload, most));
    }
    match wide(limits.head) {
        most if head > most => Err(too_large("head", head, most)),
        _ => Ok(()),
    }
}

#[cold]
fn too_large(what: &str, len: usize, limit: usize) -> Error {
    let text = format!(
        "a {what} has at most {limit} bytes on this connection, this has {len}; send it in pieces"
    );
    Error::new(ErrorKind::TooLarge, text)
}
