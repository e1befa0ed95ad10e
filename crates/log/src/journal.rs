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
use posthaste_memory::store::{Change, Store};

use crate::change;
use crate::error::LogError;
use crate::log::Log;

/// How much may be noted and not written before senders wait: 16 MiB.
const UNWRITTEN_MAX: usize = 16 << 20;
/// A buffer that has grown larger is not kept.
const BUFFER_KEPT: usize = 4 << 20;
/// How many of those that wait are looked at for one that waits already.
const RECENT: usize = 8;
/// How long it takes until a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// What is in front of a change in the buffer: how long its content is, and its kind.
const FRAME: usize = 5;

/// Notes changes and has them written.
pub(crate) struct Journal {
    this: Weak<Self>,
    runtime: SharedRuntime,
    noted: AtomicU64,
    written: AtomicU64,
    stored: AtomicU64,
    shared: Mutex<Shared>,
    /// Locked for as long as something is written and synced.
    log: Mutex<Log>,
}

#[derive(Default)]
struct Shared {
    /// Changes that are not handed to the log, one behind the other.
    unwritten: Vec<u8>,
    spare: Vec<u8>,
    committing: bool,
    /// Why nothing is stored for now, or ever again.
    trouble: Option<Trouble>,
    /// Who waits until the store has come so far.
    waiting: VecDeque<Waiting>,
    /// Who waits for room.
    blocked: Vec<Waker>,
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
    pub(crate) fn new(runtime: SharedRuntime, log: Log) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            runtime,
            noted: AtomicU64::new(0),
            written: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            shared: Mutex::default(),
            log: Mutex::new(log),
        })
    }

    pub(crate) fn runtime(&self) -> &SharedRuntime {
        &self.runtime
    }

    /// Has what was noted written, unless that goes on already.
    fn begin(&self, shared: &mut Shared) {
        if !shared.committing && !shared.unwritten.is_empty() && shared.trouble.is_none() {
            shared.committing = true;
            if let Some(this) = self.this.upgrade() {
                self.runtime.spawn_blocking(Box::new(move || this.commit()));
            }
        }
    }

    /// Writes and syncs until there is nothing more to do. Blocks.
    fn commit(&self) {
        let mut log = lock(&self.log);
        loop {
            let (batch, upto) = {
                let mut shared = lock(&self.shared);
                if shared.unwritten.is_empty() {
                    shared.committing = false;
                    break;
                }
                let spare = std::mem::take(&mut shared.spare);
                let batch = std::mem::replace(&mut shared.unwritten, spare);
                (batch, self.noted.load(Ordering::SeqCst))
            };
            self.wake_blocked();
            if let Err((error, rest)) = self.write(&mut log, &batch, upto) {
                return self.stop(&error, &batch[batch.len() - rest..]);
            }
            self.keep(batch);
        }
        // Nothing else is to do, so there is time to say that all of it is safe.
        if let Err(error) = log.mark() {
            self.stop(&error, &[]);
        }
    }

    /// Puts the changes of a batch, the last of which ends at `upto`, into the log, and syncs. An
    /// error comes with how many bytes at the end of it are not in the log.
    fn write(&self, log: &mut Log, batch: &[u8], upto: u64) -> Result<(), (LogError, usize)> {
        let mut rest = batch;
        let mut places = Vec::new();
        let mut written = Ok(());
        while let Some((kind, content, behind)) = split(rest) {
            match log.append(kind, content) {
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
            // What was appended since the last write is not there; what was written is.
            let lost = places.iter().find(|(place, _)| *place >= log.end());
            let rest = lost.map_or(rest.len(), |(_, rest)| *rest);
            let there = upto - rest as u64;
            if log.sync().is_ok() {
                self.reach(there, &[&self.written, &self.stored]);
            }
            return Err((error, rest));
        }
        self.reach(upto, &[&self.written]);
        log.sync().map_err(|error| (error, 0))?;
        self.reach(upto, &[&self.stored]);
        Ok(())
    }

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
    fn stop(&self, error: &LogError, rest: &[u8]) {
        let (mut wake, mut shared) = (Vec::new(), lock(&self.shared));
        shared.committing = false;
        if error.is_full() {
            shared.unwritten.splice(..0, rest.iter().copied());
            shared.trouble = Some(Trouble::Full);
        } else {
            shared.unwritten = Vec::new();
            shared.trouble = Some(Trouble::Failed(failed(error)));
            wake.extend(shared.waiting.drain(..).map(|waiting| waiting.waker));
        }
        wake.append(&mut shared.blocked);
        drop(shared);
        wake.into_iter().for_each(Waker::wake);
        if error.is_full() {
            let (this, runtime) = (self.this.clone(), self.runtime.clone());
            self.runtime.spawn(Box::pin(async move {
                let mut timer = runtime.timer();
                timer.as_mut().reset(runtime.now() + FULL_RETRY);
                timer.await;
                if let Some(this) = this.upgrade() {
                    let mut shared = lock(&this.shared);
                    shared.trouble = None;
                    this.begin(&mut shared);
                }
            }));
        }
    }

    /// Waits until everything that was noted is safe, and says so in the log. Blocks.
    pub(crate) fn close(&self) -> Result<(), Error> {
        self.commit();
        if let Some(Trouble::Failed(error)) = &lock(&self.shared).trouble {
            return Err(error.clone());
        }
        lock(&self.log).close().map_err(|error| failed(&error))
    }
}

impl Store for Journal {
    fn note(&self, change: &Change<'_>) {
        let mut shared = lock(&self.shared);
        if let Some(Trouble::Failed(_)) = shared.trouble {
            return;
        }
        let at = shared.unwritten.len();
        shared.unwritten.extend_from_slice(&[0; FRAME]);
        change::encode(&mut shared.unwritten, change);
        let end = shared.unwritten.len();
        let length = u32::try_from(end - at - FRAME).unwrap_or(u32::MAX);
        shared.unwritten[at..at + 4].copy_from_slice(&length.to_le_bytes());
        shared.unwritten[at + 4] = change::kind(change);
        self.noted.fetch_add((end - at) as u64, Ordering::SeqCst);
        self.begin(&mut shared);
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
            Some(Trouble::Full) => return Poll::Ready(Err(full())),
            None => {}
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

/// What whoever waits is told when nothing is stored any more.
fn failed(error: &LogError) -> Error {
    let text = format!(
        "the broker cannot store anything any more ({error}), so this may or may not be stored; \
         look at its disk, and start it again"
    );
    Error::new(ErrorKind::Unknown, text)
}
