//! One direction of a connection: what is on its way, what has arrived, and how much it holds.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::Waker;
use std::time::Duration;

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Flow {
    /// What was written at once, and when it may arrive: in order.
    on_the_way: VecDeque<(Duration, Piece)>,
    arrived: VecDeque<u8>,
    /// Bytes on the way and arrived.
    held: usize,
    capacity: usize,
    /// The writer has closed its side; nothing is written any more.
    finished: bool,
    /// The reader has come to the end.
    ended: bool,
    /// Whatever is written vanishes.
    pub(super) lost: bool,
    /// And so does the news of a reset.
    pub(super) silent: bool,
    /// Nothing arrives before.
    pub(super) held_until: Duration,
    /// Whether the next arrival is on the agenda.
    pub(super) expected: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

#[derive(Debug)]
enum Piece {
    Bytes(VecDeque<u8>),
    End,
}

impl Flow {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            on_the_way: VecDeque::new(),
            arrived: VecDeque::new(),
            held: 0,
            capacity,
            finished: false,
            ended: false,
            lost: false,
            silent: false,
            held_until: Duration::ZERO,
            expected: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.held)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Puts the first `count` bytes of `parts` on their way.
    pub(super) fn push(&mut self, at: Duration, parts: &[IoSlice<'_>], count: usize) {
        let mut bytes = VecDeque::with_capacity(count);
        let mut left = count;
        for part in parts {
            let step = part.len().min(left);
            bytes.extend(&part[..step]);
            left -= step;
        }
        self.held += count;
        self.on_the_way.push_back((at, Piece::Bytes(bytes)));
    }

    /// Nothing is written any more; `false` if that was so already.
    pub(super) fn finish(&mut self, at: Duration) -> bool {
        if self.finished {
            return false;
        }
        self.finished = true;
        self.on_the_way.push_back((at, Piece::End));
        true
    }

    /// When the next piece is to arrive, if that is not on the agenda yet.
    pub(super) fn next_arrival(&mut self) -> Option<Duration> {
        if self.expected || self.lost {
            return None;
        }
        let at = self.on_the_way.front()?.0.max(self.held_until);
        self.expected = true;
        Some(at)
    }

    /// The oldest piece arrives, or a part of it as large as `part` says.
    pub(super) fn arrive(&mut self, part: Option<u64>, seen: impl FnOnce(&[u8])) {
        match self.on_the_way.front_mut() {
            Some((_, Piece::Bytes(bytes))) => {
                let all = bytes.len();
                let count = match part {
                    Some(part) if all > 1 => 1 + usize::try_from(part % all as u64).unwrap_or(0),
                    _ => all,
                };
                let some: Vec<u8> = bytes.drain(..count).collect();
                seen(&some);
                self.arrived.extend(some);
                if count == all {
                    self.on_the_way.pop_front();
                }
            }
            Some((_, Piece::End)) => {
                self.ended = true;
                self.on_the_way.pop_front();
            }
            None => {}
        }
    }

    /// Takes bytes out; `None` if there are none yet, 0 at the end.
    pub(super) fn take(&mut self, into: &mut [u8]) -> Option<usize> {
        if self.arrived.is_empty() {
            return (self.ended || into.is_empty()).then_some(0);
        }
        let count = into.len().min(self.arrived.len());
        for (place, byte) in into.iter_mut().zip(self.arrived.drain(..count)) {
            *place = byte;
        }
        self.held -= count;
        Some(count)
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.arrived.is_empty()
    }

    pub(crate) fn hold_until(&mut self, at: Duration) {
        self.held_until = self.held_until.max(at);
    }

    pub(crate) fn hold_at_most_until(&mut self, at: Duration) {
        self.held_until = self.held_until.min(at);
    }

    /// This direction is a black hole from now on.
    pub(crate) fn fall_silent(&mut self) {
        self.lose();
        self.silent = true;
    }

    /// What is on its way, and all that is still written, never arrives. The buffer stays as full
    /// as it is: nobody tells the writer.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
        self.on_the_way.clear();
    }
}
