//! Reading from a position on.

use std::time::Duration;

/// From where a topic or a queue is read again.
///
/// ```
/// use std::time::Duration;
///
/// use posthaste_kafka::Position;
///
/// let yesterday = Position::Time(Duration::from_secs(1_800_000_000));
/// assert_ne!(yesterday, Position::Beginning);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// From the oldest message that is kept.
    Beginning,
    /// From now on.
    End,
    /// From this offset on, in every partition; one that is not kept any more is where reading
    /// ends with `SessionLost` and goes on with the oldest that is.
    Offset(u64),
    /// From the first message on whose time, since the Unix epoch, is this or later.
    Time(Duration),
}
