//! Forwards messages from one broker to another, whatever engines they are.
//!
//! A message is acknowledged where it comes from only after the target has confirmed it, so a bridge
//! that dies loses nothing: what was not acknowledged is delivered again to the next one. What was
//! confirmed and not yet acknowledged at that moment goes twice; a target that deduplicates takes it
//! once, by the message's id. Whoever bridges what must not be doubled gives its messages ids. So it is
//! when the source is killed and started again, over which a bridge goes on.
//!
//! ```
//! use posthaste_bridge::Bridge;
//! use posthaste_core::{Bus, Topic};
//! use posthaste_memory::Memory;
//! use posthaste_smol::Smol;
//!
//! # pollster::block_on(async {
//! let runtime: posthaste_core::SharedRuntime = Smol::global().into();
//! let old = Bus::with_runtime(Memory::with_runtime(runtime.clone()), runtime.clone());
//! let new = Bus::with_runtime(Memory::with_runtime(runtime.clone()), runtime);
//! old.send("jobs", "resize 7").await?;
//!
//! let mut bridge = Bridge::queue(&old, &new, Topic::new("jobs")?).open().await?;
//! let counts = bridge.run(Some(1), None, std::future::pending()).await?;
//! assert_eq!(counts.forwarded, 1);
//! assert_eq!(new.queue(Topic::new("jobs")?).await?.messages, 1);
//! assert_eq!(old.queue(Topic::new("jobs")?).await?.messages, 0);
//! # Ok::<(), posthaste_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! A [`Bridge`] carries what is sent to the old side. An application whose producers and consumers can
//! be told moves without one: with [`MovingSender`] and [`MovingReceiver`], key by key and in order.

mod forward;
mod moving;

use std::fmt;
use std::time::Duration;

use posthaste_core::{
    BoxReceiver, Bus, Capability, Error, ErrorKind, Level, Pattern, Queue, Subscription, Topic,
};

pub use forward::Forwarder;
pub use moving::{MovingReceiver, MovingSender};

/// What is forwarded, from where, and where to.
pub struct Bridge {
    from: Bus,
    to: Bus,
    of: Source,
    window: Duration,
}

enum Source {
    Queue(Topic),
    Topics(Pattern, Topic),
}

/// What a bridge has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Messages that the target has confirmed, and that are acknowledged at the source.
    pub forwarded: u64,
    /// Where these went at the target, as far as it tells.
    pub matched: u64,
    /// Of these, those that had been handed out before, to this bridge or another, which may have
    /// forwarded them.
    pub again: u64,
    /// The lowest level that they reached.
    pub level: Level,
}

impl Default for Counts {
    fn default() -> Self {
        Self { forwarded: 0, matched: 0, again: 0, level: Level::Stored }
    }
}

/// For how long a target remembers the ids of what was forwarded, unless told otherwise.
pub const WINDOW: Duration = Duration::from_secs(600);

/// How often brokers that go away before they answer are asked.
const OPENINGS: u32 = 8;

impl Bridge {
    /// Moves what is in a queue, and what comes, into the queue of the same name.
    #[must_use]
    pub fn queue(from: &Bus, to: &Bus, queue: Topic) -> Self {
        Self::new(from, to, Source::Queue(queue))
    }

    /// Publishes what is published to the topics of a pattern. A queue of that name holds it at the
    /// source while no bridge runs, where the source can copy topics into queues; elsewhere what is
    /// published meanwhile is missed.
    #[must_use]
    pub fn topics(from: &Bus, to: &Bus, pattern: Pattern, name: Topic) -> Self {
        Self::new(from, to, Source::Topics(pattern, name))
    }

    fn new(from: &Bus, to: &Bus, of: Source) -> Self {
        Self { from: from.clone(), to: to.clone(), of, window: WINDOW }
    }

    /// For how long the target's queue remembers ids (10 minutes); longer than a bridge may be down
    /// with messages under way.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Opens both sides, and declares what is not there.
    ///
    /// # Errors
    /// What either broker answers; `Unsupported` without a runtime.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind but declared queues.
    pub async fn open(self) -> Result<Forwarder, Error> {
        let runtime = self.from.runtime().or(self.to.runtime()).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "a bridge needs a clock: give the bus a runtime")
        })?;
        let mut left = OPENINGS;
        let (receiver, target) = loop {
            left -= 1;
            match self.try_open().await {
                // A broker that went away before it answered is asked again once it is back.
                Err(error) if error.kind() == ErrorKind::Disconnected && left > 0 => {}
                opened => break opened?,
            }
        };
        Ok(Forwarder::new(receiver, self.to, runtime, target))
    }

    async fn try_open(&self) -> Result<(BoxReceiver, Option<Topic>), Error> {
        let Self { from, to, of, window } = self;
        let (subscription, target) = match of {
            Source::Queue(queue) => {
                to.declare(target(to, queue, *window)).await?;
                (Subscription::queue(queue)?, Some(queue.clone()))
            }
            Source::Topics(pattern, name) if from.capabilities().has(Capability::Bindings) => {
                from.declare(Queue::new(name.clone()).bind(pattern.clone())).await?;
                (Subscription::queue(name)?, None)
            }
            Source::Topics(pattern, _) => (Subscription::topic(pattern.clone())?, None),
        };
        let receiver = from.receiver(subscription.prefetch(forward::BATCH * 2)).await?;
        Ok((receiver, target))
    }
}

/// The queue at the target, which is left as it is but for the window.
fn target(to: &Bus, queue: &Topic, window: Duration) -> Queue {
    let target = Queue::new(queue.clone());
    match to.capabilities().has(Capability::Deduplication) {
        true => target.dedup_window(window),
        false => target,
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
