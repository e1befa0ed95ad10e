//! From a frame to bytes, appended to a buffer.

use std::time::Duration;

use super::{Frame, Header, flag, kind};
use crate::code::Code;
use crate::cursor::REASON_MAX;
use crate::output::SPLICE_MIN;
use crate::transfer::{Hop, micros};

impl Frame<'_> {
    /// Appends the frame, header and body. A reason is cut to 1,024 bytes.
    ///
    /// The caller keeps bodies within the peer's limit. What no body can hold (4 GiB, or a head of
    /// 16 MiB) is stated wrongly rather than refused, and it is the peer that refuses it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Frame::Hello { fields } => put(out, kind::HELLO, 0, 0, |b| b.extend(fields)),
            Frame::Welcome { fields } => put(out, kind::WELCOME, 0, 0, |b| b.extend(fields)),
            Frame::Goodbye { code, reason } => put(out, kind::GOODBYE, 0, 0, |b| {
                put_why(b, code, reason);
            }),
            Frame::Ping { token } => put(out, kind::PING, 0, 0, |b| put_u64(b, token)),
            Frame::Pong { token } => put(out, kind::PONG, 0, 0, |b| put_u64(b, token)),
            Frame::Call { id, method, body } => put(out, kind::CALL, 0, 0, |b| {
                b.extend_from_slice(&id.to_le_bytes());
                b.extend_from_slice(&method.to_le_bytes());
                b.extend_from_slice(body);
            }),
            Frame::Result { id, code, body } => put(out, kind::RESULT, 0, 0, |b| {
                b.extend_from_slice(&id.to_le_bytes());
                b.extend_from_slice(&code.as_u16().to_le_bytes());
                b.extend_from_slice(body);
            }),
            Frame::Notice { code, body } => put(out, kind::NOTICE, 0, 0, |b| {
                b.extend_from_slice(&code.as_u16().to_le_bytes());
                b.extend_from_slice(body);
            }),
            Frame::Cancel { body } => put(out, kind::CANCEL, 0, 0, |b| b.extend(body)),
            Frame::Unknown { kind, flags, link, body } => {
                put(out, kind, flags, link, |b| b.extend_from_slice(body));
            }
            _ => self.encode_link(out),
        }
    }

    /// Appends a frame that is about a link.
    fn encode_link(&self, out: &mut Vec<u8>) {
        match *self {
            Frame::Open { link, role, options } => put(out, kind::OPEN, 0, link, |b| {
                b.push(role.as_u8());
                b.extend_from_slice(options);
            }),
            Frame::Opened { link, info } => put(out, kind::OPENED, 0, link, |b| b.extend(info)),
            Frame::Refused { link, code, reason } => put(out, kind::REFUSED, 0, link, |b| {
                put_why(b, code, reason);
            }),
            Frame::Close { link } => put(out, kind::CLOSE, 0, link, |_| ()),
            Frame::Closed { link, code, reason } => put(out, kind::CLOSED, 0, link, |b| {
                put_why(b, code, reason);
            }),
            Frame::Stop { link } => put(out, kind::STOP, 0, link, |_| ()),
            Frame::Stopped { link } => put(out, kind::STOPPED, 0, link, |_| ()),
            Frame::Transfer { link, ref hop, total, head, payload } => {
                Lead { link, hop, total, head, piece_len: payload.len() }.encode(out);
                out.extend_from_slice(payload);
            }
            Frame::Run { link, attributes, head, payloads } => {
                put(out, kind::RUN, 0, link, |b| {
                    put_word(b, head.len(), attributes);
                    b.extend_from_slice(head);
                    b.extend_from_slice(payloads.as_bytes());
                });
            }
            Frame::Fragment { link, more, piece } => {
                let flags = if more { flag::MORE } else { 0 };
                put(out, kind::FRAGMENT, flags, link, |b| {
                    b.extend_from_slice(piece);
                });
            }
            Frame::Credit { link, messages, bytes } => put(out, kind::CREDIT, 0, link, |b| {
                put_u64(b, messages);
                put_u64(b, bytes);
            }),
            Frame::Confirm { link, upto, matched, level, nodes } => {
                put(out, kind::CONFIRM, 0, link, |b| {
                    put_u64(b, upto);
                    put_u64(b, matched);
                    b.push(level);
                    b.extend_from_slice(&nodes.to_le_bytes());
                });
            }
            Frame::Return { link, seq, code, level, reason } => {
                put(out, kind::RETURN, 0, link, |b| {
                    put_u64(b, seq);
                    b.extend_from_slice(&code.as_u16().to_le_bytes());
                    b.push(level);
                    put_reason(b, reason);
                });
            }
            Frame::Settle { link, outcome, first, last, after, why } => {
                let after_flag = if after.is_some() { flag::AFTER } else { 0 };
                let why_flag = if why.is_empty() { 0 } else { flag::WHY };
                put(out, kind::SETTLE, after_flag | why_flag, link, |b| {
                    b.push(outcome.as_u8());
                    put_u64(b, first);
                    put_u64(b, last);
                    put_settle_options(b, after, why);
                });
            }
            Frame::Sync { link, token } => put(out, kind::SYNC, 0, link, |b| put_u64(b, token)),
            Frame::Synced { link, token, code, reason } => put(out, kind::SYNCED, 0, link, |b| {
                put_u64(b, token);
                put_why(b, code, reason);
            }),
            Frame::Extend { link, number } => {
                put(out, kind::EXTEND, 0, link, |b| put_u64(b, number));
            }
            Frame::Offset { link, offset } => {
                put(out, kind::OFFSET, Header::IGNORABLE, link, |b| put_u64(b, offset));
            }
            Frame::Cancelled { link, number } => {
                put(out, kind::CANCELLED, 0, link, |b| put_u64(b, number));
            }
            _ => {}
        }
    }
}

/// A TRANSFER without its payload, which the caller appends or splices in.
pub(crate) struct Lead<'a> {
    pub(crate) link: u16,
    pub(crate) hop: &'a Hop,
    /// The length of the whole payload, if only a piece of it follows.
    pub(crate) total: Option<u32>,
    pub(crate) head: &'a [u8],
    /// The length of what follows of the payload.
    pub(crate) piece_len: usize,
}

impl Lead<'_> {
    /// Appends everything up to where the payload goes.
    #[inline]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let hop = self.hop;
        let mut flags = 0;
        let mut fixed_len = 4_usize;
        let mut count = |present: bool, bit: u8, len: usize| {
            if present {
                flags |= bit;
                fixed_len = fixed_len.saturating_add(len);
            }
        };
        count(hop.correlation.is_some(), flag::CORRELATION, 8);
        count(hop.deadline.is_some(), flag::DEADLINE, 8);
        count(hop.attempt > 1, flag::ATTEMPT, 4);
        count(hop.missed > 0, flag::MISSED, 8);
        count(self.total.is_some(), flag::MORE, 4);

        let body_len = fixed_len.saturating_add(self.head.len()).saturating_add(self.piece_len);
        // A large payload does not go in here, but beside it.
        let copied = if self.piece_len < SPLICE_MIN { self.piece_len } else { 0 };
        let beside = self.piece_len.saturating_sub(copied);
        out.reserve(body_len.saturating_add(Header::LEN).saturating_sub(beside));
        let header = Header {
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX),
            kind: kind::TRANSFER,
            flags,
            link: self.link,
        };
        let head_len = u32::try_from(self.head.len()).unwrap_or(u32::MAX);
        let [l0, l1, l2, _] = head_len.to_le_bytes();
        let [b0, b1, b2, b3, b4, b5, b6, b7] = header.encode();
        // One copy of a known length, rather than two that each look for room.
        out.extend_from_slice(&[b0, b1, b2, b3, b4, b5, b6, b7, l0, l1, l2, hop.attributes]);
        if flags != 0 {
            self.encode_options(out);
        }
        out.extend_from_slice(self.head);
    }

    fn encode_options(&self, out: &mut Vec<u8>) {
        if let Some(correlation) = self.hop.correlation {
            put_u64(out, correlation.get());
        }
        if let Some(deadline) = self.hop.deadline {
            put_u64(out, micros(deadline));
        }
        if self.hop.attempt > 1 {
            out.extend_from_slice(&self.hop.attempt.to_le_bytes());
        }
        if self.hop.missed > 0 {
            put_u64(out, self.hop.missed);
        }
        if let Some(total) = self.total {
            out.extend_from_slice(&total.to_le_bytes());
        }
    }
}

/// The longest prefix of `text` of at most `max` bytes that is still text.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Appends a header, the body that `write` appends, and then states the body's length.
#[inline]
fn put(out: &mut Vec<u8>, kind: u8, flags: u8, link: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&Header { body_len: 0, kind, flags, link }.encode());
    let body = out.len();
    write(out);
    let len = u32::try_from(out.len().saturating_sub(body)).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..).and_then(|frame| frame.first_chunk_mut::<4>()) {
        *place = len.to_le_bytes();
    }
}

/// The length of a head and the attributes.
fn put_word(out: &mut Vec<u8>, head_len: usize, attributes: u8) {
    let head_len = u32::try_from(head_len).unwrap_or(u32::MAX);
    let [l0, l1, l2, _] = head_len.to_le_bytes();
    out.extend_from_slice(&[l0, l1, l2, attributes]);
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_why(out: &mut Vec<u8>, code: Code, reason: &str) {
    out.extend_from_slice(&code.as_u16().to_le_bytes());
    put_reason(out, reason);
}

fn put_reason(out: &mut Vec<u8>, reason: &str) {
    let reason = cut(reason, REASON_MAX);
    let len = u16::try_from(reason.len()).unwrap_or(0);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(reason.as_bytes());
}

fn put_settle_options(out: &mut Vec<u8>, after: Option<Duration>, why: &str) {
    if let Some(after) = after {
        put_u64(out, micros(after));
    }
    if !why.is_empty() {
        put_reason(out, why);
    }
}
