//! Who creates topics.

use posthaste_core::Error;

use crate::options::invalid;

/// Who creates the Kafka topics that are not there.
///
/// ```
/// use posthaste_kafka::Create;
///
/// assert_eq!("broker".parse::<Create>()?, Create::Broker);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Create {
    /// This client, with the partitions and the replication that its options say.
    #[default]
    Client,
    /// The broker, when it is asked for a topic (`auto.create.topics.enable`), as its own settings
    /// say.
    Broker,
    /// Nobody: a topic that is not there is `NotFound`.
    Nobody,
}

impl std::str::FromStr for Create {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "client" => Ok(Self::Client),
            "broker" => Ok(Self::Broker),
            "nobody" => Ok(Self::Nobody),
            _ => Err(invalid(format!("create is client, broker or nobody, not {text:?}"))),
        }
    }
}
