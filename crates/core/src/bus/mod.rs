//! The bus: what users hold. The three patterns, written once over any broker.

mod crew;
mod inbox;
mod planted;
mod pool;
mod question;
mod request;
mod sending;
mod serve;
mod stream;
mod survey;
mod table;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::request::{Ask, Asking, Reply};
pub use self::serve::{Consumer, Request, Responder, Serve};
pub use self::stream::{Replies, ReplyWriter};
pub use self::survey::{Survey, Surveying};

use self::inbox::Inbox;
use self::pool::Pool;
use self::question::Question;
use self::sending::Sending;
use self::table::Takes;
use crate::{
    BoxReceiver, BoxSender, Broker, Capabilities, Capability, DrainReport, Error, ErrorKind,
    Ledger, Message, Pattern, Queue, QueueInfo, Receipt, SendError, SenderOptions, SharedRuntime,
    Stats, Subscription, Topic,
};

/// What an application holds: publish-subscribe, queues and request-reply over any broker.
///
/// A bus is a handle; clones share the broker, the idle senders and the one inbox for replies.
/// It runs on any executor. Without a runtime it has no clock, and what needs one (a request's
/// deadline) is `Unsupported`; everything else works, under a bare `block_on` too.
///
/// ```
/// use posthaste_core::{Bus, ReceiverExt};
/// # use posthaste_core::Error;
/// # use posthaste_memory::Memory;
///
/// # fn main() -> Result<(), Error> { pollster::block_on(async {
/// let bus = Bus::new(Memory::new());
/// let mut orders = bus.subscribe("orders.>").await?;
/// let receipt = bus.publish("orders.eu.created", "{}").await?;
/// assert_eq!(receipt.matched, 1);
/// assert_eq!(orders.next_delivery().await?.payload(), "{}");
/// # Ok(()) }) }
/// ```
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

struct Shared {
    broker: Arc<dyn Broker>,
    runtime: Option<SharedRuntime>,
    /// Idle senders of publishes, which have no message without an outcome.
    publishers: Arc<Pool>,
    /// Idle senders of requests, which may have.
    askers: Arc<Pool>,
    inbox: Inbox,
}

impl Bus {
    /// A bus without a clock.
    pub fn new(broker: impl Broker + 'static) -> Self {
        Self::over(Arc::new(broker), None)
    }

    /// A bus whose requests have deadlines.
    pub fn with_runtime(broker: impl Broker + 'static, runtime: SharedRuntime) -> Self {
        Self::over(Arc::new(broker), Some(runtime))
    }

    fn over(broker: Arc<dyn Broker>, runtime: Option<SharedRuntime>) -> Self {
        Self(Arc::new(Shared {
            inbox: Inbox::new(Arc::clone(&broker), runtime.clone()),
            publishers: Pool::new(false),
            askers: Pool::new(true),
            broker,
            runtime,
        }))
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.0.broker
    }

    /// The runtime, if the bus was given one.
    #[must_use]
    pub fn runtime(&self) -> Option<&SharedRuntime> {
        self.0.runtime.as_ref()
    }

    /// What the broker does natively, what the framework emulates, what it lacks.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.0.broker.capabilities()
    }

    /// Publishes to a topic and waits for the outcome.
    ///
    /// # Errors
    /// `InvalidTopic`, or why the message was not taken or came back.
    ///
    /// # Cancel safety
    /// Dropped before the message was taken, it is unsent; dropped after that, it is sent.
    pub async fn publish<T>(&self, topic: T, payload: impl Into<Bytes>) -> Result<Receipt, Error>
    where
        T: TryInto<Topic>,
        Error: From<T::Error>,
    {
        let message = Message::new(topic.try_into()?, payload);
        Ok(self.send_message(message).await?)
    }

    /// Sends into one queue alone and waits for the outcome. A queue that is not there is
    /// declared with the broker's defaults.
    ///
    /// # Errors
    /// `InvalidTopic`, or why the message was not taken or came back.
    ///
    /// # Cancel safety
    /// Dropped before the message was taken, it is unsent; dropped after that, it is sent.
    ///
    /// ```
    /// # use posthaste_core::{Bus, Error, ReceiverExt};
    /// # use posthaste_memory::Memory;
    /// # fn main() -> Result<(), Error> { pollster::block_on(async {
    /// # let bus = Bus::new(Memory::new());
    /// bus.send("jobs", "work").await?;
    /// let mut jobs = bus.consume("jobs").await?;
    /// let job = jobs.next_delivery().await?;
    /// assert_eq!((job.payload().as_ref(), job.attempt()), (&b"work"[..], 1));
    /// job.ack();
    /// # Ok(()) }) }
    /// ```
    pub async fn send<Q>(&self, queue: Q, payload: impl Into<Bytes>) -> Result<Receipt, Error>
    where
        Q: TryInto<Topic>,
        Error: From<Q::Error>,
    {
        let message = Message::to_queue(queue.try_into()?, payload);
        Ok(self.send_message(message).await?)
    }

    /// Sends a message to wherever it says and waits for the outcome.
    ///
    /// # Errors
    /// Why it was not taken or came back, with the message handed back.
    ///
    /// # Cancel safety
    /// Dropped before the message was taken, it is unsent; dropped after that, it is sent.
    pub async fn send_message(&self, message: Message) -> Result<Receipt, SendError> {
        let sent = self.send_once(Sending::new(message)).await;
        match sent {
            Err(failed) if failed.kind() == ErrorKind::NotFound => {
                let message = failed.message();
                if !message.is_to_queue() {
                    return Err(failed);
                }
                // Opening a sender for the queue declares it.
                let options = SenderOptions::new().queue(message.topic());
                let opening = self.0.publishers.lease_new(&self.0.broker, options);
                let mut sending = Sending::new(failed.into_message());
                sending.leasing = Some(opening);
                self.send_once(sending).await
            }
            sent => sent,
        }
    }

    async fn send_once(&self, mut sending: Sending) -> Result<Receipt, SendError> {
        match poll_fn(|cx| sending.poll_outcome(cx, self, &self.0.publishers)).await {
            Ok(Ok(receipt)) => Ok(receipt),
            Ok(Err(returned)) => Err(returned.into()),
            // Law S1 says that an error leaves the message in the slot; a flush that fails has none.
            Err(error) => Err(SendError::new(error, sending.slot.unwrap_or_else(Message::lost))),
        }
    }

    /// Opens a sender of your own: one FIFO order, many messages in flight.
    ///
    /// # Errors
    /// As [`Broker::sender`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        self.0.broker.sender(options).await
    }

    /// Opens a receiver; it is live once this resolves.
    ///
    /// # Errors
    /// As [`Broker::receiver`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        self.0.broker.receiver(subscription).await
    }

    /// Receives a copy of everything that matches, from now on; settled automatically.
    ///
    /// # Errors
    /// `InvalidTopic`, else as [`Broker::receiver`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn subscribe<P>(&self, pattern: P) -> Result<BoxReceiver, Error>
    where
        P: TryInto<Pattern>,
        Error: From<P::Error>,
    {
        self.receiver(Subscription::topic(pattern)?).await
    }

    /// Shares everything that matches with the other members of `group`; settled automatically.
    ///
    /// # Errors
    /// `InvalidTopic`, else as [`Broker::receiver`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    ///
    /// ```
    /// # use posthaste_core::{Bus, Error, ReceiverExt};
    /// # use posthaste_memory::Memory;
    /// # fn main() -> Result<(), Error> { pollster::block_on(async {
    /// # let bus = Bus::new(Memory::new());
    /// let mut first = bus.subscribe_shared("orders.>", "billing").await?;
    /// let mut second = bus.subscribe_shared("orders.>", "billing").await?;
    /// assert_eq!(bus.publish("orders.new", "{}").await?.matched, 1);
    /// let taken = [first.try_recv()?, second.try_recv()?];
    /// assert_eq!(taken.iter().flatten().count(), 1);
    /// # Ok(()) }) }
    /// ```
    pub async fn subscribe_shared<P, G>(&self, pattern: P, group: G) -> Result<BoxReceiver, Error>
    where
        P: TryInto<Pattern>,
        G: TryInto<Topic>,
        Error: From<P::Error> + From<G::Error>,
    {
        self.receiver(Subscription::shared(pattern, group)?).await
    }

    /// Consumes a queue, which is declared if it is not there; settled by hand.
    ///
    /// # Errors
    /// `InvalidTopic`, else as [`Broker::receiver`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn consume<Q>(&self, queue: Q) -> Result<BoxReceiver, Error>
    where
        Q: TryInto<Topic>,
        Error: From<Q::Error>,
    {
        self.receiver(Subscription::queue(queue)?).await
    }

    /// Declares a queue, or updates the settings that are named.
    ///
    /// # Errors
    /// As [`Broker::declare`].
    ///
    /// # Cancel safety
    /// Dropping the future either declared the queue or did not.
    pub async fn declare(&self, queue: Queue) -> Result<(), Error> {
        self.0.broker.declare(queue).await
    }

    /// Deletes a queue; what it held is dropped and counted, its consumers end.
    ///
    /// # Errors
    /// `InvalidTopic`, else as [`Broker::delete`].
    ///
    /// # Cancel safety
    /// Dropping the future either deleted the queue or did not.
    pub async fn delete<Q>(&self, queue: Q) -> Result<(), Error>
    where
        Q: TryInto<Topic>,
        Error: From<Q::Error>,
    {
        let queue = queue.try_into()?;
        self.0.broker.delete(&queue).await
    }

    /// What a queue is and holds.
    ///
    /// # Errors
    /// `InvalidTopic`, else as [`Broker::queue`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn queue<Q>(&self, queue: Q) -> Result<QueueInfo, Error>
    where
        Q: TryInto<Topic>,
        Error: From<Q::Error>,
    {
        let queue = queue.try_into()?;
        self.0.broker.queue(&queue).await
    }

    /// The ledger, the queues, and how much is connected.
    ///
    /// # Errors
    /// As [`Broker::stats`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.0.broker.stats().await
    }

    /// The broker's books in total.
    ///
    /// # Errors
    /// As [`Broker::stats`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ledger(&self) -> Result<Ledger, Error> {
        Ok(self.stats().await?.ledger)
    }

    /// Stops taking, waits `within` for what was handed out, returns what was not, and reports.
    ///
    /// # Errors
    /// As [`Broker::drain`].
    ///
    /// # Cancel safety
    /// Safe to call again; the broker stays closed to new messages.
    pub async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.0.broker.drain(within).await
    }

    /// Asks; awaiting the [`Ask`] sends the request and resolves with the reply.
    pub fn request<T>(&self, topic: T, payload: impl Into<Bytes>) -> Ask
    where
        T: TryInto<Topic>,
        Error: From<T::Error>,
    {
        Ask::new(self.question(Takes::One, topic, payload))
    }

    /// Asks everybody who matches; awaiting the [`Ask`] resolves with the [`Survey`], at once when
    /// everybody has answered or is lost, else at the deadline (30 s unless it says otherwise).
    /// Nobody being there is no error. A responder that shares its requests is asked as one with
    /// its group: those who are to answer each serve [alone](Serve::alone). `Unsupported` where
    /// receipts do not tell how many were asked ([`Capability::MatchCount`]).
    pub fn survey<T>(&self, topic: T, payload: impl Into<Bytes>) -> Ask<Survey>
    where
        T: TryInto<Topic>,
        Error: From<T::Error>,
    {
        // Whoever does not know how many were asked does not know who is missing.
        let known = self.capabilities().require(Capability::MatchCount);
        let topic = known.and_then(|()| topic.try_into().map_err(Error::from));
        let takes = Takes::Many(survey::UNREAD_MAX);
        Ask::new(Question::new(self.clone(), takes, topic, payload.into()))
    }

    /// Asks for many replies, which come in order and no faster than they are read;
    /// [`open`](Ask::open) them and take one by one. All of them have the time of one request (30 s
    /// unless it says otherwise), and one responder gives them, with
    /// [`Request::stream`]; a plain reply is the only one.
    pub fn request_stream<T>(&self, topic: T, payload: impl Into<Bytes>) -> Ask<Replies>
    where
        T: TryInto<Topic>,
        Error: From<T::Error>,
    {
        Ask::streamed(self.question(Takes::Many(stream::UNREAD_MAX), topic, payload))
    }

    /// Answers requests to the topics of a pattern, together with the other responders of its
    /// group.
    pub fn serve<P>(&self, pattern: P) -> Serve
    where
        P: TryInto<Pattern>,
        Error: From<P::Error>,
    {
        Serve::new(self.clone(), pattern.try_into().map_err(Error::from))
    }

    /// How many replies have come so far that nobody waited for any more.
    #[must_use]
    pub fn late_replies(&self) -> u64 {
        self.0.inbox.late()
    }

    fn question<T>(&self, takes: Takes, topic: T, payload: impl Into<Bytes>) -> Question
    where
        T: TryInto<Topic>,
        Error: From<T::Error>,
    {
        Question::new(self.clone(), takes, topic.try_into().map_err(Error::from), payload.into())
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("broker", &self.capabilities().backend())
            .field("clock", &self.runtime().is_some())
            .field("waiting_requests", &self.0.inbox.waiting())
            .finish_non_exhaustive()
    }
}

fn needs_clock(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} needs a clock: give the bus a runtime"))
}
