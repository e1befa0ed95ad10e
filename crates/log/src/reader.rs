//! Reading what is written, one record or many, while the log goes on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Damage, LogError};
use crate::record::{self, CONTENT_MAX, HEADER, Record};
use crate::segment::Id;
use crate::storage::Blob;

/// A segment, and its file.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) id: Id,
    pub(crate) blob: Arc<dyn Blob>,
}

/// Reads what is written, while the log goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reader(Arc<Mutex<Vec<Segment>>>);

impl Reader {
    /// Has it read these from now on.
    pub(crate) fn show(&self, segments: &[Segment]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = segments.to_vec();
    }

    /// The segment in which a position is, and where the next one begins.
    pub(crate) fn segment(&self, position: u64) -> Option<(Segment, u64)> {
        let segments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = segments.partition_point(|segment| segment.id.base <= position);
        let next = segments.get(behind).map_or(u64::MAX, |next| next.id.base);
        behind.checked_sub(1).map(|nth| (segments[nth].clone(), next))
    }

    /// Lets go of the segments.
    pub(crate) fn close(&self) {
        self.show(&[]);
    }

    /// Whether it has let go of them.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Reads the record at a position of what is written; `None` if there is none any more.
    ///
    /// # Errors
    /// `Damaged` if it is not what it was; `Storage`.
    pub(crate) fn read(&self, position: u64) -> Result<Option<(u8, Vec<u8>)>, LogError> {
        let Some((segment, _)) = self.segment(position) else { return Ok(None) };
        let mut bytes = vec![0; HEADER];
        let offset = segment.id.offset(position);
        segment.blob.read_at(offset, &mut bytes).map_err(LogError::storage(READING))?;
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        // A length that is damaged goes beyond the end of the file.
        let rest = segment.blob.len().map_err(LogError::storage(READING))?.saturating_sub(offset);
        let most = usize::try_from(rest).unwrap_or(usize::MAX).min(HEADER + CONTENT_MAX);
        bytes.resize((HEADER - 1 + length).min(most).max(HEADER), 0);
        let read = segment.blob.read_at(offset, &mut bytes).map_err(LogError::storage(READING))?;
        let record = segment.decode(&bytes[..read], position)?;
        Ok(Some((record.kind, record.content.to_vec())))
    }

    /// Shows the records at some positions of what is written, in that order; with each position comes
    /// about how many bytes its record has. Those that lie side by side are read together.
    ///
    /// # Errors
    /// As [`read`](Self::read), or what `show` says; `Missing` if there is none any more.
    pub(crate) fn read_all<E: From<LogError>>(
        &self,
        positions: &[(u64, usize)],
        mut show: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut window, mut rest) = (Vec::new(), positions);
        while let Some((first, _)) = rest.first().copied() {
            let Some((segment, next)) = self.segment(first) else {
                return Err(LogError::Damaged(Damage::missing(first)).into());
            };
            let (mut count, mut end) = (0, first);
            for (position, size) in rest {
                let is_near = (end..=end + APART).contains(position)
                    && position - first <= TOGETHER
                    && *position < next;
                if count > 0 && !is_near {
                    break;
                }
                (count, end) = (count + 1, position + *size as u64);
            }
            end += SLACK;
            window.resize(usize::try_from(end - first).unwrap_or(usize::MAX), 0);
            let read = segment.blob.read_at(segment.id.offset(first), &mut window);
            let read = read.map_err(LogError::storage(READING))?;
            for (position, _) in &rest[..count] {
                let at = usize::try_from(position - first).unwrap_or(usize::MAX);
                let bytes = window[..read].get(at..).unwrap_or_default();
                match segment.decode(bytes, *position) {
                    Ok(record) => show(record)?,
                    // It may be larger than it was said to be.
                    Err(error) => match self.read(*position)? {
                        Some((kind, content)) => {
                            show(Record { kind, position: *position, content: &content })?;
                        }
                        None => return Err(error.into()),
                    },
                }
            }
            rest = &rest[count..];
        }
        Ok(())
    }
}

impl Segment {
    /// The record at a position, of bytes that begin there.
    pub(crate) fn decode<'a>(
        &self,
        bytes: &'a [u8],
        position: u64,
    ) -> Result<Record<'a>, LogError> {
        record::decode(bytes, self.id.epoch, position).map_err(|flaw| {
            let (segment, offset) = (self.id.name(), self.id.offset(position));
            LogError::Damaged(Damage { segment, offset, position, flaw })
        })
    }
}

/// How far apart records may be that are read together, and how far the last one from the first.
const APART: u64 = 16 << 10;
const TOGETHER: u64 = 1 << 20;
/// How much larger than it was said to be a record may be without being read anew.
const SLACK: u64 = 512;

const READING: &str = "reading the log";
