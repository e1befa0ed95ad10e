//! Up to where a partition may be committed, when its records are settled in any order.

use std::collections::VecDeque;
use std::ops::Range;

/// The records of one partition that were read and are not settled.
///
/// A commit says "everything before this offset is done", so it may go no further than the first
/// record that is not: if the consumer dies, what lies before the commit never comes again. What is
/// remembered is what is unsettled alone, as ranges, so a record that stays so for long costs
/// nothing more, and neither do records that are settled in their order.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Each from its first offset to the one behind its last, in order.
    unsettled: VecDeque<Range<i64>>,
    count: usize,
    /// Behind the last record that was read.
    next: i64,
    /// What the group has committed, as far as is known here.
    committed: i64,
}

impl Tracker {
    /// Of a partition that is read from `start` on, which is where its group stands.
    pub(crate) fn new(start: i64) -> Self {
        Self { unsettled: VecDeque::new(), count: 0, next: start, committed: start }
    }

    /// The record at `offset` was read; `false` if it is not a new one.
    pub(crate) fn read(&mut self, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        self.count += 1;
        match self.unsettled.back_mut() {
            Some(last) if last.end == offset => last.end = self.next,
            _ => self.unsettled.push_back(offset..self.next),
        }
        true
    }

    /// The record at `offset` is done; `false` if it was already, or was never read.
    pub(crate) fn settle(&mut self, offset: i64) -> bool {
        // Most often it is the first.
        let at = match self.unsettled.front() {
            Some(first) if offset < first.end => 0,
            _ => self.unsettled.partition_point(|range| range.end <= offset),
        };
        let Some(range) = self.unsettled.get_mut(at).filter(|range| range.contains(&offset)) else {
            return false;
        };
        let behind = offset + 1..range.end;
        if range.start < offset {
            range.end = offset;
            if !behind.is_empty() {
                self.unsettled.insert(at + 1, behind);
            }
        } else if behind.is_empty() {
            self.unsettled.remove(at);
        } else {
            *range = behind;
        }
        self.count -= 1;
        true
    }

    /// How many were read and are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.count
    }

    /// The offset to read next.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// The offset that can be committed, if that is news to the group.
    pub(crate) fn due(&self) -> Option<i64> {
        let point = self.unsettled.front().map_or(self.next, |first| first.start);
        (point > self.committed).then_some(point)
    }

    /// The group has committed `offset`.
    pub(crate) fn committed(&mut self, offset: i64) {
        self.committed = self.committed.max(offset);
    }

    /// Whether the group stands where this consumer left it, so that nobody else has read on.
    pub(crate) fn stands_at(&self, committed: i64) -> bool {
        self.committed == committed
    }

    /// The same for a group that has committed nothing yet.
    pub(crate) fn stands_at_start(&self) -> bool {
        self.committed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gap_holds_the_commit_back() {
        let mut tracker = Tracker::new(5);
        assert_eq!(tracker.due(), None);
        for offset in [5, 6, 9] {
            assert!(tracker.read(offset));
        }
        assert!(tracker.settle(6) && !tracker.settle(6));
        assert_eq!(tracker.due(), None, "5 is not settled");
        assert!(tracker.settle(5));
        assert_eq!(tracker.due(), Some(9));
        assert!(tracker.settle(9));
        assert_eq!(tracker.due(), Some(10));
        tracker.committed(10);
        assert_eq!(tracker.due(), None);
    }

    /// What can happen to a partition: the next record is read, after so many offsets that hold
    /// none; one of those that were read is settled; what is due is committed.
    #[derive(Debug, Clone)]
    enum Step {
        Read { skipping: i64 },
        Settle { which: usize },
        Commit,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3_i64).prop_map(|skipping| Step::Read { skipping }),
            any::<usize>().prop_map(|which| Step::Settle { which }),
            Just(Step::Commit),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against the plain model: every record with a mark.
        #[test]
        fn nothing_unsettled_is_ever_committed(start in 0..1000_i64, steps in steps()) {
            let mut tracker = Tracker::new(start);
            let (mut records, mut committed) = (Vec::<(i64, bool)>::new(), start);
            for step in steps {
                match step {
                    Step::Read { skipping } => {
                        let offset = records.last().map_or(start, |last| last.0 + 1) + skipping;
                        prop_assert!(tracker.read(offset));
                        prop_assert!(!tracker.read(offset), "a record is read once");
                        records.push((offset, false));
                    }
                    Step::Settle { which } if !records.is_empty() => {
                        let at = which % records.len();
                        let record = &mut records[at];
                        prop_assert_eq!(tracker.settle(record.0), !record.1);
                        record.1 = true;
                    }
                    Step::Settle { .. } => prop_assert!(!tracker.settle(start)),
                    Step::Commit => {
                        if let Some(due) = tracker.due() {
                            committed = due;
                            tracker.committed(due);
                        }
                    }
                }
                let first = records.iter().find(|(_, settled)| !settled).map(|(at, _)| *at);
                let end = records.last().map_or(start, |last| last.0 + 1);
                let point = first.unwrap_or(end);
                prop_assert_eq!(tracker.due().unwrap_or(committed).max(committed), point.max(committed));
                prop_assert!(records.iter().all(|(at, settled)| *settled || *at >= committed));
                prop_assert_eq!(tracker.next(), end);
                let left = records.iter().filter(|(_, settled)| !settled).count();
                prop_assert_eq!(tracker.unsettled(), left);
            }
        }
    }
}
