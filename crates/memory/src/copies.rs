//! Copies of messages on their way through a mailbox, and what is said about them.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Instant;

use posthaste_core::{Death, Error, ErrorKind, Kind, Message, Topic};

use crate::lanes::Slot;
use crate::wait::Ticket;

/// A copy of a message, or of a run of them.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    /// Where in the order of arrival; a copy that comes back goes to its old place.
    pub(crate) position: u64,
    /// How often it has been handed out.
    pub(crate) attempts: u32,
    /// How many were dropped right before it.
    pub(crate) missed: u32,
    /// When it is of no more use: its own deadline, or an earlier one that its queue gives it.
    pub(crate) expires: Option<Instant>,
    /// Why its attempts failed, where somebody may ask.
    pub(crate) death: Option<Box<Death>>,
}

/// Who wants to put a message in.
#[derive(Clone, Copy)]
pub(crate) enum Entrance<'a> {
    /// A sender, which waits for room if it has a waker, and else goes away.
    Sender(Option<&'a Waker>),
    /// A dead letter, which waits at its source whatever makes the queue refuse it.
    Burial(&'a Waker),
    /// A dead letter that comes back if there is room, and else stays where it is.
    Replay,
}

/// What a mailbox said to a message.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It holds a copy (or counted its drop, as its policy says).
    Taken,
    /// It is full: the sender has to wait, at this place on the list if it asked for one.
    Full(Option<Ticket>),
    /// It does not take the message.
    Refused(Error),
    /// It is gone: the message may have to go elsewhere now.
    Gone,
    /// It takes nothing more, because the broker drains.
    Draining,
}

/// What is said of a message that may have come before, where nobody would notice.
pub(crate) fn uncertain() -> Error {
    let text = "the message may or may not have arrived before; a message id, and queues with a \
                deduplication window, would settle it";
    Error::new(ErrorKind::Unknown, text)
}

/// A copy that was handed to a consumer.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    pub(crate) missed: u32,
    /// The lease to settle, of a manual consumer.
    pub(crate) tag: u64,
}

/// How a consumer takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taking {
    pub(crate) consumer: u64,
    pub(crate) manual: bool,
    pub(crate) prefetch: usize,
    pub(crate) limit: usize,
}

/// What a consumer got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// This many.
    Some(usize),
    /// None now; the consumer was put on the list.
    Wait(Ticket),
    /// None until it settles something; its waker is kept.
    Stalled,
    /// None ever again.
    End,
    /// None ever again, because it was too slow.
    CutOff,
}

impl Taken {
    pub(crate) fn into_poll(self) -> Poll<Result<usize, Error>> {
        match self {
            Self::Some(count) => Poll::Ready(Ok(count)),
            Self::End => Poll::Ready(Ok(0)),
            Self::Wait(_) | Self::Stalled => Poll::Pending,
            Self::CutOff => Poll::Ready(Err(Error::new(
                ErrorKind::SlowConsumer,
                "the subscription was cut off: it did not take its messages in time",
            ))),
        }
    }
}

/// A request that nobody will answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) request: Message,
    /// A responder has had it, and may have begun.
    pub(crate) begun: bool,
}

/// A dead letter on its way.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) position: u64,
    pub(crate) message: Message,
    pub(crate) to: Topic,
}

impl Entry {
    /// How many messages it is.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.message.count()).unwrap_or(usize::MAX)
    }

    pub(crate) fn is_request(&self) -> bool {
        self.message.kind() == Kind::Request
    }

    pub(crate) fn to_unanswered(&self) -> Unanswered {
        Unanswered { begun: self.attempts > 0, request: self.message.clone() }
    }

    pub(crate) fn into_unanswered(self) -> Unanswered {
        Unanswered { begun: self.attempts > 0, request: self.message }
    }
}

/// Copies that an exclusive automatic receiver took out and hands out one by one.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) slots: VecDeque<Slot>,
    /// What was missed before copies that were too old to be handed out.
    missed: u32,
}

impl Batch {
    /// The next copy that `is_expired` lets through, and how many were dropped right before it;
    /// `None` at the end. `expired` counts those it did not let through.
    pub(crate) fn pop(
        &mut self,
        mut is_expired: impl FnMut(Instant) -> bool,
        expired: &mut u64,
    ) -> Option<(Message, u32)> {
        while let Some(slot) = self.slots.pop_front() {
            let Some(entry) = slot.living() else { continue };
            self.missed = self.missed.saturating_add(entry.missed);
            if !entry.expires.is_some_and(&mut is_expired) {
                return Some((entry.message, std::mem::take(&mut self.missed)));
            }
            *expired += 1;
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
