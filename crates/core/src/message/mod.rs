//! A message: topic, properties and payload in reference-counted buffers.

mod builder;
mod death;
mod head;

use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

pub use self::builder::MessageBuilder;
pub use self::death::Death;
use crate::limits::PAYLOAD_BYTES_CEILING;
use crate::topic::Topic;
use crate::{Error, ErrorKind, Head};

/// What is sent and received: a target, properties and a payload.
///
/// Cloning counts references and copies no payload. What travels end to end is two buffers, the
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
// A head, with attributes and count in it, a payload and two words: 96 bytes, asserted below,
// because a message is moved more often than anything else in the program.
#[derive(Clone)]
pub struct Message {
    head: Head,
    payload: Bytes,
    deadline: Option<Instant>,
    correlation: u64,
}

const _: () = assert!(size_of::<Message>() <= 96);

impl Message {
    /// A message to a topic, without properties: allocates nothing if the payload already is
    /// `Bytes`.
    #[inline]
    pub fn new(topic: Topic, payload: impl Into<Bytes>) -> Self {
        Self { head: topic.0, payload: payload.into(), deadline: None, correlation: 0 }
    }

    /// A message into one queue alone, without properties.
    #[inline]
    pub fn to_queue(queue: Topic, payload: impl Into<Bytes>) -> Self {
        let mut message = Self::new(queue, payload);
        message.set(message.attributes().with_queue());
        message
    }

    /// A message to a topic with properties.
    pub fn builder(topic: Topic) -> MessageBuilder {
        MessageBuilder::new(topic)
    }

    /// The topic; of a message sent to a queue, the queue's name.
    #[must_use]
    pub fn topic(&self) -> Topic {
        Topic(self.head.slice(0..head::topic_end(&self.head)))
    }

    /// The topic's text as bytes, without touching its reference count.
    #[must_use]
    #[inline]
    pub fn topic_bytes(&self) -> &[u8] {
        self.head.get(head::PREFIX..head::topic_end(&self.head)).unwrap_or_default()
    }

    /// Topic and properties, and kind, target and priority, as they are on the wire: what a link
    /// says beside the payload.
    #[must_use]
    #[inline]
    pub fn on_wire(&self) -> (&[u8], u8) {
        (&self.head, self.attributes().0)
    }

    /// Whether it differs from `other` in payload and correlation alone.
    #[must_use]
    #[inline]
    pub fn is_like(&self, other: &Self) -> bool {
        self.head.beside() == other.head.beside()
            && self.head == other.head
            && self.deadline == other.deadline
    }

    /// The same message without its payload.
    #[must_use]
    pub fn without_payload(&self) -> Self {
        Self { head: self.head.clone(), payload: Bytes::new(), ..*self }
    }

    /// Whether the message goes into the one queue that its topic names.
    #[must_use]
    #[inline]
    pub fn is_to_queue(&self) -> bool {
        self.attributes().is_to_queue()
    }

    /// What the message is for.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> Kind {
        self.attributes().kind()
    }

    /// The content.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Takes the content.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// Checks what a message made by [`new`](Self::new) was not checked for yet, against what its
    /// sender takes: senders call it.
    ///
    /// # Errors
    /// `TooLarge` for a payload over `limit` bytes, which is
    /// [`PAYLOAD_BYTES_MAX`](crate::limits::PAYLOAD_BYTES_MAX) unless somebody was told otherwise.
    #[inline]
    pub fn check_size(&self, limit: usize) -> Result<(), Error> {
        match self.payload.len() {
            len if len > limit => Err(too_large(len, limit)),
            _ => Ok(()),
        }
    }

    /// The bytes that the message takes up in windows and queues: head and payload.
    #[must_use]
    #[inline]
    pub fn size(&self) -> usize {
        match self.count() {
            1 => self.head.len() + self.payload.len(),
            count => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let prefixes = count.saturating_mul(Self::RUN_PREFIX);
                let heads = count.saturating_mul(self.head.len());
                heads.saturating_add(self.payload.len().saturating_sub(prefixes))
            }
        }
    }

    /// How many messages this is. More than one is a *run*: messages that differ in their payloads
    /// alone, with these one behind the other, each behind its length in
    /// [`RUN_PREFIX`](Self::RUN_PREFIX) bytes. Runs travel between links and brokers that
    /// [agree to it](crate::Sender::try_send_run); no application ever sees one.
    #[must_use]
    #[inline]
    pub fn count(&self) -> u32 {
        self.head.beside().1
    }

    /// The messages of a run, one by one; of any other message, itself. They end where a run is not
    /// as it should be.
    pub fn each(&self) -> impl Iterator<Item = Self> + '_ {
        let mut at = 0_usize;
        (0..self.count()).map_while(move |_| {
            if self.count() == 1 {
                return Some(self.clone());
            }
            let (len, rest) = self.payload.get(at..)?.split_first_chunk()?;
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            rest.get(..len)?;
            let from = at + Self::RUN_PREFIX;
            at = from + len;
            let mut head = self.head.clone();
            head.put_beside((self.attributes().0, 1));
            Some(Self { head, payload: self.payload.slice(from..at), ..*self })
        })
    }

    /// The bytes of the length in front of each payload of a run, little end first.
    pub const RUN_PREFIX: usize = 4;

    /// Whether there is nothing to the message but its topic and its payload, as `new` makes it:
    /// no properties, deadline or priority, and nobody waits for an answer to it.
    #[must_use]
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.attributes().0 & (Attributes::PRIORITY | Attributes::REPEAT) == 0
            && self.kind() != Kind::Request
            && self.count() == 1
            && self.deadline.is_none()
            && self.head.len() == head::topic_end(&self.head)
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
        Some(Topic(self.head.slice_ref(value)))
    }

    /// Which request this is, or answers; 0 is none.
    #[must_use]
    #[inline]
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
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long after a broker took it nobody may get the message; zero is at once.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let value = head::find(&self.head, head::DELAY).and_then(|this| this.try_into().ok());
        Duration::from_micros(value.map_or(0, u64::from_le_bytes))
    }

    /// The same message without its delay, which has passed.
    #[must_use]
    pub fn without_delay(mut self) -> Self {
        let head = head::rebuild(&self.head, |tag, _| tag != head::DELAY);
        self.rehead(head.freeze());
        self
    }

    /// The queues in which the message died, in the order of its deaths: the history of a dead
    /// letter.
    pub fn deaths(&self) -> impl Iterator<Item = Death> {
        head::properties(&self.head)
            .filter(|(tag, _)| *tag == head::DEATH)
            .filter_map(|(_, value)| Death::decode(value))
    }

    /// The same message with one more death. Of earlier deaths only the queue, its attempts and
    /// its time are kept, and of an earlier one in the same queue nothing, so that a history stays
    /// small. `None` if the message has died in as many queues as it may.
    #[must_use]
    pub fn with_death(mut self, death: &Death) -> Option<Self> {
        let mut deaths: Vec<_> = self.deaths().filter(|this| this.queue != death.queue).collect();
        if deaths.len() >= crate::limits::DEATHS_MAX {
            return None;
        }
        let mut head = head::rebuild(&self.head, |tag, _| tag < head::DEATH);
        deaths.iter_mut().for_each(|this| this.reasons.clear());
        for this in deaths.iter().chain([death]) {
            head::put(&mut head, head::DEATH, &this.encode());
        }
        self.rehead(head.freeze());
        Some(self)
    }

    /// Whether the message may have been sent before: only a queue that would notice a duplicate
    /// takes it then.
    #[must_use]
    #[inline]
    pub fn is_repeat(&self) -> bool {
        self.attributes().0 & Attributes::REPEAT != 0
    }

    /// The same message, marked as one that may have been sent before.
    #[must_use]
    pub fn into_repeat(mut self) -> Self {
        self.set(Attributes(self.attributes().0 | Attributes::REPEAT));
        self
    }

    /// The same message without that mark: a broker that took it has noticed what it could.
    #[must_use]
    pub fn without_repeat(mut self) -> Self {
        self.set(Attributes(self.attributes().0 & !Attributes::REPEAT));
        self
    }

    /// 0 (the default) to 3 (first).
    #[must_use]
    #[inline]
    pub fn priority(&self) -> u8 {
        self.attributes().priority()
    }

    /// Whether this request may wait in a queue while nobody is there to answer it.
    #[must_use]
    #[inline]
    pub fn waits(&self) -> bool {
        self.attributes().waits()
    }

    /// Takes the message apart, for a link that carries it.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        Parts {
            attributes: self.attributes().0,
            count: self.count(),
            head: self.head,
            payload: self.payload,
            correlation: self.correlation,
            deadline: self.deadline,
        }
    }

    /// Puts a message together that came over a link, checking its head.
    ///
    /// # Errors
    /// `InvalidTopic`, `TooLarge` or `Protocol`: what is wrong with the head.
    pub fn from_parts(parts: Parts) -> Result<Self, Error> {
        Self::from_parts_after(parts, &mut Heads::default())
    }

    /// The same, where one message comes after another: a head that is as the one before was
    /// checked with it.
    ///
    /// ```
    /// use posthaste_core::{Heads, Message, Parts};
    ///
    /// let parts = |head: &'static [u8]| Parts {
    ///     head: head.into(),
    ///     payload: "42".into(),
    ///     attributes: 0,
    ///     correlation: 0,
    ///     deadline: None,
    ///     count: 1,
    /// };
    /// let mut heads = Heads::default();
    /// for _ in 0..3 {
    ///     // Three messages to the topic `jobs`, whose head is looked at once.
    ///     let message = Message::from_parts_after(parts(b"\x04\0jobs"), &mut heads)?;
    ///     assert_eq!(message.topic().as_str(), "jobs");
    /// }
    /// // Another head is another matter, and this one is none.
    /// assert!(Message::from_parts_after(parts(b"\x04\0job"), &mut heads).is_err());
    /// # Ok::<(), posthaste_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_parts`](Self::from_parts).
    #[inline]
    pub fn from_parts_after(parts: Parts, heads: &mut Heads) -> Result<Self, Error> {
        if heads.last.is_empty() || heads.last != parts.head[..] {
            head::check(&parts.head)?;
            heads.last.clear();
            if parts.head.len() <= LONGEST_KEPT {
                heads.last.extend_from_slice(&parts.head);
            }
        }
        let Parts { head, payload, deadline, correlation, attributes, count } = parts;
        let mut message = Self { head, payload, deadline, correlation };
        message.head.put_beside((Attributes(attributes).checked()?.0, count));
        message.check_size(PAYLOAD_BYTES_CEILING)?;
        Ok(message)
    }

    /// The answer to this request, or `None` if it asks for none.
    #[must_use]
    pub fn reply(&self, payload: impl Into<Bytes>) -> Option<Self> {
        let mut reply = Self::new(self.reply_to()?, payload);
        reply.correlation = self.correlation;
        reply.set(Attributes::default().with_kind(Kind::Reply));
        Some(reply)
    }

    /// The reply that says why this request has no answer, or `None` if it asks for none.
    #[must_use]
    pub fn status_reply(&self, status: Status, text: impl Into<Bytes>) -> Option<Self> {
        let mut head = BytesMut::from(&self.reply_to()?.0[..]);
        let code = match status {
            Status::Failed => 0,
            Status::NoResponders => 1,
        };
        head::put(&mut head, head::STATUS, &[code]);
        let mut reply = Self::new(Topic(head.freeze().into()), text);
        reply.correlation = self.correlation;
        reply.set(Attributes::default().with_kind(Kind::Status));
        Some(reply)
    }

    /// What stands in for a message that a backend lost although it may not.
    pub(crate) fn lost() -> Self {
        Self::new(Topic(b"\x04\0lost"[..].into()), Bytes::new())
    }

    #[inline]
    fn attributes(&self) -> Attributes {
        Attributes(self.head.beside().0)
    }

    fn set(&mut self, attributes: Attributes) {
        self.head.put_beside((attributes.0, self.count()));
    }

    /// Gives it another head, with the attributes of the old one.
    fn rehead(&mut self, head: impl Into<Head>) {
        let beside = self.head.beside();
        self.head = head.into();
        self.head.put_beside(beside);
    }

    fn text_property(&self, tag: u8) -> Option<&str> {
        head::find(&self.head, tag).and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.is_like(other)
            && self.payload == other.payload
            && self.correlation == other.correlation
    }
}

impl Eq for Message {}

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
    pub head: Head,
    /// The content.
    pub payload: Bytes,
    /// Kind, target and priority, as they are on the wire.
    pub attributes: u8,
    /// Which request this is, or answers; 0 is none.
    pub correlation: u64,
    /// When the message is of no more use.
    pub deadline: Option<Instant>,
    /// How many messages it is: 1, or more for a [run](Message::count).
    pub count: u32,
}

/// The last head that was found good by [`Message::from_parts_after`]: most links carry message
/// after message with the same one.
///
/// Keep one for each link; it takes 256 bytes at most. A head that is longer is checked every time.
/// See [`Message::from_parts_after`] for an example.
#[derive(Debug, Clone, Default)]
pub struct Heads {
    /// Empty, which no good head is, if there is none.
    last: Vec<u8>,
}

/// A longer head is not kept: it is not likely to come again.
const LONGEST_KEPT: usize = 256;

#[cold]
fn too_large(len: usize, limit: usize) -> Error {
    let text = format!("a payload has at most {limit} bytes, this has {len}; send it in pieces");
    Error::new(ErrorKind::TooLarge, text)
}

/// Kind, target, priority and patience in one byte, as on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Attributes(u8);

impl Attributes {
    const KIND: u8 = 0b0000_0011;
    const QUEUE: u8 = 0b0000_0100;
    const PRIORITY: u8 = 0b0001_1000;
    const WAITS: u8 = 0b0010_0000;
    const REPEAT: u8 = 0b0100_0000;
    const PRIORITY_MAX: u8 = 3;

    #[inline]
    fn kind(self) -> Kind {
        match self.0 & Self::KIND {
            0 => Kind::Event,
            1 => Kind::Request,
            2 => Kind::Reply,
            _ => Kind::Status,
        }
    }

    fn with_kind(self, kind: Kind) -> Self {
        Self(self.0 & !Self::KIND | kind as u8)
    }

    #[inline]
    fn is_to_queue(self) -> bool {
        self.0 & Self::QUEUE != 0
    }

    fn with_queue(self) -> Self {
        Self(self.0 | Self::QUEUE)
    }

    #[inline]
    fn priority(self) -> u8 {
        (self.0 & Self::PRIORITY) >> 3
    }

    fn with_priority(self, priority: u8) -> Self {
        Self(self.0 & !Self::PRIORITY | priority << 3)
    }

    #[inline]
    fn waits(self) -> bool {
        self.0 & Self::WAITS != 0
    }

    fn checked(self) -> Result<Self, Error> {
        let known = Self::KIND | Self::QUEUE | Self::PRIORITY | Self::WAITS | Self::REPEAT;
        if self.0 & !known != 0 {
            return Err(Error::new(ErrorKind::Protocol, "a message has unknown attributes"));
        }
        Ok(self)
    }
}
