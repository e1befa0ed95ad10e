//! From a header and a body to a frame. Every length is compared with what is there first.

use std::num::NonZeroU64;
use std::time::Duration;

use super::{Frame, Header, Run, Violation, flag, kind};
use crate::code::Code;
use crate::cursor::Cursor;
use crate::link::{Outcome, Role};
use crate::transfer::Hop;

const FLAGS: Violation = Violation::protocol("a frame bears a flag that its kind does not have");
const NO_LINK: Violation = Violation::protocol("a frame that is about a link names none");
const A_LINK: Violation = Violation::protocol("a frame that is about no link names one");
const ROLE: Violation = Violation::protocol("OPEN asks for a role that does not exist");
const OUTCOME: Violation = Violation::protocol("SETTLE states an outcome that does not exist");
const NEEDLESS: Violation =
    Violation::protocol("a frame spells out an optional field that has its default value");
const PIECE: Violation =
    Violation::protocol("a TRANSFER that has more to come brings all of its payload");
const EMPTY_PIECE: Violation = Violation::protocol("a FRAGMENT is empty");
const HEAD: Violation = Violation::new(Code::TooLarge, "a TRANSFER's head is longer than its body");

impl<'a> Frame<'a> {
    /// Reads the body that follows `header`; `body` is exactly that body.
    ///
    /// Nothing is copied and nothing is allocated, whatever the bytes are.
    ///
    /// # Errors
    /// If the bytes are not a frame that this version accepts. A kind that is unknown is an error
    /// unless the header says that it may be ignored.
    #[inline]
    pub fn decode(header: Header, body: &'a [u8]) -> Result<Self, Violation> {
        if header.kind == kind::TRANSFER {
            let Piece { link, hop, total, head, payload } = Piece::decode(header, body)?;
            return Ok(Frame::Transfer { link, hop, total, head, payload });
        }
        other(header, Cursor(body))
    }
}

/// A TRANSFER: a message, or its first piece.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) link: u16,
    pub(crate) hop: Hop,
    /// The length of the whole payload, if more of it is to come.
    pub(crate) total: Option<u32>,
    pub(crate) head: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Reads the body of a TRANSFER. By far the most frequent kind, it has a way of its own.
    #[inline]
    pub(crate) fn decode(header: Header, body: &'a [u8]) -> Result<Self, Violation> {
        transfer(header, Cursor(body))
    }
}

/// Reads a TRANSFER.
#[inline]
fn transfer(header: Header, mut body: Cursor<'_>) -> Result<Piece<'_>, Violation> {
    const KNOWN: u8 =
        flag::MORE | flag::CORRELATION | flag::DEADLINE | flag::ATTEMPT | flag::MISSED;
    let flags = header.flags;
    let link = about_link(header, KNOWN)?;
    let word = body.u32()?;
    let [l0, l1, l2, attributes] = word.to_le_bytes();
    let head_len = u32::from_le_bytes([l0, l1, l2, 0]);
    let mut hop = Hop { attributes, ..Hop::default() };
    let mut total = None;
    if flags != 0 {
        if flags & flag::CORRELATION != 0 {
            hop.correlation = Some(NonZeroU64::new(body.u64()?).ok_or(NEEDLESS)?);
        }
        if flags & flag::DEADLINE != 0 {
            hop.deadline = Some(Duration::from_micros(body.u64()?));
        }
        if flags & flag::ATTEMPT != 0 {
            hop.attempt = body.u32()?;
            if hop.attempt <= 1 {
                return Err(NEEDLESS);
            }
        }
        if flags & flag::MISSED != 0 {
            hop.missed = body.u64()?;
            if hop.missed == 0 {
                return Err(NEEDLESS);
            }
        }
        if flags & flag::MORE != 0 {
            total = Some(body.u32()?);
        }
    }
    let head_len = usize::try_from(head_len).map_err(|_| HEAD)?;
    if head_len > body.0.len() {
        return Err(HEAD);
    }
    let head = body.take(head_len)?;
    let payload = body.rest();
    if total.is_some_and(|total| usize::try_from(total).is_ok_and(|t| t <= payload.len())) {
        return Err(PIECE);
    }
    Ok(Piece { link, hop, total, head, payload })
}

/// Reads a frame of any other kind.
fn other(header: Header, mut body: Cursor<'_>) -> Result<Frame<'_>, Violation> {
    let frame = match header.kind {
        kind::HELLO | kind::WELCOME | kind::GOODBYE | kind::PING | kind::PONG => {
            return connection(header, body);
        }
        kind::CALL | kind::RESULT | kind::NOTICE | kind::CANCEL => return call(header, body),
        kind::OPEN => {
            let link = about_link(header, 0)?;
            let role = Role::from_u8(body.u8()?).ok_or(ROLE)?;
            Frame::Open { link, role, options: body.rest() }
        }
        kind::OPENED => Frame::Opened { link: about_link(header, 0)?, info: body.rest() },
        kind::REFUSED => {
            let link = about_link(header, 0)?;
            Frame::Refused { link, code: code(&mut body)?, reason: body.reason()? }
        }
        kind::CLOSE => Frame::Close { link: about_link(header, 0)? },
        kind::CLOSED => {
            let link = about_link(header, 0)?;
            Frame::Closed { link, code: code(&mut body)?, reason: body.reason()? }
        }
        kind::STOP => Frame::Stop { link: about_link(header, 0)? },
        kind::STOPPED => Frame::Stopped { link: about_link(header, 0)? },
        kind::RUN => {
            let Run { link, attributes, head, payloads } = Run::decode(header, body.0)?;
            return Ok(Frame::Run { link, attributes, head, payloads });
        }
        kind::FRAGMENT => {
            let link = about_link(header, flag::MORE)?;
            let piece = body.rest();
            if piece.is_empty() {
                return Err(EMPTY_PIECE);
            }
            Frame::Fragment { link, more: header.flags & flag::MORE != 0, piece }
        }
        kind::CREDIT => {
            let link = about_link(header, 0)?;
            Frame::Credit { link, messages: body.u64()?, bytes: body.u64()? }
        }
        kind::CONFIRM => {
            let link = about_link(header, 0)?;
            let (upto, matched) = (body.u64()?, body.u64()?);
            Frame::Confirm { link, upto, matched, level: body.u8()?, nodes: body.u32()? }
        }
        kind::RETURN => {
            let link = about_link(header, 0)?;
            let (seq, code) = (body.u64()?, code(&mut body)?);
            Frame::Return { link, seq, code, level: body.u8()?, reason: body.reason()? }
        }
        kind::SETTLE => settle(header, &mut body)?,
        kind::SYNC => Frame::Sync { link: about_link(header, 0)?, token: body.u64()? },
        kind::SYNCED => {
            let link = about_link(header, 0)?;
            let (token, code) = (body.u64()?, code(&mut body)?);
            Frame::Synced { link, token, code, reason: body.reason()? }
        }
        kind::EXTEND => Frame::Extend { link: about_link(header, 0)?, number: body.u64()? },
        kind::CANCELLED => Frame::Cancelled { link: about_link(header, 0)?, number: body.u64()? },
        kind::OFFSET if header.flags & Header::IGNORABLE != 0 => {
            let link = about_link(header, Header::IGNORABLE)?;
            Frame::Offset { link, offset: body.u64()? }
        }
        _ => return unknown(header, body),
    };
    body.end()?;
    Ok(frame)
}

/// Reads a frame that is about the connection.
fn connection(header: Header, mut body: Cursor<'_>) -> Result<Frame<'_>, Violation> {
    about_no_link(header)?;
    let frame = match header.kind {
        kind::HELLO => Frame::Hello { fields: body.rest() },
        kind::WELCOME => Frame::Welcome { fields: body.rest() },
        kind::GOODBYE => Frame::Goodbye { code: code(&mut body)?, reason: body.reason()? },
        kind::PING => Frame::Ping { token: body.u64()? },
        _ => Frame::Pong { token: body.u64()? },
    };
    body.end()?;
    Ok(frame)
}

/// Reads a call or what answers it.
fn call(header: Header, mut body: Cursor<'_>) -> Result<Frame<'_>, Violation> {
    about_no_link(header)?;
    Ok(match header.kind {
        kind::CALL => Frame::Call { id: body.u32()?, method: body.u16()?, body: body.rest() },
        kind::RESULT => {
            Frame::Result { id: body.u32()?, code: code(&mut body)?, body: body.rest() }
        }
        kind::NOTICE => Frame::Notice { code: code(&mut body)?, body: body.rest() },
        _ => Frame::Cancel { body: body.rest() },
    })
}

fn settle<'a>(header: Header, body: &mut Cursor<'a>) -> Result<Frame<'a>, Violation> {
    let link = about_link(header, flag::AFTER | flag::WHY)?;
    let outcome = Outcome::from_u8(body.u8()?).ok_or(OUTCOME)?;
    let (first, last) = (body.u64()?, body.u64()?);
    let after = match header.flags & flag::AFTER {
        0 => None,
        _ => Some(Duration::from_micros(body.u64()?)),
    };
    let why = match header.flags & flag::WHY {
        0 => "",
        _ => match body.reason()? {
            "" => return Err(NEEDLESS),
            why => why,
        },
    };
    Ok(Frame::Settle { link, outcome, first, last, after, why })
}

#[cold]
fn unknown(header: Header, body: Cursor<'_>) -> Result<Frame<'_>, Violation> {
    let Header { kind, flags, link, .. } = header;
    if flags & Header::IGNORABLE == 0 {
        let what = format!("a frame is of kind {kind:#04x}, which version 1 does not have");
        return Err(Violation::detailed(Code::Protocol, what));
    }
    Ok(Frame::Unknown { kind, flags, link, body: body.0 })
}

fn code(body: &mut Cursor<'_>) -> Result<Code, Violation> {
    body.u16().map(Code::from_u16)
}

pub(super) fn about_link(header: Header, known: u8) -> Result<u16, Violation> {
    if header.flags & !known != 0 {
        return Err(FLAGS);
    }
    if header.link == 0 {
        return Err(NO_LINK);
    }
    Ok(header.link)
}

fn about_no_link(header: Header) -> Result<(), Violation> {
    if header.flags != 0 {
        return Err(FLAGS);
    }
    if header.link != 0 {
        return Err(A_LINK);
    }
    Ok(())
}
