//! A message as a record of Kafka, and back.
//!
//! The key and the payload are the record's own, everything else is in its headers. `ph-to` says
//! whether the record was sent to a `queue`, to a `topic` or to an `inbox`: a Kafka topic is both,
//! so who reads it as the one leaves out what was sent to the other. What programs of another kind
//! write has no such header, and comes to whoever reads.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use posthaste_core::{Message, Pattern, Runtime, Topic};
use posthaste_engine::properties::{self, Native, Property, Rules};
use rdkafka::message::{
    BorrowedHeaders, BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders,
};

use crate::names::{INBOX_PREFIX, matching};

const TO: &str = "ph-to";
const INBOX: &str = "ph-inbox";

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Queue,
    Topic,
    Inbox,
}

impl To {
    pub(crate) fn of(message: &Message) -> Self {
        match message.is_to_queue() {
            true => Self::Queue,
            false if message.topic_bytes().starts_with(INBOX_PREFIX.as_bytes()) => Self::Inbox,
            false => Self::Topic,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Topic => "topic",
            Self::Inbox => "inbox",
        }
    }
}

/// What a receiver wants of the records that it reads.
#[derive(Debug, Clone)]
pub(crate) enum Wants {
    /// What was sent to the queue that the Kafka topic is.
    Queue(Topic),
    /// What was published to topics of this pattern.
    Topics(Pattern),
    /// What was sent to this address.
    Inbox(Topic),
}

/// Rules of headers: those of Kafka are any text.
const KEYED: Rules = Rules::ANY.native(&[Property::Key]);

/// The headers of a record with nothing to it but where it goes.
pub(crate) fn plain_headers(to: To) -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key: TO, value: Some(to.as_str()) })
}

/// The headers of the record; `plain` are those of one with nothing else to it.
pub(crate) fn headers(
    message: &Message,
    to: To,
    plain: &OwnedHeaders,
    runtime: &dyn Runtime,
) -> OwnedHeaders {
    // An empty key is not told from none by everybody, so it goes with the headers.
    let keyed = message.key().is_some_and(|key| !key.is_empty());
    let encoded = properties::encode(message, if keyed { &KEYED } else { &Rules::ANY }, runtime);
    let mut headers = plain.clone();
    if to == To::Inbox {
        headers = headers.insert(Header { key: INBOX, value: Some(message.topic_bytes()) });
    }
    for (name, value) in &encoded {
        headers = headers.insert(Header { key: name, value: Some(value.as_str()) });
    }
    headers
}

/// The key of the record.
pub(crate) fn key(message: &Message) -> Option<&str> {
    message.key().filter(|key| !key.is_empty())
}

/// Makes messages of records.
pub(crate) struct Reading {
    wants: Wants,
    /// The Kafka topic of the record before, which is most often that of the next, and what it is
    /// called in a message.
    last: Option<(String, Option<Topic>)>,
    /// Where small payloads are copied to, many into one piece of memory.
    payloads: BytesMut,
}

/// Up to which size a payload counts as small, and how large a piece of memory is for such.
const SMALL_MAX: usize = 1 << 10;
const PIECE: usize = 16 << 10;

impl Reading {
    pub(crate) fn new(wants: Wants) -> Self {
        Self { wants, last: None, payloads: BytesMut::new() }
    }

    /// The message that a record is, if it is one that is wanted.
    ///
    /// What cannot be read as Posthaste's comes with its payload alone, because a record is never
    /// dropped for its looks.
    pub(crate) fn read(
        &mut self,
        record: &BorrowedMessage<'_>,
        runtime: &dyn Runtime,
    ) -> Option<Message> {
        if let Some(message) = self.read_plain(record) {
            return message;
        }
        let headers = all_headers(record);
        let header = |name| headers.iter().find(|(this, _)| *this == name).map(|(_, value)| *value);
        let topic = self.topic(record.topic(), header(TO), header(INBOX))?;
        let payload = self.payload(record);
        let key = record.key().filter(|key| !key.is_empty());
        let is_to_queue = self.is_to_queue();
        let draft = Message::builder(topic).payload(payload);
        let draft = if is_to_queue { draft.to_queue() } else { draft };
        let key = key.and_then(|key| std::str::from_utf8(key).ok()).map(str::to_owned);
        let native = Native { key, ..Native::default() };
        properties::decode(draft.clone(), headers.iter().copied(), native, runtime)
            .or_else(|_| draft.build())
            .ok()
    }

    /// The same for a record with nothing to it but where it goes; the outer `None` for any other.
    fn read_plain(&mut self, record: &BorrowedMessage<'_>) -> Option<Option<Message>> {
        let headers = record.headers().filter(|headers| headers.count() == 1)?;
        if record.key().is_some() {
            return None;
        }
        let to = text_header(headers, 0).filter(|(name, _)| *name == TO)?.1;
        let Some(topic) = self.topic(record.topic(), Some(to), None) else { return Some(None) };
        let payload = self.payload(record);
        Some(Some(match self.is_to_queue() {
            true => Message::to_queue(topic, payload),
            false => Message::new(topic, payload),
        }))
    }

    fn is_to_queue(&self) -> bool {
        matches!(self.wants, Wants::Queue(_))
    }

    fn payload(&mut self, record: &BorrowedMessage<'_>) -> Bytes {
        let payload = record.payload().unwrap_or_default();
        if payload.len() > SMALL_MAX {
            return Bytes::copy_from_slice(payload);
        }
        if self.payloads.capacity() < payload.len() {
            self.payloads = BytesMut::with_capacity(PIECE);
        }
        self.payloads.extend_from_slice(payload);
        self.payloads.split().freeze()
    }

    /// What the topic of a message is that is wanted.
    fn topic(&mut self, name: &str, to: Option<&str>, inbox: Option<&str>) -> Option<Topic> {
        let is = |wanted: To| to.is_none_or(|to| to == wanted.as_str());
        match &self.wants {
            Wants::Queue(queue) => is(To::Queue).then(|| queue.clone()),
            Wants::Inbox(address) => {
                let is_ours = to.is_some() && is(To::Inbox) && inbox == Some(address.as_str());
                is_ours.then(|| address.clone())
            }
            Wants::Topics(_) if !is(To::Topic) => None,
            Wants::Topics(pattern) => match &self.last {
                Some((last, topic)) if last == name => topic.clone(),
                _ => {
                    let topic = matching(pattern, name);
                    self.last = Some((name.to_owned(), topic.clone()));
                    topic
                }
            },
        }
    }
}

/// The headers that are text.
fn all_headers<'a>(record: &'a BorrowedMessage<'_>) -> Vec<(&'a str, &'a str)> {
    let Some(headers) = record.headers() else { return Vec::new() };
    (0..headers.count()).filter_map(|at| text_header(headers, at)).collect()
}

fn text_header(headers: &BorrowedHeaders, at: usize) -> Option<(&str, &str)> {
    // rdkafka panics at a name that is not UTF-8, and whoever writes records may give one.
    let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(at))).ok()??;
    let value = std::str::from_utf8(header.value.unwrap_or_default()).ok()?;
    Some((header.key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::new(text).unwrap()
    }

    fn wanted(name: &str, to: Option<&str>, inbox: Option<&str>, wants: &Wants) -> Option<Topic> {
        Reading::new(wants.clone()).topic(name, to, inbox)
    }

    #[test]
    fn queues_and_topics_of_one_name_are_told_apart() {
        let queue = Wants::Queue(topic("jobs"));
        let topics = Wants::Topics(Pattern::new("jobs").unwrap());
        assert_eq!(wanted("jobs", Some("queue"), None, &queue), Some(topic("jobs")));
        assert!(wanted("jobs", Some("topic"), None, &queue).is_none());
        assert!(wanted("jobs", Some("queue"), None, &topics).is_none());
        assert_eq!(wanted("jobs", Some("topic"), None, &topics), Some(topic("jobs")));
        assert!(wanted("jobs", None, None, &queue).is_some(), "written by others");
        assert!(wanted("jobs", None, None, &topics).is_some(), "written by others");
    }

    #[test]
    fn an_inbox_gets_what_is_its_own() {
        let me = topic("_ph.inbox.me");
        let inbox = Wants::Inbox(me.clone());
        let to = Some("inbox");
        assert_eq!(wanted("r", to, Some("_ph.inbox.me"), &inbox), Some(me));
        for other in [(to, Some("_ph.inbox.you")), (None, Some("_ph.inbox.me")), (to, None)] {
            assert!(wanted("r", other.0, other.1, &inbox).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_message_says_where_it_goes() {
        assert_eq!(To::of(&Message::to_queue(topic("jobs"), "")), To::Queue);
        assert_eq!(To::of(&Message::new(topic("jobs"), "")), To::Topic);
        assert_eq!(To::of(&Message::new(topic("_ph.inbox.me"), "")), To::Inbox);
    }
}
