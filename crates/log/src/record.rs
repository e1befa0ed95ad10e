//! Records: how one lies in a segment, and how it is told from anything else.
//!
//! ```text
//!  0        4         8      9
//!  | length | CRC-32C | kind | content ...
//! ```
//!
//! Numbers are little-endian. The length counts the kind and the content, so it is never 0, and zeros
//! are where nothing was written yet. The checksum goes over the epoch of the segment, the position
//! of the record, its length, its kind and its content: a record that was written before the log was
//! opened last, or that lies where it was not put, is none.

use crate::error::Flaw;

/// What is in front of the content.
pub(crate) const HEADER: usize = 9;
/// The largest content: a payload at the ceiling of the framework, and what belongs to it.
pub const CONTENT_MAX: usize = (1 << 30) + (1 << 20);

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it is.
    pub position: u64,
    /// What it is, as far as whoever wrote it says.
    pub kind: u8,
    /// What is in it.
    pub content: &'a [u8],
}

impl Record<'_> {
    /// Where the next one is.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + (HEADER + self.content.len()) as u64
    }
}

/// How many bytes of the log a record takes that has so many bytes of content.
pub(crate) const fn size(content: usize) -> u64 {
    (HEADER + content) as u64
}

/// Appends a record that will lie at `position`.
pub(crate) fn encode(into: &mut Vec<u8>, epoch: u64, position: u64, kind: u8, content: &[u8]) {
    // Whoever appends has looked at the length.
    let length = u32::try_from(content.len() + 1).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&checksum(epoch, position, length, kind, content).to_le_bytes());
    into.push(kind);
    into.extend_from_slice(content);
}

/// Reads the record that begins with `bytes`, which lie at `position`.
///
/// # Errors
/// What is there instead of a record.
pub(crate) fn decode(bytes: &[u8], epoch: u64, position: u64) -> Result<Record<'_>, Flaw> {
    let Some((head, rest)) = bytes.split_at_checked(HEADER) else {
        return Err(if bytes.iter().all(|byte| *byte == 0) { Flaw::Nothing } else { Flaw::Cut });
    };
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (length, sum, kind) = (number(0), number(4), head[8]);
    let Some(content) = usize::try_from(length).ok().and_then(|length| length.checked_sub(1))
    else {
        return Err(Flaw::Nothing);
    };
    if content > CONTENT_MAX {
        return Err(Flaw::Checksum);
    }
    let content = rest.get(..content).ok_or(Flaw::Cut)?;
    match checksum(epoch, position, length, kind, content) == sum {
        true => Ok(Record { position, kind, content }),
        false => Err(Flaw::Checksum),
    }
}

fn checksum(epoch: u64, position: u64, length: u32, kind: u8, content: &[u8]) -> u32 {
    let mut head = [0; 21];
    head[..8].copy_from_slice(&epoch.to_le_bytes());
    head[8..16].copy_from_slice(&position.to_le_bytes());
    head[16..20].copy_from_slice(&length.to_le_bytes());
    head[20] = kind;
    crc32c::crc32c_append(crc32c::crc32c(&head), content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            epoch: u64,
            position in 0..u64::MAX / 2,
            kind: u8,
            content: Vec<u8>,
            behind: Vec<u8>,
        ) {
            let mut bytes = Vec::new();
            encode(&mut bytes, epoch, position, kind, &content);
            prop_assert_eq!(bytes.len(), HEADER + content.len());
            bytes.extend(behind);
            let record = decode(&bytes, epoch, position).unwrap();
            prop_assert_eq!(record, Record { position, kind, content: &content });
        }

        #[test]
        fn it_is_a_record_in_its_place_and_time_alone(content: Vec<u8>, epoch: u64, at in 0..1_u64 << 40) {
            let mut bytes = Vec::new();
            encode(&mut bytes, epoch, at, 1, &content);
            prop_assert_eq!(decode(&bytes, epoch, at + 1), Err(Flaw::Checksum));
            prop_assert_eq!(decode(&bytes, epoch.wrapping_add(1), at), Err(Flaw::Checksum));
        }
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 3, 4_096, 7, b"seven apples and a pear");
        for at in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                assert!(decode(&changed, 3, 4_096).is_err(), "byte {at}");
            }
            let cut = if at == 0 { Flaw::Nothing } else { Flaw::Cut };
            assert_eq!(decode(&bytes[..at], 3, 4_096), Err(cut));
        }
        assert_eq!(decode(&[0; 64], 3, 4_096), Err(Flaw::Nothing));
    }
}
