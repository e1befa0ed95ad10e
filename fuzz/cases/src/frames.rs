//! Frames that a peer might send, field by field, and what can be wrong with each field.

use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

use posthaste_wire::{Code, Frame, Header, Hop, Outcome, Payloads, Role};

use crate::scene::Side;

/// Who hears what only a client says, what only a server says, and what either says.
const BY_SERVER: &[Side] = &[Side::Server];
const BY_CLIENT: &[Side] = &[Side::Client];
const BY_BOTH: &[Side] = &[Side::Client, Side::Server];

/// A frame that is in place in a [`Scene`](crate::scene::Scene), with its fields.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What it is called in reports.
    pub name: &'static str,
    /// Who may hear it.
    pub heard_by: &'static [Side],
    /// Header and body.
    pub bytes: Vec<u8>,
    /// Where each field is.
    pub fields: Vec<(&'static str, Range<usize>)>,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The frame ends where the field begins.
    Truncate,
    /// A byte more follows the field.
    Extend,
    /// All its bits are 0.
    Zero,
    /// All its bits are 1.
    Max,
    /// It is one more.
    More,
    /// It is one less.
    Less,
    /// It is not UTF-8.
    BadUtf8,
    /// Its highest bit is the other one.
    Reserved,
}

impl Operator {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Truncate,
        Self::Extend,
        Self::Zero,
        Self::Max,
        Self::More,
        Self::Less,
        Self::BadUtf8,
        Self::Reserved,
    ];
}

/// The part of a body that its last field takes.
const REST: usize = usize::MAX;

impl Sample {
    fn new(
        name: &'static str,
        heard_by: &'static [Side],
        frame: Frame<'_>,
        body: &[(&'static str, usize)],
    ) -> Self {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let mut fields = vec![("length", 0..4), ("kind", 4..5), ("flags", 5..6), ("link", 6..8)];
        let mut at = Header::LEN;
        for &(field, len) in body {
            let end = at.saturating_add(len).min(bytes.len());
            fields.push((field, at..end));
            at = end;
        }
        assert_eq!(at, bytes.len(), "the fields of {name} are all of its body");
        Self { name, heard_by, bytes, fields }
    }

    /// The frame with something wrong about one field. Unless it is the length that is wrong, the
    /// header states the length that the body then has.
    #[must_use]
    pub fn spoiled(&self, field: usize, operator: Operator) -> Vec<u8> {
        let at = self.fields[field].1.clone();
        let mut bytes = self.bytes.clone();
        match operator {
            Operator::Truncate => bytes.truncate(at.start.max(Header::LEN)),
            Operator::Extend => bytes.insert(at.end.max(Header::LEN), 0xab),
            Operator::Zero => bytes[at].fill(0),
            Operator::Max => bytes[at].fill(0xff),
            Operator::More => count(&mut bytes[at], |byte| byte.overflowing_add(1)),
            Operator::Less => count(&mut bytes[at], |byte| byte.overflowing_sub(1)),
            Operator::BadUtf8 => bytes[at].fill(0xc0),
            Operator::Reserved => {
                if let Some(last) = bytes[at].last_mut() {
                    *last ^= 0x80;
                }
            }
        }
        if field > 0 {
            restate(&mut bytes);
        }
        bytes
    }
}

/// Makes the header state the length that the body has.
fn restate(bytes: &mut [u8]) {
    let len = u32::try_from(bytes.len() - Header::LEN).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&len.to_le_bytes());
}

/// Little-endian arithmetic on a field of any width.
fn count(field: &mut [u8], step: impl Fn(u8) -> (u8, bool)) {
    for byte in field {
        let (next, carries) = step(*byte);
        *byte = next;
        if !carries {
            return;
        }
    }
}

/// A frame of every kind and shape, each in place in a [`Scene`](crate::scene::Scene).
#[must_use]
pub fn samples() -> Vec<Sample> {
    let mut samples = about_the_connection();
    samples.extend(about_links());
    samples.extend(messages());
    samples.extend(runs());
    samples
}

fn about_the_connection() -> Vec<Sample> {
    let goodbye = Frame::Goodbye { code: Code::GoingAway, reason: "so long" };
    let unknown = Frame::Unknown { kind: 0x7f, flags: 0x80, link: 1, body: b"later" };
    vec![
        Sample::new("GOODBYE", BY_BOTH, goodbye, &[("code", 2), ("reason", REST)]),
        Sample::new("PING", BY_BOTH, Frame::Ping { token: 5 }, &[("token", 8)]),
        Sample::new("PONG", BY_BOTH, Frame::Pong { token: 5 }, &[("token", 8)]),
        Sample::new("unknown", BY_BOTH, unknown, &[("body", REST)]),
        Sample::new(
            "CALL",
            BY_SERVER,
            Frame::Call { id: 2, method: 3, body: b"args" },
            &[("id", 4), ("method", 2), ("body", REST)],
        ),
        Sample::new("CANCEL", BY_SERVER, Frame::Cancel { body: b"that" }, &[("body", REST)]),
        Sample::new(
            "RESULT",
            BY_CLIENT,
            Frame::Result { id: 1, code: Code::Ok, body: b"done" },
            &[("id", 4), ("code", 2), ("body", REST)],
        ),
        Sample::new(
            "NOTICE",
            BY_CLIENT,
            Frame::Notice { code: Code::GoingAway, body: b"soon" },
            &[("code", 2), ("body", REST)],
        ),
    ]
}

fn about_links() -> Vec<Sample> {
    let open = Frame::Open { link: 8, role: Role::Sender, options: b"options" };
    let refused = Frame::Refused { link: 3, code: Code::NotFound, reason: "no such thing" };
    let closed = Frame::Closed { link: 1, code: Code::SlowConsumer, reason: "too slow" };
    let settle = |after, why| {
        let (outcome, first, last) = (Outcome::Retry, 1, 2);
        Frame::Settle { link: 2, outcome, first, last, after, why }
    };
    let later = Some(Duration::from_secs(2));
    vec![
        Sample::new("OPEN", BY_SERVER, open, &[("role", 1), ("options", REST)]),
        Sample::new("CLOSE", BY_SERVER, Frame::Close { link: 1 }, &[]),
        Sample::new("STOP", BY_SERVER, Frame::Stop { link: 2 }, &[]),
        Sample::new("SYNC", BY_SERVER, Frame::Sync { link: 2, token: 9 }, &[("token", 8)]),
        Sample::new("EXTEND", BY_SERVER, Frame::Extend { link: 2, number: 2 }, &[("number", 8)]),
        Sample::new(
            "SETTLE",
            BY_SERVER,
            settle(None, ""),
            &[("outcome", 1), ("first", 8), ("last", 8)],
        ),
        Sample::new(
            "SETTLE later",
            BY_SERVER,
            settle(later, "not now"),
            &[("outcome", 1), ("first", 8), ("last", 8), ("after", 8), ("why", REST)],
        ),
        Sample::new(
            "OPENED",
            BY_CLIENT,
            Frame::Opened { link: 3, info: b"info" },
            &[("info", REST)],
        ),
        Sample::new("REFUSED", BY_CLIENT, refused, &[("code", 2), ("reason", REST)]),
        Sample::new("CLOSED", BY_CLIENT, closed, &[("code", 2), ("reason", REST)]),
        Sample::new("STOPPED", BY_CLIENT, Frame::Stopped { link: 2 }, &[]),
        Sample::new(
            "SYNCED",
            BY_CLIENT,
            Frame::Synced { link: 2, token: 9, code: Code::Full, reason: "no" },
            &[("token", 8), ("code", 2), ("reason", REST)],
        ),
        Sample::new(
            "CANCELLED",
            BY_CLIENT,
            Frame::Cancelled { link: 2, number: 2 },
            &[("number", 8)],
        ),
        Sample::new("OFFSET", BY_CLIENT, Frame::Offset { link: 2, offset: 900 }, &[("offset", 8)]),
        Sample::new(
            "CONFIRM",
            BY_CLIENT,
            Frame::Confirm { link: 1, upto: 2, matched: 3, level: 1, nodes: 1 },
            &[("upto", 8), ("matched", 8), ("level", 1), ("nodes", 4)],
        ),
        Sample::new(
            "RETURN",
            BY_CLIENT,
            Frame::Return { link: 1, seq: 2, code: Code::Full, level: 1, reason: "full" },
            &[("seq", 8), ("code", 2), ("level", 1), ("reason", REST)],
        ),
    ]
}

fn messages() -> Vec<Sample> {
    let hop = Hop {
        attributes: 3,
        correlation: NonZeroU64::new(7),
        deadline: Some(Duration::from_secs(1)),
        attempt: 2,
        missed: 4,
    };
    let transfer =
        |link, hop, total| Frame::Transfer { link, hop, total, head: b"head", payload: b"payload" };
    let plain = [("head length", 3), ("attributes", 1), ("head", 4), ("payload", REST)];
    let full = [
        ("head length", 3),
        ("attributes", 1),
        ("correlation", 8),
        ("deadline", 8),
        ("attempt", 4),
        ("missed", 8),
        ("total", 4),
        ("head", 4),
        ("payload", REST),
    ];
    let credit = |link| Frame::Credit { link, messages: 300, bytes: 300_000 };
    let granted = [("messages", 8), ("bytes", 8)];
    let piece = |link, more| {
        let piece: &[u8] = if more { b"0123456789" } else { b"01234567890123456789" };
        Frame::Fragment { link, more, piece }
    };
    vec![
        Sample::new("TRANSFER to the server", BY_SERVER, transfer(1, Hop::default(), None), &plain),
        Sample::new("TRANSFER to the client", BY_CLIENT, transfer(2, Hop::default(), None), &plain),
        Sample::new("first TRANSFER to the server", BY_SERVER, transfer(1, hop, Some(30)), &full),
        Sample::new("first TRANSFER to the client", BY_CLIENT, transfer(2, hop, Some(30)), &full),
        Sample::new("FRAGMENT to the server", BY_SERVER, piece(5, true), &[("piece", REST)]),
        Sample::new("FRAGMENT to the client", BY_CLIENT, piece(6, true), &[("piece", REST)]),
        Sample::new("last FRAGMENT to the server", BY_SERVER, piece(5, false), &[("piece", REST)]),
        Sample::new("last FRAGMENT to the client", BY_CLIENT, piece(6, false), &[("piece", REST)]),
        Sample::new("CREDIT to the server", BY_SERVER, credit(2), &granted),
        Sample::new("CREDIT to the client", BY_CLIENT, credit(1), &granted),
    ]
}

fn runs() -> Vec<Sample> {
    let payloads = b"\x03\0\0\0one\0\0\0\0\x05\0\0\0three";
    let payloads = Payloads::new(payloads).expect("three payloads");
    let run = |link| Frame::Run { link, attributes: 3, head: b"head", payloads };
    let fields = [
        ("head length", 3),
        ("attributes", 1),
        ("head", 4),
        ("first length", 4),
        ("first payload", 3),
        ("second length", 4),
        ("third length", 4),
        ("third payload", REST),
    ];
    vec![
        Sample::new("RUN to the server", BY_SERVER, run(1), &fields),
        Sample::new("RUN to the client", BY_CLIENT, run(2), &fields),
    ]
}
