//! What has gathered to be written: one contiguous buffer, with large payloads spliced in.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Payloads of at least this many bytes are spliced in rather than copied.
pub(crate) const SPLICE_MIN: usize = 8 << 10;

/// What is kept of an emptied buffer without regard to how much of it was used. Memory that goes
/// back to the system comes back page by page, which costs more than to fill it.
const KEEP: usize = 512 << 10;

/// Bytes to be written, in order.
///
/// A driver keeps one, hands it empty to [`Session::swap_output`](crate::Session::swap_output),
/// writes it out with vectored writes and hands it in again: once warm, nothing is allocated.
///
/// ```
/// use std::io::IoSlice;
/// use posthaste_wire::{Config, Output, Session};
///
/// let mut output = Output::new();
/// Session::client(Config::default(), std::time::Instant::now()).swap_output(&mut output);
/// let mut slices = [IoSlice::new(&[]); 16];
/// let filled = output.io_slices(&mut slices);
/// assert_eq!(&slices[..filled][0][1..4], b"PHW");
/// output.advance(output.len());
/// assert!(output.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// How much of `bytes` has been written.
    front: usize,
    /// Payloads, each with the place in `bytes` before which it goes.
    splices: VecDeque<(usize, Bytes)>,
    /// Bytes in `splices`.
    spliced: usize,
}

impl Output {
    /// An empty output; it allocates when first used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that are still to be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.front).saturating_add(self.spliced)
    }

    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with the front of what is to be written and returns how many slices it filled.
    pub fn io_slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0_usize;
        for (place, slice) in into.iter_mut().zip(self.slices()) {
            *place = IoSlice::new(slice);
            filled = filled.saturating_add(1);
        }
        filled
    }

    /// Forgets the first `count` bytes, which have been written. More than there is, is all of it.
    pub fn advance(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let until = self.splices.front().map_or(self.bytes.len(), |(at, _)| *at);
            let contiguous = until.saturating_sub(self.front);
            if contiguous > 0 {
                let step = contiguous.min(left);
                self.front = self.front.saturating_add(step);
                left = left.saturating_sub(step);
            } else if let Some((_, payload)) = self.splices.front_mut() {
                let step = payload.len().min(left);
                payload.advance(step);
                self.spliced = self.spliced.saturating_sub(step);
                left = left.saturating_sub(step);
                if payload.is_empty() {
                    self.splices.pop_front();
                }
            } else {
                break;
            }
        }
        if self.is_empty() {
            self.reset();
        }
    }

    /// Everything that is to be written, copied into one buffer.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        self.slices().for_each(|slice| all.extend_from_slice(slice));
        all
    }

    /// Gives back the memory of an empty output: for a connection that has fallen idle.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// The buffer that small frames are encoded into.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a payload: copied if it is small, spliced in if it is large.
    pub(crate) fn push_payload(&mut self, payload: &Bytes) {
        if payload.len() < SPLICE_MIN {
            self.bytes.extend_from_slice(payload);
        } else {
            self.spliced = self.spliced.saturating_add(payload.len());
            self.splices.push_back((self.bytes.len(), payload.clone()));
        }
    }

    /// The slices that are to be written, in order, none of them empty.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = self.front;
        let pieces = self.splices.iter().flat_map(move |(at, payload)| {
            let before = self.bytes.get(from..*at).unwrap_or_default();
            from = *at;
            [before, &payload[..]]
        });
        let last = self.splices.back().map_or(self.front, |(at, _)| *at);
        let tail = self.bytes.get(last..).unwrap_or_default();
        pieces.chain([tail]).filter(|slice| !slice.is_empty())
    }

    /// Forgets what was written. A buffer that was large for what it was used for is given back;
    /// one that was filled is kept, or a busy connection would allocate in every round.
    fn reset(&mut self) {
        let used = self.bytes.len();
        self.bytes.clear();
        self.front = 0;
        if self.bytes.capacity() > KEEP && used < self.bytes.capacity() / 4 {
            self.bytes.shrink_to(KEEP);
        }
        if self.splices.capacity() > 256 {
            self.splices.shrink_to(256);
        }
    }
}
