//! Frames: flags, a length of one byte or of eight, and so many bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use posthaste_core::{Error, ErrorKind};

use super::broken;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A frame: a part of a message, or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether another frame of the same message follows.
    pub more: bool,
    /// Whether it is a command.
    pub command: bool,
    /// What is in it.
    pub body: Bytes,
}

/// Appends a frame.
///
/// ```
/// use bytes::BytesMut;
/// use posthaste_zmtp::codec::{Frame, decode_frame, encode_frame};
///
/// let frame = Frame { more: true, command: false, body: "hello".into() };
/// let mut bytes = BytesMut::new();
/// encode_frame(frame.more, frame.command, &frame.body, &mut bytes);
/// assert_eq!(&bytes[..], b"\x01\x05hello");
/// assert_eq!(decode_frame(&mut bytes, 64)?, Some(frame));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
pub fn encode_frame(more: bool, command: bool, body: &[u8], into: &mut BytesMut) {
    let flags = if more { MORE } else { 0 } | if command { COMMAND } else { 0 };
    match u8::try_from(body.len()) {
        Ok(length) => {
            into.put_u8(flags);
            into.put_u8(length);
        }
        Err(_) => {
            into.put_u8(flags | LONG);
            into.put_u64(body.len() as u64);
        }
    }
    into.put_slice(body);
}

/// Takes a frame of at most `limit` bytes off the front; `None` until all of it is there.
///
/// # Errors
/// `Protocol` for flags that are unknown, `TooLarge` for a length over the limit, both before the
/// frame is there.
pub fn decode_frame(from: &mut BytesMut, limit: usize) -> Result<Option<Frame>, Error> {
    let Some(flags) = from.first().copied() else {
        return Ok(None);
    };
    let (more, command) = (flags & MORE != 0, flags & COMMAND != 0);
    if flags & !(MORE | LONG | COMMAND) != 0 || (more && command) {
        return Err(broken(format!("a frame has the flags {flags:#04x}")));
    }
    let (prefix, length) = match flags & LONG {
        0 => (2, from.get(1).map(|length| u64::from(*length))),
        _ => (9, from.get(1..9).map(|mut length| length.get_u64())),
    };
    let Some(length) = length else {
        return Ok(None);
    };
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= limit) else {
        let text = format!("the peer sent a frame of {length} bytes, more than {limit}");
        return Err(Error::new(ErrorKind::TooLarge, text));
    };
    if from.len() < prefix + length {
        return Ok(None);
    }
    from.advance(prefix);
    Ok(Some(Frame { more, command, body: from.split_to(length).freeze() }))
}
