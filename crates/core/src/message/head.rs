//! The layout of a head: `u16` topic length and topic, then properties of `u8` tag, `u32` length
//! and value, ordered by tag; see `docs/protocol.md`, "The end-to-end run".

use bytes::{BufMut, BytesMut};

use super::death::Death;
use crate::limits::{DEATHS_MAX, HEADERS_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX};
use crate::topic::validate_bytes;
use crate::{Error, ErrorKind};

pub(super) const PREFIX: usize = 2;
pub(super) const KEY: u8 = 1;
pub(super) const ID: u8 = 2;
pub(super) const REPLY_TO: u8 = 3;
pub(super) const HEADER: u8 = 4;
pub(super) const STATUS: u8 = 5;
pub(super) const DELAY: u8 = 6;
pub(super) const DEATH: u8 = 7;

/// Tag and length in front of a property's value.
pub(super) const PROPERTY_PREFIX: usize = 5;

/// Where the topic ends. Heads are checked when they come in, so the length is in bounds;
/// should it not be, the answer is the end.
#[inline]
pub(super) fn topic_end(head: &[u8]) -> usize {
    match head {
        [low, high, ..] => {
            (PREFIX + usize::from(u16::from_le_bytes([*low, *high]))).min(head.len())
        }
        _ => head.len(),
    }
}

/// The properties, as tag and value; ends at the first one that does not fit.
pub(super) fn properties(head: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = head.get(topic_end(head)..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (tag, value, after) = split(rest)?;
        rest = after;
        Some((tag, value))
    })
}

pub(super) fn find(head: &[u8], tag: u8) -> Option<&[u8]> {
    // Ordered by tag, so a look-up stops early and most messages have nothing to look through.
    properties(head)
        .take_while(|(this, _)| *this <= tag)
        .find(|(this, _)| *this == tag)
        .map(|(_, v)| v)
}

/// Whether there is nothing in `head` but that topic and that address for replies.
pub(super) fn is_bare(head: &[u8], topic: &[u8], reply_to: &[u8]) -> bool {
    let behind = head.strip_prefix(topic).and_then(|behind| behind.strip_suffix(reply_to));
    behind.is_some_and(|between| between.len() == PROPERTY_PREFIX)
}

pub(super) fn header(value: &[u8]) -> Option<(&str, &str)> {
    let (length, rest) = value.split_first_chunk::<2>()?;
    let (name, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

pub(super) fn put(head: &mut BytesMut, tag: u8, value: &[u8]) {
    head.put_u8(tag);
    head.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
    head.put_slice(value);
}

/// The topic and those properties that `keep` picks by tag and value.
pub(super) fn rebuild(head: &[u8], keep: impl Fn(u8, &[u8]) -> bool) -> BytesMut {
    let mut kept = BytesMut::from(head.get(..topic_end(head)).unwrap_or_default());
    for (tag, value) in properties(head) {
        if keep(tag, value) {
            put(&mut kept, tag, value);
        }
    }
    kept
}

pub(super) fn put_header(head: &mut BytesMut, name: &str, value: &str) {
    head.put_u8(HEADER);
    let length = PREFIX + name.len() + value.len();
    head.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
    head.put_u16_le(u16::try_from(name.len()).unwrap_or(u16::MAX));
    head.put_slice(name.as_bytes());
    head.put_slice(value.as_bytes());
}

fn split(rest: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (prefix, rest) = rest.split_first_chunk::<PROPERTY_PREFIX>()?;
    let [tag, length @ ..] = *prefix;
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    let (value, after) = rest.split_at_checked(length)?;
    Some((tag, value, after))
}

/// Checks a head that came from elsewhere, once, so that the accessors need not.
pub(super) fn check(head: &[u8]) -> Result<(), Error> {
    let protocol = |text: &str| Error::new(ErrorKind::Protocol, text);
    let Some((length, rest)) = head.split_first_chunk::<PREFIX>() else {
        return Err(protocol("a message's head is cut short"));
    };
    let length = usize::from(u16::from_le_bytes(*length));
    let Some((topic, mut rest)) = rest.split_at_checked(length) else {
        return Err(protocol("a message's topic is longer than its head"));
    };
    validate_bytes(topic)?;
    let mut last = 0;
    let mut headers = HeaderBudget::default();
    let mut deaths = 0;
    while !rest.is_empty() {
        let Some((tag, value, after)) = split(rest) else {
            return Err(protocol("a message's property is longer than its head"));
        };
        if tag < last || (tag == last && !matches!(tag, HEADER | DEATH)) {
            return Err(protocol("a message's properties are out of order"));
        }
        deaths += usize::from(tag == DEATH);
        if deaths > DEATHS_MAX {
            return Err(protocol("a message died in more queues than it may"));
        }
        check_property(tag, value, &mut headers)?;
        (last, rest) = (tag, after);
    }
    Ok(())
}

fn check_property(tag: u8, value: &[u8], headers: &mut HeaderBudget) -> Result<(), Error> {
    let protocol = |text: &str| Error::new(ErrorKind::Protocol, text);
    match tag {
        KEY | ID => {
            if value.len() > KEY_BYTES_MAX {
                return Err(Error::new(ErrorKind::TooLarge, "a key or message id is too long"));
            }
            std::str::from_utf8(value)
                .map_err(|_| protocol("a key or message id has to be UTF-8"))?;
        }
        REPLY_TO => {
            let Some((length, topic)) = value.split_first_chunk::<PREFIX>() else {
                return Err(protocol("a reply address is cut short"));
            };
            if usize::from(u16::from_le_bytes(*length)) != topic.len() {
                return Err(protocol("a reply address contradicts its own length"));
            }
            validate_bytes(topic)?;
        }
        HEADER => {
            let (name, value) =
                header(value).ok_or_else(|| protocol("a header is cut short or not UTF-8"))?;
            headers.charge(name, value)?;
        }
        STATUS if value.len() == 1 => {}
        DELAY if value.len() == 8 => {}
        DEATH if Death::decode(value).is_some() => {}
        _ => return Err(protocol("a message has an unknown property")),
    }
    Ok(())
}

/// Counts headers and their bytes against the limits.
#[derive(Default)]
pub(super) struct HeaderBudget {
    count: usize,
    bytes: usize,
}

impl HeaderBudget {
    pub(super) fn charge(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let text =
                "a header's name has neither white space nor control characters and is not empty";
            let text = format!("{text}, unlike {name:?}");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        self.count += 1;
        self.bytes += name.len() + value.len();
        if self.count > HEADERS_MAX || self.bytes > HEADERS_BYTES_MAX {
            let (most, bytes) = (HEADERS_MAX, HEADERS_BYTES_MAX);
            let text = format!("a message has at most {most} headers of {bytes} bytes together");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        Ok(())
    }
}
