//! Copies of messages on their way through a mailbox, and what is said about them.

use std::collections::VecDeque;
use std::task::Poll;

use posthaste_core::{Kind, Message, Runtime};

use crate::wait::Ticket;

/// A copy of a message.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    /// Where in the order of arrival; a copy that comes back goes to its old place.
    pub(crate) position: u64,
    /// How often it has been handed out.
    pub(crate) attempts: u32,
    /// How many were dropped right before it.
    pub(crate) missed: u32,
}

/// What a mailbox said to a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It holds a copy (or counted its drop, as its policy says).
    Taken,
    /// It is full: the sender has to wait, at this place on the list if it asked for one.
    Full(Option<Ticket>),
    /// It is gone: the message may have to go elsewhere now.
    Gone,
    /// It takes nothing more, because the broker drains.
    Draining,
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
#[derive(Clone, Copy)]
pub(crate) struct Taking<'a> {
    pub(crate) consumer: u64,
    pub(crate) manual: bool,
    pub(crate) prefetch: usize,
    pub(crate) limit: usize,
    /// Asked only about messages that have a deadline.
    pub(crate) clock: Option<&'a dyn Runtime>,
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
}

impl Taken {
    pub(crate) fn into_poll(self) -> Poll<usize> {
        match self {
            Self::Some(count) => Poll::Ready(count),
            Self::End => Poll::Ready(0),
            Self::Wait(_) | Self::Stalled => Poll::Pending,
        }
    }
}

/// What settling a lease led to.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    /// A request that nobody will answer: its requester has to be told.
    pub(crate) unanswered: Option<Unanswered>,
    /// It was the last lease of a mailbox that is on its way out.
    pub(crate) drained: bool,
}

/// A request that nobody will answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) request: Message,
    /// A responder has had it, and may have begun.
    pub(crate) begun: bool,
}

/// What waited in a mailbox that was closed. Looked through and dropped without the lock, because
/// it may be much.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(pub(crate) VecDeque<Entry>);

impl Leftovers {
    /// The requests among it.
    pub(crate) fn into_unanswered(self) -> impl Iterator<Item = Unanswered> {
        let requests = self.0.into_iter().filter(Entry::is_request);
        requests.map(Entry::into_unanswered)
    }
}

impl Entry {
    pub(crate) fn is_request(&self) -> bool {
        self.message.kind() == Kind::Request
    }

    pub(crate) fn into_unanswered(self) -> Unanswered {
        Unanswered { begun: self.attempts > 0, request: self.message }
    }
}

/// Copies that an exclusive automatic receiver took out and hands out one by one.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) entries: VecDeque<Entry>,
    /// What was missed before copies that were too old to be handed out.
    missed: u32,
}

impl Batch {
    /// The next copy that `is_expired` lets through, and how many were dropped right before it;
    /// `None` at the end. `expired` counts those it did not let through.
    pub(crate) fn pop(
        &mut self,
        mut is_expired: impl FnMut(&Message) -> bool,
        expired: &mut u64,
    ) -> Option<(Message, u32)> {
        while let Some(entry) = self.entries.pop_front() {
            self.missed = self.missed.saturating_add(entry.missed);
            if !is_expired(&entry.message) {
                return Some((entry.message, std::mem::take(&mut self.missed)));
            }
            *expired += 1;
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
