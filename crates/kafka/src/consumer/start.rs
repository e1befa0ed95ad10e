//! Where reading begins: at the end of what there is, or at a position that was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::{Error, ErrorKind, Pattern, SharedRuntime};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::events::{Events, at, committed};
use crate::errors;
use crate::names::matching;
use crate::replay::Position;

/// How long a busy partition is read until its end comes; then it begins where reading is.
const BUSY: Duration = Duration::from_secs(1);

/// What a consumer reads.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Partitions of its own choice, from a position on.
    Assigned(Pattern, Position),
    /// What its group gives it; a group that is new stands at the end if it follows a topic, and at
    /// the beginning if it shares a queue.
    Grouped { pattern: Pattern, subscription: String, from_end: bool },
}

/// A topic and the number of one of its partitions.
pub(crate) type Number = (String, i32);

type Consumer = Arc<BaseConsumer<Events>>;

/// The partitions of the topics that match.
pub(crate) fn partitions(
    consumer: &Consumer,
    pattern: &Pattern,
    within: Duration,
) -> Result<BTreeSet<Number>, KafkaError> {
    let literal = pattern.is_literal().then_some(pattern.as_str());
    let metadata = consumer.fetch_metadata(literal, within)?;
    let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
    let matching = topics.filter(|topic| matching(pattern, topic.name()).is_some());
    Ok(matching
        .flat_map(|topic| {
            let numbers = topic.partitions().iter().map(MetadataPartition::id);
            numbers.map(|number| (topic.name().to_owned(), number))
        })
        .collect())
}

/// Begins to read at the ends of partitions, which are known once this is done.
///
/// The end is where a fetch says that it is, not where a list of offsets says: the one is what is
/// read next, and the other is not right on every server that speaks the protocol. What is read
/// until then was published before the subscription is live, and is left out. The answer is the
/// offset behind what was left out, for those partitions of which something was.
pub(crate) fn at_ends(
    consumer: &Consumer,
    of: &BTreeSet<Number>,
    runtime: &SharedRuntime,
    within: Duration,
) -> Result<BTreeMap<Number, i64>, Error> {
    let mut read = BTreeMap::new();
    if of.is_empty() {
        return Ok(read);
    }
    let what = "looking for the end of the topic";
    let list = at(of.iter().cloned(), Offset::End);
    consumer.assign(&list).map_err(|error| errors::of(what, error))?;
    let (begun, mut ends) = (runtime.now(), 0);
    let has_passed = |time: Duration| runtime.now() >= begun + time;
    while ends < of.len() {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(record)) => {
                let number = (record.topic().to_owned(), record.partition());
                read.insert(number, record.offset() + 1);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) if is_final(&error) => return Err(errors::of(what, error)),
            Some(Err(_)) | None => {}
        }
        if has_passed(BUSY) && ends + read.len() >= of.len() {
            break;
        }
        if has_passed(within) {
            let text =
                format!("{what} failed: its leader does not answer; look whether it is well");
            return Err(Error::new(ErrorKind::TimedOut, text));
        }
    }
    Ok(read)
}

/// Has a group that stands nowhere yet stand at the ends of these partitions.
pub(crate) fn group_at_ends(
    consumer: &Consumer,
    of: &BTreeSet<Number>,
    runtime: &SharedRuntime,
    within: Duration,
) -> Result<(), Error> {
    let what = "looking where the consumer group stands";
    if of.is_empty() {
        return Ok(());
    }
    let known = committed(consumer, &at(of.iter().cloned(), Offset::Invalid), within);
    if known.len() < of.len() {
        let text =
            format!("{what} failed: its coordinator does not answer; look whether it is well");
        return Err(Error::new(ErrorKind::TimedOut, text));
    }
    let new = known.into_iter().filter(|(_, offset)| *offset == Offset::Invalid);
    let new: BTreeSet<Number> = new.map(|(number, _)| number).collect();
    if new.is_empty() {
        return Ok(());
    }
    let read = at_ends(consumer, &new, runtime, within)?;
    let mut ends = TopicPartitionList::new();
    for (topic, number) in &new {
        let offset = match read.get(&(topic.clone(), *number)) {
            Some(offset) => *offset,
            // Nothing lies behind it, so it is right.
            None => {
                let marks = consumer.fetch_watermarks(topic, *number, within);
                marks.map_err(|error| errors::of(what, error))?.1
            }
        };
        super::state::put(&mut ends, topic, *number, Offset::Offset(offset));
    }
    consumer.unassign().map_err(|error| errors::of(what, error))?;
    match consumer.commit(&ends, CommitMode::Sync) {
        Ok(()) => Ok(()),
        // There are members by now, who have done the same.
        Err(error)
            if matches!(
                errors::code(&error),
                Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(errors::of(what, error)),
    }
}

/// Begins to read at a position, and says where that is.
pub(crate) fn at_position(
    consumer: &Consumer,
    of: &BTreeSet<Number>,
    position: Position,
    runtime: &SharedRuntime,
    within: Duration,
) -> Result<BTreeMap<Number, Offset>, Error> {
    let what = "looking for the position to read from";
    let all = |offset| of.iter().map(|number| (number.clone(), offset)).collect();
    let starts: BTreeMap<Number, Offset> = match position {
        Position::End => {
            let read = at_ends(consumer, of, runtime, within)?;
            let offset = |number| read.get(number).map_or(Offset::End, |at| Offset::Offset(*at));
            return Ok(of.iter().map(|number| (number.clone(), offset(number))).collect());
        }
        Position::Beginning => all(Offset::Beginning),
        Position::Offset(offset) => all(Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))),
        Position::Time(time) => {
            let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            let times = at(of.iter().cloned(), Offset::Offset(millis));
            let found = consumer.offsets_for_times(times, within);
            let found = found.map_err(|error| errors::of(what, error))?;
            let elements = found.elements().into_iter();
            elements
                .map(|element| {
                    ((element.topic().to_owned(), element.partition()), element.offset())
                })
                .collect()
        }
    };
    let mut list = TopicPartitionList::new();
    for ((topic, number), offset) in &starts {
        super::state::put(&mut list, topic, *number, *offset);
    }
    consumer.assign(&list).map_err(|error| errors::of(what, error))?;
    Ok(starts)
}

/// Whether a consumer that is told this can never go on.
pub(crate) fn is_final(error: &KafkaError) -> bool {
    let Some(code) = errors::code(error) else { return false };
    let final_kinds = [ErrorKind::Refused, ErrorKind::InvalidArgument, ErrorKind::InvalidTopic];
    final_kinds.contains(&errors::kind(code))
        || matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            code,
            Code::InconsistentGroupProtocol | Code::GroupMaxSizeReached | Code::FencedInstanceId
        )
}
