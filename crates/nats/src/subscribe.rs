//! Subscribing to subjects: topics, groups and inboxes.

use std::sync::Arc;

use async_compat::Compat;
use async_nats::{Subject, Subscriber};
use futures::StreamExt;
use futures::future::{Either, select};
use posthaste_core::{Error, ErrorKind, Message, Pattern, Status, Topic};
use posthaste_engine::{Arrival, Consume, Settled};
use tokio::sync::watch;

use crate::broker::Link;
use crate::events::Condition;
use crate::messages;

/// How the messages of a subject come in.
pub(crate) struct Subscribed {
    link: Arc<Link>,
    subscriber: Subscriber,
    watch: watch::Receiver<Condition>,
    losses: u64,
    /// What may come; an inbox takes whatever answers come.
    pattern: Option<Pattern>,
    /// The pattern begins with a wildcard, which what is the server's own is not for.
    wild: bool,
    /// The subject of the message before, which is most often that of the next, and the topic that
    /// it is, if it is one for this subscription.
    last: Option<(Subject, Option<Topic>)>,
}

impl Subscribed {
    /// Subscribes; it is live once this resolves.
    pub(crate) async fn open(
        link: Arc<Link>,
        subject: String,
        group: Option<String>,
        pattern: Option<Pattern>,
    ) -> Result<Self, Error> {
        Compat::new(async {
            link.up().await?;
            let mut watch = link.events().watch();
            let losses = watch.borrow_and_update().losses;
            let subscriber = match group {
                None => link.client().subscribe(subject).await,
                Some(group) => link.client().queue_subscribe(subject, group).await,
            };
            let subscriber = subscriber.map_err(|error| {
                let text = format!("NATS did not take the subscription: {error}");
                Error::new(ErrorKind::InvalidTopic, text)
            })?;
            link.round_trip().await?;
            let first = pattern.as_ref().and_then(|pattern| pattern.words().next());
            let wild = matches!(first, Some("*" | ">"));
            Ok(Self {
                link: Arc::clone(&link),
                subscriber,
                watch,
                losses,
                pattern,
                wild,
                last: None,
            })
        })
        .await
    }

    fn read(&mut self, message: &async_nats::Message) -> Option<Result<Message, Error>> {
        let runtime = &**self.link.runtime();
        let Some(pattern) = &self.pattern else { return messages::from_inbox(message, runtime) };
        let topic = match &self.last {
            Some((subject, topic)) if *subject == message.subject => topic,
            _ => {
                let topic = topic_of(&message.subject, pattern, self.wild);
                &self.last.insert((message.subject.clone(), topic)).1
            }
        };
        Some(messages::from_topic(topic.clone()?, message, runtime))
    }
}

/// The topic that a subject is, if it is for this pattern.
fn topic_of(subject: &Subject, pattern: &Pattern, wild: bool) -> Option<Topic> {
    if wild && (subject.starts_with('$') || subject.starts_with("_INBOX.")) {
        return None;
    }
    Topic::new(&**subject).ok().filter(|topic| pattern.matches(topic))
}

impl Consume for Subscribed {
    type Token = ();

    // Core NATS holds nothing: what is not read is dropped by the client, or by the server together
    // with the connection.
    const HOLDS: bool = false;

    async fn next(&mut self) -> Result<Option<Arrival<()>>, Error> {
        loop {
            let event = {
                let changed = std::pin::pin!(self.watch.changed());
                match select(self.subscriber.next(), changed).await {
                    Either::Left((message, _)) => Ok(message),
                    Either::Right((changed, _)) => Err(changed.is_ok()),
                }
            };
            let message = match event {
                Ok(Some(message)) => message,
                Ok(None) | Err(false) => return Ok(None),
                Err(true) => {
                    let losses = self.watch.borrow_and_update().losses;
                    if std::mem::replace(&mut self.losses, losses) != losses {
                        return Err(missed());
                    }
                    continue;
                }
            };
            // What nobody can read is over for NATS.
            if let Some(Ok(message)) = self.read(&message) {
                return Ok(Some(Arrival { message, attempt: 1, token: None }));
            }
        }
    }

    async fn settle(&mut self, _settled: Vec<Settled<()>>) -> Result<(), Error> {
        Ok(())
    }

    async fn stop(&mut self) {
        let mut unseen = Vec::new();
        if self.pattern.is_some() {
            // The client drops what is on its way to a subscription that ends, so that comes first.
            let link = Arc::clone(&self.link);
            let mut echo = std::pin::pin!(link.round_trip());
            while let Either::Left((Some(message), _)) =
                select(self.subscriber.next(), echo.as_mut()).await
            {
                unseen.extend(asks(message));
            }
        }
        // A connection that is gone has no subscriptions.
        if self.subscriber.drain().await.is_ok() {
            while let Some(message) = self.subscriber.next().await {
                unseen.extend(asks(message));
            }
        }
        // Events that were on their way are missed, as by any subscription that ends; whoever asks
        // is told.
        for message in unseen {
            let nobody = self.read(&message).and_then(Result::ok).and_then(|request| {
                request.status_reply(Status::NoResponders, "who was to answer has gone; ask again")
            });
            if let Some(nobody) = nobody {
                self.answer(nobody).await;
            }
        }
    }

    async fn answer(&mut self, message: Message) {
        // Should this fail, the requester waits until its deadline.
        let _ = async {
            self.link.publish(&message).await?;
            self.link.flush().await
        }
        .await;
    }
}

/// The message, if somebody waits for an answer to it.
fn asks(message: async_nats::Message) -> Option<async_nats::Message> {
    message.reply.is_some().then_some(message)
}

fn missed() -> Error {
    let text = "the connection to NATS was lost, and what was published meanwhile was missed";
    Error::new(ErrorKind::SessionLost, text)
}
