//! Copies of messages on their way through a mailbox, and what is said about them.

use std::task::{Poll, Waker};
use std::time::Instant;

use posthaste_core::{Death, Error, ErrorKind, Kind, Message, Topic};

use crate::wait::Ticket;

/// A copy of a message, or of a run of them.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    /// Where in the order of arrival; a copy that comes back goes to its old place.
    pub(crate) position: u64,
    /// Its place in the store of a durable queue.
    pub(crate) place: u64,
    /// How often it has been handed out.
    pub(crate) attempts: u32,
    /// How many were dropped right before it.
    pub(crate) missed: u32,
    /// What few copies have.
    rare: Option<Box<Rare>>,
}

// Moved on every way in and out, and beyond this many bytes by a call.
const _: () = assert!(size_of::<Entry>() <= 128);

#[derive(Debug, Default)]
struct Rare {
    /// When its queue has no more use for it.
    expires: Option<Instant>,
    /// Why its attempts failed, where somebody may ask.
    death: Option<Death>,
}

/// Who wants to put a message in.
#[derive(Clone, Copy)]
pub(crate) enum Entrance<'a> {
    /// A sender, which waits for room if it has a waker, and else goes away.
    Sender(Option<&'a Waker>),
    /// A dead letter, which waits at its source whatever makes the queue refuse it.
    Burial(&'a Waker, Origin),
    /// A dead letter that comes back if there is room, and else stays where it is.
    Replay(Origin),
}

/// Which copy of which durable queue a copy takes the place of, if it is one of such a queue.
pub(crate) type Origin = Option<(u64, u64)>;

impl Entrance<'_> {
    pub(crate) fn origin(self) -> Origin {
        match self {
            Self::Sender(_) => None,
            Self::Burial(_, origin) | Self::Replay(origin) => origin,
        }
    }
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
    /// The lease to settle, of a manual consumer; of a reader, one more than the offset.
    pub(crate) tag: u64,
}

/// How a consumer takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taking {
    pub(crate) consumer: u64,
    pub(crate) manual: bool,
    pub(crate) prefetch: usize,
    pub(crate) limit: usize,
    /// Whether it takes one at a time.
    pub(crate) singly: bool,
    /// How many it will ever take.
    pub(crate) left: usize,
    /// Whether it waits if there is nothing.
    pub(crate) waits: bool,
}

/// What a consumer got.
#[derive(Debug)]
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
    /// None any more, because the next one cannot be read.
    Unreadable(Error),
}

impl Taken {
    pub(crate) fn into_poll(self) -> Poll<Result<usize, Error>> {
        match self {
            Self::Some(count) => Poll::Ready(Ok(count)),
            Self::End => Poll::Ready(Ok(0)),
            Self::Wait(_) | Self::Stalled => Poll::Pending,
            Self::Unreadable(error) => Poll::Ready(Err(error)),
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
    pub(crate) origin: Origin,
}

impl Entry {
    #[inline]
    pub(crate) fn new(message: Message, position: u64, missed: u32) -> Self {
        Self { message, position, place: 0, attempts: 0, missed, rare: None }
    }

    /// When it is of no more use: its own deadline, or an earlier one that its queue gives it.
    #[inline]
    pub(crate) fn expires(&self) -> Option<Instant> {
        match &self.rare {
            None => self.message.deadline(),
            Some(rare) => rare.expires.into_iter().chain(self.message.deadline()).min(),
        }
    }

    /// When its queue has no more use for it.
    pub(crate) fn own_expiry(&self) -> Option<Instant> {
        self.rare.as_ref()?.expires
    }

    pub(crate) fn set_expiry(&mut self, at: Option<Instant>) {
        if at.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().expires = at;
        }
    }

    pub(crate) fn death(&self) -> Option<&Death> {
        self.rare.as_ref()?.death.as_ref()
    }

    pub(crate) fn death_mut(&mut self) -> &mut Option<Death> {
        &mut self.rare.get_or_insert_default().death
    }

    /// Whether there is nothing to it that few copies have.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.rare.is_none()
    }

    /// Whether it is handed out whenever its turn comes, and never wanted back before.
    #[inline]
    pub(crate) fn is_ordinary(&self) -> bool {
        let Self { message, rare, .. } = self;
        rare.is_none()
            && message.priority() == 0
            && message.deadline().is_none()
            && message.kind() != Kind::Request
            && message.count() == 1
    }

    /// Whether it may be in the store alone: nobody looks for it before its turn.
    pub(crate) fn may_be_paged(&self) -> bool {
        let Self { message, attempts, .. } = self;
        *attempts == 0
            && self.death().is_none()
            && message.priority() == 0
            && message.kind() != Kind::Request
            && message.count() == 1
    }

    /// Whether it may wait until a time in the store alone, where no keys have an order.
    pub(crate) fn may_be_delayed_in_store(&self) -> bool {
        self.may_be_paged() && self.expires().is_none()
    }

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
