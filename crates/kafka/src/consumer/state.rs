//! What a consumer's thread and its receiver share: what was read and not handed on, and what was
//! handed on and not settled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use posthaste_core::Error;
use posthaste_core::task::lock;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::events::Events;
use super::partition::{Origin, Partition, Place, Read, Ready};

/// How much is read ahead of the receiver, in messages and in bytes.
const READY_MAX: usize = 4_096;
const READY_BYTES_MAX: usize = 8 << 20;

/// How often is committed what nobody waits for.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// Both sides.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Told when there is room again for who waits for it, and when a commit has gone one way or the
    /// other.
    pub(crate) room: Condvar,
    /// How often a group has given out its partitions to this consumer.
    pub(crate) assignments: AtomicU64,
}

impl Shared {
    /// Waits until the group has committed what [`State::begin_commit`] gave out.
    pub(crate) fn commit(
        &self,
        consumer: &BaseConsumer<Events>,
        due: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let committed = consumer.commit(due, CommitMode::Sync);
        let mut state = lock(&self.state);
        state.end_commit(due, committed.is_ok());
        state.wake();
        drop(state);
        self.room.notify_all();
        committed
    }
}

#[derive(Default)]
pub(crate) struct State {
    partitions: BTreeMap<String, BTreeMap<i32, Partition>>,
    epochs: u64,
    ready: VecDeque<Ready>,
    bytes: usize,
    /// To be handed on again, each when it is due.
    again: Vec<(Instant, Ready)>,
    /// Between giving the partitions up and getting some again nothing is handed on or committed.
    suspended: bool,
    /// Nothing is wanted any more.
    pub(crate) stopped: bool,
    /// Nobody is left who could settle anything.
    pub(crate) closing: bool,
    /// What is told in between.
    interruptions: VecDeque<Error>,
    /// Nothing comes any more, and why.
    end: Option<Result<(), Error>>,
    /// A commit is on its way.
    committing: bool,
    /// How many were settled whose partitions had gone to another consumer, or went there before
    /// that was committed.
    late: usize,
    /// The thread waits for room, or for what is handed out.
    pub(crate) waits: bool,
    /// When the clock has the next commit.
    next_commit: Option<Instant>,
    pub(crate) reader: Option<Waker>,
    pub(crate) settler: Option<Waker>,
}

/// What there is for the receiver.
pub(crate) enum Next {
    Message(Ready),
    Interruption(Error),
    End(Result<(), Error>),
    Nothing,
}

impl State {
    // ---- The thread's side

    /// Notes that a partition is read from `start` on.
    pub(crate) fn add(&mut self, topic: &str, partition: i32, start: Offset) {
        self.epochs += 1;
        let this = Partition::new(topic, self.epochs, start);
        let before = self.partitions.entry(topic.to_owned()).or_default().insert(partition, this);
        self.late += before.map_or(0, |before| before.uncommitted());
    }

    pub(crate) fn partition(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(topic)?.get_mut(&partition)
    }

    /// Every partition, by topic and number.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&str, i32, &Partition)> {
        self.partitions.iter().flat_map(|(topic, numbers)| {
            numbers.iter().map(move |(number, partition)| (topic.as_str(), *number, partition))
        })
    }

    /// Every partition, with the offset to read next.
    pub(crate) fn positions(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (topic, number, partition) in self.partitions() {
            put(&mut list, topic, number, partition.position());
        }
        list
    }

    /// Forgets the partitions that `keep` does not know, and what was read of them.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str, i32) -> bool) {
        for (topic, numbers) in &mut self.partitions {
            numbers.retain(|number, partition| {
                let kept = keep(topic, *number);
                self.late += if kept { 0 } else { partition.uncommitted() };
                kept
            });
        }
        self.partitions.retain(|_, numbers| !numbers.is_empty());
        self.drop_strangers();
    }

    /// Drops what was read during assignments that have ended.
    pub(crate) fn drop_strangers(&mut self) {
        let partitions = &self.partitions;
        let is_ours = |ready: &Ready| {
            let of = partitions.get(&*ready.place.topic);
            let of = of.and_then(|numbers| numbers.get(&ready.place.partition));
            of.is_some_and(|partition| partition.epoch == ready.place.epoch)
        };
        self.ready.retain(is_ours);
        self.again.retain(|(_, ready)| is_ours(ready));
        self.bytes = self.ready.iter().map(|ready| ready.message.size()).sum();
    }

    pub(crate) fn suspend(&mut self, suspended: bool) {
        self.suspended = suspended;
        self.wake();
    }

    /// Takes in what was read in one partition, if that still is this consumer's; what comes twice is
    /// left out.
    pub(crate) fn take_in(&mut self, read: &mut Vec<Read>, of: &Origin, grouped: bool) {
        let (ready, bytes) = (&mut self.ready, &mut self.bytes);
        let partition = self.partitions.get_mut(&*of.topic);
        let partition = partition.and_then(|numbers| numbers.get_mut(&of.partition));
        let Some(partition) = partition.filter(|_| !self.stopped) else { return read.clear() };
        for Read { offset, message } in read.drain(..) {
            if !partition.tracker.read(offset) {
                continue;
            }
            if message.is_none() || !grouped {
                // Nobody has to settle it.
                partition.tracker.settle(offset);
            }
            if let Some(message) = message {
                *bytes += message.size();
                let (topic, epoch) = (Arc::clone(&partition.name), partition.epoch);
                let place = Place { topic, partition: of.partition, offset, epoch };
                ready.push_back(Ready { message, attempt: 1, place });
            }
        }
    }

    /// Puts a message behind those that wait; who reads is woken for many at once.
    pub(crate) fn put(&mut self, ready: Ready) {
        if self.stopped {
            return;
        }
        self.bytes += ready.message.size();
        self.ready.push_back(ready);
    }

    /// Puts what is due again behind those that wait; the time of the next that is not.
    pub(crate) fn put_due(&mut self, now: Instant) {
        let mut at = 0;
        while at < self.again.len() {
            match self.again[at].0 <= now {
                true => {
                    let (_, ready) = self.again.remove(at);
                    self.put(ready);
                    self.wake_reader();
                }
                false => at += 1,
            }
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ready.len() >= READY_MAX || self.bytes >= READY_BYTES_MAX
    }

    /// Whether so much was taken that reading on is worth it.
    pub(crate) fn has_room(&self) -> bool {
        self.ready.len() <= READY_MAX / 2 && self.bytes <= READY_BYTES_MAX / 2
    }

    pub(crate) fn interrupt(&mut self, error: Error) {
        self.interruptions.push_back(error);
        self.wake_reader();
    }

    pub(crate) fn end(&mut self, why: Result<(), Error>) {
        self.end.get_or_insert(why);
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        self.wake_reader();
        if let Some(waker) = self.settler.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    // ---- The receiver's side

    pub(crate) fn next(&mut self) -> Next {
        if self.suspended && self.end.is_none() {
            return Next::Nothing;
        }
        if let Some(ready) = self.ready.pop_front() {
            self.bytes -= ready.message.size();
            return Next::Message(ready);
        }
        if let Some(error) = self.interruptions.pop_front() {
            return Next::Interruption(error);
        }
        match &self.end {
            Some(why) => Next::End(why.clone()),
            None => Next::Nothing,
        }
    }

    /// Whether the group is giving out partitions, and has not come to this consumer yet.
    pub(crate) fn is_joining(&self) -> bool {
        self.suspended && self.end.is_none()
    }

    /// Wants nothing more; what was not handed on was never read, as far as the group knows.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.ready.clear();
        self.again.clear();
        self.bytes = 0;
    }

    /// Hands a message on again once it is due.
    pub(crate) fn put_again(&mut self, at: Instant, ready: Ready) {
        if !self.stopped {
            self.again.push((at, ready));
        }
    }

    /// Whether the partition of this place is still read as it was then.
    pub(crate) fn is_ours(&mut self, place: &Place) -> bool {
        self.partition(&place.topic, place.partition)
            .is_some_and(|partition| partition.epoch == place.epoch)
    }

    /// Notes that what was read in these places is done.
    pub(crate) fn settle(&mut self, done: &[Place]) {
        for places in done.chunk_by(|one, next| one.epoch == next.epoch) {
            let first = &places[0];
            match self.partition(&first.topic, first.partition) {
                Some(partition) if partition.epoch == first.epoch => {
                    for place in places {
                        partition.settled += usize::from(partition.tracker.settle(place.offset));
                    }
                }
                _ => self.late += places.len(),
            }
        }
    }

    /// How many were settled too late, since this was asked. What could not be committed yet, because
    /// something before it is not settled, is over with that.
    pub(crate) fn take_late(&mut self) -> usize {
        for partition in self.partitions.values_mut().flat_map(BTreeMap::values_mut) {
            partition.settled = 0;
        }
        std::mem::take(&mut self.late)
    }

    /// How many were handed on and are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        let read: usize = self.partitions().map(|(.., this)| this.tracker.unsettled()).sum();
        read.saturating_sub(self.ready.len() + self.again.len())
    }

    /// Whether no commit is on its way and the partitions are this consumer's, whichever they are.
    pub(crate) fn stands(&self) -> bool {
        !self.committing && !self.suspended
    }

    pub(crate) fn is_committing(&self) -> bool {
        self.committing
    }

    /// Whether the clock has a commit now; it has the next after a while then.
    pub(crate) fn is_commit_due(&mut self, now: Instant) -> bool {
        let due = self.stands() && self.next_commit.is_none_or(|at| now >= at);
        let due = due && self.has_commits();
        if due {
            self.next_commit = Some(now + COMMIT_EVERY);
        }
        due
    }

    /// Whether anything is to be committed.
    pub(crate) fn has_commits(&self) -> bool {
        self.partitions().any(|(.., partition)| partition.tracker.due().is_some())
    }

    /// What is to be committed now, if there is anything; [`Shared::commit`] does it.
    pub(crate) fn begin_commit(&mut self) -> Option<TopicPartitionList> {
        if self.committing {
            return None;
        }
        let mut list = TopicPartitionList::new();
        for (topic, numbers) in &mut self.partitions {
            for (number, partition) in numbers {
                if let Some(offset) = partition.tracker.due() {
                    put(&mut list, topic, *number, Offset::Offset(offset));
                    partition.committing = std::mem::take(&mut partition.settled);
                }
            }
        }
        self.committing = list.count() > 0;
        self.committing.then_some(list)
    }

    /// Notes what became of a commit, which is the end of it.
    fn end_commit(&mut self, list: &TopicPartitionList, committed: bool) {
        self.committing = false;
        for element in list.elements() {
            let Some(partition) = self.partition(element.topic(), element.partition()) else {
                continue;
            };
            let settled = std::mem::take(&mut partition.committing);
            match (committed, element.error(), element.offset()) {
                (true, Ok(()), Offset::Offset(offset)) => partition.tracker.committed(offset),
                _ => partition.settled += settled,
            }
        }
    }
}

/// Adds a partition to a list.
pub(crate) fn put(list: &mut TopicPartitionList, topic: &str, partition: i32, offset: Offset) {
    // It fails at offsets that are none, of which this crate makes none.
    let _added = list.add_partition_offset(topic, partition, offset);
}
