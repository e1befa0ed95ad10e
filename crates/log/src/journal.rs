//! The store of a broker: what is noted goes into the log, many changes with one sync.
//!
//! Whoever changes a queue appends a record to a buffer in memory. Blocking work of the runtime takes
//! the buffer as it is, writes it, syncs, and wakes whoever waits for that; meanwhile the next buffer
//! fills. So one sync serves all queues and all connections, and more the more there is to do.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use posthaste_core::task::lock;
use posthaste_core::{Error, ErrorKind, Level, SharedRuntime};
use posthaste_memory::store::{Change, Host, Kept, Paged, Store};

use crate::change::{self, Clocks, PART, Part};
use crate::error::LogError;
use crate::log::Log;
use crate::planted::Planted;
use crate::reader::Reader;
use crate::record;
use crate::scan::MARK;
use crate::segment;
use crate::uses::{Chore, Uses};

/// How much may be noted and not written before senders wait: 16 MiB.
const UNWRITTEN_MAX: usize = 16 << 20;
/// How much is written at a time.
const WRITTEN_AT_ONCE: usize = 1 << 20;
/// A buffer that has grown larger is not kept.
const BUFFER_KEPT: usize = 4 << 20;
/// How many of those that wait are looked at for one that waits already.
const RECENT: usize = 8;
/// How long it takes until a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// After how many tries in vain whoever waits is told.
const FULL_TRIES: u32 = 3;
/// What is in front of a change in the buffer: how long its content is, and its kind.
const FRAME: usize = 5;

/// How many times as much as the last snapshot was has to come before there is another.
const SNAPSHOT_SHARE: u64 = 4;

/// What a copy takes in a snapshot, at most as a rule.
const SNAPSHOT_BYTES: u64 = 16;

/// How many times less is worth another one when the broker is closed.
const SNAPSHOTS_AT_END: u64 = 16;

/// Notes changes and has them written.
///
/// The place of a change is the position of its record in the log, which is known when it is noted:
/// records follow each other, and when another segment begins is a matter of sizes alone.
pub(crate) struct Journal {
    this: Weak<Self>,
    runtime: SharedRuntime,
    planted: Planted,
    segment_bytes: u64,
    memory_bytes: usize,
    snapshot_bytes: u64,
    reader: Reader,
    noted: AtomicU64,
    written: AtomicU64,
    stored: AtomicU64,
    shared: Mutex<Shared>,
    /// Locked for as long as something is written and synced; gone once that is closed.
    log: Mutex<Option<Log>>,
}

#[derive(Default)]
struct Shared {
    /// Changes that are not handed to the log, one behind the other.
    unwritten: Vec<u8>,
    /// The parts of queues among them, of which there is nothing but a frame.
    parts: VecDeque<Part>,
    spare: Vec<u8>,
    committing: bool,
    /// Where the next record will be, which may be a mark.
    end: u64,
    /// Up to where changes were noted: a mark behind that is not synced for its own sake.
    noted: u64,
    /// What of the segments is of use.
    uses: Uses,
    snapshots: Snapshots,
    host: Option<Weak<dyn Host>>,
    /// The disk has no room for another segment, so this one is for what makes room.
    cramped: bool,
    /// Whether that is looked at again in a while.
    retrying: bool,
    /// Why nothing is stored for now, or ever again.
    trouble: Option<Trouble>,
    /// How often in a row there was no room for what was to be written.
    tries: u32,
    /// Who waits until the store has come so far.
    waiting: VecDeque<Waiting>,
    /// Who waits for room.
    blocked: Vec<Waker>,
}

/// When all queues were noted as a whole, and will be.
#[derive(Default)]
struct Snapshots {
    /// From where on that is so, and how much it was.
    from: u64,
    bytes: u64,
    /// The same once everything before the last place is stored.
    taking: Option<(u64, u64, u64)>,
    /// How much was noted of queues as a whole since the last one began: others note meanwhile.
    noted: u64,
    /// Not before here again, since it did not work out.
    not_before: u64,
}

#[derive(Clone)]
enum Trouble {
    Full,
    Failed(Error),
}

struct Waiting {
    upto: u64,
    level: Level,
    waker: Waker,
}

impl Journal {
    /// A journal over a log in which these copies have their places, each with the size of its
    /// message; `cramped` if the disk had no room for what is [prepared](Log::prepare).
    pub(crate) fn new(
        runtime: SharedRuntime,
        planted: Planted,
        log: Log,
        copies: impl Iterator<Item = (u64, usize)>,
        cramped: bool,
    ) -> Arc<Self> {
        let end = log.end();
        let mut shared = Shared { end, noted: end, cramped, ..Shared::default() };
        shared.snapshots.from = log.begin();
        shared.uses = Uses::of(log.segments(), cramped);
        shared.uses.add_all(copies);
        let journal = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            runtime,
            planted,
            segment_bytes: log.options().segment_bytes,
            memory_bytes: log.options().memory_bytes,
            snapshot_bytes: log.options().snapshot_bytes,
            reader: log.reader(),
            noted: AtomicU64::new(end),
            written: AtomicU64::new(end),
            stored: AtomicU64::new(end),
            shared: Mutex::new(shared),
            log: Mutex::new(Some(log)),
        });
        if cramped {
            journal.try_again(&mut lock(&journal.shared));
        }
        journal
    }

    pub(crate) fn runtime(&self) -> &SharedRuntime {
        &self.runtime
    }

    /// Has what was noted written, unless that goes on already.
    fn begin(&self, shared: &mut Shared) {
        let is_due = !shared.unwritten.is_empty() || shared.cramped;
        if !shared.committing && is_due && shared.trouble.is_none() {
            shared.committing = true;
            if let Some(this) = self.this.upgrade() {
                self.runtime.spawn_blocking(Box::new(move || this.commit()));
            }
        }
    }

    /// Writes and syncs until there is nothing more to do. Blocks.
    fn commit(&self) {
        let _ending = Ending(self);
        let mut log = lock(&self.log);
        let Some(log) = &mut *log else { return };
        let mut marked = log.stored();
        // There may be room by now.
        if lock(&self.shared).cramped
            && let Err(error) = self.tidy(log)
        {
            return self.stop(&error, Batch::default());
        }
        loop {
            let (batch, parts, has_changes) = {
                let mut shared = lock(&self.shared);
                let has_changes = !shared.unwritten.is_empty();
                if log.stored() > marked && !shared.cramped {
                    // What is damaged later was safe once, and is not taken for a torn end.
                    marked = log.stored();
                    self.put(&mut shared, MARK, |into| {
                        into.extend_from_slice(&marked.to_le_bytes());
                    });
                }
                if shared.unwritten.is_empty() {
                    shared.committing = false;
                    return;
                }
                let spare = std::mem::take(&mut shared.spare);
                let batch = std::mem::replace(&mut shared.unwritten, spare);
                (batch, std::mem::take(&mut shared.parts), has_changes)
            };
            self.wake_blocked();
            let mut batch = Batch { bytes: batch, written: 0, parts };
            while let Err((error, left)) = self.write(log, &batch, has_changes) {
                // What is stored by now may have made room for the rest.
                let may_go_on = error.is_full() && left < batch.rest().len();
                batch.leave(left);
                let makes_room = if may_go_on { self.makes_room(log) } else { Ok(false) };
                match makes_room {
                    Ok(true) => {}
                    Ok(false) => return self.stop(&error, batch),
                    Err(error) => return self.stop(&error, batch),
                }
            }
            let Batch { bytes: batch, .. } = batch;
            self.keep(batch);
            lock(&self.shared).tries = 0;
            if let Err(error) = self.tidy(log) {
                return self.stop(&error, Batch::default());
            }
        }
    }

    /// Puts the records of a batch into the log, and syncs if they are more than a mark. An error comes
    /// with how many bytes at the end of the batch are not in the log.
    fn write(&self, log: &mut Log, batch: &Batch, sync: bool) -> Result<(), (LogError, usize)> {
        let (mut rest, mut parts) = (batch.rest(), batch.parts.iter());
        let (mut places, mut encoded) = (Vec::new(), Vec::new());
        let mut written = Ok(());
        while let Some((kind, mut content, behind)) = split(rest) {
            if kind == PART
                && let Some(part) = parts.next()
            {
                encoded.clear();
                part.encode(&mut encoded);
                content = &encoded;
            }
            let put = match log.unwritten() < WRITTEN_AT_ONCE {
                true => log.put(kind, content),
                false => log.write().and_then(|()| log.put(kind, content)),
            };
            match put {
                Ok(place) => places.push((place, rest.len())),
                Err(error) => {
                    written = Err(error);
                    break;
                }
            }
            rest = behind;
        }
        let written = written.and_then(|()| log.write());
        if let Err(error) = written {
            // What was put there since the last write is not there; what was written is.
            let lost = places.iter().find(|(place, _)| *place >= log.end());
            let rest = lost.map_or(rest.len(), |(_, rest)| *rest);
            if log.sync().is_ok() {
                self.reach(log.end(), &[&self.written, &self.stored]);
            }
            return Err((error, rest));
        }
        self.reach(log.end(), &[&self.written]);
        if self.planted.confirms_before_sync {
            self.reach(log.end(), &[&self.stored]);
        }
        if sync {
            log.sync().map_err(|error| (error, 0))?;
            self.reach(log.end(), &[&self.stored]);
        }
        Ok(())
    }

    // ---- room

    /// Sees to it that there is room on the disk: what is needed no more is forgotten, and the next
    /// segment is made before it is needed.
    fn tidy(&self, log: &mut Log) -> Result<(), LogError> {
        let forget = lock(&self.shared).uses.needed_from(log.stored());
        if log.forget_before(forget)? > 0 {
            let start = log.start();
            lock(&self.shared).uses.forget_before(start);
        }
        let cramped = match log.prepare() {
            Err(error) if !error.is_full() => return Err(error),
            prepared => prepared.is_err(),
        };
        let (chore, host) = {
            let shared = lock(&self.shared);
            let host = shared.host.as_ref().and_then(Weak::upgrade);
            (shared.uses.chore(shared.end, cramped, self.segment_bytes), host)
        };
        if let (Some(chore), Some(host)) = (chore, &host) {
            self.note_again(&chore, &**host);
        }
        if let Some(host) = host {
            self.end_snapshot(log)?;
            let since = lock(&self.shared).since_snapshot().filter(|_| !cramped);
            let is_due = |(since, last)| since > self.snapshot_bytes.max(SNAPSHOT_SHARE * last);
            if since.is_some_and(is_due) {
                self.begin_snapshot(log, &*host)?;
            }
        }
        let mut shared = lock(&self.shared);
        // Only now, so that what has to be noted for room to be made is in front of what makes it.
        shared.cramped = cramped;
        if cramped {
            self.try_again(&mut shared);
        }
        Ok(())
    }

    fn note_again(&self, chore: &Chore, host: &dyn Host) {
        if chore.relocate {
            host.relocate(chore.before);
        }
        host.renew(chore.before);
        let noted = self.noted.load(Ordering::SeqCst);
        lock(&self.shared).uses.renewed_before(chore.before, noted);
    }

    /// Has all queues noted as a whole, if there is room for that.
    fn begin_snapshot(&self, log: &Log, host: &dyn Host) -> Result<(), LogError> {
        let has_room = log.has_room(lock(&self.shared).uses.copies() * SNAPSHOT_BYTES)?;
        let from = {
            let mut shared = lock(&self.shared);
            shared.snapshots.noted = 0;
            shared.noted
        };
        let complete = has_room && host.snapshot();
        let mut shared = lock(&self.shared);
        let end = shared.end;
        match complete {
            true => {
                shared.snapshots.taking = Some((from, shared.snapshots.noted, shared.noted));
            }
            false => shared.snapshots.not_before = end + self.snapshot_bytes / 8,
        }
        Ok(())
    }

    /// Has the log gone through only from the last snapshot on, once that is stored. A full disk is in the
    /// way of that alone, and it is tried again.
    fn end_snapshot(&self, log: &mut Log) -> Result<(), LogError> {
        let taking = lock(&self.shared).snapshots.taking;
        let Some((from, bytes, _)) = taking.filter(|(.., upto)| *upto <= log.stored()) else {
            return Ok(());
        };
        match log.begin_at(from) {
            Err(error) if error.is_full() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let snapshots = &mut lock(&self.shared).snapshots;
                (snapshots.from, snapshots.bytes, snapshots.taking) = (from, bytes, None);
                Ok(())
            }
        }
    }

    /// Whether there is room for another segment now.
    fn makes_room(&self, log: &mut Log) -> Result<bool, LogError> {
        match self.tidy(log) {
            Ok(()) => Ok(!lock(&self.shared).cramped),
            Err(error) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tries to write again in a while, when there may be room on the disk.
    fn try_again(&self, shared: &mut Shared) {
        if std::mem::replace(&mut shared.retrying, true) {
            return;
        }
        let (this, runtime) = (self.this.clone(), self.runtime.clone());
        self.runtime.spawn(Box::pin(async move {
            let mut timer = runtime.timer();
            timer.as_mut().reset(runtime.now() + FULL_RETRY);
            timer.await;
            if let Some(this) = this.upgrade() {
                let mut shared = lock(&this.shared);
                shared.retrying = false;
                if shared.committing {
                    // It may find the disk full once more when it is about to end.
                    return this.try_again(&mut shared);
                }
                if let Some(Trouble::Full) = shared.trouble {
                    shared.trouble = None;
                }
                this.begin(&mut shared);
            }
        }));
    }

    /// Why nothing can be sent into durable queues now, if so.
    pub(crate) fn trouble(&self) -> Option<Error> {
        let shared = lock(&self.shared);
        match &shared.trouble {
            Some(Trouble::Failed(error)) => Some(error.clone()),
            _ => shared.has_no_room().then(full),
        }
    }

    // ---- who waits

    /// The store has come to `upto`.
    fn reach(&self, upto: u64, levels: &[&AtomicU64]) {
        for level in levels {
            level.store(upto, Ordering::SeqCst);
        }
        let (mut wake, mut shared) = (Vec::new(), lock(&self.shared));
        for _ in 0..shared.waiting.len() {
            let Some(waiting) = shared.waiting.pop_front() else { break };
            match waiting.upto <= self.reached(waiting.level) {
                true => wake.push(waiting.waker),
                false => shared.waiting.push_back(waiting),
            }
        }
        drop(shared);
        wake.into_iter().for_each(Waker::wake);
    }

    fn wake_blocked(&self) {
        let blocked = std::mem::take(&mut lock(&self.shared).blocked);
        blocked.into_iter().for_each(Waker::wake);
    }

    /// Keeps a buffer for the next batch.
    fn keep(&self, mut batch: Vec<u8>) {
        batch.clear();
        if batch.capacity() <= BUFFER_KEPT {
            lock(&self.shared).spare = batch;
        }
    }

    /// Nothing is written any more: until there is room on the disk, or for good. `rest` is not in the
    /// log.
    fn stop(&self, error: &LogError, rest: Batch) {
        let (mut wake, mut shared) = (Vec::new(), lock(&self.shared));
        shared.committing = false;
        if error.is_full() {
            shared.unwritten.splice(..0, rest.rest().iter().copied());
            let behind = std::mem::replace(&mut shared.parts, rest.parts);
            shared.parts.extend(behind);
            shared.trouble = Some(Trouble::Full);
            shared.tries = shared.tries.saturating_add(1);
            if shared.overdue(Level::Stored) {
                // What is noted is written once there is room, and nobody knows when that is.
                wake.extend(shared.waiting.drain(..).map(|waiting| waiting.waker));
            }
        } else {
            (shared.unwritten, shared.parts) = Default::default();
            shared.trouble = Some(Trouble::Failed(failed(error)));
            wake.extend(shared.waiting.drain(..).map(|waiting| waiting.waker));
        }
        wake.append(&mut shared.blocked);
        if error.is_full() {
            self.try_again(&mut shared);
        }
        drop(shared);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Appends a record to the buffer, and says at which place it will be.
    fn put(&self, shared: &mut Shared, kind: u8, content: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let at = shared.unwritten.len();
        shared.unwritten.extend_from_slice(&[0; FRAME]);
        content(&mut shared.unwritten);
        let length = shared.unwritten.len() - at - FRAME;
        let frame = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        shared.unwritten[at..at + 4].copy_from_slice(&frame);
        shared.unwritten[at + 4] = kind;
        self.place(shared, length)
    }

    /// Keeps a part as it is until it is written, and says at which place it will be.
    fn put_part(&self, shared: &mut Shared, part: Part) -> u64 {
        shared.unwritten.extend_from_slice(&[0, 0, 0, 0, PART]);
        let length = part.encoded_len();
        shared.parts.push_back(part);
        self.place(shared, length)
    }

    /// At which place the next record is that has so much content.
    fn place(&self, shared: &mut Shared, length: usize) -> u64 {
        let (place, size) = (shared.end, record::size(length));
        if !segment::follows(shared.uses.active(), place, size, self.segment_bytes) {
            shared.uses.begin_segment(place);
        }
        shared.end += size;
        place
    }

    /// Has everything noted again that is needed, and forgets what was before. Blocks.
    pub(crate) fn compact(&self) -> Result<(), Error> {
        if lock(&self.shared).has_no_room() {
            // What is noted again would take the room of what makes some.
            return Err(full());
        }
        self.commit();
        let host = lock(&self.shared).host.as_ref().and_then(Weak::upgrade);
        let upto = lock(&self.shared).uses.active();
        let oldest = || lock(&self.shared).uses.oldest(upto);
        let mut next = oldest();
        // A segment at a time, so that not all of it is in memory at once.
        while let (Some(host), Some((first, second))) = (&host, next) {
            self.note_again(&Chore { before: second, relocate: true }, &**host);
            self.commit();
            // It may have been written before all of it was noted, and nothing forgotten since.
            if let Some(log) = &mut *lock(&self.log) {
                self.tidy(log).map_err(|error| failed(&error))?;
            }
            next = oldest().filter(|(next, _)| *next > first);
        }
        self.settle()
    }

    /// Waits until everything that was noted is safe, and says so in the log. Blocks.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        let noted = self.noted();
        self.commit();
        let failed_here = |error| failed(&error);
        lock(&self.log)
            .as_mut()
            .map_or(Ok(()), |log| self.end_snapshot(log))
            .map_err(failed_here)?;
        let has_room = !lock(&self.shared).has_no_room();
        let since = lock(&self.shared).since_snapshot().filter(|_| has_room);
        let host = lock(&self.shared).host.as_ref().and_then(Weak::upgrade);
        if let Some(host) = host
            && since.is_some_and(|(since, _)| since > self.snapshot_bytes / SNAPSHOTS_AT_END)
        {
            // Whoever opens it next has less to do.
            if let Some(log) = &*lock(&self.log) {
                self.begin_snapshot(log, &*host).map_err(failed_here)?;
            }
            self.commit();
        }
        match &lock(&self.shared).trouble {
            Some(Trouble::Failed(error)) => return Err(error.clone()),
            // A snapshot for which there was no room is no loss.
            Some(Trouble::Full) if self.reached(Level::Stored) < noted => return Err(full()),
            _ => {}
        }
        match &mut *lock(&self.log) {
            Some(log) => {
                let ended = self.end_snapshot(log).and_then(|()| log.close());
                ended.map_err(failed_here)
            }
            None => Ok(()),
        }
    }

    /// The same for good: nothing is stored after it, and the storage is let go. Blocks.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let settled = self.settle();
        let mut shared = lock(&self.shared);
        let closed = Trouble::Failed(Error::closed("the store of the broker"));
        shared.trouble.get_or_insert(closed);
        let waiting: Vec<_> = shared.waiting.drain(..).collect();
        drop(shared);
        waiting.into_iter().for_each(|waiting| waiting.waker.wake());
        *lock(&self.log) = None;
        self.reader.close();
        settled
    }
}

/// What is handed to the log at a time.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// How many of these the log has.
    written: usize,
    /// The parts in the others.
    parts: VecDeque<Part>,
}

impl Batch {
    /// What the log has not.
    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// The log has everything but so many bytes.
    fn leave(&mut self, left: usize) {
        self.written = self.bytes.len() - left;
        let (mut rest, mut parts) = (self.rest(), 0);
        while let Some((kind, _, behind)) = split(rest) {
            parts += usize::from(kind == PART);
            rest = behind;
        }
        self.parts.drain(..self.parts.len() - parts);
    }
}

/// Work that ends by a panic, which is a bug, leaves nobody waiting.
struct Ending<'a>(&'a Journal);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(&LogError::Broken, Batch::default());
        }
    }
}

impl Shared {
    /// Whether there is room only for what makes some.
    fn has_no_room(&self) -> bool {
        self.cramped || matches!(self.trouble, Some(Trouble::Full))
    }

    /// Whether whoever waits for a level is told that there has been no room for what was noted. Who waits
    /// for what is written alone goes on waiting: those read it, and would give up for good.
    fn overdue(&self, level: Level) -> bool {
        let is_full = matches!(self.trouble, Some(Trouble::Full));
        is_full && level == Level::Stored && self.tries >= FULL_TRIES
    }

    /// How much has come since the last snapshot, if there is none on its way, and how much that was.
    fn since_snapshot(&self) -> Option<(u64, u64)> {
        let Snapshots { from, bytes, taking, not_before, .. } = self.snapshots;
        let may_be = taking.is_none() && self.end >= not_before;
        may_be.then(|| (self.end.saturating_sub(from + bytes), bytes))
    }
}

impl Store for Journal {
    fn note(&self, change: &Change<'_>) -> u64 {
        let mut shared = lock(&self.shared);
        if let Some(Trouble::Failed(_)) = shared.trouble {
            // Who waits for this waits for what never comes, and is told.
            self.noted.store(u64::MAX, Ordering::SeqCst);
            return u64::MAX;
        }
        let kind = change::kind(change);
        let place = match Part::of(change) {
            Some(part) => self.put_part(&mut shared, part),
            None => self.put(&mut shared, kind, |into| change::encode(into, change)),
        };
        shared.noted = shared.end;
        match change {
            Change::Put { copy, .. } => shared.uses.add(place, copy.message.size()),
            Change::Gone { released: (gone, size), .. } => {
                let at = shared.noted;
                shared.uses.release(at, *gone, *size);
            }
            Change::Part { .. } | Change::Snapshot { .. } => {
                let size = shared.end - place;
                shared.snapshots.noted += size;
            }
            _ => {}
        }
        self.noted.store(shared.end, Ordering::SeqCst);
        self.begin(&mut shared);
        place
    }

    fn release(&self, copies: &[(u64, usize)]) {
        let mut shared = lock(&self.shared);
        let at = shared.noted;
        copies.iter().for_each(|(place, size)| shared.uses.release(at, *place, *size));
    }

    fn read(&self, copies: &[Paged]) -> Result<Vec<Kept>, Error> {
        let clocks = Clocks { now: self.runtime.now(), unix: self.runtime.unix_time() };
        self.reader.copies(copies, clocks)
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn attach(&self, host: Weak<dyn Host>) {
        lock(&self.shared).host = Some(host);
    }

    fn noted(&self) -> u64 {
        self.noted.load(Ordering::SeqCst)
    }

    fn reached(&self, level: Level) -> u64 {
        match level {
            Level::Stored => self.stored.load(Ordering::SeqCst),
            Level::Written => self.written.load(Ordering::SeqCst),
            _ => self.noted(),
        }
    }

    fn poll_reached(
        &self,
        upto: u64,
        level: Level,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if upto <= self.reached(level) {
            return Poll::Ready(Ok(()));
        }
        let mut shared = lock(&self.shared);
        if upto <= self.reached(level) {
            return Poll::Ready(Ok(()));
        }
        if let Some(Trouble::Failed(error)) = &shared.trouble {
            return Poll::Ready(Err(error.clone()));
        }
        if shared.overdue(level) {
            return Poll::Ready(Err(overdue()));
        }
        // One that is polled over and over is found near the end. Who is woken asks anew.
        let known = |this: &&mut Waiting| this.level == level && this.waker.will_wake(cx.waker());
        match shared.waiting.iter_mut().rev().take(RECENT).find(known) {
            Some(waiting) => waiting.upto = waiting.upto.min(upto),
            None => shared.waiting.push_back(Waiting { upto, level, waker: cx.waker().clone() }),
        }
        Poll::Pending
    }

    fn poll_room(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut shared = lock(&self.shared);
        match &shared.trouble {
            Some(Trouble::Failed(error)) => return Poll::Ready(Err(error.clone())),
            _ if shared.has_no_room() => return Poll::Ready(Err(full())),
            _ => {}
        }
        let unwritten = shared.unwritten.len();
        if unwritten == 0 || unwritten + bytes <= UNWRITTEN_MAX {
            return Poll::Ready(Ok(()));
        }
        if !shared.blocked.iter().any(|waker| waker.will_wake(cx.waker())) {
            shared.blocked.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("noted", &self.noted())
            .field("stored", &self.reached(Level::Stored))
            .finish_non_exhaustive()
    }
}

/// The first change of a buffer, and what is behind it.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*kind, content, rest))
}

fn full() -> Error {
    let text = "the disk of the broker is full; make room there, or settle what is in its queues";
    Error::new(ErrorKind::Full, text)
}

/// What whoever waits is told when the disk has been full for a while.
fn overdue() -> Error {
    let text = "the disk of the broker is full, so this is not stored, but it will be once there is \
                room, unless the broker ends before; make room there";
    Error::new(ErrorKind::Unknown, text)
}

/// What whoever waits is told when nothing is stored any more.
fn failed(error: &LogError) -> Error {
    let text = format!(
        "the broker cannot store anything any more ({error}), so this may or may not be stored; \
         look at its disk, and start it again"
    );
    Error::new(ErrorKind::Unknown, text)
}

#[cfg(test)]
mod tests {
    use posthaste_memory::store::Pages;

    use super::*;

    #[test]
    fn what_is_left_of_a_batch_has_its_own_parts() {
        let pages = Pages::default();
        let part = |nth| Part::of(&Change::Part { queue: 1, nth, delayed: false, pages: &pages });
        let frame = |kind: u8, content: &[u8]| {
            let mut frame = u32::try_from(content.len()).expect("small").to_le_bytes().to_vec();
            frame.push(kind);
            frame.extend_from_slice(content);
            frame
        };
        let frames = [
            frame(1, b"a"),
            frame(PART, b""),
            frame(2, &[PART; 9]),
            frame(PART, b""),
            frame(1, b""),
        ];
        for from in 0..=frames.len() {
            let parts = (0..2).filter_map(part).collect();
            let mut batch = Batch { bytes: frames.concat(), written: 0, parts };
            batch.leave(frames[from..].concat().len());
            assert_eq!(batch.rest(), frames[from..].concat());
            let expected = frames[from..].iter().filter(|frame| frame[4] == PART).count();
            assert_eq!(batch.parts.len(), expected);
            let last = batch.parts.back().map(Part::nth);
            assert_eq!(last, (expected > 0).then_some(1), "the last ones are left");
        }
    }
}
