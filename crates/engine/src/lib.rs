//! What backends over an existing engine's client share.
//!
//! A client library (of RabbitMQ, Kafka, NATS, ...) hands messages over and takes them in with async
//! calls of its own. A backend writes these few calls, as [`Publish`] for what goes out and as
//! [`Consume`] for what comes in, and [`Engine::sender`] and [`Engine::receiver`] make of them the
//! handles that the laws of [`Sender`](posthaste_core::Sender) and
//! [`Receiver`](posthaste_core::Receiver) ask for: numbered messages and one outcome for each,
//! bounded windows, leases, batches, cancel safety, and books that balance. One task per handle
//! drives the client, on the runtime that the engine was given.
//!
//! ```text
//!   application ── poll_send ──▶ window ──▶ task ── Publish::publish ──▶ client ──▶ engine
//!        ▲                         ▲          │
//!        └──── receipt, returned ──┴──────────┘ confirmations, in any order
//!
//!   application ◀── poll_recv ── mailbox ◀── task ◀── Consume::next ──── client ◀── engine
//!        └── settle ──▶ verdicts ──────────▶ task ── Consume::settle ──▶ client ──▶ engine
//! ```
//!
//! [`properties`] carries what a message has beside its topic and its payload in the headers of
//! engines, so that a program of another kind reads them as its own.

mod books;
mod drain;
pub mod properties;
mod receiver;
mod sender;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::{BoxFuture, Capabilities, Error, Level, Message, Sends, SharedRuntime};

use crate::books::Books;
use crate::drain::Handles;

/// What the handles of one client share: the runtime, the capability card and the books.
#[derive(Clone)]
pub struct Engine {
    runtime: SharedRuntime,
    card: Arc<Capabilities>,
    books: Arc<Books>,
    handles: Arc<Handles>,
    context: Context,
}

/// What tasks are wrapped in.
type Context = fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()>;

impl Engine {
    /// What the handles of a client with this card share.
    #[must_use]
    pub fn new(runtime: SharedRuntime, card: Capabilities) -> Self {
        Self {
            runtime,
            card: Arc::new(card),
            books: Arc::default(),
            handles: Arc::default(),
            context: |task| task,
        }
    }

    /// Wraps every task in something that its client needs around it, such as the context of another
    /// runtime.
    #[must_use]
    pub fn within(mut self, context: fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()>) -> Self {
        self.context = context;
        self
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn((self.context)(Box::pin(task)));
    }

    /// The runtime.
    #[must_use]
    pub fn runtime(&self) -> &SharedRuntime {
        &self.runtime
    }

    /// The capability card.
    #[must_use]
    pub fn card(&self) -> &Capabilities {
        &self.card
    }

    /// What became of the messages that the senders took.
    #[must_use]
    pub fn sends(&self) -> Sends {
        self.books.sends()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("card", &self.card).finish_non_exhaustive()
    }
}

/// How messages go out: one of these for every sender, driven by the sender's task.
pub trait Publish: Send + 'static {
    /// Hands one message to the client. The messages of a sender come here in their order, one at a
    /// time; whoever waits here holds the sender up.
    ///
    /// # Errors
    /// Why this message comes back to who sent it; the sender goes on with the next one.
    fn publish(
        &mut self,
        message: &Message,
    ) -> impl Future<Output = Result<Confirmation, Error>> + Send;

    /// What was handed over with [`Confirmation::Now`] goes out, as far as the client keeps it back.
    /// Messages are handed over while this is awaited; it is called for them when it is done.
    ///
    /// # Errors
    /// What was handed over that way since the call before comes back with this error.
    fn flush(&mut self) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The sender is closed or gone, and everything has its outcome.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// When it is known what became of a message that was handed to the client.
pub enum Confirmation {
    /// As soon as the next [`flush`](Publish::flush) is done: the engine says nothing of its own.
    Now(Confirmed),
    /// When this resolves, in whatever order. An error means that the message comes back; `Unknown`
    /// says that the engine may have it all the same.
    Later(BoxFuture<'static, Result<Confirmed, Error>>),
}

impl std::fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(confirmed) => f.debug_tuple("Now").field(confirmed).finish(),
            Self::Later(_) => f.debug_tuple("Later").finish_non_exhaustive(),
        }
    }
}

/// What an engine said of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// How many subscriptions, group members and queues it was handed to, as far as the engine
    /// tells.
    pub matched: u64,
    /// The level that was really reached, never more.
    pub level: Level,
    /// On how many nodes.
    pub nodes: u32,
}

/// How messages come in: one of these for every receiver, driven by the receiver's task.
pub trait Consume: Send + 'static {
    /// What it takes to settle an arrival.
    type Token: Send + 'static;

    /// Whether what is not taken in yet waits at the engine. Where it does not, arrivals are taken
    /// in all the time, and what happens at the bound of the receiver is what its policy says; a
    /// receiver that is to block is cut off, because its senders cannot be held up.
    const HOLDS: bool = true;

    /// The next arrival; `None` at the end (the queue is gone, say).
    ///
    /// # Errors
    /// `SessionLost` is told to the application, and the receiver goes on; any other is its end.
    ///
    /// # Cancel safety
    /// Has to be cancel safe: it is dropped whenever a settlement is due.
    fn next(&mut self) -> impl Future<Output = Result<Option<Arrival<Self::Token>>, Error>> + Send;

    /// Tells the engine what became of arrivals, in the order of the settling. Whether it has heard
    /// is the matter of [`confirm`](Self::confirm).
    ///
    /// # Errors
    /// Surfaces at the receiver's [`settled`](posthaste_core::ReceiverExt::settled).
    fn settle(
        &mut self,
        settled: Vec<Settled<Self::Token>>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Waits until the engine has heard what it was told, as far as it says so. Called after
    /// settlements while somebody waits for them, and before the end.
    ///
    /// # Errors
    /// Surfaces at the receiver's [`settled`](posthaste_core::ReceiverExt::settled).
    fn confirm(&mut self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// No more deliveries are wanted: what has arrived and did not come out of
    /// [`next`](Self::next) goes back to the engine. What is handed out can still be settled.
    fn stop(&mut self) -> impl Future<Output = ()> + Send;

    /// What there is to do while nothing is taken in, such as telling the engine that what was
    /// handed out is still being worked on. It need not end.
    ///
    /// # Cancel safety
    /// Has to be cancel safe, as [`next`](Self::next), which does the same beside its waiting.
    fn keep(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Sends an answer on behalf of a request that was taken and that nobody answers any more.
    fn answer(&mut self, message: Message) -> impl Future<Output = ()> + Send;
}

/// A message that has arrived at a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival<T> {
    /// The message.
    pub message: Message,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What it takes to settle it; `None` if the engine wants to know nothing of it.
    pub token: Option<T>,
}

/// An arrival and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled<T> {
    /// The message.
    pub message: Message,
    /// Which attempt it was.
    pub attempt: u32,
    /// What came with the arrival.
    pub token: T,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of an arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Ack,
    /// The application took it, of a receiver that settles by itself: it is done.
    Taken,
    /// To be delivered again after a time, one attempt higher.
    Retry {
        /// How long it waits.
        after: Duration,
        /// What the application said.
        why: String,
    },
    /// Never to be delivered again: a dead letter.
    Reject {
        /// What the application said.
        why: String,
    },
    /// Given back by the application, without counting as an attempt.
    Release,
    /// Dropped by the application: to be delivered again, one attempt higher.
    Dropped,
    /// Never handed to the application: to be delivered again, without counting as an attempt.
    Unseen,
    /// Too late to be handed to the application: it is over.
    Expired,
}
