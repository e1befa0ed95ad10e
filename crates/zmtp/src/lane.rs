//! Lanes: what a connection carries for this side, and which ZeroMQ socket that is.

use std::fmt;

use crate::codec::SocketType;

/// What a connection carries, seen from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Messages to topics go out: `PUB`.
    Publish,
    /// Messages to topics come in: `SUB`.
    Subscribe,
    /// Messages into queues go out: `PUSH`.
    Push,
    /// Messages into queues come in: `PULL`.
    Pull,
    /// Requests go out and answers come in: `DEALER`.
    Ask,
    /// Requests come in and answers go out: `ROUTER`.
    Answer,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 6] =
        [Self::Publish, Self::Subscribe, Self::Push, Self::Pull, Self::Ask, Self::Answer];

    /// The socket that this side is.
    #[must_use]
    pub fn socket_type(self) -> SocketType {
        match self {
            Self::Publish => SocketType::Pub,
            Self::Subscribe => SocketType::Sub,
            Self::Push => SocketType::Push,
            Self::Pull => SocketType::Pull,
            Self::Ask => SocketType::Dealer,
            Self::Answer => SocketType::Router,
        }
    }

    /// The name of its option in a URL, which is that of the socket that users know.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::Publish => "pub",
            Self::Subscribe => "sub",
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Ask => "req",
            Self::Answer => "rep",
        }
    }

    /// The lane of this side for a peer that connects as a socket of that type: what it sends comes
    /// in, and the other way round.
    #[must_use]
    pub(crate) fn facing(peer: SocketType) -> Option<Self> {
        Some(match peer {
            SocketType::Sub | SocketType::XSub => Self::Publish,
            SocketType::Pub | SocketType::XPub => Self::Subscribe,
            SocketType::Pull => Self::Push,
            SocketType::Push => Self::Pull,
            SocketType::Rep | SocketType::Router => Self::Ask,
            SocketType::Req | SocketType::Dealer => Self::Answer,
            SocketType::Pair => return None,
        })
    }

    /// Whether peers say on it what they want; Posthaste peers also say on the way back which
    /// inboxes they have.
    pub(crate) fn is_asked_for(self, posthaste: bool) -> bool {
        match self {
            Self::Publish => true,
            Self::Push | Self::Ask | Self::Answer => posthaste,
            Self::Subscribe | Self::Pull => false,
        }
    }

    /// Whether a peer is always ready to answer a heartbeat on it, however slow this side is: what
    /// a peer only sends on is never held up by anything but itself.
    pub(crate) fn has_heartbeats(self) -> bool {
        matches!(self, Self::Subscribe | Self::Pull)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket_type().fmt(f)
    }
}
