//! Messages that differ in their payloads alone, in one frame.

use std::fmt;

use super::{Header, Violation, kind};
use crate::code::Code;
use crate::cursor::Cursor;
use crate::frame::decode::about_link;
use crate::link::Link;

const TORN: Violation = Violation::protocol("the payloads of a RUN do not fill it");
const FEW: Violation = Violation::protocol("a RUN brings fewer than two messages");
const HEAD: Violation = Violation::new(Code::TooLarge, "a RUN's head is longer than its body");

/// The length in front of each payload.
const PREFIX: usize = 4;

/// Where a TRANSFER without options has its head: after its header, the head's length, and the
/// attributes.
const LEAD: usize = Header::LEN + 4;

/// Where a header has the kind.
const KIND: usize = 4;

/// The payloads of a [`Frame::Run`](crate::Frame::Run), in order.
///
/// ```
/// use posthaste_wire::Payloads;
///
/// let bytes = [2, 0, 0, 0, b'h', b'i', 0, 0, 0, 0];
/// let payloads = Payloads::new(&bytes).expect("two payloads, the second of them empty");
/// assert_eq!(payloads.collect::<Vec<_>>(), [&b"hi"[..], b""]);
/// assert!(Payloads::new(&bytes[..6]).is_none(), "one alone is no run");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payloads<'a> {
    bytes: &'a [u8],
    count: u32,
    longest: usize,
}

impl<'a> Payloads<'a> {
    /// Payloads as they are in the frame, each behind its length; `None` if these are not two
    /// at least, or do not end where the bytes do.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        Self::check(bytes).ok()
    }

    /// The payloads of a run that was checked when it came, or of what is left of one. Where it was
    /// not, they end where something is wrong.
    #[must_use]
    pub fn of_run(bytes: &'a [u8]) -> Self {
        Self { bytes, count: 0, longest: 0 }
    }

    #[inline]
    fn check(bytes: &'a [u8]) -> Result<Self, Violation> {
        let (mut rest, mut count, mut longest) = (bytes, 0_u32, 0_usize);
        while !rest.is_empty() {
            let (payload, behind) = split(rest).ok_or(TORN)?;
            rest = behind;
            count = count.saturating_add(1);
            longest = longest.max(payload.len());
        }
        if count < 2 { Err(FEW) } else { Ok(Self { bytes, count, longest }) }
    }

    /// How many there were at first.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.count
    }

    /// The length of the longest of them.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// What is left of them, as they are in the frame.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Payloads<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (payload, rest) = split(self.bytes)?;
        self.bytes = rest;
        Some(payload)
    }
}

impl fmt::Debug for Payloads<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// The first payload and what is behind it.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<PREFIX>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
}

/// A RUN that has come.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) link: u16,
    pub(crate) attributes: u8,
    pub(crate) head: &'a [u8],
    pub(crate) payloads: Payloads<'a>,
}

impl<'a> Run<'a> {
    /// Reads the body of a RUN.
    #[inline]
    pub(crate) fn decode(header: Header, body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Cursor(body);
        let link = about_link(header, 0)?;
        let [l0, l1, l2, attributes] = body.array()?;
        let head_len = usize::try_from(u32::from_le_bytes([l0, l1, l2, 0])).map_err(|_| HEAD)?;
        if head_len > body.0.len() {
            return Err(HEAD);
        }
        let head = body.take(head_len)?;
        let payloads = Payloads::check(body.rest())?;
        Ok(Self { link, attributes, head, payloads })
    }
}

/// Appends a RUN up to where its payloads go, which are `len` bytes with their lengths.
pub(crate) fn encode_lead(out: &mut Vec<u8>, link: u16, attributes: u8, head: &[u8], len: usize) {
    let body_len = head.len().saturating_add(4).saturating_add(len);
    let body_len = u32::try_from(body_len).unwrap_or(u32::MAX);
    out.extend_from_slice(&Header { body_len, kind: kind::RUN, flags: 0, link }.encode());
    let [l0, l1, l2, _] = len_of(head.len());
    out.extend_from_slice(&[l0, l1, l2, attributes]);
    out.extend_from_slice(head);
}

/// A TRANSFER without options, or a RUN, that ends where the output ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenRun {
    pub(crate) link: Link,
    attributes: u8,
    head_len: usize,
    start: usize,
    end: usize,
    /// Whether it is a RUN already.
    many: bool,
}

impl OpenRun {
    /// The TRANSFER of a message with these attributes and a head of that length, from `start` to
    /// `end` of the output.
    pub(crate) fn new(
        link: Link,
        attributes: u8,
        head_len: usize,
        start: usize,
        end: usize,
    ) -> Self {
        Self { link, attributes, head_len, start, end, many: false }
    }

    /// Appends one more message, which is as those before but for its payload, if nothing has been
    /// appended since and the body stays within `most` bytes.
    #[inline]
    pub(crate) fn extend(&mut self, out: &mut Vec<u8>, most: usize, payload: &[u8]) -> bool {
        let added = payload.len().saturating_add(PREFIX);
        let grown = self.end.saturating_sub(self.start).saturating_add(added);
        if self.end != out.len() || grown.saturating_add(PREFIX) > most {
            return false;
        }
        if !std::mem::replace(&mut self.many, true) {
            self.make_room_for_a_length(out);
        }
        out.reserve(added);
        out.extend_from_slice(&len_of(payload.len()));
        out.extend_from_slice(payload);
        self.end = out.len();
        let body_len = self.end.saturating_sub(self.start).saturating_sub(Header::LEN);
        put(out, self.start, &len_of(body_len));
        true
    }

    /// Whether attributes and head are the same as those of the messages before.
    pub(crate) fn is_like(&self, out: &[u8], attributes: u8, head: &[u8]) -> bool {
        let from = self.start.saturating_add(LEAD);
        let before = out.get(from..from.saturating_add(self.head_len));
        self.attributes == attributes && before == Some(head)
    }

    /// The bytes of the head.
    pub(crate) fn head_len(&self) -> usize {
        self.head_len
    }

    /// Makes a RUN of the TRANSFER: there, a payload stands behind its length.
    #[cold]
    fn make_room_for_a_length(&mut self, out: &mut Vec<u8>) {
        let at = self.start.saturating_add(LEAD).saturating_add(self.head_len);
        let len = self.end.saturating_sub(at);
        out.extend_from_slice(&[0; PREFIX]);
        if let Some(payload) = out.get_mut(at..) {
            payload.copy_within(..len, PREFIX);
        }
        put(out, at, &len_of(len));
        put(out, self.start.saturating_add(KIND), &[kind::RUN]);
    }
}

fn len_of(len: usize) -> [u8; PREFIX] {
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

/// Writes over what is there.
#[inline]
fn put<const N: usize>(out: &mut [u8], at: usize, bytes: &[u8; N]) {
    if let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        *place = *bytes;
    }
}
