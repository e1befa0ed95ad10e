//! A reader over a body that has been received: every read is checked, none can panic.

use crate::frame::Violation;

/// What is left of a body.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

const SHORT: Violation = Violation::protocol("a frame's body is shorter than its kind requires");
const LONG: Violation = Violation::protocol("a frame's body is longer than its kind allows");
const TEXT: Violation = Violation::protocol("a text is not UTF-8");
const REASON: Violation = Violation::protocol("a reason is longer than 1,024 bytes");

/// A reason is cut to this many bytes by whoever writes it, and refused beyond by who reads it.
pub(crate) const REASON_MAX: usize = 1_024;

impl<'a> Cursor<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (chunk, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*chunk)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `len` bytes; `len` is believed only after it has been compared with what is there.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A reason: `u16` length, then UTF-8.
    pub(crate) fn reason(&mut self) -> Result<&'a str, Violation> {
        let len = usize::from(self.u16()?);
        if len > REASON_MAX {
            return Err(REASON);
        }
        std::str::from_utf8(self.take(len)?).map_err(|_| TEXT)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn end(self) -> Result<(), Violation> {
        if self.0.is_empty() { Ok(()) } else { Err(LONG) }
    }
}
