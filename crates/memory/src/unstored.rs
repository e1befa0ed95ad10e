//! What a sender's messages wait for until they are confirmed: that a store has them.

use std::collections::VecDeque;

use posthaste_core::{Level, Receipt, Seq};

/// Messages of a sender, in order, that are confirmed once a store has come so far.
#[derive(Debug, Default)]
pub(crate) struct Unstored {
    marks: VecDeque<Mark>,
    /// Up to which message the last receipt went.
    reported: u64,
    /// What belongs to no mark yet.
    last: Sum,
}

/// Some messages.
#[derive(Debug)]
struct Mark {
    /// The number of the last one.
    seq: u64,
    /// How far the store has to come.
    upto: u64,
    sum: Sum,
}

/// What there is to say of messages, most of which go to exactly one place and are held there.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    /// How many of them were counted as they went, and to how many places they went.
    counted: u64,
    matched: u64,
    /// How many of these are safe once the store has them.
    stored: u64,
}

impl Sum {
    fn add(&mut self, more: Self) {
        self.counted += more.counted;
        self.matched += more.matched;
        self.stored += more.stored;
    }
}

impl Unstored {
    /// Counts messages that did not all go to exactly one place, or that become `level`.
    pub(crate) fn count(&mut self, count: u64, matched: u64, level: Level) {
        let stored = if level == Level::Stored { count } else { 0 };
        self.last.add(Sum { counted: count, matched, stored });
    }

    /// Everything up to message `seq` is confirmed once the store has come to `upto`.
    pub(crate) fn wait(&mut self, seq: u64, upto: u64) {
        let sum = std::mem::take(&mut self.last);
        match self.marks.back_mut().filter(|mark| mark.upto == upto) {
            Some(mark) => {
                mark.seq = seq;
                mark.sum.add(sum);
            }
            None => self.marks.push_back(Mark { seq, upto, sum }),
        }
    }

    /// How far the store has to come for message `seq` to be confirmed; `None` if it need not.
    pub(crate) fn needs(&self, seq: u64) -> Option<u64> {
        let at = self.marks.partition_point(|mark| mark.seq < seq);
        // What comes behind the last mark was confirmed when it was taken, and still goes in order.
        self.marks.get(at).or_else(|| self.marks.back()).map(|mark| mark.upto)
    }

    /// The receipt of everything that is confirmed now that the store has come to `reached`, out of
    /// `taken` messages; what the store has is `level`.
    pub(crate) fn receipt(&mut self, taken: u64, reached: u64, level: Level) -> Receipt {
        let mut sum = Sum::default();
        let mut upto = self.reported;
        let done = self.marks.partition_point(|mark| mark.upto <= reached);
        for mark in self.marks.drain(..done) {
            sum.add(mark.sum);
            upto = mark.seq;
        }
        if self.marks.is_empty() {
            sum.add(std::mem::take(&mut self.last));
            upto = taken;
        }
        let mut receipt = Receipt::empty(Seq::new(upto));
        let confirmed = upto - std::mem::replace(&mut self.reported, upto);
        if confirmed > 0 {
            let level = if sum.stored == confirmed { level } else { Level::Held };
            receipt.confirm(confirmed, confirmed - sum.counted + sum.matched, level, 1);
        }
        receipt
    }
}
