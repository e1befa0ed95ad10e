//! Messages as AMQP carries them: where they go, and what is said beside their payload.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use posthaste_core::{Error, Kind, Message, Pattern, Runtime, Topic};
use posthaste_engine::properties::{self, Native, Property, Rules};

use crate::fault::unsupported;
use crate::options::AmqpOptions;

/// Inboxes are queues of that name.
pub(crate) const INBOX: &str = "_ph.inbox.";
/// The address of a requester of another kind: its queue and its correlation id, which may be any
/// text.
const REPLY: &str = "_ph.reply.";

/// Which message of its channel this is, to know it again if it is returned.
pub(crate) const NUMBER: &str = "ph-n";
/// How many attempts were counted before this copy was made.
pub(crate) const ATTEMPTS: &str = "ph-attempts";
/// Why they failed.
pub(crate) const WHY: &str = "ph-why";
/// Where the message was sent to at first, if this copy went elsewhere.
pub(crate) const SENT_TO: &str = "ph-to";
/// The message has died, and has not found room in its dead-letter queue yet.
pub(crate) const DYING: &str = "ph-dying";

const TO_QUEUE: &str = "queue ";
const TO_TOPIC: &str = "topic ";

/// What AMQP carries itself; ids that are too long for it are a header.
const RULES: Rules =
    rules(&[Property::Id, Property::ReplyTo, Property::Correlation, Property::Priority]);
const RULES_LONG_ID: Rules = rules(&[Property::ReplyTo, Property::Correlation, Property::Priority]);

const fn rules(native: &'static [Property]) -> Rules {
    let rules = Rules { name: may_be_a_header, repeats: false, ..Rules::ANY };
    rules.native(native)
}

/// RabbitMQ reads some headers as orders of its own.
fn may_be_a_header(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= SHORT_MAX
        && !matches!(name, "CC" | "BCC")
        && !name.starts_with("x-")
}

/// The longest name, key or address.
const SHORT_MAX: usize = 255;

/// A text as AMQP's short string.
pub(crate) fn short(text: &str) -> Result<ShortString, Error> {
    ShortString::try_new(text)
        .map_err(|_| unsupported("topics, patterns and queue names of more than 255 bytes"))
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) exchange: ShortString,
    pub(crate) key: ShortString,
    pub(crate) to: To,
    /// What the one who asked calls its request, if it is of another kind.
    correlation: Option<ShortString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Topic,
    Queue,
    /// The queue of one who asked.
    Requester,
}

impl Route {
    pub(crate) fn of(message: &Message, options: &AmqpOptions) -> Result<Self, Error> {
        let topic = message.topic();
        let text = topic.as_str();
        if message.is_to_queue() {
            return Self::queue(text);
        }
        let mut route = Self { to: To::Requester, ..Self::queue("")? };
        if text.starts_with(INBOX) {
            route.key = short(text)?;
        } else if let Some((key, correlation)) = decode_requester(text) {
            (route.key, route.correlation) = (key, correlation);
        } else {
            route.to = To::Topic;
            route.key = short(&escape(text))?;
            route.exchange = match topic.is_reserved() {
                true => short(&options.reserved_exchange())?,
                false => short(&options.exchange)?,
            };
        }
        Ok(route)
    }

    /// Into the queue of that name, by the exchange that has none.
    pub(crate) fn queue(name: &str) -> Result<Self, Error> {
        let exchange = ShortString::default();
        Ok(Self { exchange, key: short(name)?, to: To::Queue, correlation: None })
    }
}

/// The binding that takes in what a pattern matches: its exchange and its key.
pub(crate) fn binding(
    pattern: &Pattern,
    options: &AmqpOptions,
) -> Result<(ShortString, ShortString), Error> {
    let escaped = escape(pattern.as_str());
    let mut words: Vec<&str> = escaped.split('.').collect();
    if let Some(last) = words.last_mut().filter(|last| **last == ">") {
        *last = "*.#";
    }
    // What begins with a wildcard is bound where the framework's own topics do not go.
    let exchange = match words.first() {
        Some(&"_ph") => options.reserved_exchange(),
        _ => options.exchange.clone(),
    };
    Ok((short(&exchange)?, short(&words.join("."))?))
}

/// The properties of a message that goes out; `number` is how it is known if it comes back.
pub(crate) fn encode(
    message: &Message,
    route: &Route,
    number: u64,
    runtime: &dyn Runtime,
) -> Result<BasicProperties, Error> {
    let id = message.id().and_then(|id| ShortString::try_new(id).ok());
    let rules = if id.is_some() || message.id().is_none() { &RULES } else { &RULES_LONG_ID };
    let mut headers = FieldTable::default();
    for (name, value) in properties::encode(message, rules, runtime) {
        headers.insert(short(&name)?, AMQPValue::LongString(value.into()));
    }
    headers.insert(NUMBER.into(), AMQPValue::LongLongInt(number.cast_signed()));
    let mut encoded = BasicProperties::default().with_headers(headers);
    // Replies are of no use once the requester has gone.
    let persistent = route.to != To::Requester;
    encoded = encoded.with_delivery_mode(if persistent { 2 } else { 1 });
    if let Some(id) = id {
        encoded = encoded.with_message_id(id);
    }
    if let Some(reply_to) = message.reply_to() {
        encoded = encoded.with_reply_to(short(reply_to.as_str())?);
    }
    match &route.correlation {
        Some(correlation) => encoded = encoded.with_correlation_id(correlation.clone()),
        None if message.correlation() != 0 => {
            encoded = encoded.with_correlation_id(short(&message.correlation().to_string())?);
        }
        None => {}
    }
    if message.priority() > 0 {
        encoded = encoded.with_priority(message.priority());
    }
    if let Some(deadline) = message.deadline() {
        let left = deadline.saturating_duration_since(runtime.now()).as_millis();
        // A longer one than can be said is looked at when the message arrives.
        let left = left.clamp(1, u128::from(u32::MAX));
        encoded = encoded.with_expiration(short(&left.to_string())?);
    }
    Ok(encoded)
}

/// A message that came in.
pub(crate) struct Incoming<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) key: &'a str,
    pub(crate) properties: &'a BasicProperties,
    /// The queue that it came from, as a topic.
    pub(crate) queue: &'a Topic,
    /// Whether that is an inbox.
    pub(crate) inbox: bool,
}

impl Incoming<'_> {
    /// The message. What programs of another kind sent and no message of Posthaste can be is one
    /// without properties.
    pub(crate) fn decode(
        &self,
        payload: Bytes,
        options: &AmqpOptions,
        runtime: &dyn Runtime,
    ) -> Message {
        let (topic, to_queue) = self.target(options);
        let bare = if to_queue { Message::to_queue } else { Message::new };
        self.decode_whole(&topic, to_queue, payload.clone(), runtime)
            .unwrap_or_else(|_| bare(topic, payload))
    }

    fn decode_whole(
        &self,
        topic: &Topic,
        to_queue: bool,
        payload: Bytes,
        runtime: &dyn Runtime,
    ) -> Result<Message, Error> {
        let mut headers: Vec<(&str, Cow<'_, str>)> = Vec::new();
        for (name, value) in self.headers() {
            if let Some(text) = as_text(value).filter(|_| !name.as_str().starts_with("x-")) {
                headers.push((name.as_str(), text));
            }
        }
        let is_answer = headers.iter().any(|(name, _)| *name == "ph-kind");
        let properties = self.properties;
        let correlation = properties.correlation_id().as_ref().map(ShortString::as_str);
        let number = correlation.and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut native = Native {
            id: properties.message_id().as_ref().map(|id| id.as_str().to_owned()),
            priority: properties.priority().unwrap_or(0).min(3),
            correlation: number,
            ..Native::default()
        };
        if let Some(reply_to) = properties.reply_to().as_ref().filter(|_| !is_answer && !self.inbox)
        {
            // Only what Posthaste sends is numbered.
            let is_ours = number != 0 && number_of(properties).is_some();
            let own = Topic::new(reply_to.as_str()).ok().filter(|_| is_ours);
            native.reply_to = Some(match own {
                Some(own) => own,
                None => {
                    // Answers find their way by the address alone.
                    native.correlation = 1;
                    encode_requester(reply_to.as_str(), correlation.unwrap_or_default())?
                }
            });
        }
        let mut draft = Message::builder(topic.clone()).payload(payload);
        if to_queue {
            draft = draft.to_queue();
        }
        let texts = headers.iter().map(|(name, value)| (*name, &**value));
        let is_native_answer = self.inbox && !is_answer && number != 0;
        let kind = is_native_answer.then_some(("ph-kind", "reply"));
        properties::decode(draft, texts.chain(kind), native, runtime)
    }

    /// The topic, or the queue, that it was sent to.
    fn target(&self, options: &AmqpOptions) -> (Topic, bool) {
        let parse = |text: &str| {
            let (text, to_queue) = match text.strip_prefix(TO_QUEUE) {
                Some(queue) => (queue, true),
                None => (text.strip_prefix(TO_TOPIC)?, false),
            };
            Some((Topic::new(text).ok()?, to_queue))
        };
        if let Some(target) = self.header(SENT_TO).as_deref().and_then(parse) {
            return target;
        }
        let through_ours = self.exchange == options.exchange
            || self.exchange == options.reserved_exchange()
            || self.inbox;
        match Topic::new(&*unescape(self.key)).ok().filter(|_| through_ours) {
            Some(topic) => (topic, false),
            None => (self.queue.clone(), true),
        }
    }

    /// The header of that name, as text.
    pub(crate) fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        as_text(self.properties.headers().as_ref()?.inner().get(name)?)
    }

    /// The header of that name, as a number.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.header(name)?.parse().ok()
    }

    fn headers(&self) -> impl Iterator<Item = (&ShortString, &AMQPValue)> {
        self.properties.headers().iter().flat_map(FieldTable::inner)
    }
}

/// A word that is `#` is a wildcard of RabbitMQ's, so it travels as another one; and so does that
/// one, with one `25` more.
fn escape(topic: &str) -> Cow<'_, str> {
    if !topic.contains('#') && !topic.contains("%2") {
        return Cow::Borrowed(topic);
    }
    let words = topic.split('.').map(|word| match word {
        "#" => String::from(HASH),
        word if is_hash(word) => format!("%25{}", word.get(1..).unwrap_or_default()),
        word => word.to_owned(),
    });
    Cow::Owned(words.collect::<Vec<_>>().join("."))
}

fn unescape(key: &str) -> Cow<'_, str> {
    if !key.contains("%2") {
        return Cow::Borrowed(key);
    }
    let words = key.split('.').map(|word| match word {
        HASH => String::from("#"),
        word if is_hash(word) => format!("%{}", word.get(3..).unwrap_or_default()),
        word => word.to_owned(),
    });
    Cow::Owned(words.collect::<Vec<_>>().join("."))
}

const HASH: &str = "%23";

/// `%`, any number of `25`, `23`.
fn is_hash(word: &str) -> bool {
    let inner = word.strip_prefix('%').and_then(|rest| rest.strip_suffix("23"));
    inner.is_some_and(|inner| inner.len() % 2 == 0 && inner.replace("25", "").is_empty())
}

/// What [`SENT_TO`] says of a message.
pub(crate) fn sent_to(message: &Message) -> String {
    let kind = if message.is_to_queue() { TO_QUEUE } else { TO_TOPIC };
    format!("{kind}{}", message.topic())
}

/// The number by which a returned message is known.
pub(crate) fn number_of(properties: &BasicProperties) -> Option<u64> {
    match properties.headers().as_ref()?.inner().get(NUMBER)? {
        AMQPValue::LongLongInt(number) => Some(number.cast_unsigned()),
        _ => None,
    }
}

/// Whether somebody waits for an answer to this, and not just anybody at any time.
pub(crate) fn is_urgent_request(message: &Message) -> bool {
    message.kind() == Kind::Request && !message.waits()
}

fn as_text(value: &AMQPValue) -> Option<Cow<'_, str>> {
    Some(match value {
        AMQPValue::LongString(text) => Cow::Borrowed(std::str::from_utf8(text.as_bytes()).ok()?),
        AMQPValue::ShortString(text) => Cow::Borrowed(text.as_str()),
        AMQPValue::Boolean(value) => Cow::Owned(value.to_string()),
        AMQPValue::ShortShortInt(value) => Cow::Owned(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Cow::Owned(value.to_string()),
        AMQPValue::ShortInt(value) => Cow::Owned(value.to_string()),
        AMQPValue::ShortUInt(value) => Cow::Owned(value.to_string()),
        AMQPValue::LongInt(value) => Cow::Owned(value.to_string()),
        AMQPValue::LongUInt(value) => Cow::Owned(value.to_string()),
        AMQPValue::LongLongInt(value) => Cow::Owned(value.to_string()),
        AMQPValue::Float(value) => Cow::Owned(value.to_string()),
        AMQPValue::Double(value) => Cow::Owned(value.to_string()),
        AMQPValue::Timestamp(value) => Cow::Owned(value.to_string()),
        _ => return None,
    })
}

fn encode_requester(queue: &str, correlation: &str) -> Result<Topic, Error> {
    let mut address = format!("{REPLY}{}", URL_SAFE_NO_PAD.encode(queue));
    if !correlation.is_empty() {
        address.push('.');
        address.push_str(&URL_SAFE_NO_PAD.encode(correlation));
    }
    Topic::new(address)
}

fn decode_requester(topic: &str) -> Option<(ShortString, Option<ShortString>)> {
    let text = |word: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(word).ok()?;
        ShortString::try_new(String::from_utf8(bytes).ok()?).ok()
    };
    let mut words = topic.strip_prefix(REPLY)?.split('.');
    let queue = text(words.next()?)?;
    Some((queue, words.next().and_then(text)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use posthaste_core::SharedRuntime;
    use posthaste_smol::Smol;

    use super::*;

    fn options() -> AmqpOptions {
        AmqpOptions::new()
    }

    fn topic(text: &str) -> Topic {
        Topic::new(text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Out through a queue or a topic, and in again.
    fn there_and_back(message: &Message, inbox: bool) -> Message {
        let runtime: SharedRuntime = Smol::global().into();
        let route = Route::of(message, &options()).unwrap_or_else(|error| panic!("{error}"));
        let properties =
            encode(message, &route, 7, &*runtime).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(number_of(&properties), Some(7));
        let incoming = Incoming {
            exchange: route.exchange.as_str(),
            key: route.key.as_str(),
            properties: &properties,
            queue: &topic("jobs"),
            inbox,
        };
        incoming.decode(message.payload().clone(), &options(), &*runtime)
    }

    #[test]
    fn messages_come_in_as_they_went_out() {
        let plain = Message::new(topic("orders.eu"), "1");
        let queued = Message::to_queue(topic("jobs"), "2");
        let full = Message::builder(topic("orders.eu"))
            .header("z", "last")
            .header("a", "first")
            .header("a", "again")
            .header("CC", "not an order")
            .header("x-death", "nor this")
            .key("k")
            .id("i")
            .priority(2)
            .build();
        let long = Message::builder(topic("orders.eu")).id("i".repeat(1_000)).build();
        let request =
            Message::builder(topic("clock")).reply_to(topic("_ph.inbox.7"), 9).waits().build();
        for message in [Ok(plain), Ok(queued), full, long, request] {
            let message = message.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(there_and_back(&message, false), message);
        }
    }

    #[test]
    fn answers_come_to_inboxes() {
        let request = Message::builder(topic("clock")).reply_to(topic("_ph.inbox.7"), 9).build();
        let request = request.unwrap_or_else(|error| panic!("{error}"));
        let reply = request.reply("12:00");
        let status = request.status_reply(posthaste_core::Status::NoResponders, "nobody");
        for answer in [reply, status] {
            let answer = answer.unwrap_or_else(|| panic!("it asks for an answer"));
            assert_eq!(there_and_back(&answer, true), answer);
        }
    }

    #[test]
    fn a_requester_of_another_kind_is_answered_by_its_own_names() {
        let runtime: SharedRuntime = Smol::global().into();
        let properties = BasicProperties::default()
            .with_reply_to("amq.rabbitmq.reply-to.g2dk==.x".into())
            .with_correlation_id("any text at all".into());
        let queue = topic("jobs");
        let incoming = Incoming {
            exchange: "",
            key: "jobs",
            properties: &properties,
            queue: &queue,
            inbox: false,
        };
        let request = incoming.decode(Bytes::new(), &options(), &*runtime);
        assert_eq!(request.kind(), Kind::Request);
        let reply = request.reply("done").unwrap_or_else(|| panic!("it asks for an answer"));
        let route = Route::of(&reply, &options()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (route.exchange.as_str(), route.key.as_str()),
            ("", "amq.rabbitmq.reply-to.g2dk==.x")
        );
        let properties =
            encode(&reply, &route, 1, &*runtime).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            properties.correlation_id().as_ref().map(ShortString::as_str),
            Some("any text at all")
        );
    }

    #[test]
    fn patterns_are_bindings() {
        for (pattern, exchange, key) in [
            ("orders.eu", "posthaste", "orders.eu"),
            ("orders.*.new", "posthaste", "orders.*.new"),
            ("orders.>", "posthaste", "orders.*.#"),
            (">", "posthaste", "*.#"),
            ("_ph.event.>", "posthaste.reserved", "_ph.event.*.#"),
        ] {
            let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("{error}"));
            let bound = binding(&pattern, &options()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((bound.0.as_str(), bound.1.as_str()), (exchange, key));
        }
        for (text, key) in
            [("a.#.b", "a.%23.b"), ("%23", "%2523"), ("x#", "x#"), ("%2523.%2", "%252523.%2")]
        {
            assert_eq!((&*escape(text), &*unescape(key)), (key, text));
        }
    }

    #[test]
    fn what_others_send_is_a_message_or_its_payload() {
        let runtime: SharedRuntime = Smol::global().into();
        let mut headers = FieldTable::default();
        headers.insert("count".into(), AMQPValue::LongInt(3));
        headers.insert("ph-expires".into(), AMQPValue::LongString("never".into()));
        let good = BasicProperties::default().with_headers(FieldTable::from(
            headers
                .inner()
                .iter()
                .filter(|(name, _)| name.as_str() == "count")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<std::collections::BTreeMap<_, _>>(),
        ));
        let bad = BasicProperties::default().with_headers(headers);
        let queue = topic("jobs");
        for (properties, count) in [(good, Some("3")), (bad, None)] {
            let incoming = Incoming {
                exchange: "elsewhere",
                key: "no topic at all",
                properties: &properties,
                queue: &queue,
                inbox: false,
            };
            let message = incoming.decode("work".into(), &options(), &*runtime);
            assert_eq!((message.topic(), message.is_to_queue()), (queue.clone(), true));
            assert_eq!(
                (message.payload().as_ref(), message.header("count")),
                (&b"work"[..], count)
            );
        }
    }

    #[test]
    fn a_deadline_is_an_expiration() {
        let runtime: SharedRuntime = Smol::global().into();
        let deadline = runtime.now() + Duration::from_secs(60);
        let message = Message::builder(topic("orders")).deadline(deadline).build();
        let message = message.unwrap_or_else(|error| panic!("{error}"));
        let route = Route::of(&message, &options()).unwrap_or_else(|error| panic!("{error}"));
        let properties =
            encode(&message, &route, 1, &*runtime).unwrap_or_else(|error| panic!("{error}"));
        let millis: u64 = properties
            .expiration()
            .as_ref()
            .and_then(|text| text.as_str().parse().ok())
            .unwrap_or(0);
        assert!((59_000..=60_000).contains(&millis), "{millis}");
    }
}
