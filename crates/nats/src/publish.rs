//! Publishing: to subjects, which confirm nothing, and to streams, which do.

use std::future::IntoFuture;
use std::sync::Arc;

use async_nats::Subject;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use futures::future::{Either, select};
use posthaste_core::{BoxFuture, Error, ErrorKind, Kind, Message, Overflow, Topic};
use posthaste_engine::{Confirmation, Confirmed, Publish};

use crate::broker::Link;
use crate::messages;
use crate::names;
use crate::streams::{Entry, api_error};

/// What it takes to say that a core subject has a message: it is on its way.
const SENT: Confirmed = Confirmed { matched: 0, level: posthaste_core::Level::Sent, nodes: 0 };

/// How a sender's messages go out.
pub(crate) struct Publisher {
    link: Arc<Link>,
    /// The topic of the message before, which is most often that of the next, and its subject.
    last: Option<(Topic, Subject)>,
}

impl Publisher {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link, last: None }
    }
}

impl Publisher {
    /// The subject of a message that has no more to do with answers.
    fn subject_of_event(&mut self, message: &Message) -> Result<Option<Subject>, Error> {
        if message.kind() != Kind::Event || message.correlation() != 0 {
            return Ok(None);
        }
        if let Some((topic, subject)) = &self.last
            && topic.as_str().as_bytes() == message.topic_bytes()
        {
            return Ok(Some(subject.clone()));
        }
        let (subject, reply) = messages::subjects(message)?;
        if reply.is_some() {
            return Ok(None);
        }
        let subject = Subject::from(subject);
        self.last = Some((message.topic(), subject.clone()));
        Ok(Some(subject))
    }
}

impl Publish for Publisher {
    async fn publish(&mut self, message: &Message) -> Result<Confirmation, Error> {
        if message.is_to_queue() {
            let ack = self.link.send_into(&message.topic(), message).await?;
            return Ok(Confirmation::Later(Box::pin(ack.confirmed())));
        }
        match self.subject_of_event(message)? {
            Some(subject) => self.link.publish_to(subject, None, message).await?,
            None => self.link.publish(message).await?,
        }
        Ok(Confirmation::Now(SENT))
    }

    fn flush(&mut self) -> BoxFuture<'static, Result<(), Error>> {
        let link = Arc::clone(&self.link);
        Box::pin(async move { link.flush().await })
    }
}

/// What is awaited of a message to a queue.
pub(crate) struct Awaited {
    ack: PublishAckFuture,
    link: Arc<Link>,
    queue: Topic,
    entry: Arc<Entry>,
}

impl Awaited {
    pub(crate) async fn confirmed(self) -> Result<Confirmed, Error> {
        let Self { ack, link, queue, entry } = self;
        // An answer that was to come over a connection that is lost does not come any more; but what
        // the client had not written yet goes over the next one.
        let lost = std::pin::pin!(link.lost());
        let answer = match select(ack.into_future(), lost).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => return Err(unknown(&queue)),
        };
        match answer {
            Ok(_) => Ok(entry.confirmed()),
            Err(error) if is_full(&error) && entry.overflow() == Overflow::DropNewest => {
                Ok(Confirmed { matched: 0, ..entry.confirmed() })
            }
            Err(error) => Err(refusal(&error, &queue)),
        }
    }
}

impl Link {
    /// Publishes to the subject that a message is for.
    pub(crate) async fn publish(&self, message: &Message) -> Result<(), Error> {
        let (subject, reply) = messages::subjects(message)?;
        self.publish_to(subject.into(), reply, message).await
    }

    async fn publish_to(
        &self,
        subject: Subject,
        reply: Option<String>,
        message: &Message,
    ) -> Result<(), Error> {
        if !self.events().is_connected() {
            self.up().await?;
        }
        let headers = messages::headers(message, &**self.runtime());
        self.check_size(message, headers.as_ref())?;
        let (client, payload) = (self.client(), message.payload().clone());
        let published = match (reply, headers) {
            (None, None) => client.publish(subject, payload).await,
            (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
            (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
            (Some(reply), Some(headers)) => {
                client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
        };
        published.map_err(|error| {
            Error::new(ErrorKind::Disconnected, format!("NATS did not take the message: {error}"))
        })
    }

    /// Lets what was published go out.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        self.client().flush().await.map_err(|error| {
            let text = format!("the connection to NATS was lost before this went out: {error}");
            Error::new(ErrorKind::Unknown, text)
        })
    }

    /// Hands a message to the stream of a queue.
    pub(crate) async fn send_into(
        self: &Arc<Self>,
        queue: &Topic,
        message: &Message,
    ) -> Result<Awaited, Error> {
        let entry = self.entry(queue).await?;
        let id = message.id().filter(|_| entry.deduplicates());
        self.send_as(queue, message, entry, id).await
    }

    /// Hands a message to the stream of a queue that may have had it before.
    pub(crate) async fn send_again(
        self: &Arc<Self>,
        queue: &Topic,
        message: &Message,
    ) -> Result<Awaited, Error> {
        let entry = self.entry(queue).await?;
        self.send_as(queue, message, entry, None).await
    }

    async fn send_as(
        self: &Arc<Self>,
        queue: &Topic,
        message: &Message,
        entry: Arc<Entry>,
        id: Option<&str>,
    ) -> Result<Awaited, Error> {
        self.up().await?;
        let headers = messages::headers(message, &**self.runtime());
        self.check_size(message, headers.as_ref())?;
        let mut publish = PublishMessage::build().payload(message.payload().clone());
        if let Some(headers) = headers {
            publish = publish.headers(headers);
        }
        if let Some(id) = id {
            publish = publish.message_id(id);
        }
        let ack = self.jetstream().send_publish(names::queue_subject(queue), publish).await;
        let ack = ack.map_err(|error| refusal(&error, queue))?;
        Ok(Awaited { ack, link: Arc::clone(self), queue: queue.clone(), entry })
    }

    /// The server cuts off who sends what it does not take.
    fn check_size(
        &self,
        message: &Message,
        headers: Option<&async_nats::HeaderMap>,
    ) -> Result<(), Error> {
        let headers = headers.map_or(0, |headers| {
            let pairs = headers.iter().flat_map(|(name, values)| {
                values
                    .iter()
                    .map(move |value| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4)
            });
            pairs.sum::<usize>() + 12
        });
        let (size, most) = (message.payload().len() + headers, self.client().max_payload());
        if size <= most {
            return Ok(());
        }
        let text = format!(
            "this NATS server takes messages of at most {most} bytes with their headers, this has \
             {size}; raise its max_payload or send it in pieces"
        );
        Err(Error::new(ErrorKind::TooLarge, text))
    }
}

/// The stream has as much as it may have.
fn is_full(error: &PublishError) -> bool {
    let source = std::error::Error::source(error);
    let of = source.and_then(|error| error.downcast_ref::<async_nats::jetstream::Error>());
    of.is_some_and(|error| error.to_string().contains("maximum"))
}

fn unknown(queue: &Topic) -> Error {
    let text = format!("NATS did not say whether the queue {queue} has the message");
    Error::new(ErrorKind::Unknown, text)
}

/// Why a message comes back.
fn refusal(error: &PublishError, queue: &Topic) -> Error {
    match error.kind() {
        PublishErrorKind::StreamNotFound => {
            let text = format!("there is no queue {queue}; declare it, or open a sender for it");
            Error::new(ErrorKind::NotFound, text)
        }
        PublishErrorKind::MaxPayloadExceeded => {
            Error::new(ErrorKind::TooLarge, "the NATS server does not take messages of this size")
        }
        _ if is_full(error) => {
            let text = format!("the queue {queue} is full; take messages out of it, or send later");
            Error::new(ErrorKind::Full, text)
        }
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => unknown(queue),
        _ => api_error(error),
    }
}
