//! A message on its way: through which sender, and what has become of it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::Bus;
use super::pool::{Lease, Leasing, Pool, Refusal};
use crate::{Error, Message, Receipt, Returned, Seq};

/// Sends messages one by one through a leased sender, and keeps it.
#[derive(Default)]
pub(super) struct Sending {
    lease: Option<Lease>,
    /// Waits for a sender, where none is idle.
    pub(super) leasing: Option<Leasing>,
    /// What is to be sent.
    pub(super) slot: Option<Message>,
    /// The last message that the sender took.
    taken: Option<Seq>,
}

impl Sending {
    pub(super) fn new(message: Message) -> Self {
        Self { slot: Some(message), ..Self::default() }
    }

    /// Ready when a sender has taken what is to be sent.
    pub(super) fn poll_taken(
        &mut self,
        cx: &mut Context<'_>,
        bus: &Bus,
        pool: &Arc<Pool>,
    ) -> Poll<Result<Seq, Error>> {
        loop {
            if let Some(leasing) = &mut self.leasing {
                let leased = ready!(leasing.as_mut().poll(cx));
                self.leasing = None;
                self.lease = Some(leased?);
            }
            self.lease = self.lease.take().or_else(|| pool.lease_idle());
            let Some(lease) = &mut self.lease else {
                self.leasing = Some(pool.lease_next(&bus.0.broker));
                continue;
            };
            match ready!(lease.poll_send(cx, &mut self.slot)) {
                Ok(seq) => return Poll::Ready(Ok(*self.taken.insert(seq))),
                Err(Refusal::Stale) => self.lease = None,
                Err(Refusal::Error(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The outcome of the last message: its receipt, or the message itself. Sends it first, if that
    /// is still to be done.
    pub(super) fn poll_outcome(
        &mut self,
        cx: &mut Context<'_>,
        bus: &Bus,
        pool: &Arc<Pool>,
    ) -> Poll<Result<Result<Receipt, Returned>, Error>> {
        let seq = match self.taken.filter(|_| self.slot.is_none()) {
            Some(seq) => seq,
            None => ready!(self.poll_taken(cx, bus, pool))?,
        };
        match &mut self.lease {
            Some(lease) => lease.poll_flush(cx, seq),
            None => Poll::Ready(Err(Error::closed("the sender"))),
        }
    }

    /// Whether the last message was taken.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.is_some() && self.slot.is_none()
    }

    /// It is not being polled for now: it waits for nothing.
    pub(super) fn rest(&mut self) {
        self.lease.iter_mut().for_each(Lease::rest);
    }
}
