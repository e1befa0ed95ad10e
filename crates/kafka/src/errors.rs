//! What librdkafka says, as errors that say what to do.

use posthaste_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The code of an error, if it has one that tells anything.
pub(crate) fn code(error: &KafkaError) -> Option<Code> {
    error.rdkafka_error_code()
}

/// The error of `what` (a sentence's beginning, such as "creating the topic x"), by what Kafka said.
pub(crate) fn of(what: &str, error: KafkaError) -> Error {
    let (kind, says) = match code(&error) {
        Some(code) => (kind(code), reason(&error, code)),
        None => (kind_without_code(&error), tidy(&error.to_string())),
    };
    Error::new(kind, format!("{what} failed: {says}")).caused_by(error)
}

fn kind_without_code(error: &KafkaError) -> ErrorKind {
    match error {
        KafkaError::Canceled => ErrorKind::Closed,
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
            ErrorKind::InvalidArgument
        }
        _ => ErrorKind::Internal,
    }
}

/// What kind of error a code is.
pub(crate) fn kind(code: Code) -> ErrorKind {
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::BrokerNotAvailable
        | Code::CoordinatorNotAvailable
        | Code::NetworkException => ErrorKind::Disconnected,
        Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
            ErrorKind::TimedOut
        }
        Code::MessageTimedOut
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::NotEnoughReplicasAfterAppend
        | Code::Fatal => ErrorKind::Unknown,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            ErrorKind::NotFound
        }
        Code::InvalidTopic => ErrorKind::InvalidTopic,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => ErrorKind::TooLarge,
        Code::QueueFull => ErrorKind::Full,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => ErrorKind::Refused,
        Code::UnsupportedFeature | Code::UnsupportedVersion | Code::NotImplemented => {
            ErrorKind::Unsupported
        }
        Code::TopicAlreadyExists => ErrorKind::Conflict,
        Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::InvalidConfig
        | Code::InvalidSessionTimeout
        | Code::InvalidGroupId => ErrorKind::InvalidArgument,
        Code::PolicyViolation => ErrorKind::Limit,
        _ => ErrorKind::Internal,
    }
}

/// A code in words of this crate where Kafka's own do not say what to do.
fn reason(error: &KafkaError, code: Code) -> String {
    match code {
        Code::BrokerTransportFailure | Code::AllBrokersDown => {
            "no broker answers; look whether the cluster runs and the address is right".into()
        }
        Code::Resolve => "the name of the host is not known".into(),
        Code::OperationTimedOut | Code::TimedOutQueue => "no broker answered in time".into(),
        Code::MessageTimedOut => {
            "not every in-sync replica confirmed it in time, and it may have arrived".into()
        }
        Code::PurgeQueue | Code::PurgeInflight => {
            "the client went away before it was confirmed".into()
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            "there is no such topic or partition".into()
        }
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            "the broker takes no message of this size (see max.message.bytes of the topic)".into()
        }
        _ => tidy(&error.to_string()),
    }
}

/// On one line and without the full stop at the end.
pub(crate) fn tidy(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.trim_end_matches('.');
    let cut = text.char_indices().nth(200).map_or(text.len(), |(at, _)| at);
    text[..cut].to_owned()
}

/// Whether what was asked may succeed a little later without anything being changed.
pub(crate) fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::RebalanceInProgress
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::WaitingForCoordinator
            | Code::InProgress
            | Code::State
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
    )
}
