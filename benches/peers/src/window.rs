//! A window by hand, for brokers that cut off or hoard for receivers that are too slow: what a
//! sender may be ahead of them is bounded, as an application that must not lose anything does it.
//!
//! Each receiver writes now and then how much it has taken into a file of the round, at a place of
//! its own; the sender reads that when it has used its window up.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::Result;

use crate::stage::Stage;
use crate::work::Work;

/// How far a sender may be ahead, in messages, and in bytes.
const MESSAGES: u64 = 16_384;
const BYTES: u64 = 16 << 20;
/// How many times a receiver speaks up in a window.
const STEPS: u64 = 16;
/// How long a sender sleeps between two looks at the file.
const LOOK: Duration = Duration::from_micros(200);

/// How much one receiver has taken.
pub(crate) struct Taken {
    file: File,
    at: u64,
    step: u64,
    total: u64,
    told: u64,
}

impl Taken {
    /// The `nth` receiver has taken nothing yet.
    pub(crate) fn none(stage: &Stage, nth: usize) -> Result<Self> {
        let step = (size(stage) / STEPS).max(1);
        let this = Self { file: file(stage)?, at: nth as u64 * 8, step, total: 0, told: 0 };
        this.tell()?;
        Ok(this)
    }

    /// So many more.
    pub(crate) fn add(&mut self, more: usize) -> Result<()> {
        self.total += more as u64;
        if self.total - self.told >= self.step {
            self.told = self.total;
            self.tell()?;
        }
        Ok(())
    }

    fn tell(&self) -> Result<()> {
        Ok(self.file.write_all_at(&self.total.to_le_bytes(), self.at)?)
    }
}

/// How much a sender may send.
pub(crate) struct Window {
    file: File,
    size: u64,
    receivers: usize,
    /// Whether each message goes to one of the receivers, not to all.
    shared: bool,
    sent: u64,
    /// How many may be sent in all, as far as is known.
    limit: u64,
}

impl Window {
    /// Nothing is sent yet; the receivers are there already.
    pub(crate) fn open(stage: &Stage) -> Result<Self> {
        let work = &stage.script().work;
        let shared = matches!(work, Work::Group { .. });
        let (size, receivers) = (size(stage), work.subscribers());
        let file = file(stage)?;
        // Who has said nothing yet has taken nothing.
        file.set_len(receivers as u64 * 8)?;
        Ok(Self { file, size, receivers, shared, sent: 0, limit: size })
    }

    /// Takes room for so many messages; if there is none, waits for it first.
    pub(crate) fn take(&mut self, count: usize) -> Result<()> {
        while !self.has_room()? {
            std::thread::sleep(LOOK);
        }
        self.sent += count as u64;
        Ok(())
    }

    /// The same on tokio.
    pub(crate) async fn take_async(&mut self, count: usize) -> Result<()> {
        while !self.has_room()? {
            tokio::time::sleep(LOOK).await;
        }
        self.sent += count as u64;
        Ok(())
    }

    fn has_room(&mut self) -> Result<bool> {
        if self.sent < self.limit {
            return Ok(true);
        }
        let mut taken = vec![0; self.receivers * 8];
        self.file.read_exact_at(&mut taken, 0)?;
        let (each, _) = taken.as_chunks();
        let each = each.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let taken = if self.shared { each.sum() } else { each.min().unwrap_or_default() };
        self.limit = taken + self.size;
        Ok(self.sent < self.limit)
    }
}

fn file(stage: &Stage) -> Result<File> {
    let path = stage.script().folder.join("taken");
    Ok(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?)
}

fn size(stage: &Stage) -> u64 {
    MESSAGES.min(BYTES / stage.script().work.size() as u64)
}
