//! The log: appended to at its end, synced, read anywhere, and forgotten from its beginning.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::anchor::{self, Anchor};
use crate::error::{Damage, LogError};
use crate::examine::{Examined, examine, rest_of};
use crate::reader::{Reader, Segment};
use crate::record::{self, CONTENT_MAX, HEADER, Record};
use crate::scan::MARK;
use crate::segment::{self, HEAD, Id};
use crate::storage::{Blob, Storage};

/// How a log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOptions {
    /// How large a segment becomes (32 MiB); a record that is larger has one of its own.
    pub segment_bytes: u64,
    /// Whether segments are written out before they are used (yes): appending is faster then, and a
    /// disk that is full is noticed in time.
    pub prewritten: bool,
    /// How many bytes of messages that wait in durable queues are in memory at most (128 MiB), what
    /// each message takes beside its content included; what is more is read back from the disk. Where
    /// that is there, about five bytes a message, counts as well. Each queue may have two megabytes or
    /// so whatever the others have. What is handed out, waits for another of its key, has a priority,
    /// is a request, or waits for a time and expires is in memory beside that.
    pub memory_bytes: usize,
    /// How much is written until what is in the queues is noted as a whole (128 MiB), so that what was
    /// before needs not be gone through when the log is opened. It is more if that is much.
    pub snapshot_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            prewritten: true,
            memory_bytes: 128 << 20,
            snapshot_bytes: 128 << 20,
        }
    }
}

/// What was found when a log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that are there.
    pub records: u64,
    /// What was cut off at the end, if anything.
    pub torn: Option<Torn>,
}

/// The end of a log that was being written when the power went, as far as the log can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Where, and what is there.
    pub damage: Damage,
    /// The file that keeps the bytes that were cut off, unless the disk had no room for them.
    pub kept_as: Option<String>,
}

/// A log over a storage.
///
/// ```
/// use posthaste_log::storage::Simulated;
/// use posthaste_log::{Log, LogOptions};
///
/// let disk = Simulated::new();
/// let (mut log, _) = Log::open(disk.clone(), LogOptions::default(), |_| {})?;
/// let apples = log.append(1, b"seven apples")?;
/// log.sync()?;
/// assert_eq!(log.read(apples)?, Some((1, b"seven apples".to_vec())));
/// drop(log);
///
/// // The power goes, and comes back.
/// let mut found = Vec::new();
/// let disk = disk.power_cut(&mut || 0);
/// Log::open(disk, LogOptions::default(), |record| found.push(record.content.to_vec()))?;
/// assert_eq!(found, [b"seven apples"]);
/// # Ok::<(), posthaste_log::LogError>(())
/// ```
pub struct Log {
    storage: Arc<dyn Storage>,
    options: LogOptions,
    /// In order; the last one is appended to.
    segments: Vec<Segment>,
    /// What is appended and not written: it begins at `written`.
    buffer: Vec<u8>,
    written: u64,
    /// Up to where everything is on the disk, and up to where a mark says so.
    stored: u64,
    marked: u64,
    /// Where the first segment begins that is not forgotten, and whether a name of a file says so.
    start: u64,
    start_has_name: bool,
    /// Where whoever opens it begins to go through it.
    from: u64,
    /// Whether there is room for another anchor.
    anchor_has_room: bool,
    /// The last epoch that was used.
    epoch: u64,
    /// Whether the segment that is appended to has the room that it is to have.
    whole: bool,
    broken: bool,
    /// A file that becomes the next segment: one that is written out, or a segment that was forgotten.
    spare: Option<Spare>,
    /// Whether the segment that is appended to was another one before.
    reused: bool,
    /// The segments, as they are read.
    shown: Reader,
}

/// The file that becomes the next segment.
const SPARE: &str = "spare";
/// A file that shows that there is room.
const ROOM: &str = "room";

struct Spare {
    blob: Arc<dyn Blob>,
    /// Whether it was a segment.
    reused: bool,
}

/// What is behind the last record of a segment that was another one before: no record begins with it.
const END: [u8; HEADER] = [0; HEADER];
/// How long a mark is.
const MARK_SIZE: u64 = HEADER as u64 + 8;
/// A buffer that has grown larger is not kept.
const BUFFER_KEPT: usize = 4 << 20;
/// How much is written again at a time.
const PIECE: usize = 1 << 20;

impl Log {
    /// Opens a log, makes it if there is none, and shows every record that is there.
    ///
    /// What was synced is there, or this fails with [`LogError::Damaged`]. What was written and not
    /// synced may be there. A torn end is cut off, and its bytes are kept in a file beside.
    ///
    /// # Errors
    /// `Damaged`, or `Storage`.
    pub fn open(
        storage: impl Storage,
        options: LogOptions,
        mut show: impl FnMut(Record<'_>),
    ) -> Result<(Self, Recovery), LogError> {
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let spare = spare(&*storage, &options).map_err(LogError::storage(OPENING))?;
        let examined =
            examine(&*storage, false, &mut show, &mut |damage| Err(LogError::Damaged(damage)))?;
        let Examined { segments, unmade, end, epoch, from, records, torn } = examined;
        for id in unmade {
            storage.remove(&id.name()).map_err(LogError::storage(FORGETTING))?;
        }
        let mut recovery = Recovery { records, torn: None };
        if let (Some(damage), Some(last)) = (torn, segments.last()) {
            recovery.torn = keep(&*storage, &*last.blob, damage)?;
        }
        if let Some(last) = segments.last() {
            // What a process wrote that was killed may be in the system's memory alone, and what
            // comes next says that it is safe. If a sync of it has failed before, only what is written
            // again is synced again.
            write_again(&*last.blob, last.id.offset(end)).map_err(LogError::storage(WRITING))?;
            last.blob.sync_data().map_err(LogError::storage(SYNCING))?;
        }
        let start = segments.first().map_or(end, |first| first.id.base);
        let is_new = segments.is_empty();
        let mut log = Self {
            storage,
            options,
            start,
            start_has_name: true,
            segments,
            buffer: Vec::new(),
            written: end,
            stored: end,
            marked: end,
            from,
            anchor_has_room: false,
            epoch,
            whole: false,
            broken: false,
            spare,
            reused: false,
            shown: Reader::default(),
        };
        match log.begin_segment(0) {
            Ok(()) => log.cut().map_err(LogError::storage(CUTTING))?,
            Err(error) if error.is_full() && is_new => {
                return Err(LogError::NoRoom { segment_bytes: log.options.segment_bytes });
            }
            Err(error) if error.is_full() && !log.broken => log.go_on()?,
            Err(error) => return Err(error),
        }
        Ok((log, recovery))
    }

    /// Gives back what was written out in advance and not used, in all segments but the active one: in one
    /// that was cut before, too, because a power cut may have undone that.
    fn cut(&self) -> io::Result<()> {
        for pair in self.segments.windows(2) {
            let [before, next] = pair else { continue };
            let end = before.id.offset(next.id.base);
            if before.blob.len()? > end {
                before.blob.truncate(end)?;
            }
        }
        Ok(())
    }

    /// Goes on in the last segment, where there is no room for another: so a full disk is as full as it
    /// was, with the same room for what makes some. What is behind the end there is of the same epoch,
    /// and is gone, on the disk as well, before anything is appended.
    fn go_on(&mut self) -> Result<(), LogError> {
        let Segment { id, blob } = self.active().clone();
        let end = id.offset(self.written);
        let cleared = match clear(&*blob, end) {
            // Some disks need room to write what is there already.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => blob.truncate(end),
            cleared => cleared,
        };
        cleared.map_err(LogError::storage(CUTTING))?;
        blob.sync_data().map_err(LogError::storage(SYNCING))?;
        self.shown.show(&self.segments);
        // No other segment says that what is there is safe.
        self.marked = id.base;
        match segment::follows(id.base, self.written, MARK_SIZE, self.options.segment_bytes) {
            true => self.mark().or_else(unless_full),
            false => Ok(()),
        }
    }

    /// Where the next record will be.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Where the first record is that is not forgotten.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.id.base)
    }

    /// Up to where everything is on the disk.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Appends a record of a kind of 1 or more, and says where it is. It is in this process's memory
    /// alone before [`write`](Self::write), and in the system's before [`sync`](Self::sync).
    ///
    /// # Errors
    /// `TooLarge`; `Broken`; `Storage` if a new segment was needed and could not be made, full or
    /// not: nothing was appended then.
    pub fn append(&mut self, kind: u8, content: &[u8]) -> Result<u64, LogError> {
        self.make_room(content)?;
        if self.buffer.is_empty() && self.stored > self.marked {
            self.marked = self.stored;
            self.encode(MARK, &self.stored.to_le_bytes());
        }
        Ok(self.encode(kind.max(1), content))
    }

    /// Appends a record of any kind, and nothing else: where it comes is known by
    /// [`follows`](crate::segment::follows) before.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub(crate) fn put(&mut self, kind: u8, content: &[u8]) -> Result<u64, LogError> {
        self.make_room(content)?;
        Ok(self.encode(kind, content))
    }

    /// Begins another segment if this one has no room for the content.
    fn make_room(&mut self, content: &[u8]) -> Result<(), LogError> {
        self.check()?;
        if content.len() > CONTENT_MAX {
            return Err(LogError::TooLarge(content.len()));
        }
        let (id, size) = (self.active().id, record::size(content.len()));
        if !segment::follows(id.base, self.end(), size, self.options.segment_bytes) {
            // The next segment says that this one is safe.
            self.sync()?;
            self.begin_segment(size)?;
        }
        Ok(())
    }

    fn encode(&mut self, kind: u8, content: &[u8]) -> u64 {
        let (epoch, position) = (self.active().id.epoch, self.end());
        record::encode(&mut self.buffer, epoch, position, kind, content);
        position
    }

    /// Writes out a file to become the next segment once a quarter of this one is used: so a disk that is
    /// full is noticed while there is still room for what makes some, which is that the copies of a
    /// segment are gone. Those of the smallest messages take less than half a segment to say so. A segment
    /// that was forgotten meanwhile has the room already.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) fn prepare(&mut self) -> Result<(), LogError> {
        let failed = LogError::storage(MAKING);
        if self.options.prewritten && !self.whole {
            self.active().blob.allocate(self.options.segment_bytes).map_err(&failed)?;
            self.whole = true;
        }
        let used = self.end() - self.active().id.base;
        if used < self.options.segment_bytes / 4 {
            return Ok(());
        }
        if !self.anchor_has_room {
            let made = Anchor::make_room(&*self.storage);
            if made.is_err() && self.spare.take().is_some() {
                // A segment that cannot be anchored is of no use, and its room is.
                self.storage.remove(SPARE).map_err(&failed)?;
                Anchor::make_room(&*self.storage).map_err(&failed)?;
            } else {
                made.map_err(&failed)?;
            }
            self.anchor_has_room = true;
        }
        if self.spare.is_some() || !self.options.prewritten {
            return Ok(());
        }
        let blob = self.storage.create(SPARE).map_err(&failed)?;
        let made = blob.allocate(self.options.segment_bytes).and_then(|()| blob.sync_data());
        if let Err(source) = made {
            let _removed = self.storage.remove(SPARE);
            return Err(failed(source));
        }
        self.spare = Some(Spare { blob: blob.into(), reused: false });
        Ok(())
    }

    /// Whether there is room for a record of so many bytes, beside what is kept for what makes room.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) fn has_room(&self, bytes: u64) -> Result<bool, LogError> {
        if usize::try_from(bytes).map_or(true, |bytes| bytes > CONTENT_MAX) {
            return Ok(false);
        }
        if bytes < self.options.segment_bytes / 4 {
            return Ok(true);
        }
        // One that large has a segment of its own.
        let made = self.storage.create(ROOM).and_then(|room| {
            let made = room.allocate(bytes);
            self.storage.remove(ROOM).and(made)
        });
        match made.map_err(LogError::storage(MAKING)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where whoever opens it begins to go through it.
    pub(crate) fn begin(&self) -> u64 {
        self.from
    }

    /// Where the segments begin.
    pub(crate) fn segments(&self) -> impl Iterator<Item = u64> {
        self.segments.iter().map(|segment| segment.id.base)
    }

    /// Reads what is written, while this goes on.
    pub(crate) fn reader(&self) -> Reader {
        self.shown.clone()
    }

    /// The options.
    pub(crate) fn options(&self) -> &LogOptions {
        &self.options
    }

    /// How much was appended and is not written.
    pub(crate) fn unwritten(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what was appended: it outlives this process.
    ///
    /// # Errors
    /// `Storage`: if it is full, what was appended since the last write is not in the log; after
    /// anything else the log is `Broken`.
    pub fn write(&mut self) -> Result<(), LogError> {
        self.check()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let active = self.active();
        let offset = active.id.offset(self.written);
        let length = self.buffer.len();
        if self.reused {
            // The file needs not become larger for it.
            let room = self.options.segment_bytes.saturating_sub(offset + length as u64);
            let most = usize::try_from(room).unwrap_or(HEADER).min(HEADER);
            self.buffer.extend_from_slice(&END[..most]);
        }
        let written =
            active_blob(&self.segments).map_or(Ok(()), |blob| blob.write_at(offset, &self.buffer));
        self.buffer.truncate(length);
        match written {
            Ok(()) => {
                self.written += self.buffer.len() as u64;
                self.buffer.clear();
                self.buffer.shrink_to(BUFFER_KEPT);
                Ok(())
            }
            Err(source) => {
                let error = LogError::Storage { what: WRITING, source };
                self.buffer.clear();
                // What was written half-way is no record of this log.
                let undone = active_blob(&self.segments)
                    .is_some_and(|blob| error.is_full() && blob.truncate(offset).is_ok());
                (self.broken, self.whole) = (!undone, false);
                Err(error)
            }
        }
    }

    /// Writes what was appended, and waits until the disk has it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.write()?;
        if self.stored == self.written {
            return Ok(());
        }
        match self.active().blob.sync_data() {
            Ok(()) => {
                self.stored = self.written;
                Ok(())
            }
            Err(source) => {
                // A sync that fails says once that something is lost, and not what.
                self.broken = true;
                Err(LogError::Storage { what: SYNCING, source })
            }
        }
    }

    /// Syncs, and writes down that it did: what is damaged later was safe once, and is not taken for
    /// the torn end of something that was never synced. Worth while whenever there is nothing else to
    /// do; [`append`](Self::append) does the same beside what it appends.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn mark(&mut self) -> Result<(), LogError> {
        self.sync()?;
        if self.stored > self.marked {
            self.marked = self.stored;
            self.encode(MARK, &self.stored.to_le_bytes());
            self.write()?;
            // A log in which only marks are new has nothing to mark.
            self.marked = self.written;
        }
        Ok(())
    }

    /// Syncs, and anchors the end: what is missing later was there now. To be called when the log
    /// is closed in order. Where there is no room for an anchor, a mark says that all of it is safe.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn close(&mut self) -> Result<(), LogError> {
        self.sync()?;
        match self.anchor().map_err(LogError::storage(CLOSING)) {
            Err(error) if error.is_full() => self.mark().or_else(unless_full),
            anchored => anchored,
        }
    }

    /// From now on whoever opens the log goes through it from this position on, at which a record
    /// begins: what is before it is read where it is needed.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) fn begin_at(&mut self, position: u64) -> Result<(), LogError> {
        let before = std::mem::replace(&mut self.from, position);
        let anchored = self.anchor();
        if anchored.is_err() {
            self.from = before;
        }
        anchored.map_err(LogError::storage(ANCHORING))
    }

    fn anchor(&mut self) -> io::Result<()> {
        self.anchor_has_room = false;
        let Self { epoch, stored, start, from, .. } = *self;
        Anchor { epoch, stored, start, from }.write(&*self.storage)?;
        if std::mem::take(&mut self.start_has_name) {
            for name in self.storage.names()? {
                if anchor::start_of(&name).is_some() {
                    self.storage.remove(&name)?;
                }
            }
        }
        // What the one before had is the room for the next one, unless others are faster.
        self.anchor_has_room = Anchor::make_room(&*self.storage).is_ok();
        Ok(())
    }

    /// Reads the record at a position; `None` if there is none, or none any more.
    ///
    /// # Errors
    /// `Damaged` if it is not what it was; `Storage`.
    pub fn read(&self, position: u64) -> Result<Option<(u8, Vec<u8>)>, LogError> {
        if position >= self.end() || position < self.start() {
            return Ok(None);
        }
        if let Some(at) = position.checked_sub(self.written) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let bytes = self.buffer.get(at..).unwrap_or_default();
            let found = record::decode(bytes, self.active().id.epoch, position).ok();
            return Ok(found.map(|record| (record.kind, record.content.to_vec())));
        }
        self.shown.read(position)
    }

    /// Forgets the segments that end before `position`, and says how many those were. One of them becomes
    /// the next segment.
    ///
    /// # Errors
    /// `Storage`; what was not forgotten is still there.
    pub fn forget_before(&mut self, position: u64) -> Result<usize, LogError> {
        let last = self.segments.iter().rev().find(|segment| segment.id.base <= position);
        let start = last.map_or(self.start, |last| last.id.base);
        let before = self.segments.len();
        if start > self.start {
            // Whoever opens it is not to miss them.
            let before = std::mem::replace(&mut self.start, start);
            let anchored = self.anchor().or_else(|error| match error.kind() {
                io::ErrorKind::StorageFull => self.forget_first_for_an_anchor(),
                _ => Err(error),
            });
            if let Err(source) = anchored {
                self.start = before;
                self.shown.show(&self.segments);
                return Err(LogError::Storage { what: FORGETTING, source });
            }
        }
        while self.segments.get(1).is_some_and(|next| next.id.base <= start) {
            self.shown.show(&self.segments[1..]);
            if let Err(source) = self.forget_first() {
                self.shown.show(&self.segments);
                return Err(LogError::Storage { what: FORGETTING, source });
            }
        }
        Ok(before - self.segments.len())
    }

    /// Forgets the first segment where there is no room for an anchor that says so: its file gets a name that
    /// does, and has room for one then.
    fn forget_first_for_an_anchor(&mut self) -> io::Result<()> {
        self.shown.show(&self.segments[1..]);
        let name = anchor::start_name(self.start);
        self.storage.rename(&self.segments[0].id.name(), &name)?;
        self.start_has_name = true;
        self.storage.sync_dir()?;
        self.segments.remove(0).blob.truncate(0)?;
        self.anchor().or_else(|error| match error.kind() {
            // Others were faster. The name stays until there is an anchor.
            io::ErrorKind::StorageFull => Ok(()),
            _ => Err(error),
        })
    }

    /// Forgets the first segment, which nobody can begin to read any more.
    fn forget_first(&mut self) -> io::Result<()> {
        let first = &mut self.segments[0];
        let name = first.id.name();
        // Whoever still reads it reads what it had, and one of another size is no segment to be.
        let reused = self.spare.is_none()
            && self.options.prewritten
            && Arc::get_mut(&mut first.blob).is_some()
            && first.blob.len()? == self.options.segment_bytes;
        match reused {
            true => self.storage.rename(&name, SPARE)?,
            false => self.storage.remove(&name)?,
        }
        // One by one: a later one that is gone while an earlier one is there would be missing. And the
        // power that goes must not bring back the name of what is written to as the next segment.
        self.storage.sync_dir()?;
        let Segment { blob, .. } = self.segments.remove(0);
        if reused {
            self.spare = Some(Spare { blob, reused });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), LogError> {
        if self.broken { Err(LogError::Broken) } else { Ok(()) }
    }

    /// The segment that is appended to; there always is one.
    fn active(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    /// Makes the segment that is appended to from now on, with room for `size` at least.
    fn begin_segment(&mut self, size: u64) -> Result<(), LogError> {
        let id = Id { base: self.written, epoch: self.epoch + 1 };
        let failed = LogError::storage(MAKING);
        let spare = self.spare.take();
        let was_spare = spare.is_some();
        let made = match spare {
            Some(spare) => self.storage.rename(SPARE, &id.name()).map(|()| spare),
            None => self
                .storage
                .create(&id.name())
                .map(|blob| Spare { blob: Arc::from(blob), reused: false }),
        };
        let Spare { blob, reused } = made.map_err(&failed)?;
        self.epoch = id.epoch;
        let made = (|| {
            // As one write: where there is a head there is an end behind it.
            let mut head = id.head(reused).to_vec();
            head.extend_from_slice(&END);
            blob.write_at(0, &head[..if reused { head.len() } else { HEAD }])?;
            if self.options.prewritten {
                blob.allocate(self.options.segment_bytes.max(id.offset(id.base) + size))?;
            }
            blob.sync_data()?;
            self.storage.sync_dir()?;
            self.anchor()
        })();
        if let Err(source) = made {
            let anchored = Anchor::read(&*self.storage);
            let is_known =
                anchored.map_or(true, |anchor| anchor.is_some_and(|this| this.epoch >= id.epoch));
            if source.kind() != io::ErrorKind::StorageFull || is_known {
                // It may be there, and the one before ends where it begins; or it would be missed.
                self.broken = true;
                return Err(failed(source));
            }
            self.epoch = id.epoch - 1;
            // Half a segment is in nobody's way, but its room is.
            let undone = match was_spare {
                true => self.storage.rename(&id.name(), SPARE),
                false => self.storage.remove(&id.name()),
            };
            // Nor must the power that goes bring it back: it says that the one before ends there.
            self.broken |= undone.and_then(|()| self.storage.sync_dir()).is_err();
            self.spare = was_spare.then_some(Spare { blob, reused: true });
            return Err(failed(source));
        }
        // One in which nothing is would end where it begins.
        if let Some(empty) = self.segments.pop_if(|last| last.id.base == id.base) {
            self.storage.remove(&empty.id.name()).map_err(LogError::storage(FORGETTING))?;
        }
        self.segments.push(Segment { id, blob });
        (self.reused, self.whole) = (reused, true);
        self.shown.show(&self.segments);
        Ok(())
    }
}

fn active_blob(segments: &[Segment]) -> Option<&dyn Blob> {
    segments.last().map(|segment| &*segment.blob)
}

/// What was going to be the next segment, if it is as large as one. One that shows that there is room is
/// removed, if nobody came to that.
fn spare(storage: &dyn Storage, options: &LogOptions) -> io::Result<Option<Spare>> {
    let mut spare = None;
    for name in storage.names()? {
        if name == SPARE && options.prewritten {
            let blob: Arc<dyn Blob> = storage.open(SPARE)?.into();
            if blob.len()? == options.segment_bytes {
                // It may have been a segment, and its old name must not come back.
                storage.sync_dir()?;
                spare = Some(Spare { blob, reused: true });
                continue;
            }
        }
        if [SPARE, ROOM].contains(&&*name) {
            storage.remove(&name)?;
        }
    }
    Ok(spare)
}

/// Keeps the bytes beside that are behind the end of a segment; `None` if nothing was being written there.
fn keep(storage: &dyn Storage, blob: &dyn Blob, damage: Damage) -> Result<Option<Torn>, LogError> {
    let failed = LogError::storage(CUTTING);
    let rest = rest_of(blob, damage.offset).map_err(&failed)?;
    if rest.is_empty() {
        return Ok(None);
    }
    let name = format!("{}.torn-{:x}", damage.segment, damage.offset);
    // One that is there was kept when the log was opened before, and the power went again.
    if storage.names().map_err(&failed)?.contains(&name) {
        storage.remove(&name).map_err(&failed)?;
    }
    let kept = write_aside(storage, &name, &rest).or_else(|error| {
        if error.kind() != io::ErrorKind::StorageFull {
            return Err(error);
        }
        // What is behind it in the file is of no use, and may be as much.
        blob.truncate(damage.offset + rest.len() as u64)?;
        write_aside(storage, &name, &rest)
    });
    let kept_as = match kept.map_err(failed) {
        Ok(()) => Some(name),
        // Nothing of it was ever confirmed: it is no reason not to begin.
        Err(error) if error.is_full() => None,
        Err(error) => return Err(error),
    };
    Ok(Some(Torn { damage, kept_as }))
}

fn write_aside(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    let aside = storage.create(name)?;
    let written = aside.write_at(0, bytes).and_then(|()| aside.sync_data());
    if written.is_err() {
        storage.remove(name)?;
    }
    written.and_then(|()| storage.sync_dir())
}

/// Writes zeros from byte `from` of a file on, up to its end.
fn clear(blob: &dyn Blob, from: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE];
    let (mut at, end) = (from, blob.len()?);
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        blob.write_at(at, &zeros[..most])?;
        at += most as u64;
    }
    Ok(())
}

fn unless_full(error: LogError) -> Result<(), LogError> {
    if error.is_full() { Ok(()) } else { Err(error) }
}

/// Writes the first `len` bytes of a file once more.
fn write_again(blob: &dyn Blob, len: u64) -> io::Result<()> {
    let mut bytes = vec![0; PIECE];
    let mut at = 0;
    while at < len {
        let most = usize::try_from(len - at).unwrap_or(PIECE).min(PIECE);
        let read = blob.read_at(at, &mut bytes[..most])?;
        if read == 0 {
            return Ok(());
        }
        blob.write_at(at, &bytes[..read])?;
        at += read as u64;
    }
    Ok(())
}

const OPENING: &str = "opening the log";
const WRITING: &str = "writing the log";
const SYNCING: &str = "syncing the log";
const MAKING: &str = "making a segment of the log";
const FORGETTING: &str = "removing a segment of the log";
const ANCHORING: &str = "anchoring the log";
const CLOSING: &str = "closing the log";
const CUTTING: &str = "cutting the torn end of the log off";

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("start", &self.start())
            .field("end", &self.end())
            .field("stored", &self.stored)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Simulated;

    #[test]
    fn a_segment_that_is_being_read_is_not_used_again() {
        for is_read in [false, true] {
            let disk = Simulated::new();
            let options = LogOptions { segment_bytes: 500, ..LogOptions::default() };
            let (mut log, _) = Log::open(disk.clone(), options, |_| {}).unwrap();
            for _ in 0..10 {
                log.append(1, &[7; 90]).unwrap();
            }
            log.sync().unwrap();
            let reading = log.reader().segment(0).filter(|_| is_read);
            assert_eq!(log.forget_before(log.segments[1].id.base).unwrap(), 1);
            assert_eq!(disk.names().unwrap().contains(&SPARE.to_owned()), !is_read);
            for _ in 0..10 {
                log.append(1, &[8; 90]).unwrap();
            }
            log.sync().unwrap();
            if let Some((segment, _)) = reading {
                let mut bytes = vec![0; 99];
                segment.blob.read_at(HEAD as u64, &mut bytes).unwrap();
                assert_eq!(segment.decode(&bytes, 0).unwrap().content, [7; 90]);
            }
        }
    }
}
