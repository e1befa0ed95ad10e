//! Declaring queues and finding out what they are.
//!
//! AMQP tells of a queue no more than how deep it is. But a declaration that differs from what is
//! there is refused with the difference, so declaring again with what the server said leads, one
//! difference after the other, to what the queue was declared with.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::Channel;
use lapin::options::{
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use posthaste_core::{Error, ErrorKind, Overflow, Queue, QueueSettings, Topic};

use crate::fault::{fault, unsupported};
use crate::options::QueueType;
use crate::shared::{Facts, Shared};
use crate::wire::{binding, short};

pub(crate) type Arguments = BTreeMap<String, AMQPValue>;

/// How deep a queue is, as far as AMQP tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Messages that wait; those that are handed out are not counted.
    pub(crate) messages: u64,
    pub(crate) consumers: u64,
}

/// More differences than a declaration can have.
const DIFFERENCES_MAX: usize = 16;

const TTL: &str = "x-message-ttl";
const LENGTH: &str = "x-max-length";
const BYTES: &str = "x-max-length-bytes";
const OVERFLOW: &str = "x-overflow";
const PRIORITIES: &str = "x-max-priority";
const TYPE: &str = "x-queue-type";
const DURABLE: &str = "durable";

impl Shared {
    /// How deep a queue is; `None` if it is not there.
    pub(crate) async fn depth(&self, queue: &Topic) -> Result<Option<Depth>, Error> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked =
            channel.queue_declare(short(queue.as_str())?, options, FieldTable::default()).await;
        match asked.map_err(|error| fault(&format!("look at the queue {queue}"), &error)) {
            Ok(found) => {
                self.give_back(channel);
                let (messages, consumers) = (found.message_count(), found.consumer_count());
                Ok(Some(Depth { messages: messages.into(), consumers: consumers.into() }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.forget(queue);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What is known of a queue, found out if need be; `None` if it is not there.
    pub(crate) async fn facts(&self, queue: &Topic) -> Result<Option<Facts>, Error> {
        if let Some(facts) = self.known(queue) {
            return Ok(Some(facts));
        }
        match self.depth(queue).await {
            Ok(None) => return Ok(None),
            Ok(Some(_)) => {}
            // It belongs to one connection alone: there, but of that one's making.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                return Ok(Some(self.unknown_facts()));
            }
            Err(error) => return Err(error),
        }
        let facts = match self.agree(queue, self.usual(), &Arguments::new()).await {
            Ok(facts) => facts,
            Err(error) if error.kind() == ErrorKind::Conflict => self.unknown_facts(),
            Err(error) => return Err(error),
        };
        self.learn(queue, facts.clone());
        Ok(Some(facts))
    }

    /// Declares a queue, with what is named; an existing one keeps what is not.
    pub(crate) async fn declare(&self, queue: &Queue) -> Result<(), Error> {
        let named = named(queue)?;
        let bindings: Vec<_> = queue
            .bindings
            .iter()
            .map(|pattern| binding(pattern, &self.options))
            .collect::<Result<_, _>>()?;
        let mut arguments = self.usual();
        if self.depth(&queue.name).await?.is_some()
            && let Some(known) = self.known(&queue.name)
        {
            arguments = known.arguments;
        }
        arguments.extend(named.clone());
        let facts = self.agree(&queue.name, arguments, &named).await?;
        self.learn(&queue.name, facts);
        let channel = self.channel_to_exchanges(&*self.asking.live().await?).await?;
        for (exchange, key) in bindings {
            self.bind(&channel, queue.name.as_str(), exchange, key).await?;
        }
        self.note_settings(queue).await
    }

    /// Binds a queue of that name.
    pub(crate) async fn bind(
        &self,
        channel: &Channel,
        queue: &str,
        exchange: ShortString,
        key: ShortString,
    ) -> Result<(), Error> {
        let options = QueueBindOptions::default();
        let bound =
            channel.queue_bind(short(queue)?, exchange, key, options, FieldTable::default());
        bound.await.map_err(|error| fault(&format!("bind the queue {queue}"), &error))
    }

    /// Deletes a queue.
    pub(crate) async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        if self.depth(queue).await?.is_none() {
            return Err(not_found(queue));
        }
        let channel = self.channel().await?;
        let options = QueueDeleteOptions::default();
        let deleted = channel.queue_delete(short(queue.as_str())?, options).await;
        deleted.map_err(|error| fault(&format!("delete the queue {queue}"), &error))?;
        self.forget(queue);
        self.forget_settings(queue).await
    }

    /// Drops what waits in a queue.
    pub(crate) async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        let channel = self.channel().await?;
        let purged =
            channel.queue_purge(short(queue.as_str())?, QueuePurgeOptions::default()).await;
        match purged.map_err(|error| fault(&format!("purge the queue {queue}"), &error)) {
            Ok(count) => Ok(count.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(not_found(queue)),
            Err(error) => Err(error),
        }
    }

    /// What queues of ours are declared with.
    fn usual(&self) -> Arguments {
        let mut arguments = Arguments::new();
        match self.options.queue_type {
            QueueType::Quorum => {
                arguments.insert(TYPE.to_owned(), AMQPValue::LongString("quorum".into()));
            }
            QueueType::Classic if self.options.priorities => {
                arguments.insert(PRIORITIES.to_owned(), AMQPValue::LongInt(3));
            }
            QueueType::Classic => {}
        }
        arguments
    }

    /// Declares a queue again and again, with what the server says that it is, until it agrees.
    /// What is `named` has to be as it is named.
    async fn agree(
        &self,
        queue: &Topic,
        mut arguments: Arguments,
        named: &Arguments,
    ) -> Result<Facts, Error> {
        let mut options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        for _ in 0..DIFFERENCES_MAX {
            let channel = self.channel().await?;
            let declared =
                channel.queue_declare(short(queue.as_str())?, options, table(&arguments)).await;
            let Err(error) = declared else {
                self.give_back(channel);
                return Ok(self.facts_of(options.durable, arguments));
            };
            let error = fault(&format!("declare the queue {queue}"), &error);
            let Some(difference) =
                Difference::parse(error.text()).filter(|_| error.kind() == ErrorKind::Conflict)
            else {
                return Err(error);
            };
            if named.contains_key(difference.argument) {
                return Err(difference.conflict(queue));
            }
            match (difference.argument, difference.current) {
                (DURABLE, current) => options.durable = current.as_deref() == Some("true"),
                ("auto_delete", current) => {
                    options.auto_delete = current.as_deref() == Some("true");
                }
                (argument, None) => {
                    arguments.remove(argument);
                }
                (argument, Some(current)) => {
                    let value = match current.parse() {
                        Ok(number) => AMQPValue::LongLongInt(number),
                        Err(_) => AMQPValue::LongString(current.into()),
                    };
                    arguments.insert(argument.to_owned(), value);
                }
            }
        }
        let text = format!("RabbitMQ does not say what the queue {queue} is; choose another name");
        Err(Error::new(ErrorKind::Conflict, text))
    }

    fn facts_of(&self, durable: bool, arguments: Arguments) -> Facts {
        let kind = match arguments.get(TYPE) {
            Some(AMQPValue::LongString(kind)) if kind.as_bytes() == b"quorum" => {
                Some(QueueType::Quorum)
            }
            Some(AMQPValue::LongString(kind)) if kind.as_bytes() != b"classic" => None,
            _ => Some(QueueType::Classic),
        };
        let priorities =
            kind == Some(QueueType::Classic) && number(&arguments, PRIORITIES) >= Some(3);
        let now = self.runtime.now();
        Facts { durable, kind, priorities, arguments, at: now, since: now }
    }

    /// Of a queue of which nothing is known but that it is there.
    fn unknown_facts(&self) -> Facts {
        let (arguments, now) = (Arguments::new(), self.runtime.now());
        Facts { durable: false, kind: None, priorities: false, arguments, at: now, since: now }
    }
}

/// What a queue was declared with, as settings.
pub(crate) fn settings_of(facts: &Facts) -> QueueSettings {
    let arguments = &facts.arguments;
    let size = |name| number(arguments, name).and_then(|number| usize::try_from(number).ok());
    let overflow = match arguments.get(OVERFLOW) {
        Some(AMQPValue::LongString(text)) if text.as_bytes() == b"reject-publish" => {
            Overflow::Reject
        }
        _ if arguments.contains_key(LENGTH) || arguments.contains_key(BYTES) => {
            Overflow::DropOldest
        }
        _ => Overflow::Block,
    };
    let mut settings = QueueSettings::default();
    settings.capacity_messages = size(LENGTH).unwrap_or(usize::MAX);
    settings.capacity_bytes = size(BYTES).unwrap_or(usize::MAX);
    settings.overflow = overflow;
    settings.ttl = Duration::from_millis(number(arguments, TTL).unwrap_or(0));
    settings.durable = facts.durable;
    settings
}

pub(crate) fn not_found(queue: &Topic) -> Error {
    let text = format!("there is no queue {queue} at rabbitmq; declare it first");
    Error::new(ErrorKind::NotFound, text)
}

/// What a declaration names, as RabbitMQ's arguments.
fn named(queue: &Queue) -> Result<Arguments, Error> {
    // Whatever makes no sense is found there.
    QueueSettings::of(queue)?;
    let is_on = |time: Option<Duration>| time.is_some_and(|time| !time.is_zero());
    for (lacking, is_named) in [
        ("order per key", queue.keyed == Some(true)),
        ("replay", queue.retain.is_some()),
        ("queues that are not durable", queue.durable == Some(false)),
        ("deduplication", is_on(queue.dedup_window)),
        ("consumer time-outs of single queues", is_on(queue.consumer_timeout)),
        ("queues that go when they are empty and unused", is_on(queue.expiry)),
        ("queues that drop their newest", queue.overflow == Some(Overflow::DropNewest)),
    ] {
        if is_named {
            return Err(unsupported(lacking));
        }
    }
    let mut named = Arguments::new();
    // What no memory can hold is no bound.
    let bound = |size: Option<usize>| size.and_then(|size| u32::try_from(size).ok());
    let bounds = [(LENGTH, bound(queue.capacity_messages)), (BYTES, bound(queue.capacity_bytes))];
    for (name, size) in bounds.into_iter().filter_map(|(name, size)| Some((name, size?))) {
        named.insert(name.to_owned(), AMQPValue::LongLongInt(size.into()));
    }
    match queue.overflow {
        None | Some(Overflow::Block) if !named.is_empty() => {
            let what = "back-pressure, that senders wait for a full queue; name another overflow \
                        policy, reject or drop-oldest, with its capacity";
            return Err(unsupported(what));
        }
        Some(Overflow::Reject) => {
            named.insert(OVERFLOW.to_owned(), AMQPValue::LongString("reject-publish".into()));
        }
        Some(Overflow::DropOldest) => {
            named.insert(OVERFLOW.to_owned(), AMQPValue::LongString("drop-head".into()));
        }
        _ => {}
    }
    if let Some(ttl) = queue.ttl.filter(|ttl| !ttl.is_zero() && *ttl < FOR_EVER) {
        let Ok(millis) = u32::try_from(ttl.as_micros().div_ceil(1_000)) else {
            return Err(unsupported("times to live of more than 49 days"));
        };
        named.insert(TTL.to_owned(), AMQPValue::LongLongInt(millis.into()));
    }
    Ok(named)
}

/// Ten years: whoever asks for more wants no end.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

fn table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        if let Ok(name) = ShortString::try_new(name.as_str()) {
            table.insert(name, value.clone());
        }
    }
    table
}

fn number(arguments: &Arguments, name: &str) -> Option<u64> {
    match arguments.get(name)? {
        AMQPValue::LongLongInt(number) => u64::try_from(*number).ok(),
        AMQPValue::LongInt(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// In what a queue differs from its declaration, as RabbitMQ says it.
struct Difference<'a> {
    argument: &'a str,
    /// The value that the queue has, if it has one.
    current: Option<String>,
}

impl<'a> Difference<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (argument, rest) = text.split_once("inequivalent arg '")?.1.split_once('\'')?;
        let current = rest.rsplit_once("current is ")?.1;
        let current = match current.strip_prefix("the value ").unwrap_or(current) {
            "none" => None,
            value => Some(value.strip_prefix('\'')?.split_once('\'')?.0.to_owned()),
        };
        Some(Self { argument, current })
    }

    fn conflict(&self, queue: &Topic) -> Error {
        let field = match self.argument {
            TTL => "ttl",
            LENGTH => "capacity_messages",
            BYTES => "capacity_bytes",
            OVERFLOW => "overflow",
            argument => argument,
        };
        let current = self.current.as_deref().unwrap_or("not set");
        let text = format!(
            "the queue {queue} is declared with {field} = {current}, which rabbitmq cannot change; \
             delete it first, or choose another name"
        );
        Error::new(ErrorKind::Conflict, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_read_as_rabbitmq_writes_them() {
        for (text, argument, current) in [
            (
                "could not: PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'a' in \
                 vhost '/': received none but current is the value '1000' of type 'long'",
                TTL,
                Some("1000"),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'a' in vhost '/': received \
                 'false' but current is 'true'",
                DURABLE,
                Some("true"),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'b' in vhost '/': \
                 received the value '3' of type 'signedint' but current is none",
                PRIORITIES,
                None,
            ),
        ] {
            let difference = Difference::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((difference.argument, difference.current.as_deref()), (argument, current));
        }
        assert!(Difference::parse("RESOURCE_LOCKED - cannot obtain exclusive access").is_none());
        assert!(Difference::parse("inequivalent arg 'x").is_none());
    }

    #[test]
    fn what_a_queue_names_are_arguments_or_lacking() {
        let queue = || Queue::new(Topic::new("jobs").unwrap_or_else(|error| panic!("{error}")));
        let names = |queue: Queue| named(&queue).map(|named| named.into_keys().collect::<Vec<_>>());
        assert_eq!(names(queue()).ok(), Some(vec![]));
        assert_eq!(
            names(queue().capacity(5).overflow(Overflow::Reject).ttl(Duration::from_secs(1))).ok(),
            Some(vec![LENGTH.to_owned(), TTL.to_owned(), OVERFLOW.to_owned()])
        );
        assert_eq!(names(queue().capacity(usize::MAX).ttl(Duration::MAX)).ok(), Some(vec![]));
        for lacking in [
            queue().capacity(5),
            queue().capacity_bytes(5).overflow(Overflow::Block),
            queue().overflow(Overflow::DropNewest),
            queue().keyed(),
            queue().dedup_window(Duration::from_secs(1)),
            queue().consumer_timeout(Duration::from_secs(1)),
            queue().expiry(Duration::from_secs(1)),
            queue().ttl(Duration::from_secs(60 * 24 * 3_600)),
        ] {
            let error = named(&lacking).expect_err("it is lacking");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{lacking:?}");
        }
    }
}
