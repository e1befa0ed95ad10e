//! A message as the protocol sees it: what belongs to this hop, and two opaque runs of bytes.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;

/// What belongs to one hop of a message and is written anew at the next.
///
/// ```
/// use posthaste_wire::Hop;
/// let first = Hop::default();
/// assert_eq!((first.attempt, first.correlation), (1, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Eight bits that the protocol carries and does not look at (kind, target, priority).
    pub attributes: u8,
    /// Which request this is, or answers.
    pub correlation: Option<NonZeroU64>,
    /// The time that is left for it; whole microseconds travel.
    pub deadline: Option<Duration>,
    /// Which delivery this is; the first is 1.
    pub attempt: u32,
    /// How many messages before this one were dropped for this receiver.
    pub missed: u64,
}

impl Hop {
    /// Whether it says nothing but the attributes.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.correlation.is_none()
            && self.deadline.is_none()
            && self.attempt <= 1
            && self.missed == 0
    }
}

impl Default for Hop {
    fn default() -> Self {
        Self { attributes: 0, correlation: None, deadline: None, attempt: 1, missed: 0 }
    }
}

/// A message that has arrived whole.
///
/// Head and payload are slices of the buffer that was read, unless the message came in fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// What belongs to this hop.
    pub hop: Hop,
    /// The first part of the end-to-end run: the topic and properties.
    pub head: Bytes,
    /// The second part of the end-to-end run; of several messages, as
    /// [`Payloads`](crate::Payloads) reads it.
    pub payload: Bytes,
    /// How many messages there are: more than one only if [`Config::runs`](crate::Config::runs)
    /// asks for it.
    pub count: u32,
}

impl Default for Transfer {
    fn default() -> Self {
        Self { hop: Hop::default(), head: Bytes::new(), payload: Bytes::new(), count: 1 }
    }
}

/// Why a message was not taken; the caller still owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// The peer's credit is used up: wait for [`Event::Credit`](crate::Event::Credit).
    NoCredit,
    /// A fragmented message of this link is still under way: wait for
    /// [`Event::Writable`](crate::Event::Writable).
    Busy,
    /// More than [`Config::gather`](crate::Config::gather) bytes wait to be written: wait for
    /// [`Event::Writable`](crate::Event::Writable), which comes once they have been taken.
    Full,
    /// The link is not open for sending, or the session has ended.
    Closed,
    /// The head or the payload is over its limit.
    TooLarge {
        /// Length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredit => f.write_str("the receiver has granted no credit"),
            Self::Busy => f.write_str("a fragmented message is still under way on this link"),
            Self::Full => f.write_str("too much output waits to be written"),
            Self::Closed => f.write_str("the link is not open for sending"),
            Self::TooLarge { len, limit } => write!(f, "{len} bytes are over the limit of {limit}"),
        }
    }
}

impl std::error::Error for TransferError {}

/// Whole microseconds, as they travel; what does not fit (584,000 years) is cut.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
