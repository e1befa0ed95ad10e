//! The broker whose queues outlive it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::runtime::blocking;
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Browsed, Cancel, Capabilities, DrainReport, Error, Heads,
    Level, Queue, QueueInfo, Replayed, SenderOptions, Sends, SharedRuntime, Stats, Subscription,
    Topic,
};
use posthaste_memory::Memory;
use posthaste_memory::store::Store;

use crate::change::{self, Clocks};
use crate::journal::Journal;
use crate::log::{Log, LogOptions, Recovery};
use crate::planted::Planted;
use crate::recovery::Queues;
use crate::storage::Storage;

/// A broker in this process whose queues are there again when it is opened anew, with everything
/// that was in them: unless a queue says that it is not durable, a message is confirmed as `Stored`
/// when the disk has it, and what was settled does not come again.
///
/// Everything else is as with [`Memory`]: topics, groups and requests are of this process alone.
///
/// ```
/// use posthaste_core::{Broker, Level, Message, SenderExt, SenderOptions, Topic};
/// use posthaste_log::storage::Folder;
/// use posthaste_log::{Durable, LogOptions};
/// use posthaste_smol::Smol;
///
/// # let scratch = tempfile::tempdir()?;
/// # let data = scratch.path().join("data");
/// # smol::block_on(async {
/// let orders = Topic::new("orders")?;
/// for before in 0..2 {
///     let folder = Folder::open(&data)?;
///     let (broker, _) = Durable::open(Smol::global(), folder, LogOptions::default()).await?;
///     let mut sender = broker.sender(SenderOptions::new().queue(orders.clone())).await?;
///     assert_eq!(broker.queue(&orders).await?.messages, before);
///     let receipt = sender.send(Message::to_queue(orders.clone(), "seven apples")).await?;
///     assert_eq!(receipt.level, Level::Stored);
///     broker.close().await?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Durable {
    memory: Memory,
    journal: Arc<Journal>,
}

impl Durable {
    /// Opens a broker over a storage, which is empty or was such a broker's, and says what was found.
    ///
    /// # Errors
    /// `Internal` if the storage fails, or is damaged: the text says where. What was confirmed is there,
    /// or this fails.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the opening running, and closes the storage after it.
    pub async fn open(
        runtime: impl Into<SharedRuntime>,
        storage: impl Storage,
        options: LogOptions,
    ) -> Result<(Self, Recovery), Error> {
        let runtime = runtime.into();
        let clocks = Clocks { now: runtime.now(), unix: runtime.unix_time() };
        let planted = Planted::ask(&*runtime);
        let opening = blocking(&*runtime, move || {
            let (mut queues, mut strange) = (Queues::new(clocks.unix, planted), None);
            let mut heads = Heads::default();
            let opened =
                Log::open(storage, options, |record| match change::decode(record, &mut heads) {
                    Ok(change) => queues.apply(change),
                    Err(error) => drop(strange.get_or_insert(error)),
                });
            let (mut log, recovery) = opened?;
            if let Some(error) = strange {
                return Err(error);
            }
            let reader = log.reader();
            let kept = queues.into_kept(|copies| reader.copies(copies, clocks))?;
            let cramped = match log.prepare() {
                Err(error) if !error.is_full() => return Err(error.into()),
                prepared => prepared.is_err(),
            };
            Ok::<_, Error>((log, recovery, kept, cramped))
        });
        let (log, recovery, kept, cramped) = opening.await?;
        let in_memory = kept.iter().flat_map(|queue| &queue.copies);
        let in_memory = in_memory.map(|copy| (copy.place, copy.message.size()));
        let paged = kept.iter().flat_map(|queue| [&queue.pages, &queue.delayed]);
        let paged = paged.flat_map(|pages| pages.after(None));
        let copies = in_memory.chain(paged.map(|copy| (copy.place, copy.size)));
        let journal = Journal::new(runtime.clone(), planted, log, copies, cramped);
        let store: Arc<dyn Store> = Arc::clone(&journal) as _;
        let memory = Memory::with_store(runtime, &store, kept)?;
        Ok((Self { memory, journal }, recovery))
    }
}

impl Durable {
    /// Waits until everything is on the disk, and lets the storage go, so that it can be opened again.
    /// What still uses the broker finds its durable queues closed. Dropping the last handle lets the
    /// storage go as well, a moment later.
    ///
    /// # Errors
    /// `Unknown` if not everything could be stored.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the closing running.
    pub async fn close(&self) -> Result<(), Error> {
        let journal = Arc::clone(&self.journal);
        blocking(&**self.journal.runtime(), move || journal.close()).await
    }

    /// Notes everything that is in the queues again, one behind the other, and forgets what was before:
    /// the folder is as small as it can be then. It goes by itself mostly; this is for those who do not
    /// want to wait for that.
    ///
    /// # Errors
    /// `Unknown` if the storage fails.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the work running.
    pub async fn compact(&self) -> Result<(), Error> {
        let journal = Arc::clone(&self.journal);
        blocking(&**self.journal.runtime(), move || journal.compact()).await
    }

    /// Why nothing can be sent into durable queues now, if so: `Full` for as long as the disk is, anything
    /// else for good. For whoever looks after the broker; who sends is told anyway.
    #[must_use]
    pub fn trouble(&self) -> Option<Error> {
        self.journal.trouble()
    }

    /// Waits until everything that has happened is on the disk.
    async fn stored(&self) -> Result<(), Error> {
        let noted = self.journal.noted();
        poll_fn(|cx| self.journal.poll_reached(noted, Level::Stored, cx)).await
    }
}

#[async_trait]
impl Broker for Durable {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        self.memory.sender(options).await
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        self.memory.receiver(subscription).await
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        self.memory.inbox().await
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        self.memory.declare(queue).await?;
        self.stored().await
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        self.memory.delete(queue).await?;
        self.stored().await
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        self.memory.queue(queue).await
    }

    async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        let purged = self.memory.purge(queue).await?;
        self.stored().await?;
        Ok(purged)
    }

    async fn browse(
        &self,
        queue: &Topic,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Browsed>, Error> {
        self.memory.browse(queue, after, limit).await
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        let replayed = self.memory.replay(queue, limit).await?;
        self.stored().await?;
        Ok(replayed)
    }

    async fn stats(&self) -> Result<Stats, Error> {
        self.memory.stats().await
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        let report = self.memory.drain(within).await?;
        let journal = Arc::clone(&self.journal);
        blocking(&**self.journal.runtime(), move || journal.settle()).await?;
        Ok(report)
    }

    fn cancel(&self, request: &Cancel) {
        self.memory.cancel(request);
    }

    fn sends(&self) -> Option<Sends> {
        self.memory.sends()
    }

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }
}
