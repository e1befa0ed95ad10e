//! The broker: what opens senders and receivers, whether in process, remote or somebody else's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::capability::Capabilities;
use crate::ledger::{Browsed, DrainReport, QueueInfo, Replayed, Sends, Stats};
use crate::{BoxReceiver, BoxSender, Error, Kind, Level, Message, Queue, Subscription, Topic};

/// Opens senders and receivers, and manages queues.
///
/// The in-process broker, a remote one, RabbitMQ, Kafka and NATS are all brokers, so every pattern
/// and every tool works on each. Users hold a `Bus` over one.
///
/// # Laws
///
/// - **B1** A capability that is lacking is `Unsupported` at the call, never silence.
/// - **B2** A subscription is live once `receiver` resolves: a publish that starts after that is
///   seen.
/// - **B3** Of competing consumers each message goes to exactly one.
/// - **B4** Of subscriptions each matching one gets its own copy.
/// - **B5** The ledger balances.
/// - **B6** A dropped pending `receiver` or `declare` leaves nothing behind.
/// - **B7** A queue is as declared, and tells so; declared again it keeps what is not named; a
///   contradiction is a `Conflict` that names the field and changes nothing.
/// - **B8** What was rejected or tried too often goes to the dead-letter queue with its history,
///   never to one in which it died before; a full one holds it at its source.
/// - **B9** What is too late is not handed out, and is booked as expired, also without a consumer.
/// - **B10** What is delayed, or in backoff, is handed out no earlier, and holds up nothing else.
/// - **B11** Of a queue's messages the highest priority goes first, each in its own order.
/// - **B12** A message that a queue knows by its id is confirmed, counted and not taken.
/// - **B13** A keyed queue hands out a key's next message once the one before is settled, whatever
///   becomes of other keys.
/// - **B14** What happens at a bound is what was named, and every drop is counted with its reason.
/// - **B15** A receiver that stalls holds up no other, unless its policy is to block.
/// - **B16** A drop is an event that says whose it was, what it was about and why.
/// - **B17** Browsing changes nothing; purging and replaying lose nothing that is handed out.
/// - **B18** Of a queue that retains every reader gets everything from its start on that is there, in
///   order, at offsets that stay what they are, however many read; what goes is what the retention
///   lets go, and who was overtaken hears how much that was.
/// - **B19** What was confirmed to be in a durable queue is in it when the broker is opened again,
///   whole and once, and what is settled for good is not; so are declarations, bindings, ids,
///   attempts, deaths, delays and offsets what they were, and a queue that is not durable is gone.
/// - **D1** Dropping the broker or any handle, anywhere, neither panics, blocks nor spawns.
/// - **D2** Empty, non-UTF-8 and maximum-size payloads pass; one byte more is `TooLarge`.
/// - **D3** An error is one sentence that says what to do.
/// - **D4** Arguments beyond all sense are an error or a limit, never a panic or a hang.
/// - **Q1** A request that was dropped or timed out frees its slot; a late reply is counted, not
///   delivered. **Q2** A request that nobody can answer is answered `NoResponders` at once.
/// - **Q3** A cancelled request is removed where it waits, and who works on it is told.
/// - **Q4** A survey ends with every answer there is, and says how many are missing.
/// - **Q5** A streamed reply comes whole, in order and no faster than it is read.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Opens a sender.
    ///
    /// # Errors
    /// `Unsupported`, `Limit`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error>;

    /// Opens a receiver; it is live once this resolves.
    ///
    /// # Errors
    /// `Unsupported`, `Limit`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error>;

    /// Opens a receiver at an address of the backend's choosing, for replies. It never blocks a
    /// sender: when it is full, what comes next is dropped and counted.
    ///
    /// # Errors
    /// As [`receiver`](Self::receiver).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error>;

    /// Declares a queue, or updates the settings that are named.
    ///
    /// # Errors
    /// `Conflict`, which names the field; `Unsupported`, `Limit`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future either declared the queue or did not.
    async fn declare(&self, queue: Queue) -> Result<(), Error>;

    /// Deletes a queue; what it held is dropped and counted, its consumers end.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future either deleted the queue or did not.
    async fn delete(&self, queue: &Topic) -> Result<(), Error>;

    /// What a queue is and holds.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe.
    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error>;

    /// Drops everything in a queue that is not handed out, and says how much that was.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future either purged the queue or did not.
    async fn purge(&self, _queue: &Topic) -> Result<u64, Error> {
        Err(Error::unsupported("purging", self.capabilities().backend()))
    }

    /// Shows the messages of a queue in the order of their positions, from the one behind `after`
    /// on, `limit` at most and perhaps fewer; an empty answer is the end. They stay where they are.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe.
    async fn browse(
        &self,
        _queue: &Topic,
        _after: Option<u64>,
        _limit: usize,
    ) -> Result<Vec<Browsed>, Error> {
        Err(Error::unsupported("browsing", self.capabilities().backend()))
    }

    /// Moves the dead letters of a queue, `limit` at most, oldest first, back to the queues in
    /// which they died last, with their history, their attempts beginning anew. What is handed
    /// out, is no dead letter, or finds its queue gone or full stays.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: each letter is in one queue or the other.
    async fn replay(&self, _queue: &Topic, _limit: u64) -> Result<Replayed, Error> {
        Err(Error::unsupported("replaying", self.capabilities().backend()))
    }

    /// The ledger, the queues in the order of their names, and how much is connected.
    ///
    /// # Errors
    /// `Unsupported`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe.
    async fn stats(&self) -> Result<Stats, Error>;

    /// Stops taking, waits `within` for what was handed out, returns what was not, and reports.
    /// On a remote broker it drains the client's side.
    ///
    /// # Errors
    /// `Unsupported` on a broker without a clock.
    ///
    /// # Cancel safety
    /// Safe to call again; the broker stays closed to new messages.
    async fn drain(&self, within: Duration) -> Result<DrainReport, Error>;

    /// Nobody waits for the answer to a request any more: it is removed where it is queued, and
    /// who works on it is told. Never waits, and is no more than a hint to a backend that lacks
    /// [`Capability::Cancellation`](crate::Capability::Cancellation).
    fn cancel(&self, _request: &Cancel) {}

    /// This client's own books: what became of the messages that its senders took. `None` from a
    /// backend that keeps none.
    fn sends(&self) -> Option<Sends> {
        None
    }

    /// What this backend does natively, what the framework emulates, what it lacks.
    fn capabilities(&self) -> Capabilities;
}

/// A request that nobody waits for any more: what tells it from others, and where it went.
///
/// ```
/// use posthaste_core::{Cancel, Message, Topic};
///
/// let request = Message::builder(Topic::new("sum")?).reply_to(Topic::new("me")?, 7).build()?;
/// assert_eq!(Cancel::of(&request).map(|this| this.correlation), Some(7));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// The topic or the queue that the request was sent to.
    pub target: Topic,
    /// Whether the target is a queue.
    pub to_queue: bool,
    /// Where its answer was to go.
    pub reply_to: Topic,
    /// Which request it is, of those that await answers there.
    pub correlation: u64,
}

impl Cancel {
    /// What cancels `request`; `None` if it is none.
    #[must_use]
    pub fn of(request: &Message) -> Option<Self> {
        Some(Self {
            target: request.topic(),
            to_queue: request.is_to_queue(),
            reply_to: request.reply_to()?,
            correlation: request.correlation(),
        })
        .filter(|_| request.kind() == Kind::Request)
    }

    /// Whether this cancels `message`.
    #[must_use]
    pub fn is_for(&self, message: &Message) -> bool {
        message.kind() == Kind::Request
            && message.correlation() == self.correlation
            && message.reply_to().is_some_and(|this| this == self.reply_to)
    }
}

macro_rules! forward_broker {
    ($($(#[$meta:meta])* <$b:ident> $ty:ty;)+) => {$(
        #[async_trait]
        impl<$b: Broker + ?Sized> Broker for $ty {
            async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
                (**self).sender(options).await
            }
            async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
                (**self).receiver(subscription).await
            }
            async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
                (**self).inbox().await
            }
            async fn declare(&self, queue: Queue) -> Result<(), Error> {
                (**self).declare(queue).await
            }
            async fn delete(&self, queue: &Topic) -> Result<(), Error> {
                (**self).delete(queue).await
            }
            async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
                (**self).queue(queue).await
            }
            async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
                (**self).purge(queue).await
            }
            async fn browse(
                &self,
                queue: &Topic,
                after: Option<u64>,
                limit: usize,
            ) -> Result<Vec<Browsed>, Error> {
                (**self).browse(queue, after, limit).await
            }
            async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
                (**self).replay(queue, limit).await
            }
            async fn stats(&self) -> Result<Stats, Error> {
                (**self).stats().await
            }
            async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
                (**self).drain(within).await
            }
            fn cancel(&self, request: &Cancel) {
                (**self).cancel(request);
            }
            fn sends(&self) -> Option<Sends> {
                (**self).sends()
            }
            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }
        }
    )+};
}

forward_broker! {
    <B> Arc<B>;
    <B> Box<B>;
    <B> &B;
}

/// How a sender behaves.
///
/// ```
/// use posthaste_core::{Level, SenderOptions, Topic};
///
/// let options = SenderOptions::new().queue(Topic::new("jobs")?).confirm(Level::Held);
/// assert_eq!(options.window_messages, 16_384);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SenderOptions {
    /// A queue to declare, with the broker's defaults, if it is not there.
    pub queue: Option<Topic>,
    /// How many messages may wait for their outcome.
    pub window_messages: usize,
    /// How many bytes may wait for their outcome; one larger message is let through when nothing
    /// else waits.
    pub window_bytes: usize,
    /// The level that every message has to reach; `None` is each queue's own.
    pub confirm: Option<Level>,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self { queue: None, window_messages: 16_384, window_bytes: 8 << 20, confirm: None }
    }
}

crate::setters! { SenderOptions:
    /// Declares `queue` with the broker's defaults if it is not there.
    queue(queue: Topic) => queue = Some(queue);

    /// Asks for a level: a message that reaches less comes back as `Unconfirmed`.
    confirm(level: Level) => confirm = Some(level);
}

impl SenderOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many messages and bytes may wait for their outcome.
    #[must_use]
    pub fn window(mut self, messages: usize, bytes: usize) -> Self {
        (self.window_messages, self.window_bytes) = (messages.max(1), bytes.max(1));
        self
    }
}
