//! Frames: the unit of the protocol, as values that borrow the bytes they were decoded from.
//!
//! ```
//! use posthaste_wire::{Frame, Header};
//!
//! let mut bytes = Vec::new();
//! Frame::Ping { token: 7 }.encode(&mut bytes);
//! let (header, body) = bytes.split_first_chunk::<{ Header::LEN }>().expect("a header");
//! let header = Header::decode(header);
//! assert_eq!(header.body_len as usize, body.len());
//! assert_eq!(Frame::decode(header, body), Ok(Frame::Ping { token: 7 }));
//! ```

mod decode;
mod encode;
pub(crate) mod run;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::code::Code;
use crate::link::{Outcome, Role};
use crate::transfer::Hop;

pub(crate) use decode::Piece;
pub(crate) use encode::{Lead, cut};
pub use run::Payloads;
pub(crate) use run::{OpenRun, Run};

/// The fixed part of every frame: eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body that follows.
    pub body_len: u32,
    /// What kind of frame it is.
    pub kind: u8,
    /// Which optional fields are there; bit 7 is [`Header::IGNORABLE`].
    pub flags: u8,
    /// The link that the frame is about; 0 if it is about none.
    pub link: u16,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 8;

    /// The flag that lets a receiver skip a frame whose kind it does not know.
    pub const IGNORABLE: u8 = 0x80;

    /// Reads a header; any eight bytes are one.
    #[must_use]
    #[inline]
    pub const fn decode(bytes: &[u8; Self::LEN]) -> Self {
        let [a, b, c, d, kind, flags, e, f] = *bytes;
        Self {
            body_len: u32::from_le_bytes([a, b, c, d]),
            kind,
            flags,
            link: u16::from_le_bytes([e, f]),
        }
    }

    /// Writes a header.
    #[must_use]
    #[inline]
    pub const fn encode(self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.body_len.to_le_bytes();
        let [e, f] = self.link.to_le_bytes();
        [a, b, c, d, self.kind, self.flags, e, f]
    }
}

/// The numbers of the kinds of frames.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const WELCOME: u8 = 0x02;
    pub(crate) const GOODBYE: u8 = 0x03;
    pub(crate) const PING: u8 = 0x04;
    pub(crate) const PONG: u8 = 0x05;

    pub(crate) const OPEN: u8 = 0x10;
    pub(crate) const OPENED: u8 = 0x11;
    pub(crate) const REFUSED: u8 = 0x12;
    pub(crate) const CLOSE: u8 = 0x13;
    pub(crate) const CLOSED: u8 = 0x14;
    pub(crate) const STOP: u8 = 0x15;
    pub(crate) const STOPPED: u8 = 0x16;

    pub(crate) const TRANSFER: u8 = 0x20;
    pub(crate) const FRAGMENT: u8 = 0x21;
    pub(crate) const CREDIT: u8 = 0x22;
    pub(crate) const CONFIRM: u8 = 0x23;
    pub(crate) const RETURN: u8 = 0x24;
    pub(crate) const SETTLE: u8 = 0x25;
    pub(crate) const SYNC: u8 = 0x26;
    pub(crate) const SYNCED: u8 = 0x27;
    pub(crate) const EXTEND: u8 = 0x28;
    pub(crate) const CANCELLED: u8 = 0x29;
    pub(crate) const RUN: u8 = 0x2a;
    pub(crate) const OFFSET: u8 = 0x2b;

    pub(crate) const CALL: u8 = 0x30;
    pub(crate) const RESULT: u8 = 0x31;
    pub(crate) const NOTICE: u8 = 0x32;
    pub(crate) const CANCEL: u8 = 0x33;
}

/// The flags of TRANSFER, FRAGMENT and SETTLE.
pub(crate) mod flag {
    pub(crate) const MORE: u8 = 0x01;
    pub(crate) const CORRELATION: u8 = 0x02;
    pub(crate) const DEADLINE: u8 = 0x04;
    pub(crate) const ATTEMPT: u8 = 0x08;
    pub(crate) const MISSED: u8 = 0x10;

    pub(crate) const AFTER: u8 = 0x01;
    pub(crate) const WHY: u8 = 0x02;
}

/// One frame, borrowed from the bytes that it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/protocol.md has a table for each; the names are the same")]
pub enum Frame<'a> {
    /// The client's first frame: what it states, as fields. See [`Hello`](crate::Hello).
    Hello { fields: &'a [u8] },
    /// The server's answer: what it states, as fields.
    Welcome { fields: &'a [u8] },
    /// The sender's last frame.
    Goodbye { code: Code, reason: &'a str },
    /// To be answered by a PONG with the same token.
    Ping { token: u64 },
    /// The answer to a PING.
    Pong { token: u64 },
    /// Client: a link is wanted.
    Open { link: u16, role: Role, options: &'a [u8] },
    /// Server: the link is open.
    Opened { link: u16, info: &'a [u8] },
    /// Server: the link is not opened.
    Refused { link: u16, code: Code, reason: &'a str },
    /// Client: the link is no longer wanted.
    Close { link: u16 },
    /// Server: the link is closed.
    Closed { link: u16, code: Code, reason: &'a str },
    /// Client: no more messages on this link.
    Stop { link: u16 },
    /// Server: no message comes after this.
    Stopped { link: u16 },
    /// A message, or its head and the first piece of its payload, which is `total` bytes long.
    Transfer { link: u16, hop: Hop, total: Option<u32>, head: &'a [u8], payload: &'a [u8] },
    /// The next piece of a payload.
    Fragment { link: u16, more: bool, piece: &'a [u8] },
    /// Messages that are alike but for their payloads, and for this hop say nothing more.
    Run { link: u16, attributes: u8, head: &'a [u8], payloads: Payloads<'a> },
    /// What has been granted since the link was opened.
    Credit { link: u16, messages: u64, bytes: u64 },
    /// Server: every message up to `upto` has its outcome.
    Confirm { link: u16, upto: u64, matched: u64, level: u8, nodes: u32 },
    /// Server: one message is handed back.
    Return { link: u16, seq: u64, code: Code, level: u8, reason: &'a str },
    /// Client: what became of a range of deliveries.
    Settle {
        link: u16,
        outcome: Outcome,
        first: u64,
        last: u64,
        after: Option<Duration>,
        why: &'a str,
    },
    /// Client: say when every settlement so far is at its level.
    Sync { link: u16, token: u64 },
    /// Server: the answer to a SYNC.
    Synced { link: u16, token: u64, code: Code, reason: &'a str },
    /// Client: a delivery is still being worked on.
    Extend { link: u16, number: u64 },
    /// Server: nobody waits any more for what is to come of a delivery.
    Cancelled { link: u16, number: u64 },
    /// Server: where in the queue that is read the next message of the link is; may be skipped.
    Offset { link: u16, offset: u64 },
    /// Client: a call.
    Call { id: u32, method: u16, body: &'a [u8] },
    /// Server: the answer to a CALL.
    Result { id: u32, code: Code, body: &'a [u8] },
    /// Server: something that was not asked for.
    Notice { code: Code, body: &'a [u8] },
    /// Client: it waits no more for something that it asked for by a message.
    Cancel { body: &'a [u8] },
    /// A frame of a kind that this version does not know, and may skip.
    Unknown { kind: u8, flags: u8, link: u16, body: &'a [u8] },
}

/// A rule that a peer broke: what it is told in the goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    code: Code,
    what: Cow<'static, str>,
}

impl Violation {
    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self::new(Code::Protocol, what)
    }

    pub(crate) const fn new(code: Code, what: &'static str) -> Self {
        Self { code, what: Cow::Borrowed(what) }
    }

    pub(crate) const fn detailed(code: Code, what: String) -> Self {
        Self { code, what: Cow::Owned(what) }
    }

    /// The code that the goodbye carries.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Violation {}
