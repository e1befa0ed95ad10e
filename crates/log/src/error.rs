//! What can be wrong with a log.

use std::fmt;
use std::io;

use posthaste_core::{Error, ErrorKind};

/// Why a log does not do what it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The storage failed.
    Storage {
        /// What was being done.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A new log has no room for its first segment.
    NoRoom {
        /// How large segments are.
        segment_bytes: u64,
    },
    /// Something that was there is there no more, or is not what it was.
    Damaged(Damage),
    /// A sync or a write failed before, so it is not known what is on the disk; opening the log again
    /// finds out.
    Broken,
    /// A record is of a newer version of this program, or of another one.
    Strange(Error),
    /// The content of a record is larger than [`CONTENT_MAX`](crate::CONTENT_MAX).
    TooLarge(usize),
}

/// Where a log is damaged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub segment: String,
    /// The byte in the file.
    pub offset: u64,
    /// The position in the log.
    pub position: u64,
    /// What is there.
    pub flaw: Flaw,
}

/// What is where a record should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// Zeros, or the end of the file.
    Nothing,
    /// The beginning of a record, and the end of the file.
    Cut,
    /// Bytes that are no record of this place.
    Checksum,
    /// No file.
    Missing,
    /// A segment whose head is not its own.
    Head,
    /// What only a newer version of this program knows, if it is no damage.
    Newer,
}

impl Damage {
    /// The segment is gone that begins at `position`, or has it in it.
    pub(crate) fn missing(position: u64) -> Self {
        let segment = format!("the segment with position {position}");
        Self { segment, offset: 0, position, flaw: Flaw::Missing }
    }
}

impl LogError {
    pub(crate) fn storage(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Storage { what, source }
    }

    /// Whether the storage had no room: there may be some later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Storage { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::NoRoom { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage { what, source } => write!(f, "{what} failed: {source}"),
            Self::NoRoom { segment_bytes } => write!(
                f,
                "the disk has no room for a log, which takes {} beside what waits in its queues; make \
                 room there, or choose a folder on another disk",
                bytes(2 * segment_bytes)
            ),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Broken => f.write_str(
                "the log takes nothing more since a write or a sync failed; open it again",
            ),
            Self::Strange(error) => error.fmt(f),
            Self::TooLarge(bytes) => write!(
                f,
                "a record of {bytes} bytes is too large for the log, which takes {}",
                crate::CONTENT_MAX
            ),
        }
    }
}

fn bytes(count: u64) -> String {
    match count.is_multiple_of(1 << 20) {
        true => format!("{} MiB", count >> 20),
        false => format!("{count} bytes"),
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        Self::new(ErrorKind::Internal, error.to_string()).caused_by(error)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, position, flaw } = self;
        let what = match flaw {
            Flaw::Nothing => "nothing where a record should be",
            Flaw::Cut => "half a record",
            Flaw::Checksum => "bytes that are no record",
            Flaw::Missing => return write!(f, "the log is damaged: {segment} is missing"),
            Flaw::Head => "a head that is not its own",
            Flaw::Newer => "a head of a newer version of this program",
        };
        write!(f, "the log is damaged: {segment} has {what} at byte {offset} (position {position})")
    }
}
