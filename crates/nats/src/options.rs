//! What can be told of a connection, in code or in a URL.

use std::fmt;
use std::time::Duration;

use posthaste_core::{Error, ErrorKind};
use url::Url;

/// How to connect, and what queues are declared as.
///
/// ```
/// use posthaste_nats::NatsOptions;
/// use std::time::Duration;
///
/// let options = NatsOptions::new().connect_timeout(Duration::from_secs(2)).replicas(3);
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct NatsOptions {
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect: Option<Duration>,
    pub(crate) replicas: usize,
    pub(crate) memory: bool,
    pub(crate) synced: bool,
    pub(crate) ack_wait: Duration,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            reconnect: None,
            replicas: 1,
            memory: false,
            synced: false,
            ack_wait: Duration::from_secs(10),
        }
    }
}

impl NatsOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the first connection may take (5 s).
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How long a lost connection is tried again before sends fail; `None` is for ever, the
    /// default. Subscriptions wait for ever all the same.
    #[must_use]
    pub fn reconnect(mut self, time: Option<Duration>) -> Self {
        self.reconnect = time;
        self
    }

    /// How many servers hold each queue that is declared (1).
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas.max(1);
        self
    }

    /// Queues that are declared live in the memory of the servers instead of in their files.
    #[must_use]
    pub fn in_memory(mut self, memory: bool) -> Self {
        self.memory = memory;
        self
    }

    /// The servers run with `sync_interval: always`, which they tell nobody: what is confirmed is
    /// synced to disk, and receipts say so.
    #[must_use]
    pub fn synced(mut self, synced: bool) -> Self {
        self.synced = synced;
        self
    }

    /// How long a receiver that is lost keeps what was delivered to it (10 s). One that lives is
    /// never too slow.
    #[must_use]
    pub fn ack_wait(mut self, time: Duration) -> Self {
        self.ack_wait = time.max(Duration::from_secs(1));
        self
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// Where to connect, as whom, and how.
pub(crate) struct Target {
    pub(crate) servers: Vec<String>,
    pub(crate) user: Option<(String, String)>,
    pub(crate) options: NatsOptions,
}

impl Target {
    /// Reads a URL; its options come on top of those that are given.
    pub(crate) fn parse(text: &str, options: NatsOptions) -> Result<Self, Error> {
        let invalid = |why: &str| {
            let text =
                format!("this is no URL of NATS: {why}; write nats://USER:PASSWORD@HOST:PORT");
            Error::new(ErrorKind::InvalidArgument, text)
        };
        // Several servers, as clients of NATS write them: all after the first have no user.
        let rest = text.strip_prefix("nats://").ok_or_else(|| invalid("it begins otherwise"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut hosts = rest.trim_end_matches('/').split(',');
        let first = hosts.next().filter(|host| !host.is_empty());
        let first = first.ok_or_else(|| invalid("it names no host"))?;
        let first = Url::parse(&format!("nats://{first}?{query}"))
            .map_err(|error| invalid(&error.to_string()))?;
        if !matches!(first.path(), "" | "/") {
            return Err(invalid("it has a path"));
        }
        let host = first.host_str().ok_or_else(|| invalid("it names no host"))?;
        let mut servers = vec![format!("nats://{host}:{}", first.port().unwrap_or(4222))];
        for host in hosts {
            let url = Url::parse(&format!("nats://{host}"));
            let url = url.map_err(|error| invalid(&error.to_string()))?;
            let host = url.host_str().ok_or_else(|| invalid("it names no host"))?;
            servers.push(format!("nats://{host}:{}", url.port().unwrap_or(4222)));
        }
        let user = (!first.username().is_empty()).then(|| {
            let plain = |text: &str| {
                let text = text.replace('+', "%2B");
                let pair = format!("x={text}");
                let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
                decoded.map(|(_, value)| value.into_owned()).unwrap_or_default()
            };
            (plain(first.username()), plain(first.password().unwrap_or_default()))
        });
        let mut target = Self { servers, user, options };
        for (name, value) in first.query_pairs() {
            target.option(&name, &value)?;
        }
        Ok(target)
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let options = &mut self.options;
        let known = match (name, value) {
            ("storage", "file" | "memory") => {
                options.memory = value == "memory";
                Some(())
            }
            ("sync", "always") => {
                options.synced = true;
                Some(())
            }
            ("replicas", _) => value.parse().ok().filter(|n| (1..=5).contains(n)).map(|replicas| {
                options.replicas = replicas;
            }),
            ("ack_wait", _) => value.parse().ok().filter(|n| *n > 0).map(|seconds| {
                options.ack_wait = Duration::from_secs(seconds);
            }),
            _ => None,
        };
        known.ok_or_else(|| {
            let text = format!(
                "the URL of NATS has the option {name}={value}, which is none of replicas=1..5, \
                 storage=file|memory, sync=always, ack_wait=SECONDS"
            );
            Error::new(ErrorKind::InvalidArgument, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, Error> {
        Target::parse(text, NatsOptions::new())
    }

    #[test]
    fn a_url_names_servers_a_user_and_options() {
        let target = parse("nats://me:p%40ss+1@a:1,b,c:3?replicas=3&sync=always").unwrap();
        assert_eq!(target.servers, ["nats://a:1", "nats://b:4222", "nats://c:3"]);
        assert_eq!(target.user, Some(("me".into(), "p@ss+1".into())));
        assert_eq!((target.options.replicas, target.options.synced), (3, true));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let wrong = ["amqp://a", "nats://", "nats://a/path", "nats://a?replicas=9", "nats://a?x=y"];
        for text in wrong {
            let error = parse(text).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        }
        let error = parse("nats://me:secret@a?x=y").err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
