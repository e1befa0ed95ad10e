//! Live cut-over: producers and consumers move from one broker to another while messages flow, and
//! each key's order holds.
//!
//! 1. Every consumer reads the new side as well: [`MovingReceiver::also`].
//! 2. Every producer moves: [`MovingSender::move_to`] puts a barrier behind its last message of each
//!    key on the old side, and waits until the consumers have come to all of them. From then on it
//!    sends to the new side, so no message of a key is there before all that came before it have
//!    been taken from the old one.
//! 3. Once no producer sends to the old side and it is empty, consumers [leave](MovingReceiver::leave)
//!    it.
//!
//! A barrier is a request that waits in the queue, with the key of the messages before it; a consumer
//! answers it and the application never sees it. So it keeps its place wherever messages do: with one
//! consumer in any queue, with many in a keyed one.

use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::try_join_all;
use posthaste_core::{
    BoxReceiver, BoxSender, Bus, Delivery, Error, ErrorKind, Kind, Message, Receipt, Receiver,
    ReceiverExt, Returned, SendError, SenderExt, SenderOptions, Seq, Subscription, Topic,
};

/// What marks a barrier.
const BARRIER: &str = "posthaste-barrier";

/// A producer that can move to another broker.
///
/// ```
/// use std::time::Duration;
/// use futures::future::join;
/// use posthaste_bridge::{MovingReceiver, MovingSender};
/// use posthaste_core::{Bus, Message, Topic};
/// use posthaste_memory::Memory;
/// use posthaste_smol::Smol;
///
/// # pollster::block_on(async {
/// # let runtime: posthaste_core::SharedRuntime = Smol::global().into();
/// # let (one, other) = (runtime.clone(), runtime.clone());
/// let old = Bus::with_runtime(Memory::with_runtime(one.clone()), one);
/// let new = Bus::with_runtime(Memory::with_runtime(other.clone()), other);
/// let jobs = Topic::new("jobs")?;
/// let mut producer = MovingSender::open(&old, jobs.clone()).await?;
/// let mut consumer = MovingReceiver::open(&old, jobs.clone()).await?;
///
/// producer.send(Message::to_queue(jobs.clone(), "first")).await?;
/// consumer.also(&new).await?;
/// let consuming = async {
///     let first = consumer.recv().await?.map(|delivery| delivery.ack_into_message());
///     let second = consumer.recv().await?.map(|delivery| delivery.ack_into_message());
///     Ok::<_, posthaste_core::Error>([first, second].map(|message| message.unwrap()))
/// };
/// let producing = async {
///     producer.move_to(&new, Duration::from_secs(5)).await?;
///     producer.send(Message::to_queue(jobs.clone(), "second")).await?;
///     Ok::<_, posthaste_core::Error>(())
/// };
/// let (taken, moved) = join(consuming, producing).await;
/// moved?;
/// assert_eq!(taken?.map(|message| message.into_payload()), ["first", "second"]);
/// assert_eq!(new.ledger().await?.accepted, 1);
/// # Ok::<(), posthaste_core::Error>(())
/// # }).unwrap();
/// ```
pub struct MovingSender {
    bus: Bus,
    queue: Topic,
    sender: BoxSender,
    /// The keys that have been sent since the last move, and whether anything without one has.
    keys: BTreeSet<String>,
    keyless: bool,
}

impl MovingSender {
    /// Opens a sender into a queue, which is declared if it is not there.
    ///
    /// # Errors
    /// As [`Bus::sender`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(bus: &Bus, queue: Topic) -> Result<Self, Error> {
        let options = SenderOptions::new().queue(queue.clone());
        let sender = bus.sender(options).await?;
        Ok(Self { bus: bus.clone(), queue, sender, keys: BTreeSet::new(), keyless: false })
    }

    /// Sends a message without waiting for its outcome, which belongs to the next flush.
    ///
    /// # Errors
    /// As [`SenderExt::feed`].
    ///
    /// # Cancel safety
    /// As [`SenderExt::feed`].
    pub async fn feed(&mut self, message: Message) -> Result<Seq, SendError> {
        match message.key() {
            Some(key) if self.keys.contains(key) => {}
            Some(key) => drop(self.keys.insert(key.to_owned())),
            None => self.keyless = true,
        }
        self.sender.feed(message).await
    }

    /// Sends a message and waits for its outcome.
    ///
    /// # Errors
    /// As [`SenderExt::send`].
    ///
    /// # Cancel safety
    /// As [`SenderExt::send`].
    pub async fn send(&mut self, message: Message) -> Result<Receipt, SendError> {
        let seq = self.feed(message).await?;
        let receipt = self.flush().await;
        let receipt = receipt.map_err(|error| {
            SendError::new(error, Message::to_queue(self.queue.clone(), Vec::new()))
        })?;
        match self.sender.take_returned(seq) {
            Some(returned) => Err(returned.into()),
            None => Ok(receipt),
        }
    }

    /// Waits for the outcomes of everything that was sent.
    ///
    /// # Errors
    /// As [`SenderExt::flush`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn flush(&mut self) -> Result<Receipt, Error> {
        self.sender.flush().await
    }

    /// The oldest message numbered `from` or later that came back.
    pub fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        self.sender.take_returned(from)
    }

    /// Moves to the same queue of another broker, behind everything that was sent so far; how many
    /// barriers that took.
    ///
    /// # Errors
    /// `Unconfirmed` if messages came back, which have to be sent again first; what the new side
    /// answers; `DeadlineExceeded` if the consumers did not come to the barriers in that time. The
    /// sender is still at the old side then, and may be moved again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the sender at the old side, and barriers that nobody waits for.
    pub async fn move_to(&mut self, bus: &Bus, within: Duration) -> Result<usize, Error> {
        let moved = Self::open(bus, self.queue.clone()).await?;
        let receipt = self.flush().await?;
        if receipt.returned > 0 {
            let text = "messages came back; send them again before the move";
            return Err(Error::new(ErrorKind::Unconfirmed, text));
        }
        let keys = self.keys.iter().map(|key| Some(key.as_str()));
        let keys: Vec<_> = keys.chain(self.keyless.then_some(None)).collect();
        // So many at a time that no limit on requests is met.
        for some in keys.chunks(256) {
            try_join_all(some.iter().map(|key| self.barrier(*key, within))).await?;
        }
        let barriers = keys.len();
        *self = moved;
        Ok(barriers)
    }

    /// Waits until a consumer has come to where a key is now.
    async fn barrier(&self, key: Option<&str>, within: Duration) -> Result<(), Error> {
        let ask = self.bus.request(&self.queue, "").to_queue().waits().within(within);
        let ask = ask.header(BARRIER, "1");
        match key {
            Some(key) => ask.key(key).await?,
            None => ask.await?,
        };
        Ok(())
    }
}

impl fmt::Debug for MovingSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MovingSender")
            .field("bus", &self.bus)
            .field("queue", &self.queue)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// One broker of those that are read.
struct Side {
    bus: Bus,
    receiver: BoxReceiver,
    /// What barriers are answered through.
    answers: Option<BoxSender>,
}

impl Side {
    /// Lets a barrier's answer go, without waiting until it is there: if it is lost, the producer
    /// asks again.
    async fn answer(&mut self, answer: Message) -> Result<(), Error> {
        let mut answers = match self.answers.take() {
            Some(answers) => answers,
            None => self.bus.sender(SenderOptions::new()).await?,
        };
        answers.feed(answer).await?;
        // What has an outcome by now need not be kept.
        let _ = answers.flush().now_or_never();
        while answers.take_returned(Seq::FIRST).is_some() {}
        self.answers = Some(answers);
        Ok(())
    }
}

/// A consumer that reads a queue of several brokers while its producers move.
pub struct MovingReceiver {
    queue: Topic,
    prefetch: Option<usize>,
    sides: Vec<Side>,
    /// Which side is asked first, so that none has to wait for another.
    turn: usize,
}

impl MovingReceiver {
    /// Consumes a queue, which is declared if it is not there; settled by hand.
    ///
    /// # Errors
    /// As [`Bus::receiver`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(bus: &Bus, queue: Topic) -> Result<Self, Error> {
        let mut receiver = Self { queue, prefetch: None, sides: Vec::new(), turn: 0 };
        receiver.also(bus).await?;
        Ok(receiver)
    }

    /// How many deliveries of each further side may be unsettled at a time.
    #[must_use]
    pub fn prefetch(mut self, deliveries: usize) -> Self {
        self.prefetch = Some(deliveries);
        self
    }

    /// Reads the same queue of another broker too.
    ///
    /// # Errors
    /// As [`Bus::receiver`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn also(&mut self, bus: &Bus) -> Result<(), Error> {
        let subscription = Subscription::queue(&self.queue)?;
        let subscription = match self.prefetch {
            Some(prefetch) => subscription.prefetch(prefetch),
            None => subscription,
        };
        let receiver = bus.receiver(subscription).await?;
        self.sides.push(Side { bus: bus.clone(), receiver, answers: None });
        Ok(())
    }

    /// Reads the oldest side no more: nobody sends there any longer. What was not taken from it
    /// stays there.
    ///
    /// # Errors
    /// As [`ReceiverExt::close`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the side.
    pub async fn leave(&mut self) -> Result<(), Error> {
        if self.sides.is_empty() {
            return Ok(());
        }
        let mut side = self.sides.remove(0);
        if let Some(answers) = &mut side.answers {
            answers.flush().await?;
        }
        side.receiver.close().await
    }

    /// The next delivery of any side; `None` once all have ended.
    ///
    /// # Errors
    /// What a receiver answers, or what the old side answers to the answer of a barrier; the
    /// barrier comes again then.
    ///
    /// # Cancel safety
    /// Safe: a delivery is taken or is not.
    pub async fn recv(&mut self) -> Result<Option<Delivery>, Error> {
        loop {
            let polled = Armed(self);
            let Some((side, next)) = poll_fn(|cx| polled.0.poll_next(cx)).await else {
                return Ok(None);
            };
            drop(polled);
            let delivery = next?;
            if !is_barrier(delivery.message()) {
                return Ok(Some(delivery));
            }
            // Given up before it is answered, it is dropped, and comes again.
            if let Some(answer) = delivery.message().reply("")
                && let Some(side) = self.sides.get_mut(side)
            {
                side.answer(answer).await?;
            }
            delivery.ack();
        }
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<Delivery, Error>)>> {
        let count = self.sides.len();
        let mut ended = Vec::new();
        for nth in 0..count {
            let side = (self.turn + nth) % count;
            match self.sides[side].receiver.poll_recv(cx) {
                Poll::Ready(Some(next)) => {
                    self.turn = side + 1;
                    return Poll::Ready(Some((side, next)));
                }
                Poll::Ready(None) => ended.push(side),
                Poll::Pending => {}
            }
        }
        match ended.len() == count {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    }
}

/// A poll of all sides that may be given up.
struct Armed<'a>(&'a mut MovingReceiver);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.sides.iter_mut().for_each(|side| side.receiver.disarm());
    }
}

fn is_barrier(message: &Message) -> bool {
    message.kind() == Kind::Request && message.header(BARRIER).is_some()
}

impl fmt::Debug for MovingReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MovingReceiver")
            .field("queue", &self.queue)
            .field("sides", &self.sides.len())
            .finish_non_exhaustive()
    }
}
