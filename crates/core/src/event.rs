//! What a broker tells of itself: events, which are messages to topics of the framework's own.

use std::fmt;

use crate::{Error, Message, Topic};

/// Something that happened in a broker or on the way to it.
///
/// Events are messages: subscribe to [`Event::PATTERN`] and read each with
/// [`Event::from_message`]. A subscription over a link also gets what happens to the link. Nobody
/// waits for a subscriber of events, and what it loses makes no events of its own.
///
/// ```
/// use posthaste_core::{Event, Topic};
///
/// let event = Event::Dropped {
///     subscriber: "jobs".into(),
///     topic: Topic::new("orders.eu")?,
///     reason: "full".into(),
/// };
/// assert_eq!(Event::from_message(&event.to_message()?), Some(event));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A copy of a message was dropped.
    Dropped {
        /// Who should have had it: the queue, the group, or the pattern of the subscription.
        subscriber: String,
        /// What it was about.
        topic: Topic,
        /// Why, as in [`Ledger::dropped_by`](crate::Ledger::dropped_by).
        reason: String,
    },
    /// A link was resumed on another connection: nothing is lost.
    SessionResumed,
    /// A link was made anew, its session is lost: what nobody knows the fate of came back as
    /// `Unknown`.
    SessionLost,
}

impl Event {
    /// The pattern of all events.
    pub const PATTERN: &str = "_ph.event.>";

    const DROPPED: &str = "_ph.event.dropped";
    const SESSION_RESUMED: &str = "_ph.event.session.resumed";
    const SESSION_LOST: &str = "_ph.event.session.lost";
    const SUBSCRIBER: &str = "subscriber";
    const TOPIC: &str = "topic";
    const REASON: &str = "reason";

    /// The event as a message.
    ///
    /// # Errors
    /// `InvalidTopic`, `TooLarge`.
    pub fn to_message(&self) -> Result<Message, Error> {
        let topic = match self {
            Self::Dropped { .. } => Self::DROPPED,
            Self::SessionResumed => Self::SESSION_RESUMED,
            Self::SessionLost => Self::SESSION_LOST,
        };
        let mut message = Message::builder(Topic::new(topic)?).payload(self.to_string());
        if let Self::Dropped { subscriber, topic, reason } = self {
            message = message
                .header(Self::SUBSCRIBER, subscriber)
                .header(Self::TOPIC, topic.as_str())
                .header(Self::REASON, reason);
        }
        message.build()
    }

    /// The event that a message tells of; `None` if it is none, or one that is not known here.
    #[must_use]
    pub fn from_message(message: &Message) -> Option<Self> {
        match message.topic().as_str() {
            Self::DROPPED => Some(Self::Dropped {
                subscriber: message.header(Self::SUBSCRIBER)?.to_owned(),
                topic: Topic::new(message.header(Self::TOPIC)?).ok()?,
                reason: message.header(Self::REASON)?.to_owned(),
            }),
            Self::SESSION_RESUMED => Some(Self::SessionResumed),
            Self::SESSION_LOST => Some(Self::SessionLost),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped { subscriber, topic, reason } => {
                write!(f, "a message to {topic} was dropped for {subscriber}: {reason}")
            }
            Self::SessionResumed => f.write_str("the session was resumed on another connection"),
            Self::SessionLost => f.write_str("the session was lost and begun anew"),
        }
    }
}
