//! Queues that are read and not consumed: what they retain, and where a reader begins.

use std::time::Duration;

use crate::{Ack, Error, ErrorKind, Source, Subscription};

/// What a queue retains, whoever has read it: each bound that is named holds, and without any
/// everything stays for ever.
///
/// ```
/// use std::time::Duration;
/// use posthaste_core::{Pattern, Queue, Retention, Topic};
///
/// let week = Retention::new().age(Duration::from_secs(7 * 24 * 60 * 60)).bytes(1 << 30);
/// let orders = Queue::new(Topic::new("orders")?).bind(Pattern::new("orders.>")?).retain(week);
/// assert_eq!(orders.retain, Some(week));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Retention {
    /// For how long a message stays. Needs a clock.
    pub age: Option<Duration>,
    /// How many messages stay.
    pub messages: Option<u64>,
    /// How many bytes stay.
    pub bytes: Option<u64>,
    /// Whether a message lets go of the one before it with the same key, or without one the same
    /// topic.
    pub last_per_key: bool,
}

crate::setters! { Retention:
    /// For how long a message stays; zero is for ever.
    age(age: Duration) => age = Some(age).filter(|age| !age.is_zero());

    /// How many messages stay, at least 1: the newest.
    messages(messages: u64) => messages = Some(messages.max(1));

    /// How many bytes stay. The newest message stays however large it is.
    bytes(bytes: u64) => bytes = Some(bytes);
}

impl Retention {
    /// Everything, for ever.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of each key only the newest message; of what has no key, of each topic.
    #[must_use]
    pub fn last_per_key(mut self) -> Self {
        self.last_per_key = true;
        self
    }
}

/// Where a reader of a queue that retains begins.
///
/// ```
/// use posthaste_core::{Ack, Start, Subscription};
///
/// let again = Subscription::queue("orders")?.start(Start::Beginning);
/// assert_eq!((again.start, again.ack), (Some(Start::Beginning), Ack::Auto));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the oldest message that is there.
    Beginning,
    /// At this offset. If that is gone, at the oldest message that is there, which
    /// [says](crate::Delivery::missed) how many are missing; if it is beyond the end, at what comes
    /// next.
    Offset(u64),
    /// At the first message that came then or later: a time of the wall clock, since the Unix
    /// epoch. Needs a clock.
    Time(Duration),
    /// At what comes next.
    New,
}

impl Subscription {
    /// Reads a queue that retains, from there on; nothing is settled. Each such reader is on its
    /// own, and sees everything.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        (self.start, self.ack) = (Some(start), Ack::Auto);
        self
    }

    /// Refuses a start that makes no sense with the rest, as every broker does.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check_start(&self) -> Result<(), Error> {
        let text = match (self.start, self.ack, &self.source) {
            (None, ..) | (_, Ack::Auto, Source::Queue(_)) => return Ok(()),
            (_, Ack::Manual, _) => {
                "what is replayed is not settled: keep the offset with what you made of it"
            }
            _ => "only a queue that retains has a start: bind one to the topic and read that",
        };
        Err(Error::new(ErrorKind::InvalidArgument, text))
    }
}
