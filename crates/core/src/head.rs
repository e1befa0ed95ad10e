//! The bytes that begin a message, in place as long as they are few.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::Bytes;

/// As many bytes lie in place: a topic of up to 30 bytes without properties, which are nearly all.
const SHORT_MAX: usize = 32;

/// The head of a message, as it is on the wire, or a topic as it begins one.
///
/// A short one lies in place: cloning it copies it, and touches no reference count that other
/// threads touch too. A long one is shared.
///
/// ```
/// use posthaste_core::Head;
///
/// let head = Head::from(&b"\x04\0jobs"[..]);
/// assert_eq!(&head[2..], b"jobs");
/// ```
#[derive(Clone)]
pub struct Head(Repr);

/// Beside the bytes there is room for two small values of the message, which then takes no more
/// than its bytes do.
#[derive(Clone)]
enum Repr {
    /// What is behind `len` is zero.
    Short {
        attributes: u8,
        count: u32,
        len: u8,
        bytes: [u8; SHORT_MAX],
    },
    Long {
        attributes: u8,
        count: u32,
        bytes: Bytes,
    },
}

const _: () = assert!(size_of::<Option<Head>>() <= 40);

impl Head {
    /// A part of it; the part of a long one is shared with it.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        match &self.0 {
            Repr::Long { bytes, .. } if range.len() > SHORT_MAX => Self::long(bytes.slice(range)),
            _ => Self::from(&self[range]),
        }
    }

    /// The part that `within` is, which is a slice of it.
    pub(crate) fn slice_ref(&self, within: &[u8]) -> Self {
        match &self.0 {
            Repr::Long { bytes, .. } if within.len() > SHORT_MAX => {
                Self::long(bytes.slice_ref(within))
            }
            _ => Self::from(within),
        }
    }

    /// The attributes and the count of the message.
    #[inline]
    pub(crate) fn beside(&self) -> (u8, u32) {
        match self.0 {
            Repr::Short { attributes, count, .. } | Repr::Long { attributes, count, .. } => {
                (attributes, count)
            }
        }
    }

    #[inline]
    pub(crate) fn put_beside(&mut self, beside: (u8, u32)) {
        match &mut self.0 {
            Repr::Short { attributes, count, .. } | Repr::Long { attributes, count, .. } => {
                (*attributes, *count) = beside;
            }
        }
    }

    fn long(bytes: Bytes) -> Self {
        Self(Repr::Long { attributes: 0, count: 1, bytes })
    }
}

impl Deref for Head {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes, .. } => &bytes[..usize::from(*len).min(SHORT_MAX)],
            Repr::Long { bytes, .. } => bytes,
        }
    }
}

impl PartialEq for Head {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Short { len, bytes, .. }, Repr::Short { len: their_len, bytes: theirs, .. }) => {
                len == their_len && bytes == theirs
            }
            _ => self[..] == other[..],
        }
    }
}

impl Eq for Head {}

impl Default for Head {
    fn default() -> Self {
        Self::from(&[][..])
    }
}

impl From<&[u8]> for Head {
    #[inline]
    fn from(from: &[u8]) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (u8::try_from(from.len()), bytes.get_mut(..from.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(from);
                Self(Repr::Short { attributes: 0, count: 1, len, bytes })
            }
            _ => Self::long(Bytes::copy_from_slice(from)),
        }
    }
}

impl From<Bytes> for Head {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        if bytes.len() <= SHORT_MAX { Self::from(&bytes[..]) } else { Self::long(bytes) }
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({:?})", self.escape_ascii().to_string())
    }
}
