//! How a client behaves, and where the server is: URLs.

use std::fmt;
use std::time::Duration;

use posthaste_core::{Error, ErrorKind};

/// How the queues that are declared store their messages.
///
/// ```
/// use posthaste_amqp::QueueType;
///
/// assert_eq!(QueueType::Quorum.to_string(), "quorum");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum QueueType {
    /// On one node, with priorities.
    #[default]
    Classic,
    /// Replicated by Raft over the nodes of a cluster, without priorities.
    Quorum,
}

impl fmt::Display for QueueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        })
    }
}

/// How a client behaves.
///
/// ```
/// use std::time::Duration;
/// use posthaste_amqp::{AmqpOptions, QueueType};
///
/// let options = AmqpOptions::new()
///     .queue_type(QueueType::Quorum)
///     .exchange("orders")
///     .patience(Duration::from_secs(5));
/// assert_eq!(options.heartbeat, Duration::from_secs(10));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AmqpOptions {
    /// What kind of queues are declared.
    pub queue_type: QueueType,
    /// The durable topic exchange that topics go through; a second one, with `.reserved` behind
    /// its name, carries the framework's own topics.
    pub exchange: String,
    /// Whether classic queues are declared with four priorities (`x-max-priority` 3). Another
    /// program that declares the same queue has to say the same.
    pub priorities: bool,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How often a sign of life is asked for, in whole seconds; after two without one the
    /// connection is lost. Zero asks for none.
    pub heartbeat: Duration,
    /// How long a call waits for a lost connection to come back before it is `Disconnected`.
    /// Receivers wait for as long as it takes.
    pub patience: Duration,
}

impl Default for AmqpOptions {
    fn default() -> Self {
        Self {
            queue_type: QueueType::Classic,
            exchange: String::from("posthaste"),
            priorities: true,
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            patience: Duration::from_secs(30),
        }
    }
}

impl AmqpOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What kind of queues are declared.
    #[must_use]
    pub fn queue_type(mut self, queue_type: QueueType) -> Self {
        self.queue_type = queue_type;
        self
    }

    /// The exchange that topics go through.
    #[must_use]
    pub fn exchange(mut self, name: impl Into<String>) -> Self {
        self.exchange = name.into();
        self
    }

    /// Whether classic queues are declared with priorities.
    #[must_use]
    pub fn priorities(mut self, priorities: bool) -> Self {
        self.priorities = priorities;
        self
    }

    /// How long one attempt to connect may take.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How often a sign of life is asked for.
    #[must_use]
    pub fn heartbeat(mut self, time: Duration) -> Self {
        self.heartbeat = time;
        self
    }

    /// How long a call waits for a lost connection to come back.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// The exchange of the framework's own topics, which no pattern with a wildcard in front
    /// is bound to.
    pub(crate) fn reserved_exchange(&self) -> String {
        format!("{}.reserved", self.exchange)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            "queue-type" => {
                self.queue_type = match value {
                    "classic" => QueueType::Classic,
                    "quorum" => QueueType::Quorum,
                    _ => return Err(invalid("queue-type is classic or quorum".to_owned())),
                };
            }
            "exchange" => self.exchange = value.to_owned(),
            "priorities" => {
                self.priorities = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(invalid("priorities is true or false".to_owned())),
                };
            }
            "connect-timeout" => self.connect_timeout = time(name, value)?,
            "heartbeat" => self.heartbeat = time(name, value)?,
            "patience" => self.patience = time(name, value)?,
            _ => {
                let known = OPTIONS.join(", ");
                let text = format!("{name:?} is no option of amqp URLs; the options are {known}");
                return Err(invalid(text));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let exchange = &self.exchange;
        if exchange.is_empty() || exchange.len() > 200 || exchange.starts_with("amq.") {
            let text = "the name of an exchange has 1 to 200 bytes and does not begin with amq.";
            return Err(invalid(text.to_owned()));
        }
        Ok(())
    }
}

const OPTIONS: [&str; 6] =
    ["queue-type", "exchange", "priorities", "connect-timeout", "heartbeat", "patience"];

/// Where a server is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) vhost: String,
}

// Credentials are nobody's business.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.vhost)
    }
}

impl Address {
    /// Reads `amqp://user:password@host:port/vhost?option=value&...`; its options change
    /// `options`. No error shows what the URL says in front of the host.
    pub(crate) fn parse(url: &str, options: &mut AmqpOptions) -> Result<Self, Error> {
        let Some(rest) = url.strip_prefix("amqp://") else {
            let text = "the URL of a RabbitMQ server begins with amqp://; TLS is not supported yet";
            return Err(invalid(text.to_owned()));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let Some((name, value)) = option.split_once('=') else {
                return Err(invalid(format!(
                    "the option {option:?} has no value; write name=value"
                )));
            };
            options.set(name, &decode(value, "an option")?)?;
        }
        options.check()?;
        let (authority, vhost) = match rest.split_once('/') {
            Some((authority, vhost)) => (authority, decode(vhost, "the virtual host")?),
            None => (rest, String::from("/")),
        };
        if vhost.contains('/') && vhost != "/" {
            let text = "write a / inside of the name of a virtual host as %2f";
            return Err(invalid(text.to_owned()));
        }
        let (user, password, place) = match authority.rsplit_once('@') {
            None => (String::from("guest"), String::from("guest"), authority),
            Some((who, place)) => {
                let (user, password) = who.split_once(':').unwrap_or((who, ""));
                (decode(user, "the user")?, decode(password, "the password")?, place)
            }
        };
        let (host, port) = split_port(place)?;
        Ok(Self { user, password, host, port, vhost })
    }

    /// The address of the transport.
    pub(crate) fn endpoint(&self) -> String {
        match self.host.contains(':') {
            true => format!("tcp://[{}]:{}", self.host, self.port),
            false => format!("tcp://{}:{}", self.host, self.port),
        }
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(place: &str) -> Result<(String, u16), Error> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map_or(Ok(5672), str::parse);
    match port {
        Ok(port) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(invalid(String::from(
            "an amqp URL is amqp://user:password@host:port/vhost, with a port from 1 to 65535",
        ))),
    }
}

/// `10s`, `500ms`, `2m`.
fn time(name: &str, value: &str) -> Result<Duration, Error> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let count: Option<u32> = count.parse().ok();
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    count
        .zip(millis)
        .map(|(count, millis)| Duration::from_millis(u64::from(count) * millis))
        .ok_or_else(|| invalid(format!("{name} is a time such as 500ms, 10s or 2m, not {value:?}")))
}

/// Resolves `%XX`.
fn decode(text: &str, what: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        match byte {
            b'%' => match (digit(), digit()) {
                (Some(high), Some(low)) => {
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                }
                _ => return Err(invalid(format!("{what} of the URL has a % without two digits"))),
            },
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| invalid(format!("{what} of the URL is not UTF-8")))
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<(Address, AmqpOptions), Error> {
        let mut options = AmqpOptions::new();
        Ok((Address::parse(url, &mut options)?, options))
    }

    #[test]
    fn a_url_says_who_where_and_how() {
        let (address, options) = parse(
            "amqp://me%40home:p%3aw@rabbit.example:5673/staging?queue-type=quorum&patience=500ms",
        )
        .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((address.user.as_str(), address.password.as_str()), ("me@home", "p:w"));
        assert_eq!((address.host.as_str(), address.port), ("rabbit.example", 5673));
        assert_eq!(address.vhost, "staging");
        assert_eq!(options.queue_type, QueueType::Quorum);
        assert_eq!(options.patience, Duration::from_millis(500));
        let (address, _) = parse("amqp://[::1]").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (address.endpoint().as_str(), address.vhost.as_str()),
            ("tcp://[::1]:5672", "/")
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_the_credentials() {
        for url in [
            "amqps://me:secret@host",
            "amqp://me:secret@",
            "amqp://me:secret@host:99999",
            "amqp://me:secret@host/?colour=red",
            "amqp://me:secret@host/?heartbeat=soon",
            "amqp://me:secret@host/?heartbeat",
            "amqp://me:sec%ret@host",
            "amqp://me:secret@host/a/b",
            "amqp://me:secret@host/?exchange=amq.topic",
        ] {
            let error = parse(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret") && !shown.contains("me:"), "{shown}");
        }
        let unknown = parse("amqp://host/?colour=red").expect_err("unknown option").to_string();
        assert!(OPTIONS.iter().all(|option| unknown.contains(option)), "{unknown}");
        let (address, _) = parse("amqp://me:secret@host").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format!("{address:?}"), "host:5672//");
    }
}
