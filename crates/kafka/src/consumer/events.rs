//! What librdkafka tells a consumer between records: rebalances and errors.
//!
//! All of it comes to the consumer's own thread, while that polls.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use posthaste_core::task::lock;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::state::{Shared, State, put};
use crate::errors;
use crate::native::Troubles;

/// How long a group has to wait for what is handed out when it gives its partitions out anew.
const GRACE: Duration = Duration::from_secs(1);

/// Tells the state what happens to the consumer.
pub(crate) struct Events {
    pub(crate) shared: Arc<Shared>,
    pub(crate) troubles: Troubles,
    pub(crate) request_timeout: Duration,
}

impl ClientContext for Events {
    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.note(&error, reason);
    }
}

impl ConsumerContext for Events {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            _ => self.revoked(consumer),
        }
    }
}

impl Events {
    /// The group gives this consumer partitions. Those that it had right before, and that nobody
    /// else had meanwhile, go on where they were, with what is handed out and not settled.
    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let committed = committed(consumer, list, self.request_timeout);
        self.shared.assignments.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.shared.state);
        let mut assigned: BTreeMap<(String, i32), ()> = BTreeMap::new();
        for element in list.elements() {
            let (topic, number) = (element.topic(), element.partition());
            assigned.insert((topic.to_owned(), number), ());
            let stands = committed.get(&(topic.to_owned(), number)).copied();
            let goes_on = state.partition(topic, number).is_some_and(|partition| match stands {
                Some(Offset::Offset(offset)) => partition.tracker.stands_at(offset),
                Some(_) => partition.tracker.stands_at_start(),
                None => false,
            });
            if !goes_on {
                // Where nothing is committed, nobody has read anything: a queue holds from its
                // beginning on, and a topic that is new to its group is new.
                let start = match stands {
                    Some(offset @ Offset::Offset(_)) => offset,
                    Some(_) => Offset::Beginning,
                    None => Offset::Stored,
                };
                state.add(topic, number, start);
            }
        }
        state.retain(|topic, number| assigned.contains_key(&(topic.to_owned(), number)));
        let (positions, stopped) = (state.positions(), state.stopped);
        drop(state);
        if let Err(error) = consumer.assign(&positions) {
            self.end(error);
        }
        if stopped {
            // Nothing more is wanted; what is handed out can still be settled.
            let _paused = consumer.pause(&positions);
        }
        lock(&self.shared.state).suspend(false);
    }

    /// The group takes the partitions back, to give them out anew.
    fn revoked(&self, consumer: &BaseConsumer<Self>) {
        let lost = consumer.assignment_lost();
        let mut state = lock(&self.shared.state);
        state.suspend(true);
        if !lost && !state.closing {
            state.waits = true;
            // What is worked on right now is better settled here than delivered twice.
            let working = |state: &mut State| state.unsettled() > 0;
            let waited = self.shared.room.wait_timeout_while(state, GRACE, working);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            // An older commit must not come after the one that is to come.
            let committing = |state: &mut State| state.is_committing();
            let within = self.request_timeout;
            let waited = self.shared.room.wait_timeout_while(state, within, committing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waits = false;
        }
        let due = if lost { None } else { state.begin_commit() };
        drop(state);
        if let Some(due) = due {
            // What cannot be committed comes again, here or elsewhere.
            let _committed = self.shared.commit(consumer, &due);
        }
        if lost {
            // Others may have had them for a while.
            let mut state = lock(&self.shared.state);
            state.retain(|_, _| false);
        }
        if let Err(error) = consumer.unassign() {
            self.end(error);
        }
    }

    fn end(&self, error: KafkaError) {
        let error = errors::of("taking part in the consumer group", error);
        lock(&self.shared.state).end(Err(error));
    }
}

/// Where the group stands in each partition: `Invalid` where it stands nowhere yet, and nothing
/// where that is not known.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    of: &TopicPartitionList,
    within: Duration,
) -> BTreeMap<(String, i32), Offset> {
    let mut list = TopicPartitionList::new();
    for element in of.elements() {
        list.add_partition(element.topic(), element.partition());
    }
    let Ok(committed) = consumer.committed_offsets(list, within) else { return BTreeMap::new() };
    let known = committed.elements().into_iter().filter(|element| element.error().is_ok());
    known
        .map(|element| ((element.topic().to_owned(), element.partition()), element.offset()))
        .collect()
}

/// A list of partitions that all begin at the same offset.
pub(crate) fn at(
    partitions: impl IntoIterator<Item = (String, i32)>,
    offset: Offset,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, number) in partitions {
        put(&mut list, &topic, number, offset);
    }
    list
}
