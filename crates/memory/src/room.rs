//! How much a mailbox holds, and how much it may.

/// What is held, next to the bounds on it. A bound of 0 would let nothing through ever; it counts
/// as 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) capacity_messages: usize,
    pub(crate) capacity_bytes: usize,
}

impl Room {
    /// Whether a message of `size` bytes may come in. A bound in bytes admits one larger message
    /// when nothing else is held.
    pub(crate) fn fits(self, size: usize) -> bool {
        self.messages < self.capacity_messages.max(1)
            && (self.bytes + size <= self.capacity_bytes || self.messages == 0)
    }

    /// Whether `count` messages of `size` bytes in all may come in together.
    pub(crate) fn fits_all(self, count: usize, size: usize) -> bool {
        self.messages + count <= self.capacity_messages && self.bytes + size <= self.capacity_bytes
    }

    /// Whether not even the smallest message may come in.
    pub(crate) fn is_full(self) -> bool {
        !self.fits(1)
    }

    /// Whether more is held than may be, other than one large message.
    pub(crate) fn is_exceeded(self) -> bool {
        self.messages > self.capacity_messages.max(1)
            || (self.bytes > self.capacity_bytes && self.messages > 1)
    }

    /// Holds that much more.
    pub(crate) fn take(&mut self, messages: usize, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes;
    }
}
