//! A message: topic, properties and payload in reference-counted buffers.

use std::fmt;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::{HEADERS_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::topic::{Topic, validate_bytes};
use crate::{Error, ErrorKind};

/// What is sent and received: a target, properties and a payload.
///
/// Cloning counts references and copies no bytes. What travels end to end is two buffers, the
/// *head* (topic and properties, as they are on the wire) and the payload, so that a message that
/// came off a socket goes out on another one as it is.
///
/// ```
/// use posthaste_core::{Message, Topic};
///
/// let message = Message::builder(Topic::new("orders.eu.created")?)
///     .header("content-type", "application/json")
///     .key("customer-7")
///     .payload(r#"{"id":1}"#)
///     .build()?;
/// assert_eq!(message.topic().as_str(), "orders.eu.created");
/// assert_eq!(message.header("content-type"), Some("application/json"));
/// assert_eq!(message.key(), Some("customer-7"));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
// Two `Bytes` and three words: 96 bytes, asserted below, because a message is moved more often
// than anything else in the program.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    head: Bytes,
    payload: Bytes,
    deadline: Option<Instant>,
    correlation: u64,
    attributes: Attributes,
}

const _: () = assert!(size_of::<Message>() <= 96);

impl Message {
    /// A message to a topic, without properties: allocates nothing if the payload already is
    /// `Bytes`.
    pub fn new(topic: Topic, payload: impl Into<Bytes>) -> Self {
        Self {
            head: topic.into_head(),
            payload: payload.into(),
            deadline: None,
            correlation: 0,
            attributes: Attributes::default(),
        }
    }

    /// A message into one queue alone, without properties.
    pub fn to_queue(queue: Topic, payload: impl Into<Bytes>) -> Self {
        let mut message = Self::new(queue, payload);
        message.attributes = message.attributes.with_queue();
        message
    }

    /// A message to a topic with properties.
    pub fn builder(topic: Topic) -> MessageBuilder {
        MessageBuilder::new(topic)
    }

    /// The topic; of a message sent to a queue, the queue's name.
    #[must_use]
    pub fn topic(&self) -> Topic {
        Topic::from_head(self.head.slice(..head::topic_end(&self.head)))
    }

    /// The topic's text as bytes, without touching its reference count.
    #[must_use]
    pub fn topic_bytes(&self) -> &[u8] {
        self.head.get(head::PREFIX..head::topic_end(&self.head)).unwrap_or_default()
    }

    /// Whether the message goes into the one queue that its topic names.
    #[must_use]
    pub fn is_to_queue(&self) -> bool {
        self.attributes.is_to_queue()
    }

    /// What the message is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.attributes.kind()
    }

    /// The content.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Takes the content.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// Checks what a message made by [`new`](Self::new) was not checked for yet: senders call it.
    ///
    /// # Errors
    /// `TooLarge` for a payload over [`PAYLOAD_BYTES_MAX`].
    pub fn check_size(&self) -> Result<(), Error> {
        check_payload(&self.payload)
    }

    /// The bytes that the message takes up in windows and queues: head and payload.
    #[must_use]
    pub fn size(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// The headers, in the order in which they were added.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        head::properties(&self.head)
            .filter(|(tag, _)| *tag == head::HEADER)
            .filter_map(|(_, value)| head::header(value))
    }

    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(this, _)| *this == name).map(|(_, value)| value)
    }

    /// The key: what orders a keyed queue, and which messages replace each other.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.text_property(head::KEY)
    }

    /// The message id: what a deduplication window compares.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.text_property(head::ID)
    }

    /// Where a reply goes.
    #[must_use]
    pub fn reply_to(&self) -> Option<Topic> {
        let value = head::find(&self.head, head::REPLY_TO)?;
        // A topic is stored as it begins a head, so a reply's topic is a slice of its request.
        Some(Topic::from_head(self.head.slice_ref(value)))
    }

    /// Which request this is, or answers; 0 is none.
    #[must_use]
    pub fn correlation(&self) -> u64 {
        self.correlation
    }

    /// What a reply that is no answer says: why there is none.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        if self.kind() != Kind::Status {
            return None;
        }
        let code = head::find(&self.head, head::STATUS).and_then(|value| value.first().copied());
        Some(match code {
            Some(1) => Status::NoResponders,
            _ => Status::Failed,
        })
    }

    /// When the message is of no more use.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// 0 (the default) to 3 (first).
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.attributes.priority()
    }

    /// Whether this request may wait in a queue while nobody is there to answer it.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.attributes.waits()
    }

    /// Takes the message apart, for a link that carries it.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        Parts {
            head: self.head,
            payload: self.payload,
            attributes: self.attributes.0,
            correlation: self.correlation,
            deadline: self.deadline,
        }
    }

    /// Puts a message together that came over a link, checking its head.
    ///
    /// # Errors
    /// `InvalidTopic`, `TooLarge` or `Protocol`: what is wrong with the head.
    pub fn from_parts(parts: Parts) -> Result<Self, Error> {
        head::check(&parts.head)?;
        check_payload(&parts.payload)?;
        Ok(Self {
            head: parts.head,
            payload: parts.payload,
            deadline: parts.deadline,
            correlation: parts.correlation,
            attributes: Attributes(parts.attributes).checked()?,
        })
    }

    /// The answer to this request, or `None` if it asks for none.
    #[must_use]
    pub fn reply(&self, payload: impl Into<Bytes>) -> Option<Self> {
        let mut reply = Self::new(self.reply_to()?, payload);
        reply.correlation = self.correlation;
        reply.attributes = Attributes::default().with_kind(Kind::Reply);
        Some(reply)
    }

    /// The reply that says why this request has no answer, or `None` if it asks for none.
    #[must_use]
    pub fn status_reply(&self, status: Status, text: impl Into<Bytes>) -> Option<Self> {
        let mut head = BytesMut::from(self.reply_to()?.as_head().as_ref());
        let code = match status {
            Status::Failed => 0,
            Status::NoResponders => 1,
        };
        head::put(&mut head, head::STATUS, &[code]);
        let mut reply = Self::new(Topic::from_head(head.freeze()), text);
        reply.correlation = self.correlation;
        reply.attributes = Attributes::default().with_kind(Kind::Status);
        Some(reply)
    }

    /// What stands in for a message that a backend lost although it may not.
    pub(crate) fn lost() -> Self {
        Self::new(Topic::from_head(Bytes::from_static(b"\x04\0lost")), Bytes::new())
    }

    fn text_property(&self, tag: u8) -> Option<&str> {
        head::find(&self.head, tag).and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic().as_str())
            .field("kind", &self.kind())
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Kind {
    /// Something to be known or done; nobody waits for an answer.
    #[default]
    Event,
    /// A question: it has a reply address and a correlation.
    Request,
    /// An answer.
    Reply,
    /// A reply that says why there is no answer; see [`Message::status`].
    Status,
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The responder failed; the payload is its text.
    Failed,
    /// Nobody is there to answer.
    NoResponders,
}

/// A message taken apart, for links and backends.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Topic and properties, as they are on the wire.
    pub head: Bytes,
    /// The content.
    pub payload: Bytes,
    /// Kind, target and priority, as they are on the wire.
    pub attributes: u8,
    /// Which request this is, or answers; 0 is none.
    pub correlation: u64,
    /// When the message is of no more use.
    pub deadline: Option<Instant>,
}

/// Puts a message together.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct MessageBuilder {
    topic: Topic,
    payload: Bytes,
    key: Option<String>,
    id: Option<String>,
    reply_to: Option<Topic>,
    headers: Vec<(String, String)>,
    deadline: Option<Instant>,
    correlation: u64,
    attributes: Attributes,
    priority: u8,
}

impl MessageBuilder {
    fn new(topic: Topic) -> Self {
        Self {
            topic,
            payload: Bytes::new(),
            key: None,
            id: None,
            reply_to: None,
            headers: Vec::new(),
            deadline: None,
            correlation: 0,
            attributes: Attributes::default(),
            priority: 0,
        }
    }

    /// The content.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The message id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Makes this a request: answers go to `topic` and carry `correlation`, which is not 0.
    pub fn reply_to(mut self, topic: Topic, correlation: u64) -> Self {
        self.reply_to = Some(topic);
        self.correlation = correlation;
        self.attributes = self.attributes.with_kind(Kind::Request);
        self
    }

    /// Lets this request wait in a queue while nobody is there to answer it.
    pub fn waits(mut self) -> Self {
        self.attributes.0 |= Attributes::WAITS;
        self
    }

    /// When the message is of no more use. The broker needs a clock for it: give it a runtime.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// 0 (the default) to 3 (first).
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sends into the one queue that the topic names, instead of to the topic.
    pub fn to_queue(mut self) -> Self {
        self.attributes = self.attributes.with_queue();
        self
    }

    /// The message.
    ///
    /// # Errors
    /// `TooLarge` or `InvalidArgument`, naming the part that breaks its limit.
    pub fn build(self) -> Result<Message, Error> {
        check_payload(&self.payload)?;
        if self.priority > Attributes::PRIORITY_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a priority is 0 to {}, not {}", Attributes::PRIORITY_MAX, self.priority),
            ));
        }
        Ok(Message {
            head: self.head()?,
            payload: self.payload,
            deadline: self.deadline,
            correlation: self.correlation,
            attributes: self.attributes.with_priority(self.priority),
        })
    }

    fn head(&self) -> Result<Bytes, Error> {
        let topic = self.topic.as_head();
        if self.key.is_none()
            && self.id.is_none()
            && self.reply_to.is_none()
            && self.headers.is_empty()
        {
            return Ok(topic.clone());
        }
        let mut head = BytesMut::from(topic.as_ref());
        for (tag, what, value) in
            [(head::KEY, "key", &self.key), (head::ID, "message id", &self.id)]
        {
            let Some(value) = value else { continue };
            if value.len() > KEY_BYTES_MAX {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("a {what} has at most {KEY_BYTES_MAX} bytes, this has {}", value.len()),
                ));
            }
            head::put(&mut head, tag, value.as_bytes());
        }
        if let Some(topic) = &self.reply_to {
            head::put(&mut head, head::REPLY_TO, topic.as_head());
        }
        let mut headers = head::HeaderBudget::default();
        for (name, value) in &self.headers {
            headers.charge(name, value)?;
            head::put_header(&mut head, name, value);
        }
        Ok(head.freeze())
    }
}

fn check_payload(payload: &Bytes) -> Result<(), Error> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "a payload has at most {PAYLOAD_BYTES_MAX} bytes, this has {}; send it in pieces",
                payload.len()
            ),
        ));
    }
    Ok(())
}

/// Kind, target, priority and patience in one byte, as on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Attributes(u8);

impl Attributes {
    const KIND: u8 = 0b0000_0011;
    const QUEUE: u8 = 0b0000_0100;
    const PRIORITY: u8 = 0b0001_1000;
    const WAITS: u8 = 0b0010_0000;
    const PRIORITY_MAX: u8 = 3;

    fn kind(self) -> Kind {
        match self.0 & Self::KIND {
            0 => Kind::Event,
            1 => Kind::Request,
            2 => Kind::Reply,
            _ => Kind::Status,
        }
    }

    fn with_kind(self, kind: Kind) -> Self {
        let bits = match kind {
            Kind::Event => 0,
            Kind::Request => 1,
            Kind::Reply => 2,
            Kind::Status => 3,
        };
        Self(self.0 & !Self::KIND | bits)
    }

    fn is_to_queue(self) -> bool {
        self.0 & Self::QUEUE != 0
    }

    fn with_queue(self) -> Self {
        Self(self.0 | Self::QUEUE)
    }

    fn priority(self) -> u8 {
        (self.0 & Self::PRIORITY) >> 3
    }

    fn with_priority(self, priority: u8) -> Self {
        Self(self.0 & !Self::PRIORITY | priority << 3)
    }

    fn waits(self) -> bool {
        self.0 & Self::WAITS != 0
    }

    fn checked(self) -> Result<Self, Error> {
        let known = Self::KIND | Self::QUEUE | Self::PRIORITY | Self::WAITS;
        if self.0 & !known != 0 {
            return Err(Error::new(ErrorKind::Protocol, "a message has unknown attributes"));
        }
        Ok(self)
    }
}

/// The layout of a head: `u16` topic length and topic, then properties of `u8` tag, `u32` length
/// and value, ordered by tag; see `docs/protocol.md`, "The end-to-end run".
mod head {
    use super::*;

    pub(super) const PREFIX: usize = 2;
    pub(super) const KEY: u8 = 1;
    pub(super) const ID: u8 = 2;
    pub(super) const REPLY_TO: u8 = 3;
    pub(super) const HEADER: u8 = 4;
    pub(super) const STATUS: u8 = 5;

    /// Tag and length in front of a property's value.
    const PROPERTY_PREFIX: usize = 5;

    /// Where the topic ends. Heads are checked when they come in, so the length is in bounds;
    /// should it not be, the answer is the end.
    pub(super) fn topic_end(head: &[u8]) -> usize {
        match head {
            [low, high, ..] => {
                (PREFIX + usize::from(u16::from_le_bytes([*low, *high]))).min(head.len())
            }
            _ => head.len(),
        }
    }

    /// The properties, as tag and value; ends at the first one that does not fit.
    pub(super) fn properties(head: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = head.get(topic_end(head)..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (tag, value, after) = split(rest)?;
            rest = after;
            Some((tag, value))
        })
    }

    pub(super) fn find(head: &[u8], tag: u8) -> Option<&[u8]> {
        // Ordered by tag, so a look-up stops early and most messages have nothing to look through.
        properties(head)
            .take_while(|(this, _)| *this <= tag)
            .find(|(this, _)| *this == tag)
            .map(|(_, v)| v)
    }

    pub(super) fn header(value: &[u8]) -> Option<(&str, &str)> {
        let (length, rest) = value.split_first_chunk::<2>()?;
        let (name, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
    }

    pub(super) fn put(head: &mut BytesMut, tag: u8, value: &[u8]) {
        head.put_u8(tag);
        head.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
        head.put_slice(value);
    }

    pub(super) fn put_header(head: &mut BytesMut, name: &str, value: &str) {
        head.put_u8(HEADER);
        let length = PREFIX + name.len() + value.len();
        head.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
        head.put_u16_le(u16::try_from(name.len()).unwrap_or(u16::MAX));
        head.put_slice(name.as_bytes());
        head.put_slice(value.as_bytes());
    }

    fn split(rest: &[u8]) -> Option<(u8, &[u8], &[u8])> {
        let (prefix, rest) = rest.split_first_chunk::<PROPERTY_PREFIX>()?;
        let [tag, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
        let (value, after) = rest.split_at_checked(length)?;
        Some((tag, value, after))
    }

    /// Checks a head that came from elsewhere, once, so that the accessors need not.
    pub(super) fn check(head: &[u8]) -> Result<(), Error> {
        let protocol = |text: &str| Error::new(ErrorKind::Protocol, text);
        let Some((length, rest)) = head.split_first_chunk::<PREFIX>() else {
            return Err(protocol("a message's head is cut short"));
        };
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((topic, mut rest)) = rest.split_at_checked(length) else {
            return Err(protocol("a message's topic is longer than its head"));
        };
        validate_bytes(topic)?;
        let mut last = 0;
        let mut headers = HeaderBudget::default();
        while !rest.is_empty() {
            let Some((tag, value, after)) = split(rest) else {
                return Err(protocol("a message's property is longer than its head"));
            };
            if tag < last || (tag == last && tag != HEADER) {
                return Err(protocol("a message's properties are out of order"));
            }
            check_property(tag, value, &mut headers)?;
            (last, rest) = (tag, after);
        }
        Ok(())
    }

    fn check_property(tag: u8, value: &[u8], headers: &mut HeaderBudget) -> Result<(), Error> {
        let protocol = |text: &str| Error::new(ErrorKind::Protocol, text);
        match tag {
            KEY | ID => {
                if value.len() > KEY_BYTES_MAX {
                    return Err(Error::new(ErrorKind::TooLarge, "a key or message id is too long"));
                }
                std::str::from_utf8(value)
                    .map_err(|_| protocol("a key or message id has to be UTF-8"))?;
            }
            REPLY_TO => {
                let Some((length, topic)) = value.split_first_chunk::<PREFIX>() else {
                    return Err(protocol("a reply address is cut short"));
                };
                if usize::from(u16::from_le_bytes(*length)) != topic.len() {
                    return Err(protocol("a reply address contradicts its own length"));
                }
                validate_bytes(topic)?;
            }
            HEADER => {
                let (name, value) =
                    header(value).ok_or_else(|| protocol("a header is cut short or not UTF-8"))?;
                headers.charge(name, value)?;
            }
            STATUS if value.len() == 1 => {}
            _ => return Err(protocol("a message has an unknown property")),
        }
        Ok(())
    }

    /// Counts headers and their bytes against the limits.
    #[derive(Default)]
    pub(super) struct HeaderBudget {
        count: usize,
        bytes: usize,
    }

    impl HeaderBudget {
        pub(super) fn charge(&mut self, name: &str, value: &str) -> Result<(), Error> {
            if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "a header's name has neither white space nor control characters and is not empty, unlike {name:?}"
                    ),
                ));
            }
            self.count += 1;
            self.bytes += name.len() + value.len();
            if self.count > HEADERS_MAX || self.bytes > HEADERS_BYTES_MAX {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!(
                        "a message has at most {HEADERS_MAX} headers of {HEADERS_BYTES_MAX} bytes together"
                    ),
                ));
            }
            Ok(())
        }
    }
}
