//! What one side states about itself before a session begins.

use std::time::Duration;

/// The settings of a session.
///
/// ```
/// use posthaste_wire::{Config, Limits};
/// let config = Config {
///     session: [7; 16],
///     limits: Limits { payload: 1 << 20, ..Limits::default() },
///     ..Config::default()
/// };
/// assert_eq!(config.limits.frame, 256 * 1024);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// This side's limits; of each, the smaller of both sides' holds.
    pub limits: Limits,
    /// How long nothing may be received before a PING is sent; after twice as long the peer is
    /// dead. The smaller of both sides' holds; less than [`Config::HEARTBEAT_MIN`] is raised to it.
    pub heartbeat: Duration,
    /// How long the handshake may take.
    pub handshake: Duration,
    /// Who this side is, drawn at random by the caller. A client that reconnects says the same.
    pub session: [u8; 16],
    /// Server: how long it keeps what belongs to a session whose connection was lost. Zero is not
    /// at all.
    pub linger: Duration,
    /// Name and version of the software, for the peer's logs; 256 bytes at most travel.
    pub software: String,
    /// Client: how it is authenticated. Server: what it asks for at least.
    pub auth: Auth,
    /// Bytes that may wait to be written before [`Session::transfer`](crate::Session::transfer)
    /// refuses more, whatever credit the peer grants.
    pub gather: usize,
    /// Whether the messages of a RUN are handed over together, as one
    /// [`Transfer`](crate::Transfer), and not one by one.
    pub runs: bool,
}

impl Config {
    /// The shortest heartbeat interval that holds on the wire.
    pub const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            heartbeat: Duration::from_secs(10),
            handshake: Duration::from_secs(5),
            session: [0; 16],
            linger: Duration::ZERO,
            software: concat!("posthaste/", env!("CARGO_PKG_VERSION")).to_owned(),
            auth: Auth::None,
            gather: 8 << 20,
            runs: false,
        }
    }
}

/// How a client is authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// Not at all: the transport suffices.
    #[default]
    None,
    /// By the credentials of the peer's process, which the transport tells.
    PeerCredentials,
}

impl Auth {
    pub(crate) const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::PeerCredentials),
            _ => None,
        }
    }

    pub(crate) const fn as_u8(self) -> u8 {
        match self {
            Self::None => 0,
            Self::PeerCredentials => 1,
        }
    }
}

/// The limits of a session: each is checked before anything is believed or allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a frame's body; at least [`Limits::FRAME_MIN`].
    pub frame: u32,
    /// Bytes of a payload; larger than a frame, it travels in fragments.
    pub payload: u32,
    /// Bytes of a head; it is never cut, so it has to fit into one frame.
    pub head: u32,
    /// Links that may be open at a time.
    pub links: u16,
    /// Bytes of all the messages of a connection that have arrived in part.
    pub reassembly: u32,
    /// Bytes that a peer may have buffered here before the session is established.
    pub unauthenticated: u32,
}

impl Limits {
    /// The smallest frame limit that a side may state.
    pub const FRAME_MIN: u32 = 4_096;
    /// The most that a head may be, whatever is stated: its length travels in 24 bits.
    pub const HEAD_MAX: u32 = (1 << 24) - 1;
    /// What a TRANSFER's fixed part and optional fields take of a frame at most, rounded up.
    pub(crate) const TRANSFER_FIXED: u32 = 64;

    /// What holds between two sides: the smaller of each, made consistent.
    #[must_use]
    pub(crate) fn meet(self, other: Self) -> Self {
        let frame = self.frame.min(other.frame).max(Self::FRAME_MIN);
        let whole_head = frame.saturating_sub(Self::TRANSFER_FIXED).min(Self::HEAD_MAX);
        let head = self.head.min(other.head).min(whole_head);
        // A message that could never be put together is not a message that may be sent.
        let reassembly = self.reassembly.min(other.reassembly).max(frame);
        let payload = self.payload.min(other.payload).min(reassembly.saturating_sub(head));
        let links = self.links.min(other.links).max(1);
        let unauthenticated = self.unauthenticated;
        Self { frame, payload, head, links, reassembly, unauthenticated }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: 256 << 10,
            payload: 16 << 20,
            head: 128 << 10,
            links: 10_000,
            reassembly: 32 << 20,
            unauthenticated: 4 << 10,
        }
    }
}
