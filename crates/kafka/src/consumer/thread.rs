//! The thread of a consumer: polls librdkafka, which blocks, and hands on what it reads.
//!
//! A consumer has to be polled all the time, or its group goes on without it, and to be dropped
//! where it may block, because it says goodbye to its group. So a thread of its own has it until
//! nobody else does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use posthaste_core::task::{OneShot, lock};
use posthaste_core::{Error, ErrorKind};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::events::Events;
use super::partition::{Origin, Read};
use super::start::{self, Source, is_final};
use super::state::{Shared, State};
use crate::client::{Client, partitions_of};
use crate::errors;
use crate::record::{Reading, Wants};

/// How long the thread waits for a record before it looks at everything else.
const LOOK: Duration = Duration::from_millis(100);

/// How many records it takes at a time at most.
const BATCH: usize = 256;

/// The same while it waits for room.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(10);

/// How long a full consumer waits for room before it has the brokers send nothing more, which costs
/// what was sent already.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often in a row a topic has to be missing until it counts as deleted.
const MISSING: u32 = 5;

/// A consumer and what its thread knows of it.
pub(crate) struct Thread {
    pub(crate) client: Arc<Client>,
    pub(crate) consumer: Arc<BaseConsumer<Events>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Source,
    /// Told once what is published is seen.
    pub(crate) live: Arc<OneShot<Result<(), Error>>>,
    reading: Reading,
    /// What was read in one partition, to be taken in together, and during which assignment.
    read: Vec<Read>,
    origin: Origin,
    assignment: u64,
    paused: bool,
    missing: u32,
    looked: Instant,
}

impl Thread {
    pub(crate) fn spawn(
        client: Arc<Client>,
        consumer: Arc<BaseConsumer<Events>>,
        shared: Arc<Shared>,
        source: Source,
        wants: Wants,
        live: Arc<OneShot<Result<(), Error>>>,
    ) -> Result<(), Error> {
        let looked = client.runtime().now();
        let mut this = Self {
            client,
            consumer,
            shared,
            source,
            live,
            reading: Reading::new(wants),
            read: Vec::with_capacity(BATCH),
            origin: Origin { topic: Arc::from(""), partition: 0 },
            assignment: 0,
            paused: false,
            missing: 0,
            looked,
        };
        thread::Builder::new().name(String::from("posthaste-kafka")).spawn(move || this.run())?;
        Ok(())
    }

    fn run(&mut self) {
        let started = self.start();
        if let Err(error) = &started {
            lock(&self.shared.state).end(Err(error.clone()));
        }
        self.live.put(started);
        while self.is_needed() {
            self.turn();
        }
        self.settle_down();
        // What is settled is done, also for whoever reads this next.
        self.commit_what_is_left();
    }

    /// Whether anybody but this thread has the consumer.
    fn is_needed(&self) -> bool {
        Arc::strong_count(&self.consumer) > 1
    }

    /// Waits for the end of a rebalance: who leaves its group in the middle of one cannot say
    /// goodbye, and is waited for by the others until its session is over.
    fn settle_down(&mut self) {
        let runtime = Arc::clone(self.client.runtime());
        let until = runtime.now() + self.client.options.session_timeout;
        let mut state = lock(&self.shared.state);
        state.stop();
        state.closing = true;
        drop(state);
        while lock(&self.shared.state).is_joining() && runtime.now() < until {
            self.turn();
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        let (runtime, within) = (self.client.runtime(), self.client.options.request_timeout);
        let (pattern, follows) = match &self.source {
            Source::Assigned(pattern, _) => (pattern, true),
            Source::Grouped { pattern, from_end, .. } => (pattern, *from_end),
        };
        let partitions = match follows {
            true => start::partitions(&self.consumer, pattern, within).map_err(|error| {
                self.client.explain(&format!("asking for the topics of {pattern}"), error)
            })?,
            false => BTreeSet::new(),
        };
        match &self.source {
            Source::Assigned(_, position) => {
                let starts =
                    start::at_position(&self.consumer, &partitions, *position, runtime, within)?;
                let mut state = lock(&self.shared.state);
                for ((topic, number), start) in starts {
                    state.add(&topic, number, start);
                }
                Ok(())
            }
            Source::Grouped { subscription, .. } => {
                start::group_at_ends(&self.consumer, &partitions, runtime, within)?;
                let subscribed = self.consumer.subscribe(&[subscription]);
                subscribed.map_err(|error| errors::of("joining the consumer group", error))?;
                lock(&self.shared.state).suspend(true);
                Ok(())
            }
        }
    }

    /// One look at the consumer, and what else is due.
    fn turn(&mut self) {
        let mut wait = if self.paused { LOOK_FOR_ROOM } else { LOOK };
        let consumer = Arc::clone(&self.consumer);
        for _ in 0..BATCH {
            match consumer.poll(wait) {
                Some(Ok(record)) => self.take(&record),
                Some(Err(error)) => {
                    self.take_in();
                    self.trouble(&error);
                }
                None => break,
            }
            wait = Duration::ZERO;
        }
        self.take_in();
        let now = self.client.runtime().now();
        let mut state = lock(&self.shared.state);
        state.wake_reader();
        state.put_due(now);
        let due = self.is_grouped() && state.is_commit_due(now);
        let due = if due { state.begin_commit() } else { None };
        let resumes = self.paused && state.has_room() && !state.stopped;
        let stops = state.stopped && !self.paused;
        drop(state);
        if let Some(due) = due {
            // What fails is tried again when the clock has the next.
            let _committed = self.shared.commit(&self.consumer, &due);
        }
        if resumes {
            self.paused = false;
            let _resumed = self.consumer.resume(&self.assignment());
        }
        if stops {
            // Nothing more is wanted, but what is handed out can still be settled.
            self.pause();
        }
        if now >= self.looked + self.client.options.discovery {
            self.looked = now;
            self.look();
        }
    }

    fn assignment(&self) -> TopicPartitionList {
        lock(&self.shared.state).positions()
    }

    // ---- Reading

    fn take(&mut self, record: &BorrowedMessage<'_>) {
        let (topic, partition) = (record.topic(), record.partition());
        // What was read of partitions that were given out anew since comes again.
        let assignment = self.shared.assignments.load(Ordering::Relaxed);
        if self.assignment != assignment {
            self.assignment = assignment;
            self.read.clear();
        }
        if (&*self.origin.topic, self.origin.partition) != (topic, partition) {
            self.take_in();
            self.origin = Origin { topic: topic.into(), partition };
        }
        let runtime = self.client.runtime();
        let message = self.reading.read(record, &**runtime);
        let message = message
            .filter(|message| message.deadline().is_none_or(|deadline| deadline > runtime.now()));
        self.read.push(Read { offset: record.offset(), message });
    }

    /// Hands on what was read.
    fn take_in(&mut self) {
        if self.read.is_empty() {
            return;
        }
        let grouped = self.is_grouped();
        let mut state = lock(&self.shared.state);
        if self.assignment != self.shared.assignments.load(Ordering::Relaxed) {
            return self.read.clear();
        }
        state.take_in(&mut self.read, &self.origin, grouped);
        state.wake_reader();
        let full = state.is_full() && !state.stopped;
        drop(state);
        if full {
            self.wait_for_room();
        }
    }

    fn is_grouped(&self) -> bool {
        matches!(self.source, Source::Grouped { .. })
    }

    /// Reads nothing more for a while, and has the brokers send nothing more if that takes long.
    fn wait_for_room(&mut self) {
        let mut state = lock(&self.shared.state);
        state.wake_reader();
        state.waits = true;
        let needed = |state: &mut State| state.is_full() && !state.stopped && self.is_needed();
        let waited = self.shared.room.wait_timeout_while(state, PATIENCE, needed);
        let full = waited.map_or(true, |(mut state, _)| {
            state.waits = false;
            state.is_full()
        });
        if full && !self.paused {
            self.pause();
        }
    }

    /// Has the brokers send nothing more.
    fn pause(&mut self) {
        self.paused = true;
        let _paused = self.consumer.pause(&self.assignment());
    }

    // ---- Troubles

    fn trouble(&mut self, error: &KafkaError) {
        if let KafkaError::PartitionEOF(_) = error {
            return;
        }
        match errors::code(error) {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                self.find_position();
            }
            // Who takes part in no group needs no leave to.
            Some(Code::GroupAuthorizationFailed) if !self.is_grouped() => {}
            _ if is_final(error) => {
                let error = self.client.explain("reading", error.clone());
                lock(&self.shared.state).end(Err(error));
            }
            // librdkafka tries again, for ever.
            _ => {}
        }
    }

    /// A position is outside of what is kept: begins anew at the oldest that is, and says so.
    fn find_position(&mut self) {
        let within = self.client.options.request_timeout;
        let positions = self.assignment();
        let mut lost = Vec::new();
        for element in positions.elements() {
            let (topic, number) = (element.topic(), element.partition());
            let Ok((low, high)) = self.consumer.fetch_watermarks(topic, number, within) else {
                continue;
            };
            match element.offset() {
                Offset::Offset(at) if (low..=high).contains(&at) => {}
                Offset::Offset(at) => lost.push((topic.to_owned(), number, at, low)),
                // The group stood nowhere when it was asked for.
                Offset::Stored => lost.push((topic.to_owned(), number, low, low)),
                _ => {}
            }
        }
        let mut state = lock(&self.shared.state);
        for (topic, number, at, low) in lost {
            state.add(&topic, number, Offset::Offset(low));
            if at != low {
                let text = format!(
                    "partition {number} of {topic} holds nothing at offset {at} any more; reading \
                     goes on at {low}, which is the oldest that it holds"
                );
                state.interrupt(Error::new(ErrorKind::SessionLost, text));
            }
        }
        state.drop_strangers();
        let positions = state.positions();
        drop(state);
        if let Err(error) = self.consumer.assign(&positions) {
            let error = errors::of("reading", error);
            lock(&self.shared.state).end(Err(error));
        }
        self.paused = false;
    }

    // ---- What comes and goes

    /// Looks for topics and partitions that are new, and for a queue that is gone.
    fn look(&mut self) {
        if lock(&self.shared.state).stopped {
            return;
        }
        match &self.source {
            Source::Assigned(pattern, _) => {
                let found = start::partitions(&self.consumer, pattern, LOOK * 10);
                if let Ok(found) = found {
                    self.adopt(&found);
                }
            }
            Source::Grouped { pattern, .. } if pattern.is_literal() => {
                match partitions_of(&self.consumer, pattern.as_str(), LOOK * 10) {
                    Ok(None) => self.missing += 1,
                    Ok(Some(_)) => self.missing = 0,
                    Err(_) => {}
                }
                if self.missing >= MISSING {
                    lock(&self.shared.state).end(Ok(()));
                }
            }
            // librdkafka looks for what its own regular expression matches.
            Source::Grouped { .. } => {}
        }
        self.commit_what_is_left();
    }

    /// Reads partitions that are new from their beginning: all that is in them was published since
    /// the subscription is live.
    fn adopt(&mut self, found: &BTreeSet<start::Number>) {
        let mut state = lock(&self.shared.state);
        let known: BTreeSet<start::Number> =
            state.partitions().map(|(topic, number, _)| (topic.to_owned(), number)).collect();
        // One that is missing stays: a broker that has just come up knows not all of them yet, and
        // one that comes again with less in it is found out.
        let new: Vec<_> = found.difference(&known).cloned().collect();
        for (topic, number) in &new {
            state.add(topic, *number, Offset::Beginning);
        }
        drop(state);
        if !new.is_empty() {
            let list = super::events::at(new, Offset::Beginning);
            if let Err(error) = self.consumer.incremental_assign(&list) {
                let error = errors::of("reading topics that are new", error);
                lock(&self.shared.state).end(Err(error));
            }
            if self.paused {
                let _paused = self.consumer.pause(&list);
            }
        }
    }

    /// Commits what nobody waits for: records that were left out, and what failed before.
    fn commit_what_is_left(&self) {
        if !self.is_grouped() {
            return;
        }
        let mut state = lock(&self.shared.state);
        let due = if state.stands() { state.begin_commit() } else { None };
        drop(state);
        if let Some(due) = due {
            let _committed = self.shared.commit(&self.consumer, &due);
        }
    }
}
