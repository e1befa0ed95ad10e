//! Idle senders, kept to be leased again, so that publishing opens none once it is warm.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use crate::sync::{Mutex, MutexGuard};
use crate::task::{OneShot, lock};
use crate::{BoxFuture, BoxSender, Broker, Error, ErrorKind, Message, Receipt, Returned};
use crate::{SenderOptions, Seq};

/// The most idle senders that are kept, and the most that are opened at a time. A burst of users
/// takes turns with what comes back rather than to open one for each; but one that waits for room
/// keeps its sender, so that it holds up no other: as many are opened in the end as are needed.
const IDLE_MAX: usize = 64;

/// Senders that nobody uses now.
pub(super) struct Pool {
    idle: Mutex<Idle>,
    /// Whether a sender may come back while a message of it has no outcome yet. The receipts of
    /// such a sender cover more than one user's messages, so only requests, whose answer is a
    /// reply, can share one.
    keeps_owing: bool,
}

#[derive(Default)]
struct Idle {
    senders: Vec<BoxSender>,
    /// How many are being opened.
    opening: usize,
    /// Who waits for one, in order, and some who do no longer.
    waiting: VecDeque<Weak<OneShot<Lease>>>,
}

impl Pool {
    pub(super) fn new(keeps_owing: bool) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), keeps_owing })
    }

    /// Leases an idle sender, if there is one.
    pub(super) fn lease_idle(self: &Arc<Self>) -> Option<Lease> {
        lock(&self.idle).senders.pop().map(|sender| self.lease(true, Some(sender)))
    }

    /// Waits for a sender that comes back, or for its turn to open one.
    pub(super) fn lease_next(self: &Arc<Self>, broker: &Arc<dyn Broker>) -> Leasing {
        let (cell, broker) = (Arc::new(OneShot::<Lease>::new()), Arc::clone(broker));
        let mut idle = lock(&self.idle);
        if idle.waiting.len() == idle.waiting.capacity() {
            idle.waiting.retain(|cell| cell.strong_count() > 0);
        }
        idle.waiting.push_back(Arc::downgrade(&cell));
        self.serve(idle);
        Box::pin(async move {
            let mut lease = poll_fn(|cx| cell.poll_take(cx)).await;
            if lease.sender.is_none() {
                lease.sender = Some(broker.sender(SenderOptions::new()).await?);
                lease.pool.give_back(None);
            }
            Ok(lease)
        })
    }

    /// Opens a sender of its own kind, to keep it afterwards.
    pub(super) fn lease_new(
        self: &Arc<Self>,
        broker: &Arc<dyn Broker>,
        options: SenderOptions,
    ) -> Leasing {
        let (pool, broker) = (Arc::clone(self), Arc::clone(broker));
        Box::pin(async move { Ok(pool.lease(false, Some(broker.sender(options).await?))) })
    }

    /// Leases a sender, or a turn to open one.
    fn lease(self: &Arc<Self>, was_idle: bool, sender: Option<BoxSender>) -> Lease {
        let (pool, armed, owing, broken) = (Arc::clone(self), false, false, false);
        Lease { sender, pool, was_idle, armed, owing, broken }
    }

    /// A sender comes back, or a turn to open one.
    fn give_back(self: &Arc<Self>, sender: Option<BoxSender>) {
        let mut idle = lock(&self.idle);
        match sender {
            None => idle.opening -= 1,
            Some(sender) if idle.senders.len() < IDLE_MAX => idle.senders.push(sender),
            // Dropping a sender is the backend's code: not under the lock.
            Some(_) => return drop(idle),
        }
        self.serve(idle);
    }

    /// Gives those who wait what there is.
    fn serve<'a>(self: &'a Arc<Self>, mut idle: MutexGuard<'a, Idle>) {
        while (!idle.senders.is_empty() || idle.opening < IDLE_MAX)
            && let Some(next) = idle.waiting.pop_front()
        {
            let Some(next) = next.upgrade() else { continue };
            let sender = idle.senders.pop();
            idle.opening += usize::from(sender.is_none());
            // Who has gone meanwhile gives it back, and who is woken may run anything.
            drop(idle);
            next.put(self.lease(sender.is_some(), sender));
            drop(next);
            idle = lock(&self.idle);
        }
    }
}

/// Waits for a sender.
pub(super) type Leasing = BoxFuture<'static, Result<Lease, Error>>;

/// A sender in use by one waiting task; it goes back to its pool if it is fit for the next user.
pub(super) struct Lease {
    /// There is none while it is being opened.
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
        let Some(returned) = mine else { return Poll::Ready(Ok(Ok(receipt))) };
        self.note(&returned.error);
        Poll::Ready(Ok(Err(returned)))
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
        self.rest();
        if !self.broken && (!self.owing || self.pool.keeps_owing) {
            self.pool.give_back(self.sender.take());
        }
    }
}
