//! Segments: the files of a log, each with a head, and records behind it.
//!
//! ```text
//!  0         8         16        24       28
//!  | "PHLOG" 0 R 1 | epoch | base | CRC-32C | zeros up to 64 | records ...
//! ```
//!
//! The base is the position of the first record; the positions of a log go on from one segment to the
//! next without a gap, so where the next one begins is where this one ends. The epoch is a number that
//! no segment before has had. Both are in the name of the file as well.
//!
//! R is 1 in a file that was another segment before, and 0 in a new one. Behind the records of a new one
//! there are zeros. Behind those of one that is used again there are as many as a record has in front of
//! its content, which each write puts there, and behind these whatever the other segment had.

use crate::error::Flaw;
use crate::storage::Blob;

/// How long the head is.
pub(crate) const HEAD: usize = 64;

const MAGIC: [u8; 8] = *b"PHLOG\0\0\x01";
/// Where the magic says whether the file is used again.
const REUSED: usize = 6;
/// Where it says which version this is; up to the checksum they are all alike.
const VERSION: usize = 7;
const SUFFIX: &str = ".seg";

/// What is left at the end of a segment for a mark.
const SLACK: u64 = 32;

/// Whether a record of so many bytes follows in the segment that begins at `base` and ends at `end`,
/// or begins another. One that is larger than segments are has one of its own.
pub(crate) fn follows(base: u64, end: u64, size: u64, segment_bytes: u64) -> bool {
    end == base || HEAD as u64 + (end - base) + SLACK + size <= segment_bytes
}

/// Which segment this is. They are ordered as they follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) base: u64,
    pub(crate) epoch: u64,
}

impl Id {
    /// The name of its file.
    pub(crate) fn name(self) -> String {
        format!("{:016x}-{:08x}{SUFFIX}", self.base, self.epoch)
    }

    /// The segment whose file has this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (base, epoch) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let id = Self { base: number(base)?, epoch: number(epoch)? };
        // One name for each, so that nothing is taken for a segment twice.
        (id.name() == name).then_some(id)
    }

    /// What its file begins with, be it a new one or one that is `reused`.
    pub(crate) fn head(self, reused: bool) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&MAGIC);
        head[REUSED] = u8::from(reused);
        head[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        head[16..24].copy_from_slice(&self.base.to_le_bytes());
        let sum = crc32c::crc32c(&head[..24]);
        head[24..28].copy_from_slice(&sum.to_le_bytes());
        head
    }

    /// Whether a file has the head of this segment.
    ///
    /// # Errors
    /// That it has another one, or what the system says.
    pub(crate) fn check(self, blob: &dyn Blob) -> std::io::Result<Result<(), Flaw>> {
        let mut head = [0; HEAD];
        let read = blob.read_at(0, &mut head)?;
        let is_own = read == HEAD && [false, true].map(|reused| self.head(reused)).contains(&head);
        let is_newer = head[..REUSED] == MAGIC[..REUSED]
            && head[VERSION] > MAGIC[VERSION]
            && head[24..28] == crc32c::crc32c(&head[..24]).to_le_bytes();
        Ok(match (is_own, is_newer) {
            (true, _) => Ok(()),
            (false, true) => Err(Flaw::Newer),
            (false, false) => Err(Flaw::Head),
        })
    }

    /// The segment that a file is, if it was another one before.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn reused(blob: &dyn Blob) -> std::io::Result<Option<Self>> {
        let mut head = [0; HEAD];
        let read = blob.read_at(0, &mut head)?;
        let number = |at: usize| {
            head[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let id = Self { epoch: number(8), base: number(16) };
        Ok((read == HEAD && head == id.head(true)).then_some(id))
    }

    /// The byte of its file at which a position is.
    pub(crate) fn offset(self, position: u64) -> u64 {
        HEAD as u64 + (position - self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_segments_belong_together() {
        let id = Id { base: 0x1_2345_6789, epoch: 17 };
        assert_eq!(id.name(), "0000000123456789-00000011.seg");
        assert_eq!(Id::of(&id.name()), Some(id));
        for name in ["", ".seg", "12-3.seg", "0000000123456789-00000011.seg.torn", "x-y.seg"] {
            assert_eq!(Id::of(name), None, "{name}");
        }
    }

    #[test]
    fn they_are_ordered_as_they_follow_each_other() {
        let at = |base, epoch| Id { base, epoch };
        assert!(at(5, 9) < at(6, 1));
        assert!(at(6, 1) < at(6, 2));
    }
}
