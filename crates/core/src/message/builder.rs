//! Putting a message together, property by property.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Attributes, Kind, Message, head};
use crate::limits::{KEY_BYTES_MAX, PAYLOAD_BYTES_CEILING};
use crate::topic::Topic;
use crate::{Error, ErrorKind, Head};

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
    delay: Duration,
    correlation: u64,
    attributes: Attributes,
    priority: u8,
}

impl MessageBuilder {
    pub(super) fn new(topic: Topic) -> Self {
        Self {
            topic,
            payload: Bytes::new(),
            key: None,
            id: None,
            reply_to: None,
            headers: Vec::new(),
            deadline: None,
            delay: Duration::ZERO,
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

    /// Makes this an answer to the request of that correlation: for backends that put together
    /// what came in. Whoever answers a request calls [`Message::reply`].
    ///
    /// ```
    /// use posthaste_core::{Kind, Message, Topic};
    ///
    /// let reply = Message::builder(Topic::new("me")?).answers(7).build()?;
    /// assert_eq!((reply.kind(), reply.correlation()), (Kind::Reply, 7));
    /// # Ok::<(), posthaste_core::Error>(())
    /// ```
    pub fn answers(mut self, correlation: u64) -> Self {
        self.correlation = correlation;
        self.attributes = self.attributes.with_kind(Kind::Reply);
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

    /// Nobody gets the message before `delay` has passed, counted from when a broker takes it. The
    /// broker needs a clock for it: give it a runtime.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
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
        self.build_after(&mut None)
    }

    /// The same; `last` is the head of a request like this one, which often is this one's too.
    pub(crate) fn build_after(self, last: &mut Option<Head>) -> Result<Message, Error> {
        if self.priority > Attributes::PRIORITY_MAX {
            let (most, this) = (Attributes::PRIORITY_MAX, self.priority);
            let text = format!("a priority is 0 to {most}, not {this}");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let (head, attributes) = (self.head(last)?, self.attributes.with_priority(self.priority));
        let Self { payload, deadline, correlation, .. } = self;
        let mut message = Message { head, payload, deadline, correlation };
        message.set(attributes);
        message.check_size(PAYLOAD_BYTES_CEILING)?;
        Ok(message)
    }

    fn head(&self, last: &mut Option<Head>) -> Result<Head, Error> {
        let (topic, reply_to) = (&self.topic.0, self.reply_to.as_ref().map(|topic| &topic.0));
        let bare = self.key.is_none()
            && self.id.is_none()
            && self.headers.is_empty()
            && self.delay.is_zero();
        match (reply_to, &*last) {
            (None, _) if bare => return Ok(topic.clone()),
            (Some(to), Some(last)) if bare && head::is_bare(last, topic, to) => {
                return Ok(last.clone());
            }
            _ => {}
        }
        let property = reply_to.map_or(0, |topic| head::PROPERTY_PREFIX + topic.len());
        let mut head = BytesMut::with_capacity(topic.len() + property);
        head.put_slice(topic);
        for (tag, what, value) in
            [(head::KEY, "key", &self.key), (head::ID, "message id", &self.id)]
        {
            let Some(value) = value else { continue };
            if value.len() > KEY_BYTES_MAX {
                let len = value.len();
                let text = format!("a {what} has at most {KEY_BYTES_MAX} bytes, this has {len}");
                return Err(Error::new(ErrorKind::TooLarge, text));
            }
            head::put(&mut head, tag, value.as_bytes());
        }
        if let Some(topic) = reply_to {
            head::put(&mut head, head::REPLY_TO, topic);
        }
        let mut headers = head::HeaderBudget::default();
        for (name, value) in &self.headers {
            headers.charge(name, value)?;
            head::put_header(&mut head, name, value);
        }
        if !self.delay.is_zero() {
            let micros = u64::try_from(self.delay.as_micros()).unwrap_or(u64::MAX).max(1);
            head::put(&mut head, head::DELAY, &micros.to_le_bytes());
        }
        let head = Head::from(head.freeze());
        *last = bare.then(|| head.clone()).or(last.take());
        Ok(head)
    }
}
