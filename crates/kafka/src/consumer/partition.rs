//! A partition that a consumer reads, and what is read there.

use std::sync::Arc;

use posthaste_core::Message;
use rdkafka::topic_partition_list::Offset;

use crate::tracker::Tracker;

/// Where a message was read, and during which assignment of its partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) epoch: u64,
}

/// A message that was read.
pub(crate) struct Ready {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    pub(crate) place: Place,
}

/// A record that was read, and its message if that is wanted.
pub(crate) struct Read {
    pub(crate) offset: i64,
    pub(crate) message: Option<Message>,
}

/// Where records were read.
#[derive(PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

/// A partition that is read.
pub(crate) struct Partition {
    pub(crate) name: Arc<str>,
    /// Changes when the partition comes back after others may have had it.
    pub(crate) epoch: u64,
    pub(crate) tracker: Tracker,
    /// Where it began; the tracker knows only once something was read.
    start: Offset,
    /// How many were settled that nobody has begun to commit, and how many of a commit that is on
    /// its way.
    pub(super) settled: usize,
    pub(super) committing: usize,
}

impl Partition {
    pub(super) fn new(name: &str, epoch: u64, start: Offset) -> Self {
        let tracker = Tracker::new(if let Offset::Offset(at) = start { at } else { 0 });
        Self { name: name.into(), epoch, tracker, start, settled: 0, committing: 0 }
    }

    /// How many were settled that the group knows nothing of.
    pub(super) fn uncommitted(&self) -> usize {
        self.settled + self.committing
    }

    /// Where to read on.
    pub(crate) fn position(&self) -> Offset {
        match (self.start, self.tracker.next()) {
            (Offset::Offset(_), next) | (_, next @ 1..) => Offset::Offset(next),
            (start, _) => start,
        }
    }
}
