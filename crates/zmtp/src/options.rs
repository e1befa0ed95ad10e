//! The settings of a node.

use std::time::Duration;

use bytes::Bytes;
use posthaste_core::Error;
use posthaste_core::transport::Endpoint;

use crate::codec::Security;
use crate::lane::Lane;
use crate::node::HighWater;

/// What a node connects to, where it listens, and how it behaves.
///
/// ```
/// use posthaste_zmtp::{Lane, ZmtpOptions};
///
/// // Subscribes to one pyzmq program, and lets others push.
/// let options = ZmtpOptions::new()
///     .connect_lane(Lane::Subscribe, "tcp://127.0.0.1:5556".parse()?)
///     .bind_lane(Lane::Pull, "tcp://127.0.0.1:5557".parse()?)
///     .high_water(1_000);
/// # drop(options);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ZmtpOptions {
    pub(crate) connects: Vec<(Lane, Endpoint)>,
    pub(crate) binds: Vec<(Vec<Lane>, Endpoint)>,
    pub(crate) security: Security,
    pub(crate) identity: Bytes,
    pub(crate) high: HighWater,
    pub(crate) handshake: Duration,
    pub(crate) patience: Duration,
    pub(crate) stall_limit: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) connections: usize,
}

impl Default for ZmtpOptions {
    fn default() -> Self {
        Self {
            connects: Vec::new(),
            binds: Vec::new(),
            security: Security::null(),
            identity: Bytes::new(),
            // What libzmq has, and a bound in bytes beside it.
            high: HighWater { messages: 1_000, bytes: 8 << 20 },
            handshake: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            stall_limit: posthaste_core::limits::STALL_LIMIT,
            heartbeat: Duration::from_secs(10),
            connections: 10_000,
        }
    }
}

impl ZmtpOptions {
    /// The defaults, with nothing to connect to and nowhere to listen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a URL says; see the [crate](crate) for what it may say.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use posthaste_zmtp::ZmtpOptions;
    ///
    /// let options = ZmtpOptions::from_url("zmtp+tcp://127.0.0.1?sub=5556")?
    ///     .patience(Duration::from_secs(1));
    /// assert!(ZmtpOptions::from_url("tcp://127.0.0.1:5556").is_err());
    /// # drop(options);
    /// # Ok::<(), posthaste_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument`, with what is wrong.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        crate::url::parse(url)
    }

    /// Connects every lane to `endpoint`, each when it is first needed: a Posthaste peer takes all
    /// of them there.
    #[must_use]
    pub fn connect(self, endpoint: &Endpoint) -> Self {
        let connect = |this: Self, lane| this.connect_lane(lane, endpoint.clone());
        Lane::ALL.into_iter().fold(self, connect)
    }

    /// Connects one lane to `endpoint`, when it is first needed. May be called again: a lane may
    /// have many connections.
    #[must_use]
    pub fn connect_lane(mut self, lane: Lane, endpoint: Endpoint) -> Self {
        self.connects.push((lane, endpoint));
        self
    }

    /// Listens at `endpoint` for peers of every kind.
    #[must_use]
    pub fn bind(mut self, endpoint: Endpoint) -> Self {
        self.binds.push((Lane::ALL.to_vec(), endpoint));
        self
    }

    pub(crate) fn bind_lanes(mut self, lanes: Vec<Lane>, endpoint: Endpoint) -> Self {
        self.binds.push((lanes, endpoint));
        self
    }

    /// Listens at `endpoint` for the peers of one lane, and refuses others there.
    #[must_use]
    pub fn bind_lane(mut self, lane: Lane, endpoint: Endpoint) -> Self {
        self.binds.push((vec![lane], endpoint));
        self
    }

    /// The security mechanism of every connection; `NULL` unless it is set.
    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// The identity under which `ROUTER` peers know this node, of at most 255 bytes; none unless it
    /// is set.
    #[must_use]
    pub fn identity(mut self, identity: impl Into<Bytes>) -> Self {
        self.identity = identity.into();
        self.identity.truncate(usize::from(u8::MAX));
        self
    }

    /// How many messages may wait for a peer, or in a queue that nobody pulls from (1,000 unless it
    /// is set, at least 1); whoever sends more waits. There may be 8 MiB of them.
    #[must_use]
    pub fn high_water(mut self, messages: usize) -> Self {
        self.high.messages = messages.max(1);
        self
    }

    /// How long a peer may take for its handshake (5 s unless it is set).
    #[must_use]
    pub fn handshake(mut self, within: Duration) -> Self {
        self.handshake = within;
        self
    }

    /// How long opening a handle waits for peers that are to be connected to (5 s unless it is set):
    /// they may be started later than this node.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a subscriber may read nothing while messages wait for it, until it is cut off (10 s
    /// unless it is set).
    #[must_use]
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.stall_limit = limit;
        self
    }

    /// How often a peer that sends nothing is asked whether it is there (10 s unless it is set); one
    /// that does not answer for twice as long is given up.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    pub(crate) fn high_water_marks(&self) -> HighWater {
        self.high
    }
}
