//! Error kinds and the codes that stand for them on the wire, both ways, texts preserved.

use std::io;

use posthaste_core::transport::Endpoint;
use posthaste_core::{Error, ErrorKind};
use posthaste_wire::Code;

/// Kinds that the protocol itself has no use for travel in the range that it leaves to those who
/// use it.
const INVALID_ARGUMENT: u16 = 256;
const DEADLINE_EXCEEDED: u16 = 257;
const FAILED: u16 = 258;
const UNKNOWN: u16 = 259;
const DISCONNECTED: u16 = 260;
const SESSION_LOST: u16 = 261;

/// What a transport answered, with the endpoint named, unless it did that itself.
pub(crate) fn at_endpoint(error: io::Error, attempt: &str, endpoint: &Endpoint) -> Error {
    let error = Error::from(error);
    if error.text().contains(endpoint.address()) {
        return error;
    }
    let text = format!("cannot {attempt} {endpoint}: {}", error.text());
    Error::new(error.kind(), text).caused_by(error)
}

/// The code that stands for an error of `kind`.
pub(crate) fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidTopic => Code::InvalidTopic,
        ErrorKind::InvalidArgument => Code::from_u16(INVALID_ARGUMENT),
        ErrorKind::TooLarge => Code::TooLarge,
        ErrorKind::Closed => Code::Closed,
        ErrorKind::Unsupported => Code::Unsupported,
        ErrorKind::Conflict => Code::Conflict,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Full => Code::Full,
        ErrorKind::Expired => Code::Expired,
        ErrorKind::NoResponders => Code::NoResponders,
        ErrorKind::DeadlineExceeded => Code::from_u16(DEADLINE_EXCEEDED),
        ErrorKind::Failed => Code::from_u16(FAILED),
        ErrorKind::Unconfirmed => Code::Unconfirmed,
        ErrorKind::Unknown => Code::from_u16(UNKNOWN),
        ErrorKind::Disconnected => Code::from_u16(DISCONNECTED),
        ErrorKind::Refused => Code::Refused,
        ErrorKind::Protocol => Code::Protocol,
        ErrorKind::TimedOut => Code::Timeout,
        ErrorKind::Limit => Code::Limit,
        ErrorKind::SlowConsumer => Code::SlowConsumer,
        ErrorKind::SessionLost => Code::from_u16(SESSION_LOST),
        // `Internal`, and kinds that are younger than this crate.
        _ => Code::Internal,
    }
}

/// The kind of error that a peer's code stands for.
pub(crate) fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::Protocol | Code::Version => ErrorKind::Protocol,
        Code::TooLarge => ErrorKind::TooLarge,
        Code::Limit => ErrorKind::Limit,
        Code::Unsupported => ErrorKind::Unsupported,
        Code::NotFound => ErrorKind::NotFound,
        Code::Conflict => ErrorKind::Conflict,
        Code::Refused => ErrorKind::Refused,
        Code::Full => ErrorKind::Full,
        Code::Expired => ErrorKind::Expired,
        Code::InvalidTopic => ErrorKind::InvalidTopic,
        Code::NoResponders => ErrorKind::NoResponders,
        Code::Ok | Code::Closed | Code::Cancelled => ErrorKind::Closed,
        Code::GoingAway | Code::Heartbeat | Code::ConnectionLost => ErrorKind::Disconnected,
        Code::Timeout => ErrorKind::TimedOut,
        Code::Unconfirmed => ErrorKind::Unconfirmed,
        Code::SlowConsumer => ErrorKind::SlowConsumer,
        other => match other.as_u16() {
            INVALID_ARGUMENT => ErrorKind::InvalidArgument,
            DEADLINE_EXCEEDED => ErrorKind::DeadlineExceeded,
            FAILED => ErrorKind::Failed,
            UNKNOWN => ErrorKind::Unknown,
            DISCONNECTED => ErrorKind::Disconnected,
            SESSION_LOST => ErrorKind::SessionLost,
            _ => ErrorKind::Internal,
        },
    }
}

/// The error that a peer reported: its own sentence, or the code's if it said nothing.
pub(crate) fn error_of(code: Code, reason: &str) -> Error {
    let kind = kind_of(code);
    if reason.is_empty() {
        Error::new(kind, format!("the peer says: {code}"))
    } else {
        Error::new(kind, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_way_there_and_back() {
        for kind in [
            ErrorKind::InvalidTopic,
            ErrorKind::InvalidArgument,
            ErrorKind::TooLarge,
            ErrorKind::Closed,
            ErrorKind::Unsupported,
            ErrorKind::Conflict,
            ErrorKind::NotFound,
            ErrorKind::Full,
            ErrorKind::Expired,
            ErrorKind::NoResponders,
            ErrorKind::DeadlineExceeded,
            ErrorKind::Failed,
            ErrorKind::Unconfirmed,
            ErrorKind::Unknown,
            ErrorKind::Disconnected,
            ErrorKind::Refused,
            ErrorKind::Protocol,
            ErrorKind::TimedOut,
            ErrorKind::Limit,
            ErrorKind::SlowConsumer,
            ErrorKind::SessionLost,
            ErrorKind::Internal,
        ] {
            assert_eq!(kind_of(Code::from_u16(code_of(kind).as_u16())), kind);
        }
    }
}
