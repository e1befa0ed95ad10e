//! What happened, in order: a hash over all of it, and the last lines of it in words.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// How many lines are kept.
const LINES: usize = 2_000;

/// What kind of thing happened, as the hash knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Step = 1,
    Timer = 2,
    Bytes = 3,
    Random = 4,
    Line = 5,
    Disk = 6,
}

/// The running hash and the last lines.
#[derive(Debug)]
pub(crate) struct Timeline {
    hash: u64,
    lines: VecDeque<String>,
}

impl Timeline {
    pub(crate) fn new(seed: u64) -> Self {
        let mut timeline = Self { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new() };
        timeline.mix(seed);
        timeline
    }

    /// Something happened that is not worth a line: it goes into the hash alone.
    pub(crate) fn note(&mut self, kind: Kind, numbers: [u64; 3]) {
        self.mix(kind as u64);
        numbers.into_iter().for_each(|number| self.mix(number));
    }

    /// Bytes that moved.
    pub(crate) fn bytes(&mut self, place: u64, bytes: &[u8]) {
        self.note(Kind::Bytes, [place, bytes.len() as u64, 0]);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// Something happened that people want to read.
    pub(crate) fn say(&mut self, at: Duration, node: &str, what: &dyn fmt::Display) {
        let mut line = String::new();
        let millis = at.as_micros() / 1_000;
        let micros = at.as_micros() % 1_000;
        // Writing to a string never fails.
        let _ = write!(line, "{millis:>8}.{micros:03} ms  {node:<10} {what}");
        self.note(Kind::Line, [line.len() as u64, 0, 0]);
        for byte in line.bytes() {
            self.mix(u64::from(byte));
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines, at most `count`.
    pub(crate) fn last_page(&self, count: usize) -> Vec<String> {
        let skip = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skip).cloned().collect()
    }

    /// FNV-1a, a word at a time.
    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.hash ^= self.hash >> 29;
    }
}
