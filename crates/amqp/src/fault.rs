//! What lapin and the server say went wrong, as errors of Posthaste.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use posthaste_core::{Error, ErrorKind};

/// The name by which errors and the capability card call this backend.
pub(crate) const BACKEND: &str = "rabbitmq";

/// What went wrong while doing `what` ("declare the queue jobs").
pub(crate) fn fault(what: &str, error: &lapin::Error) -> Error {
    let (kind, said) = match error.kind() {
        lapin::ErrorKind::ProtocolError(said) => {
            let kind = match said.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => ErrorKind::NotFound,
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
                | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => ErrorKind::Refused,
                AMQPErrorKind::Soft(
                    AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::RESOURCELOCKED,
                ) => ErrorKind::Conflict,
                AMQPErrorKind::Soft(AMQPSoftError::CONTENTTOOLARGE) => ErrorKind::TooLarge,
                AMQPErrorKind::Hard(
                    AMQPHardError::CONNECTIONFORCED | AMQPHardError::INTERNALERROR,
                ) => ErrorKind::Disconnected,
                _ => ErrorKind::Protocol,
            };
            (kind, said.get_message().to_string())
        }
        lapin::ErrorKind::ChannelsLimitReached => {
            let text = "the connection has as many channels as it may; close handles, or raise \
                        channel_max";
            (ErrorKind::Limit, text.to_owned())
        }
        lapin::ErrorKind::ParsingError(_) | lapin::ErrorKind::InvalidProtocolVersion(_) => {
            (ErrorKind::Protocol, String::from("what answers is no AMQP 0-9-1 server"))
        }
        lapin::ErrorKind::IOError(cause) => (ErrorKind::Disconnected, cause.to_string()),
        lapin::ErrorKind::MissingHeartbeatError => {
            (ErrorKind::Disconnected, String::from("it gave no sign of life"))
        }
        _ => (ErrorKind::Disconnected, String::from("the connection was lost")),
    };
    Error::new(kind, sentence(what, &said))
}

/// One line, not too long, without a dot behind it.
fn sentence(what: &str, said: &str) -> String {
    let said: String =
        said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(250).collect();
    format!("{BACKEND} could not {what}: {}", said.trim().trim_end_matches('.'))
}

/// Whether the connection is at fault, and not what was asked for.
pub(crate) fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut)
}

/// A capability that is lacking, and what to do.
pub(crate) fn unsupported(what: &str) -> Error {
    Error::unsupported(what, BACKEND)
}

/// Why a message that was sent came back: nobody knows whether it arrived.
pub(crate) fn unknown() -> Error {
    let text = "the connection to rabbitmq was lost before it confirmed the message, which may have \
                arrived";
    Error::new(ErrorKind::Unknown, text)
}
