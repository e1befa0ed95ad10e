//! A message handed to an application, and how the application settles it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::Message;

/// A message handed out by a receiver, which owes it an outcome.
///
/// Settling consumes the delivery and never waits; wait for the queue's own level with
/// [`ReceiverExt::settled`](crate::ReceiverExt::settled). A delivery that is dropped unsettled
/// goes back to be delivered again, so a panic in a handler loses no work. (A *request* that is
/// dropped is not run a second time: its requester is told.) A delivery of an automatic
/// subscription is settled already, and settling it again does nothing.
///
/// ```
/// use posthaste_core::{Delivery, Message, Topic};
///
/// let delivery = Delivery::settled(Message::new(Topic::new("jobs")?, "work"), 1);
/// assert_eq!((delivery.attempt(), delivery.payload().as_ref()), (1, &b"work"[..]));
/// delivery.ack();
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[must_use = "a delivery that is dropped unsettled is delivered again"]
pub struct Delivery {
    message: Message,
    attempt: u32,
    missed: u32,
    lease: Lease,
}

// Moved on every way out, and beyond this many bytes by a call.
const _: () = assert!(size_of::<Delivery>() <= 128);

impl Delivery {
    /// A delivery that `by` settles under the number `tag`. `attempt` counts from 1.
    #[inline]
    pub fn leased(message: Message, attempt: u32, by: Arc<dyn Settle>, tag: u64) -> Self {
        Self { message, attempt, missed: 0, lease: Lease { by: Some(by), tag } }
    }

    /// A delivery that is settled already.
    #[inline]
    pub fn settled(message: Message, attempt: u32) -> Self {
        Self { message, attempt, missed: 0, lease: Lease { by: None, tag: 0 } }
    }

    /// Says how many messages the subscription lost right before this one.
    #[inline]
    pub fn with_missed(mut self, missed: u64) -> Self {
        self.missed = u32::try_from(missed).unwrap_or(u32::MAX);
        self
    }

    /// Says where in a queue that retains the message is, if it is in one. What is not settled yet has
    /// no such place.
    ///
    /// ```
    /// use posthaste_core::{Delivery, Message, Topic};
    ///
    /// let message = Message::new(Topic::new("orders")?, "seven apples");
    /// let read = Delivery::settled(message, 1).with_offset(Some(41));
    /// assert_eq!((read.offset(), read.is_leased()), (Some(41), false));
    /// # Ok::<(), posthaste_core::Error>(())
    /// ```
    #[inline]
    pub fn with_offset(mut self, offset: Option<u64>) -> Self {
        if self.lease.by.is_none() {
            self.lease.tag = offset.map_or(0, |offset| offset.wrapping_add(1));
        }
        self
    }

    /// The message.
    #[must_use]
    #[inline]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The message's content.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &bytes::Bytes {
        self.message.payload()
    }

    /// How many times the message has been handed to an application, this time included.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many messages this subscription lost to its overflow policy right before this one; how many
    /// were let go that a reader of a queue that retains had not read.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.into()
    }

    /// Where in a queue that retains the message is: the same for every reader, and after a restart.
    /// Who keeps it goes on with [`Start::Offset`](crate::Start::Offset) of one more.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self.lease.by {
            // Of what is settled it has no other use.
            None => self.lease.tag.checked_sub(1),
            Some(_) => None,
        }
    }

    /// Whether the delivery still owes an outcome.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.lease.by.is_some()
    }

    /// Done: never deliver it again.
    #[inline]
    pub fn ack(mut self) {
        self.lease.record(Outcome::Ack);
    }

    /// Done: never deliver it again; keeps the message.
    #[must_use]
    #[inline]
    pub fn ack_into_message(mut self) -> Message {
        self.lease.record(Outcome::Ack);
        self.message
    }

    /// Deliver it again, `after` a while (zero: at once), because of `why`.
    pub fn retry(mut self, after: Duration, why: &str) {
        self.lease.record(Outcome::Retry { after, why });
    }

    /// Never deliver it again, because of `why`; it goes to the dead-letter queue, if there is one.
    pub fn reject(mut self, why: &str) {
        self.lease.record(Outcome::Reject { why });
    }

    /// Give it back as if it had never been handed out: this attempt does not count.
    pub fn release(mut self) {
        self.lease.record(Outcome::Release);
    }

    /// Says that the work is still going on: the time that its consumer has begins anew. Does
    /// nothing where there is no such time.
    pub fn extend(&self) {
        self.lease.extend();
    }

    /// Resolves when the one who asked no longer wants the answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cancelled(&self) {
        std::future::poll_fn(|cx| self.poll_cancelled(cx)).await;
    }

    /// Ready when the one who asked no longer wants the answer.
    pub fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.lease.poll_cancelled(cx)
    }

    /// Takes the delivery apart without settling it: a link settles when its peer says so.
    pub fn into_parts(self) -> DeliveryParts {
        let offset = self.offset();
        let Self { message, attempt, missed, lease } = self;
        let lease = lease.by.is_some().then_some(lease);
        DeliveryParts { message, attempt, missed: missed.into(), offset, lease }
    }
}

/// A delivery taken apart, for links and backends.
#[derive(Debug)]
pub struct DeliveryParts {
    /// The message.
    pub message: Message,
    /// How many times it has been handed out, this time included.
    pub attempt: u32,
    /// How many messages the subscription lost right before this one.
    pub missed: u64,
    /// Where in a queue that retains the message is.
    pub offset: Option<u64>,
    /// What is owed, unless the delivery was settled when it was handed out.
    pub lease: Option<Lease>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("attempt", &self.attempt)
            .field("leased", &self.is_leased())
            .finish_non_exhaustive()
    }
}

/// The outcome that is owed for a delivery; dropping it is the outcome [`Outcome::Dropped`].
#[must_use = "a lease that is dropped is an outcome: the message is delivered again"]
pub struct Lease {
    by: Option<Arc<dyn Settle>>,
    tag: u64,
}

impl Lease {
    /// Settles the delivery.
    pub fn settle(mut self, outcome: Outcome<'_>) {
        self.record(outcome);
    }

    /// Says that the work is still going on.
    pub fn extend(&self) {
        if let Some(by) = &self.by {
            by.extend(self.tag);
        }
    }

    /// Ready when the one who asked no longer wants the answer.
    pub fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.by {
            Some(by) => by.poll_cancelled(self.tag, cx),
            None => Poll::Pending,
        }
    }

    #[inline]
    fn record(&mut self, outcome: Outcome<'_>) {
        if let Some(by) = self.by.take() {
            by.settle(self.tag, outcome);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("tag", &self.tag).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        self.record(Outcome::Dropped);
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Done.
    Ack,
    /// Done, because the application of an automatic consumer at the far end of a link took it.
    Taken,
    /// The link of an automatic consumer was lost before it said what was taken: it may have been
    /// seen, so it is not delivered again.
    Lost,
    /// Again, after a while.
    Retry {
        /// How long to wait; zero is at once.
        after: Duration,
        /// The reason, for people.
        why: &'a str,
    },
    /// Never again.
    Reject {
        /// The reason, for people.
        why: &'a str,
    },
    /// Never seen: does not count as an attempt.
    Release,
    /// The delivery was dropped, or its consumer was lost: again, except that a request is
    /// answered with a status instead of being run a second time.
    Dropped,
}

/// Settles deliveries by tag: one per receiver, so that a delivery allocates nothing.
pub trait Settle: Send + Sync {
    /// Records the outcome of the delivery of number `tag`. Never waits; an error surfaces at
    /// [`Receiver::poll_settled`](crate::Receiver::poll_settled).
    fn settle(&self, tag: u64, outcome: Outcome<'_>);

    /// The delivery of number `tag` is still being worked on: its consumer's time begins anew.
    fn extend(&self, _tag: u64) {}

    /// Ready when the one who asked no longer wants the answer to this delivery.
    fn poll_cancelled(&self, _tag: u64, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
