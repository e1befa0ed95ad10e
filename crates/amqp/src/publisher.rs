//! What a sender publishes with, and what its receipts may claim.

use std::sync::Arc;

use posthaste_core::{Error, ErrorKind, Level, Message, Queue, Status};
use posthaste_engine::{Confirmation, Confirmed, Publish};

use crate::delay;
use crate::fault::unsupported;
use crate::outgoing::{Fate, Outgoing, Sent};
use crate::shared::Shared;
use crate::wire::{self, Route, To, is_urgent_request};

/// The publisher of one sender: a channel of its own.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    outgoing: Outgoing,
}

impl Publisher {
    pub(crate) async fn open(shared: &Arc<Shared>) -> Result<Self, Error> {
        let mut outgoing = Outgoing::default();
        outgoing.open(shared).await?;
        Ok(Self { shared: Arc::clone(shared), outgoing })
    }

    /// What a confirmed message reaches at its target.
    async fn level(&self, message: &Message, route: &Route) -> Result<Level, Error> {
        if route.to != To::Queue {
            // Queues that nobody here knows may have a copy.
            return Ok(Level::Held);
        }
        let queue = message.topic();
        let facts = match self.shared.facts(&queue).await? {
            Some(facts) => facts,
            None if message.waits() => {
                self.shared.declare_default(&queue).await?;
                self.shared.facts(&queue).await?.ok_or_else(|| not_found(message))?
            }
            None => return Err(not_found(message)),
        };
        if message.priority() > 0 && !facts.priorities {
            return Err(unsupported("priorities in this queue, which was declared without them"));
        }
        Ok(facts.level(self.outgoing.version(), self.shared.runtime.now()))
    }

    /// Whether a request to a queue finds somebody to answer it.
    async fn is_answerable(&self, message: &Message) -> Result<bool, Error> {
        match self.shared.depth(&message.topic()).await {
            Ok(depth) => Ok(depth.is_some_and(|depth| depth.consumers > 0)),
            // It belongs to one connection alone, and only that one may know.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn send(&mut self, route: &Route, message: &Message) -> Result<Sent, Error> {
        let runtime = self.shared.runtime.clone();
        let make = |number| wire::encode(message, route, number, &*runtime);
        self.outgoing.send(&self.shared, route, message.payload(), make).await
    }

    /// Tells the requester that nobody is there.
    async fn tell_nobody(&self, message: &Message) -> Result<(), Error> {
        match message.status_reply(Status::NoResponders, "") {
            Some(status) => self.shared.tell(&status).await,
            None => Ok(()),
        }
    }
}

impl Publish for Publisher {
    async fn publish(&mut self, message: &Message) -> Result<Confirmation, Error> {
        if message.deadline().is_some_and(|deadline| deadline <= self.shared.runtime.now()) {
            let text = "the message outlived its deadline before it was sent";
            return Err(Error::new(ErrorKind::Expired, text));
        }
        let route = Route::of(message, &self.shared.options)?;
        let asks = is_urgent_request(message);
        if asks && route.to == To::Queue && !self.is_answerable(message).await? {
            self.tell_nobody(message).await?;
            return Ok(Confirmation::Now(NOBODY));
        }
        self.outgoing.open(&self.shared).await?;
        let level = self.level(message, &route).await?;
        if !message.delay().is_zero() {
            let later = delay::route(&self.shared, &route, message.delay()).await?;
            let message = message.clone().without_delay();
            let sent = self.send(&later, &message).await?;
            return Ok(Confirmation::Later(Box::pin(async move {
                match sent.await? {
                    Fate::Taken => Ok(Confirmed { matched: 1, level, nodes: 1 }),
                    Fate::Refused | Fate::Unroutable => Err(gone_meanwhile()),
                }
            })));
        }
        let sent = self.send(&route, message).await?;
        let status = if asks { message.status_reply(Status::NoResponders, "") } else { None };
        let (to, queue) = (route.to, message.topic());
        let shared = Arc::clone(&self.shared);
        Ok(Confirmation::Later(Box::pin(async move {
            match (sent.await?, to) {
                (Fate::Taken, _) => Ok(Confirmed { matched: 1, level, nodes: 1 }),
                (Fate::Refused, _) => Err(full(queue.as_str(), to)),
                (Fate::Unroutable, To::Queue) => {
                    shared.forget(&queue);
                    let text = format!("there is no queue {queue} at rabbitmq; declare it first");
                    Err(Error::new(ErrorKind::NotFound, text))
                }
                (Fate::Unroutable, _) => {
                    if let Some(status) = status {
                        shared.tell(&status).await?;
                    }
                    Ok(NOBODY)
                }
            }
        })))
    }
}

const NOBODY: Confirmed = Confirmed { matched: 0, level: Level::Held, nodes: 1 };

fn not_found(message: &Message) -> Error {
    let text = format!("there is no queue {} at rabbitmq; declare it first", message.topic());
    Error::new(ErrorKind::NotFound, text)
}

fn full(name: &str, to: To) -> Error {
    let text = match to {
        To::Topic => {
            format!("a queue that is bound to {name} is full; others may have the message")
        }
        _ => format!("the queue {name} is full and rejected the message; try again later"),
    };
    Error::new(ErrorKind::Full, text)
}

fn gone_meanwhile() -> Error {
    let text = "the queue in which the message was to wait was not there; send it again";
    Error::new(ErrorKind::Full, text)
}

impl Shared {
    /// Declares a queue with the defaults if it is not there.
    pub(crate) async fn declare_default(&self, queue: &posthaste_core::Topic) -> Result<(), Error> {
        self.declare(&Queue::new(queue.clone())).await
    }

    /// Sends an answer to who asked, once.
    pub(crate) async fn tell(&self, answer: &Message) -> Result<(), Error> {
        let route = Route::of(answer, &self.options)?;
        let make = |number| wire::encode(answer, &route, number, &*self.runtime);
        let mut errands = self.errands.lock().await;
        let sent = errands.send(self, &route, answer.payload(), make).await?;
        drop(errands);
        sent.await.map(|_| ())
    }

    /// Nobody will have this message: who waits for an answer is told.
    pub(crate) async fn give_up(&self, message: &Message) {
        if is_urgent_request(message)
            && let Some(status) = message.status_reply(Status::NoResponders, GONE)
        {
            // One who asked and cannot be reached is past helping.
            let _told = self.tell(&status).await;
        }
    }
}

const GONE: &str = "who was to answer has gone; ask again";
