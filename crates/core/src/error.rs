//! The one error type, its kinds, and the error of a send, which hands the message back.

use std::error::Error as StdError;
use std::fmt;

use crate::Message;

/// Anything that can go wrong, as one opaque value: ask its [`kind`](Error::kind), show its text.
///
/// The text is one sentence for the person who has to act on it. The size is one pointer, so that
/// a `Result` on the data path stays small.
///
/// ```
/// use posthaste_core::{ErrorKind, Topic};
///
/// let error = Topic::new("orders..created").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidTopic);
/// assert!(!error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    text: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A topic, queue name or pattern breaks a rule of addresses.
    InvalidTopic,
    /// An argument other than a topic is not acceptable: a URL, a header, an option.
    InvalidArgument,
    /// A payload, header block, frame or count is over its limit.
    TooLarge,
    /// The handle, the connection or the broker was closed.
    Closed,
    /// The backend lacks what was asked for; the text names the capability and the backend.
    Unsupported,
    /// A declaration contradicts what exists; the text names the field.
    Conflict,
    /// There is no queue of that name.
    NotFound,
    /// A full queue or window refused the message.
    Full,
    /// A message outlived its deadline or time to live.
    Expired,
    /// Nobody is there to answer a request.
    NoResponders,
    /// A request's deadline passed before its reply came.
    DeadlineExceeded,
    /// The responder answered with an error; the text is its own.
    Failed,
    /// A confirm named a lower level than the sender had asked for.
    Unconfirmed,
    /// The connection ended between send and confirm: the message may or may not have arrived.
    Unknown,
    /// The connection could not be made, or was lost.
    Disconnected,
    /// The peer did not accept who we are.
    Refused,
    /// The peer broke the protocol, or is no peer at all.
    Protocol,
    /// Something took longer than it may.
    TimedOut,
    /// A limit on the number of links, connections or queues was reached.
    Limit,
    /// The subscriber was cut off by its own overflow policy.
    SlowConsumer,
    /// The session with a broker was lost and begun anew: what came in between is unknown, and what
    /// reports this goes on.
    SessionLost,
    /// Something inside failed that should not have.
    Internal,
}

impl Error {
    /// An error of `kind` whose text is one sentence that says what to do.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, text: text.into(), source: None }))
    }

    /// Keeps `source` as the cause of this error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The `Unsupported` error of `backend` for `capability`.
    pub fn unsupported(capability: impl fmt::Display, backend: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, format!("{backend} does not support {capability}"))
    }

    /// The `Closed` error of a handle: `what` names it ("the sender", "the connection").
    pub fn closed(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Closed, format!("{what} is closed"))
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Full
                | ErrorKind::NoResponders
                | ErrorKind::DeadlineExceeded
                | ErrorKind::Unknown
                | ErrorKind::Disconnected
                | ErrorKind::TimedOut
        )
    }

    /// The sentence without its causes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.text)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl Clone for Error {
    /// A copy with the same kind and text; the causes stay with the original.
    fn clone(&self) -> Self {
        Self::new(self.0.kind, self.0.text.clone())
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::TimedOut => ErrorKind::TimedOut,
            Io::InvalidInput => ErrorKind::InvalidArgument,
            Io::Unsupported => ErrorKind::Unsupported,
            Io::PermissionDenied => ErrorKind::Refused,
            _ => ErrorKind::Disconnected,
        };
        Self::new(kind, error.to_string()).caused_by(error)
    }
}

/// A send that did not happen: the reason, and the message itself, unharmed.
///
/// ```
/// use posthaste_core::{Error, ErrorKind, Message, SendError, Topic};
///
/// let message = Message::new(Topic::new("jobs")?, "work");
/// let failed = SendError::new(Error::closed("the sender"), message);
/// assert_eq!(failed.kind(), ErrorKind::Closed);
/// assert_eq!(failed.into_message().payload(), "work");
/// # Ok::<(), Error>(())
/// ```
pub struct SendError(Box<(Error, Message)>);

impl SendError {
    /// Pairs the reason with the message it concerns.
    #[must_use]
    pub fn new(error: Error, message: Message) -> Self {
        Self(Box::new((error, message)))
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.0.kind()
    }

    /// The reason.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.0.0
    }

    /// The message that was not sent, or whose fate is unknown.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0.1
    }

    /// Takes the message back.
    #[must_use]
    pub fn into_message(self) -> Message {
        self.0.1
    }

    /// Takes reason and message.
    #[must_use]
    pub fn into_parts(self) -> (Error, Message) {
        *self.0
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendError").field(&self.0.0).finish()
    }
}

impl StdError for SendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.0.source()
    }
}

impl From<SendError> for Error {
    fn from(failed: SendError) -> Self {
        failed.0.0
    }
}
