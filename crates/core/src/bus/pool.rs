//! Idle senders, kept to be leased again, so that publishing opens none once it is warm.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::sync::Mutex;
use crate::task::lock;
use crate::{BoxSender, Error, ErrorKind, Message, Receipt, Returned, Seq};

/// The most idle senders that are kept.
const IDLE_MAX: usize = 64;

/// Senders that nobody uses now.
pub(super) struct Pool {
    idle: Mutex<Vec<BoxSender>>,
    /// Whether a sender may come back while a message of it has no outcome yet. The receipts of
    /// such a sender cover more than one user's messages, so only requests, whose answer is a
    /// reply, can share one.
    keeps_owing: bool,
}

impl Pool {
    pub(super) fn new(keeps_owing: bool) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), keeps_owing })
    }

    /// Leases an idle sender, if there is one.
    pub(super) fn lease_idle(self: &Arc<Self>) -> Option<Lease> {
        let sender = lock(&self.idle).pop()?;
        Some(self.lease(sender, true))
    }

    /// Leases a sender that was just opened, to keep it afterwards.
    pub(super) fn lease_opened(self: &Arc<Self>, sender: BoxSender) -> Lease {
        self.lease(sender, false)
    }

    pub(super) fn idle(&self) -> usize {
        lock(&self.idle).len()
    }

    fn lease(self: &Arc<Self>, sender: BoxSender, was_idle: bool) -> Lease {
        Lease {
            sender: Some(sender),
            pool: Arc::clone(self),
            was_idle,
            armed: false,
            owing: false,
            broken: false,
        }
    }

    fn give_back(&self, sender: BoxSender) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_MAX {
            idle.push(sender);
        } else {
            // Dropping a sender is the backend's code: not under the lock.
            drop(idle);
            drop(sender);
        }
    }
}

/// A sender in use by one waiting task; it goes back to its pool if it is fit for the next user.
pub(super) struct Lease {
    sender: Option<BoxSender>,
    pool: Arc<Pool>,
    /// It sat idle before, so it may have been closed meanwhile.
    was_idle: bool,
    /// A poll is pending.
    armed: bool,
    /// A message was taken and has no outcome yet.
    owing: bool,
    /// It is of no more use.
    broken: bool,
}

/// What a leased sender answered to a message that it did not take.
pub(super) enum Refusal {
    /// The sender had been closed while it was idle: the same message on another one.
    Stale,
    /// This is the answer.
    Error(Error),
}

impl Lease {
    /// Sends what is in the slot; `Pending` and `Err` leave it there.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Refusal>> {
        let Some(sender) = &mut self.sender else {
            return Poll::Ready(Err(Refusal::Error(Error::closed("the sender"))));
        };
        let outcome = sender.poll_send(cx, slot);
        self.armed = outcome.is_pending();
        Poll::Ready(match ready!(outcome) {
            Ok(seq) => {
                self.owing = true;
                Ok(seq)
            }
            Err(error) => {
                self.note(&error);
                let stale = self.broken && self.was_idle && slot.is_some();
                Err(if stale { Refusal::Stale } else { Refusal::Error(error) })
            }
        })
    }

    /// Waits for the outcome of message `seq`: its receipt, or the message itself.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        seq: Seq,
    ) -> Poll<Result<Result<Receipt, Returned>, Error>> {
        let Some(sender) = &mut self.sender else {
            return Poll::Ready(Err(Error::closed("the sender")));
        };
        let outcome = sender.poll_flush(cx, seq);
        self.armed = outcome.is_pending();
        let receipt = match ready!(outcome) {
            Ok(receipt) => receipt,
            Err(error) => {
                self.note(&error);
                return Poll::Ready(Err(error));
            }
        };
        self.owing = false;
        if receipt.returned == 0 {
            return Poll::Ready(Ok(Ok(receipt)));
        }
        let mine = sender.take_returned(seq);
        // What came back late for earlier users: they have gone.
        while sender.take_returned(Seq::FIRST).is_some() {}
        match mine {
            Some(returned) => {
                self.note(&returned.error);
                Poll::Ready(Ok(Err(returned)))
            }
            None => Poll::Ready(Ok(Ok(receipt))),
        }
    }

    /// It is not being polled for now: it waits for nothing.
    pub(super) fn rest(&mut self) {
        if let Some(sender) = self.sender.as_mut().filter(|_| self.armed) {
            sender.disarm();
            self.armed = false;
        }
    }

    fn note(&mut self, error: &Error) {
        let kind = error.kind();
        self.broken |=
            matches!(kind, ErrorKind::Closed | ErrorKind::Disconnected | ErrorKind::Unknown);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut sender) = self.sender.take() else {
            return;
        };
        if self.armed {
            sender.disarm();
        }
        if !self.broken && (!self.owing || self.pool.keeps_owing) {
            self.pool.give_back(sender);
        }
    }
}
