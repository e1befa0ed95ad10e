//! Copies that a consumer has taken out of its mailbox and not handed out yet.

use std::time::Instant;

use posthaste_core::Delivery;

use crate::blocks::{BLOCK, Blocks, Spares};
use crate::copies::Entry;

/// What a lone automatic consumer has taken in advance, to hand it out without a lock.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) blocks: Blocks,
    /// Whether all of them are [ordinary](Entry::is_ordinary).
    pub(crate) ordinary: bool,
    /// How many of them may be handed out without another look.
    at_hand: u64,
    /// How many there will have been handed out when these are.
    then_handed: u64,
    /// How many it takes in advance next time.
    window: usize,
    window_max: usize,
    /// What was missed before copies that were too old to be handed out.
    missed: u32,
}

impl Ahead {
    /// Nothing yet; at most `most` at a time.
    pub(crate) fn new(most: usize) -> Self {
        let window_max = most.clamp(1, BLOCK);
        Self {
            blocks: Blocks::default(),
            ordinary: true,
            at_hand: 0,
            then_handed: 0,
            window: 1,
            window_max,
            missed: 0,
        }
    }

    /// How many it may take now. Who takes as many may take twice as many next time: one that
    /// takes one and is busy with it has taken nothing that another could do.
    pub(crate) fn window(&mut self, there: usize) -> usize {
        let window = self.window;
        if there >= window {
            self.window = (2 * window).min(self.window_max);
        }
        window
    }

    /// Others want a share.
    pub(crate) fn begin_anew(&mut self) {
        self.window = 1;
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Puts at hand what needs no other look, `most` at most, and says how many those are; `handed`
    /// were handed out before.
    pub(crate) fn put_at_hand(&mut self, most: u64, handed: u64) -> u64 {
        self.at_hand = if self.ordinary { self.blocks.at_hand().min(most) } else { 0 };
        self.then_handed = handed + self.at_hand;
        self.at_hand
    }

    /// Leaves nothing at hand, and says how many of what was there are there still.
    pub(crate) fn clear_hand(&mut self) -> u64 {
        std::mem::take(&mut self.at_hand)
    }

    #[inline(always)]
    pub(crate) fn has_at_hand(&self) -> bool {
        self.at_hand > 0
    }

    /// One of those at hand goes out; how many will have been handed out with it.
    #[inline(always)]
    pub(crate) fn count_one(&mut self) -> u64 {
        self.at_hand -= 1;
        self.then_handed - self.at_hand
    }

    /// Hands out up to `most` that need no other look, and says how many those are; 0 says nothing
    /// about those behind.
    #[inline]
    pub(crate) fn hand_ordinary(&mut self, most: usize, hand: &mut impl FnMut(Delivery)) -> usize {
        if !self.ordinary || self.missed > 0 {
            return 0;
        }
        self.blocks.drain_at_hand(most).map(|entry| hand(deliver(entry))).count()
    }

    /// The next one that `is_over` lets through, with how many were dropped right before it; `None`
    /// at the end. `expired` counts those it did not let through.
    pub(crate) fn pop(
        &mut self,
        spares: &Spares,
        mut is_over: impl FnMut(Instant) -> bool,
        expired: &mut u64,
    ) -> Option<Entry> {
        while let Some(mut entry) = self.blocks.pop(spares) {
            self.missed = self.missed.saturating_add(entry.missed);
            if !entry.expires().is_some_and(&mut is_over) {
                entry.missed = std::mem::take(&mut self.missed);
                return Some(entry);
            }
            *expired += 1;
        }
        None
    }
}

/// Hands a copy out that is settled with that.
#[inline(always)]
pub(crate) fn deliver(entry: Entry) -> Delivery {
    let (attempt, missed) = (entry.attempts.saturating_add(1), u64::from(entry.missed));
    Delivery::settled(entry.message, attempt).with_missed(missed)
}
