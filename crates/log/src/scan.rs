//! Going through the records of a segment, a window at a time.

use std::io;

use crate::error::Flaw;
use crate::record::{self, HEADER, Record};
use crate::segment::{HEAD, Id};
use crate::storage::Blob;

/// How much is read at a time, unless a record is longer.
const WINDOW: usize = 1 << 20;

/// The records of a segment from one of them on.
pub(crate) struct Scan<'a> {
    id: Id,
    blob: &'a dyn Blob,
    window: Vec<u8>,
    /// Where the window begins in the file, and where the next record is in the window.
    from: u64,
    at: usize,
    /// The file ends where the window does.
    ended: bool,
}

impl<'a> Scan<'a> {
    /// From the one at `position` on.
    pub(crate) fn new(id: Id, blob: &'a dyn Blob, position: u64) -> Self {
        Self { id, blob, window: Vec::new(), from: id.offset(position), at: 0, ended: false }
    }

    /// The position of the next record.
    pub(crate) fn position(&self) -> u64 {
        self.id.base + (self.from - HEAD as u64) + self.at as u64
    }

    /// The byte of the file at which the next record is.
    pub(crate) fn offset(&self) -> u64 {
        self.from + self.at as u64
    }

    /// The next record, or what is there instead.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn next(&mut self) -> io::Result<Result<Record<'_>, Flaw>> {
        let position = self.position();
        loop {
            let (kind, size) =
                match record::decode(&self.window[self.at..], self.id.epoch, position) {
                    Ok(found) => (found.kind, HEADER + found.content.len()),
                    Err(Flaw::Cut | Flaw::Nothing) if !self.ended && self.is_short() => {
                        self.refill()?;
                        continue;
                    }
                    Err(flaw) => return Ok(Err(flaw)),
                };
            let content = &self.window[self.at + HEADER..self.at + size];
            self.at += size;
            return Ok(Ok(Record { position, kind, content }));
        }
    }

    /// Whether the window may end before the record does.
    fn is_short(&self) -> bool {
        let rest = &self.window[self.at..];
        let length = rest.first_chunk().map(|length| u32::from_le_bytes(*length));
        match length {
            None => true,
            Some(length) => rest.len() < HEADER - 1 + length as usize,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.window.drain(..self.at);
        self.from += self.at as u64;
        self.at = 0;
        let have = self.window.len();
        let rest = self.blob.len()?.saturating_sub(self.from + have as u64);
        // Twice as much as before, so that a long record is not read again and again.
        let more = have.max(WINDOW).min(usize::try_from(rest).unwrap_or(usize::MAX));
        self.window.resize(have + more, 0);
        let read = self.blob.read_at(self.from + have as u64, &mut self.window[have..])?;
        self.ended = more as u64 == rest || read < more;
        self.window.truncate(have + read);
        Ok(())
    }
}

/// How far the disk was known to have everything, by the marks that are found anywhere from byte
/// `from` of a segment on; 0 if there is none.
pub(crate) fn latest_mark(id: Id, blob: &dyn Blob, from: u64) -> io::Result<u64> {
    let mut latest = 0;
    let mut window = Vec::new();
    let (mut at, length) = (from, blob.len()?);
    while at < length {
        window.resize(WINDOW.min(usize::try_from(length - at).unwrap_or(WINDOW)), 0);
        let read = blob.read_at(at, &mut window)?;
        window.truncate(read);
        for place in memchr::memchr_iter(MARK_LENGTH[0], &window) {
            if let Some(mark) = window.get(place..place + MARK_BYTES)
                && mark.starts_with(&MARK_LENGTH)
                && let Ok(record) =
                    record::decode(mark, id.epoch, id.base + (at - HEAD as u64) + place as u64)
                && let Some(stored) = mark_of(&record)
            {
                latest = latest.max(stored);
            }
        }
        if read < WINDOW {
            break;
        }
        // One may lie across the border.
        at += (read - (MARK_BYTES - 1)) as u64;
    }
    Ok(latest)
}

/// The position of the first record that is whole at byte `from` of a segment or behind, as far as is looked
/// for one.
pub(crate) fn next_record(id: Id, blob: &dyn Blob, from: u64) -> io::Result<Option<u64>> {
    let (mut at, length, mut bytes) = (from, blob.len()?, Vec::new());
    while at < length {
        // One that begins in the window may end behind it.
        let most = usize::try_from(length - at).unwrap_or(usize::MAX);
        bytes.resize(most.min(WINDOW + SOUGHT), 0);
        let read = blob.read_at(at, &mut bytes)?;
        let first = id.base + (at - HEAD as u64);
        if let Some((found, _)) = whole(&bytes[..read], id, first).next() {
            return Ok(Some(first + found as u64));
        }
        at += WINDOW as u64;
    }
    Ok(None)
}

/// The records that are whole among `bytes`, of which the first one is at the position `first`: where they
/// begin, and their sizes. There may be anything between them.
fn whole(bytes: &[u8], id: Id, first: u64) -> impl Iterator<Item = (usize, usize)> {
    let (mut at, mut budget) = (0, SUMMED);
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let (here, most) = (at, SOUGHT.min(bytes.len() - at));
            at += 1;
            let Some(size) = claimed(&bytes[here..]).filter(|size| *size <= most.min(budget))
            else {
                continue;
            };
            budget -= size;
            if record::decode(&bytes[here..here + size], id.epoch, first + here as u64).is_ok() {
                at = here + size;
                return Some((here, size));
            }
        }
        None
    })
}

/// How large a record says it is that begins here.
fn claimed(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk().map(|length| u32::from_le_bytes(*length))?;
    let length = usize::try_from(length).ok().filter(|length| *length > 0)?;
    Some(length.saturating_add(HEADER - 1))
}

/// How many of `bytes`, which lie at byte `from` of a segment behind the last of its records that are whole,
/// were being written when the power went. The others are what the file had in it when it was another
/// segment. Where every write came to its end there are zeros in front of these.
pub(crate) fn written(bytes: &[u8], id: Id, from: u64) -> usize {
    let first = id.base + (from - HEAD as u64);
    // What begins something else was broken off, or rotted. Its length may be what is left of the other
    // segment, and then nothing says how long it was.
    let end = match record::decode(bytes, id.epoch, first) {
        Err(Flaw::Nothing) => 0,
        _ => {
            claimed(bytes).filter(|size| *size <= bytes.len()).unwrap_or(FRAGMENT).min(bytes.len())
        }
    };
    whole(bytes, id, first).last().map_or(end, |(at, size)| end.max(at + size))
}

/// How much is kept of something that was broken off, if its length is not known.
const FRAGMENT: usize = 64 << 10;
/// How large a record is at most that is looked for anywhere, and how many bytes of such are summed: any
/// four bytes may be the length of one.
const SOUGHT: usize = 256 << 10;
const SUMMED: usize = 1 << 30;

/// The kind of a record that says up to where the disk is known to have everything.
pub(crate) const MARK: u8 = 0;
const MARK_LENGTH: [u8; 4] = 9_u32.to_le_bytes();
const MARK_BYTES: usize = HEADER + 8;

/// What a mark says.
pub(crate) fn mark_of(record: &Record<'_>) -> Option<u64> {
    let content = record.content.try_into().ok().filter(|_| record.kind == MARK)?;
    Some(u64::from_le_bytes(content))
}
