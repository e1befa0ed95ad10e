//! The anchor: a file beside the segments that says how far the log was, at least.
//!
//! ```text
//!  0         8       16       24      32     40
//!  | magic   | epoch | stored | start | from | CRC-32C |
//! ```
//!
//! A segment says what is in it, and where the one before ends; nothing says so of the first and the last
//! one if they are gone, or if the end is. The anchor is written whenever a segment was begun, before some
//! are forgotten, when the log is closed, and when what is in it needs to be gone through from a later
//! position only. Where the disk has no room for it, the name of a file says where the log begins.

use crate::error::{Damage, Flaw, LogError};
use crate::storage::{Blob, Storage};

/// How far a log was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// The epoch of the last segment that was begun, which is there.
    pub(crate) epoch: u64,
    /// Up to where everything was on the disk.
    pub(crate) stored: u64,
    /// Where the first segment begins that is there in any case.
    pub(crate) start: u64,
    /// Where whoever opens the log begins to go through it.
    pub(crate) from: u64,
}

pub(crate) const NAME: &str = "anchor";
const NEW: &str = "anchor.new";
const START: &str = ".start";
const MAGIC: [u8; 8] = *b"PHANCHR\x03";
/// Where the magic says which version this is; as long and with its checksum at the end they all are.
const VERSION: usize = 7;
const BYTES: usize = 44;

impl Anchor {
    /// Reads it; `None` if there is none.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Self>, LogError> {
        let failed = LogError::storage("reading the anchor of the log");
        let blob = match storage.open(NAME) {
            Ok(blob) => blob,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = [0; BYTES + 1];
        let read = blob.read_at(0, &mut bytes).map_err(failed)?;
        let number = |at: usize| {
            bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let (epoch, stored, start, from) = (number(8), number(16), number(24), number(32));
        let anchor = Self { epoch, stored, start, from };
        if read == BYTES && bytes[..BYTES] == anchor.encode() {
            return Ok(Some(anchor));
        }
        let is_newer = read == BYTES
            && bytes[..VERSION] == MAGIC[..VERSION]
            && bytes[VERSION] > MAGIC[VERSION]
            && bytes[BYTES - 4..BYTES] == crc32c::crc32c(&bytes[..BYTES - 4]).to_le_bytes();
        let flaw = if is_newer { Flaw::Newer } else { Flaw::Head };
        Err(LogError::Damaged(Damage { segment: NAME.to_owned(), offset: 0, position: 0, flaw }))
    }

    /// Puts it in the place of the one before.
    pub(crate) fn write(self, storage: &dyn Storage) -> std::io::Result<()> {
        let blob = next(storage)?;
        let written = blob.write_at(0, &self.encode()).and_then(|()| blob.sync_data());
        if written.is_err() {
            let _removed = storage.remove(NEW);
        }
        written?;
        storage.rename(NEW, NAME)?;
        storage.sync_dir()
    }

    /// Sees to it that there is room for the next one, whatever else fills the disk.
    pub(crate) fn make_room(storage: &dyn Storage) -> std::io::Result<()> {
        let blob = next(storage)?;
        if blob.len()? >= BYTES as u64 {
            return Ok(());
        }
        let made = blob.write_at(0, &[0; BYTES]);
        if made.is_err() {
            let _removed = storage.remove(NEW);
        }
        made
    }

    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.stored.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.start.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.from.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..BYTES - 4]);
        bytes[BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// The name of a file that says instead of the anchor where the log begins.
pub(crate) fn start_name(start: u64) -> String {
    format!("{start:016x}{START}")
}

/// Where the log begins, if that is what a name says.
pub(crate) fn start_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(START)?, 16).ok()
}

/// The file that becomes the next one. One that is there is the room for it, or was being written when the
/// power went.
fn next(storage: &dyn Storage) -> std::io::Result<Box<dyn Blob>> {
    match storage.open(NEW) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => storage.create(NEW),
        opened => opened,
    }
}
