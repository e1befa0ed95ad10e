//! How a client of Kafka behaves, by value or by URL.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use posthaste_core::{Error, ErrorKind, Topic};

use crate::create::Create;
use crate::names;
use crate::url::Url;

/// How a client of Kafka behaves.
///
/// ```
/// use std::time::Duration;
///
/// use posthaste_kafka::KafkaOptions;
///
/// let options = KafkaOptions::new("kafka-1:9092,kafka-2:9092").partitions(12).replication(3);
/// let by_url: KafkaOptions =
///     "kafka://kafka-1:9092,kafka-2:9092?partitions=12&replication=3".parse()?;
/// assert_eq!(by_url, options);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    pub(crate) servers: String,
    pub(crate) user: Option<(String, String)>,
    pub(crate) client_id: String,
    pub(crate) group: Option<String>,
    pub(crate) create: Create,
    pub(crate) partitions: Option<u16>,
    pub(crate) replication: Option<u16>,
    pub(crate) reply_topic: String,
    pub(crate) dead_letter: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) session_timeout: Duration,
    pub(crate) discovery: Duration,
    pub(crate) properties: BTreeMap<String, String>,
}

/// What librdkafka is told by this crate and nobody else, because the promises rest on it.
const RESERVED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "metadata.broker.list",
    "request.required.acks",
    "transactional.id",
];

impl KafkaOptions {
    /// The defaults, for the cluster that one of these servers, `HOST:PORT[,HOST:PORT...]`, belongs
    /// to.
    #[must_use]
    pub fn new(servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            user: None,
            client_id: String::from("posthaste"),
            group: None,
            create: Create::default(),
            partitions: Some(1),
            replication: None,
            reply_topic: String::from("_ph.replies"),
            dead_letter: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(10),
            discovery: Duration::from_secs(1),
            properties: BTreeMap::new(),
        }
    }

    /// Who this client is, by name and password (SASL PLAIN). Without TLS both can be read on the
    /// way; see [`property`](Self::property) for TLS.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// What this client is called in the broker's logs and quotas (`posthaste`).
    #[must_use]
    pub fn client_id(mut self, name: impl Into<String>) -> Self {
        self.client_id = name.into();
        self
    }

    /// The consumer group in which queues are read (the name of the queue).
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// Who creates topics that are not there (this client).
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// How many partitions the topics have that this client creates (1): so many consumers of a
    /// queue, or members of a group, have something to do at a time, and so far order goes: with
    /// one partition it is per sender, with more per key, and per sender for what has no key. 0 is
    /// what the broker says.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = (partitions > 0).then_some(partitions);
        self
    }

    /// On how many brokers the topics are that this client creates (what the broker says).
    #[must_use]
    pub fn replication(mut self, brokers: u16) -> Self {
        self.replication = (brokers > 0).then_some(brokers);
        self
    }

    /// The Kafka topic through which replies go (`_ph.replies`); every client with an inbox reads
    /// all of it, so many services with many replies may want one each.
    #[must_use]
    pub fn reply_topic(mut self, name: impl Into<String>) -> Self {
        self.reply_topic = name.into();
        self
    }

    /// The Kafka topic to which rejected messages of queues go, with their history; without one
    /// they are dropped.
    #[must_use]
    pub fn dead_letter(mut self, name: impl Into<String>) -> Self {
        self.dead_letter = Some(name.into());
        self
    }

    /// How long it may take until a broker has answered for the first time (5 s).
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = at_least(time);
        self
    }

    /// How long it may take until a broker answers anything else but a send (10 s).
    #[must_use]
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = at_least(time);
        self
    }

    /// How long a message may be on its way until every in-sync replica has it; then it comes back
    /// as `Unknown` (30 s).
    #[must_use]
    pub fn delivery_timeout(mut self, time: Duration) -> Self {
        self.delivery_timeout = at_least(time);
        self
    }

    /// How long a consumer may be silent before its group goes on without it (10 s). Brokers have a
    /// least and a longest time of their own, usually 6 s and 30 min.
    #[must_use]
    pub fn session_timeout(mut self, time: Duration) -> Self {
        self.session_timeout = at_least(time);
        self
    }

    /// How often subscriptions look for topics and partitions that are new (1 s).
    #[must_use]
    pub fn discovery(mut self, every: Duration) -> Self {
        self.discovery = at_least(every);
        self
    }

    /// Sets a property of librdkafka, such as `linger.ms`, `compression.type` or, where rdkafka is
    /// built with its feature `ssl`, `security.protocol` and `ssl.ca.location`.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Whether all of it makes sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.servers.split(',').any(|server| server.trim().is_empty()) {
            return Err(invalid("there is no server; name at least one as HOST:PORT".into()));
        }
        for name in [Some(&self.reply_topic), self.dead_letter.as_ref()].into_iter().flatten() {
            Topic::new(name)?;
            names::check(name)?;
        }
        for name in self.properties.keys() {
            if RESERVED.contains(&name.as_str()) {
                let text = format!("{name} is set by posthaste-kafka; leave it out");
                return Err(invalid(text));
            }
        }
        Ok(())
    }

    /// Sets what a URL says.
    fn set(self, name: &str, value: &str) -> Result<Self, Error> {
        Ok(match name {
            "client_id" => self.client_id(value),
            "group" => self.group(value),
            "create" => self.create(value.parse()?),
            "partitions" => self.partitions(number(name, value)?),
            "replication" => self.replication(number(name, value)?),
            "reply_topic" => self.reply_topic(value),
            "dead_letter" => self.dead_letter(value),
            "connect_timeout" => self.connect_timeout(duration(name, value)?),
            "request_timeout" => self.request_timeout(duration(name, value)?),
            "delivery_timeout" => self.delivery_timeout(duration(name, value)?),
            "session_timeout" => self.session_timeout(duration(name, value)?),
            "discovery" => self.discovery(duration(name, value)?),
            _ => {
                return Err(invalid(format!(
                    "Kafka URLs have no option {name:?}; they have {}",
                    NAMES.join(", ")
                )));
            }
        })
    }
}

const NAMES: &[&str] = &[
    "client_id",
    "group",
    "create",
    "partitions",
    "replication",
    "reply_topic",
    "dead_letter",
    "connect_timeout",
    "request_timeout",
    "delivery_timeout",
    "session_timeout",
    "discovery",
];

impl std::str::FromStr for KafkaOptions {
    type Err = Error;

    /// Reads `kafka://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...][?OPTION=VALUE[&OPTION=VALUE...]]`.
    ///
    /// # Errors
    /// `InvalidArgument` for whatever is not understood; an unknown option names the known ones.
    fn from_str(text: &str) -> Result<Self, Error> {
        let Url { servers, user, options } = Url::read(text)?;
        let mut read = Self::new(servers);
        read.user = user;
        for (name, value) in options {
            read = read.set(&name, &value)?;
        }
        read.check()?;
        Ok(read)
    }
}

impl fmt::Debug for KafkaOptions {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("servers", &self.servers)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("client_id", &self.client_id)
            .field("create", &self.create)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

/// librdkafka counts in milliseconds, and none is too short to wait for anything.
fn at_least(time: Duration) -> Duration {
    time.clamp(Duration::from_millis(1), Duration::from_secs(3_600))
}

fn number(name: &str, value: &str) -> Result<u16, Error> {
    value.parse().map_err(|_| invalid(format!("{name} is a number up to 65535, not {value:?}")))
}

fn duration(name: &str, value: &str) -> Result<Duration, Error> {
    let unit = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (digits, unit) = value.split_at(unit);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let number = digits.parse::<u32>().ok();
    number
        .zip(millis)
        .map(|(number, millis)| Duration::from_millis(u64::from(number) * millis))
        .filter(|time| !time.is_zero())
        .ok_or_else(|| invalid(format!("{name} is a time such as 500ms, 5s or 2m, not {value:?}")))
}

pub(crate) fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(url: &str) -> String {
        let error = url.parse::<KafkaOptions>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error}");
        error.to_string()
    }

    #[test]
    fn every_option_is_read() {
        let url = "kafka://me:s%40cret@a:1,b:2?client_id=c&group=g&create=nobody&partitions=0\
            &replication=3&reply_topic=r&dead_letter=d&connect_timeout=1s&request_timeout=2s\
            &delivery_timeout=3s&session_timeout=6s&discovery=250ms";
        let options = KafkaOptions::new("a:1,b:2")
            .user("me", "s@cret")
            .client_id("c")
            .group("g")
            .create(Create::Nobody)
            .partitions(0)
            .replication(3)
            .reply_topic("r")
            .dead_letter("d")
            .connect_timeout(Duration::from_secs(1))
            .request_timeout(Duration::from_secs(2))
            .delivery_timeout(Duration::from_secs(3))
            .session_timeout(Duration::from_secs(6))
            .discovery(Duration::from_millis(250));
        assert_eq!(url.parse::<KafkaOptions>().unwrap(), options);
        assert_eq!(NAMES.len(), url.matches('=').count());
        assert!(!format!("{options:?}").contains("s@cret"), "a password was shown");
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let unknown = refused("kafka://a:1?partition=3");
        assert!(NAMES.iter().all(|name| unknown.contains(name)), "{unknown}");
        for bad in [
            "kafka:a:1",
            "amqp://a:1",
            "kafka://",
            "kafka://a",
            "kafka://a:0",
            "kafka://a:99999",
            "kafka://a:1,",
            "kafka://a:1/path",
            "kafka://a:1?",
            "kafka://a:1?group",
            "kafka://a:1?group=%zz",
            "kafka://a:1?group=a&group=b",
            "kafka://a:1?partitions=many",
            "kafka://a:1?discovery=5",
            "kafka://a:1?discovery=0s",
            "kafka://a:1?create=yes",
            "kafka://me@a:1",
            "kafka://a b:1",
        ] {
            refused(bad);
        }
        let error = "kafka://a:1?reply_topic=a/b".parse::<KafkaOptions>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTopic);
        assert!(KafkaOptions::new("a:1").property("acks", "0").check().is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_options_or_an_error(text in "(kafka://)?\\PC{0,40}") {
            let _ = text.parse::<KafkaOptions>();
        }
    }
}
