//! The in-process broker: topics, groups, queues, settlement and the ledger, without a server and
//! without a runtime.
//!
//! ```
//! use posthaste_core::{Broker, Message, ReceiverExt, SenderExt, SenderOptions, Subscription, Topic};
//! use posthaste_memory::Memory;
//!
//! # fn main() -> Result<(), posthaste_core::Error> {
//! let memory = Memory::new();
//! pollster::block_on(async {
//!     let mut orders = memory.receiver(Subscription::topic("orders.*")?).await?;
//!     let mut sender = memory.sender(SenderOptions::new()).await?;
//!     let receipt = sender.send(Message::new(Topic::new("orders.eu")?, "7 apples")).await?;
//!     assert_eq!(receipt.matched, 1);
//!     assert_eq!(orders.next_delivery().await?.payload(), "7 apples");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! What has to do with time (deadlines, delays, time-outs, deduplication, draining) needs a clock:
//! give the broker a runtime ([`Memory::with_runtime`]). Everything else works without, under any
//! `block_on`.

mod aftermath;
mod agenda;
mod ahead;
mod aside;
mod blocks;
mod books;
mod clock;
mod consumers;
mod copies;
mod drain;
mod engine;
mod fan;
mod history;
mod home;
mod keys;
mod lanes;
mod latest;
mod leases;
mod mailbox;
mod planted;
mod receiver;
mod room;
mod route;
mod routes;
mod seen;
mod sender;
mod sends;
mod state;
pub mod store;
mod unstored;
mod wait;

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Browsed, Cancel, Capabilities, Capability, DrainReport, Error,
    Overflow, Queue, QueueInfo, Replayed, SenderOptions, Sends, SharedRuntime, Stats, Subscription,
    Topic,
};

use engine::Engine;
pub use receiver::MemoryReceiver;
pub use sender::MemorySender;
use store::{Host, KeptQueue, Store};

/// How many replies an inbox holds.
const INBOX_MESSAGES: usize = 65_536;
/// How many bytes of replies an inbox holds.
const INBOX_BYTES: usize = 64 << 20;

/// A broker in this process. Cloning it makes another handle on the same broker.
#[derive(Debug, Clone)]
pub struct Memory {
    engine: Arc<Engine>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// A broker without a clock.
    #[must_use]
    pub fn new() -> Self {
        Self { engine: Engine::new(None, None, 0) }
    }

    /// A broker with the clock and the randomness of `runtime`.
    #[must_use]
    pub fn with_runtime(runtime: SharedRuntime) -> Self {
        Self { engine: Engine::new(Some(runtime), None, 0) }
    }

    /// A broker whose queues are durable unless they say otherwise: their changes are noted by
    /// `store`, and what is in `kept` is there already. `posthaste-log` opens such brokers.
    ///
    /// # Errors
    /// `InvalidArgument` if two of the queues have the same name.
    pub fn with_store(
        runtime: SharedRuntime,
        store: &Arc<dyn Store>,
        kept: Vec<KeptQueue>,
    ) -> Result<Self, Error> {
        let numbers = kept.iter().map(|queue| queue.number + 1).max().unwrap_or(0);
        let engine = Engine::new(Some(runtime), Some(Arc::clone(store)), numbers);
        engine.restore(kept)?;
        store.attach(Arc::downgrade(&engine) as Weak<dyn Host>);
        Ok(Self { engine })
    }

    /// The same broker, which takes payloads of up to `bytes` bytes from now on: by default
    /// [`PAYLOAD_BYTES_MAX`](posthaste_core::limits::PAYLOAD_BYTES_MAX), at most
    /// [`PAYLOAD_BYTES_CEILING`](posthaste_core::limits::PAYLOAD_BYTES_CEILING). What comes over a
    /// link is held to the limits of the link first.
    ///
    /// ```
    /// # pollster::block_on(async {
    /// use posthaste_core::{Broker, Message, SenderExt, SenderOptions, Topic};
    /// use posthaste_memory::Memory;
    ///
    /// let broker = Memory::new().with_payload_limit(64 << 20);
    /// let mut sender = broker.sender(SenderOptions::new()).await?;
    /// let film = Message::to_queue(Topic::new("films")?, vec![0; 20 << 20]);
    /// sender.send(film).await?;
    /// # Ok::<(), posthaste_core::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn with_payload_limit(self, bytes: usize) -> Self {
        self.engine.limit_payload(bytes);
        self
    }

    /// Opens a sender of its concrete type, for those who want no dynamic dispatch.
    ///
    /// # Errors
    /// As [`Broker::sender`].
    pub fn open_sender(&self, options: SenderOptions) -> Result<MemorySender, Error> {
        MemorySender::open(Arc::clone(&self.engine), options)
    }

    /// Opens a receiver of its concrete type, for those who want no dynamic dispatch.
    ///
    /// # Errors
    /// As [`Broker::receiver`].
    pub fn open_receiver(&self, subscription: &Subscription) -> Result<MemoryReceiver, Error> {
        MemoryReceiver::open(Arc::clone(&self.engine), subscription)
    }
}

#[async_trait]
impl Broker for Memory {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        Ok(Box::new(self.open_sender(options)?))
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        Ok(Box::new(self.open_receiver(&subscription)?))
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        let address = self.engine.next_inbox()?;
        let subscription = Subscription::topic(&address)?
            .capacity(INBOX_MESSAGES, INBOX_BYTES)
            .overflow(Overflow::DropNewest);
        Ok((address, Box::new(self.open_receiver(&subscription)?)))
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        self.engine.declare(queue)
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        self.engine.delete(queue)
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        self.engine.queue(queue)
    }

    async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        self.engine.purge(queue)
    }

    async fn browse(
        &self,
        queue: &Topic,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Browsed>, Error> {
        self.engine.browse(queue, after, limit).await
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        self.engine.replay(queue, limit).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        Ok(self.engine.stats())
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.engine.drain(within).await
    }

    fn cancel(&self, request: &Cancel) {
        self.engine.cancel(request);
    }

    fn sends(&self) -> Option<Sends> {
        Some(self.engine.sends.sum())
    }

    fn capabilities(&self) -> Capabilities {
        let (backend, durability) = match self.engine.store() {
            Some(_) => ("log", [Capability::Durability].as_slice()),
            None => ("memory", [].as_slice()),
        };
        let card = Capabilities::new(backend).native(durability).native(&[
            Capability::Topics,
            Capability::Groups,
            Capability::Queues,
            Capability::Inboxes,
            Capability::NoResponders,
            Capability::ManualAck,
            Capability::Redelivery,
            Capability::Bindings,
            Capability::ByteLimits,
            Capability::Inspection,
            Capability::DeadLetters,
            Capability::Priority,
            Capability::KeyedOrder,
            Capability::Overflow,
            Capability::Cancellation,
            Capability::Events,
            Capability::BackPressure,
            Capability::Unroutable,
            Capability::MatchCount,
            Capability::HandOver,
            Capability::QueueDepth,
            Capability::AnyName,
            Capability::Replay,
        ]);
        if !self.engine.has_clock() {
            return card;
        }
        card.native(&[
            Capability::Deadlines,
            Capability::Drain,
            Capability::RetryDelay,
            Capability::Delay,
            Capability::Deduplication,
            Capability::ConsumerTimeout,
        ])
    }
}
