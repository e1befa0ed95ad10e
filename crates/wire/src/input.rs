//! What a session reads from.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes that have come, which whole frames are taken off the front of without copying.
///
/// A driver that goes on reading into the same buffer hands over a `BytesMut`; one that reads into
/// a buffer of its own, and has its memory back once no message is a part of it any more, hands it
/// over as `Bytes`.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use posthaste_wire::Input;
///
/// let mut growing = BytesMut::from("framepart");
/// assert_eq!(growing.take_front(5), "frame");
/// let mut whole = Bytes::from("framepart");
/// assert_eq!(whole.take_front(5), "frame");
/// assert_eq!((growing.as_ref(), whole.as_ref()), (&b"part"[..], &b"part"[..]));
/// ```
pub trait Input: AsRef<[u8]> {
    /// Takes `len` bytes off the front; no more than there are.
    fn take_front(&mut self, len: usize) -> Bytes;

    /// Drops all that is there.
    fn clear(&mut self);
}

impl Input for BytesMut {
    fn take_front(&mut self, len: usize) -> Bytes {
        self.split_to(len.min(self.len())).freeze()
    }

    fn clear(&mut self) {
        self.advance(self.len());
    }
}

impl Input for Bytes {
    fn take_front(&mut self, len: usize) -> Bytes {
        self.split_to(len.min(self.len()))
    }

    fn clear(&mut self) {
        self.advance(self.len());
    }
}
