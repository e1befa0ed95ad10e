//! Messages: what becomes of one on its way to NATS, and of one that comes from there.

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message as NatsMessage, StatusCode};
use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::{Error, Kind, Message, Runtime, Status, Topic};
use posthaste_engine::properties::{self, Header, Native, Property, Rules};

use crate::names;

/// What goes as the headers of a message to a queue, whose reply subject is JetStream's.
const TO_QUEUE: Rules = Rules { repeats: true, ..Rules::HTTP };
/// Of a message to a topic: the address for answers is the reply subject.
const TO_TOPIC: Rules = TO_QUEUE.native(&[Property::ReplyTo]);
/// Of one that an inbox is concerned with: the subject tells the correlation too.
const OF_INBOX: Rules = TO_QUEUE.native(&[Property::ReplyTo, Property::Correlation]);

/// The headers of a message, if it has any.
pub(crate) fn headers(message: &Message, runtime: &dyn Runtime) -> Option<HeaderMap> {
    let concerned = message.reply_to().unwrap_or_else(|| message.topic());
    let rules = match () {
        () if message.is_to_queue() => &TO_QUEUE,
        () if names::is_inbox(concerned.as_str()) => &OF_INBOX,
        () => &TO_TOPIC,
    };
    let headers = properties::encode(message, rules, runtime);
    (!headers.is_empty()).then(|| to_map(headers))
}

fn to_map(headers: Vec<Header>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        // The rules leave nothing else to be encoded.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            map.append(name, value);
        }
    }
    map
}

fn from_map(map: Option<&HeaderMap>) -> Vec<(&str, &str)> {
    let mut headers = Vec::new();
    for (name, values) in map.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        // Those of the server's own are nobody's business.
        if !name.starts_with("Nats-") {
            headers.extend(values.iter().map(|value| (name, value.as_str())));
        }
    }
    headers
}

/// A message that came to a subscription of topics.
pub(crate) fn from_topic(
    topic: Topic,
    message: &NatsMessage,
    runtime: &dyn Runtime,
) -> Result<Message, Error> {
    if message.headers.is_none() && message.reply.is_none() {
        let message = Message::new(topic, message.payload.clone());
        return message.check_size(PAYLOAD_BYTES_MAX).map(|()| message);
    }
    let reply = message.reply.as_deref().and_then(names::reply_address);
    let headers = from_map(message.headers.as_ref());
    let (reply_to, correlation) = reply.unzip();
    let native =
        Native { reply_to, correlation: correlation.unwrap_or_default(), ..Native::default() };
    let draft = Message::builder(topic).payload(message.payload.clone());
    properties::decode(draft, headers, native, runtime)
}

/// A message that came to an inbox: an answer, or that there is none.
pub(crate) fn from_inbox(
    message: &NatsMessage,
    runtime: &dyn Runtime,
) -> Option<Result<Message, Error>> {
    let (inbox, correlation) = names::reply_address(&message.subject)?;
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Some(nobody(inbox, correlation));
    }
    let mut headers = from_map(message.headers.as_ref());
    let is_event = headers.iter().all(|(name, _)| *name != "ph-kind") && correlation == 0;
    // Answers of others than Posthaste say no more than their subject.
    if !is_event && headers.iter().all(|(name, _)| *name != "ph-kind") {
        headers.push(("ph-kind", "reply"));
    }
    let native = Native { correlation, ..Native::default() };
    let draft = Message::builder(inbox).payload(message.payload.clone());
    Some(properties::decode(draft, headers, native, runtime))
}

fn nobody(inbox: Topic, correlation: u64) -> Result<Message, Error> {
    let request = Message::builder(inbox.clone()).reply_to(inbox, correlation).build()?;
    let text = "nobody is there to answer requests to this topic";
    request.status_reply(Status::NoResponders, text).ok_or_else(|| Error::closed("the inbox"))
}

/// A message that came out of a queue.
pub(crate) fn from_queue(message: &NatsMessage, runtime: &dyn Runtime) -> Result<Message, Error> {
    let queue = names::queue_of(&message.subject).ok_or_else(|| Error::closed("the queue"))?;
    let headers = from_map(message.headers.as_ref());
    let draft = Message::builder(queue).to_queue().payload(message.payload.clone());
    properties::decode(draft, headers, Native::default(), runtime)
}

/// Where a message to a topic goes, and where its answer goes.
pub(crate) fn subjects(message: &Message) -> Result<(String, Option<String>), Error> {
    let topic = message.topic();
    let answers = matches!(message.kind(), Kind::Reply | Kind::Status);
    let subject = match names::is_inbox(topic.as_str()) {
        true => names::inbox_subject(&topic, if answers { message.correlation() } else { 0 }),
        false => names::subject(topic.as_str())?,
    };
    let reply = message.reply_to().map(|to| match names::is_inbox(to.as_str()) {
        true => names::inbox_subject(&to, message.correlation()),
        false => to.to_string(),
    });
    Ok((subject, reply))
}
