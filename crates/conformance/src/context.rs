//! What a broker case is given: the broker from two sides, names of its own, and short ways to do
//! what every case does.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use posthaste_core::task::lock;
use posthaste_core::{
    Ack, BoxReceiver, BoxSender, Broker, Bus, Capability, Delivery, Error, ErrorKind, Ledger,
    Message, Pattern, Queue, QueueInfo, Receiver, ReceiverExt, Sender, SenderExt, SenderOptions,
    Seq, SharedRuntime, Stats, Subscription, Topic,
};

use crate::Law;
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{Probe, yield_now};
use crate::subject::Fixture;

/// How often a case without a clock looks again before it gives up waiting for a fact.
const LOOKS_MAX: usize = 5_000;

/// How often a case with a clock looks again at once.
const BUSY_LOOKS: usize = 200;

/// How long it waits before it looks again, from then on.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How many round trips it takes until nothing is on its way any more.
const QUIET_LOOKS: usize = 6;

/// What a broker case is run with.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    fixture: Fixture,
    runtime: Option<SharedRuntime>,
    space: String,
    queues: Arc<Mutex<Vec<Topic>>>,
    /// The same once its broker was opened again.
    after: OnceLock<Context>,
}

impl Context {
    pub(crate) fn new(fixture: Fixture, runtime: Option<SharedRuntime>, case: &str) -> Self {
        let space = match &fixture.shared {
            Some(space) => format!("{space}.{case}"),
            None => String::from("kit"),
        };
        let (queues, after) = (Arc::default(), OnceLock::new());
        Self(Arc::new(Inner { fixture, runtime, space, queues, after }))
    }

    /// Ends the broker and opens it again over what it has kept. Everything else goes through the
    /// context that this returns; what was opened before is of the broker that has ended.
    pub(crate) async fn reopen(&self) -> Result<Self, Failure> {
        let Some(reopened) = self.0.fixture.reopened().await else {
            let text = "the broker was opened again and cannot be a second time: give the fixture \
                        that `reopen` returns a way as well";
            return Err(Failure::new(text));
        };
        let this = &self.0;
        let next = Self(Arc::new(Inner {
            fixture: reopened?,
            runtime: this.runtime.clone(),
            space: this.space.clone(),
            queues: Arc::clone(&this.queues),
            after: OnceLock::new(),
        }));
        Ok(this.after.get_or_init(|| next).clone())
    }

    /// The broker, as the side that sends sees it.
    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.0.fixture.broker
    }

    /// The broker, as the side that receives sees it.
    pub(crate) fn peer(&self) -> &Arc<dyn Broker> {
        &self.0.fixture.peer
    }

    /// A bus over the sending side, with the runtime if there is one.
    pub(crate) fn bus(&self) -> Bus {
        self.bus_over(self.broker())
    }

    /// A bus over the receiving side, with the runtime if there is one.
    pub(crate) fn peer_bus(&self) -> Bus {
        self.bus_over(self.peer())
    }

    fn bus_over(&self, broker: &Arc<dyn Broker>) -> Bus {
        match &self.0.runtime {
            Some(runtime) => Bus::with_runtime(Arc::clone(broker), Arc::clone(runtime)),
            None => Bus::new(Arc::clone(broker)),
        }
    }

    pub(crate) fn runtime(&self) -> Result<&SharedRuntime, Failure> {
        let runtime = self.0.runtime.as_ref();
        runtime.ok_or_else(|| Failure::new("this case needs a clock and does not say so"))
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.broker().capabilities().has(capability)
    }

    /// Checks how many a message was handed to, as far as receipts tell.
    pub(crate) fn check_matched(&self, matched: u64, expected: u64, what: &str) -> Outcome {
        if self.has(Capability::MatchCount) {
            check_eq!(matched, expected, "{what}");
        } else if self.has(Capability::Unroutable) {
            check_eq!(matched == 0, expected == 0, "whether there are none of: {what}");
        }
        Ok(())
    }

    /// Whether the broker hands out to polls, not ahead of them.
    pub(crate) fn is_pulled(&self) -> bool {
        !self.0.fixture.pushes
    }

    /// A topic of this case's own.
    pub(crate) fn topic(&self, tail: &str) -> Result<Topic, Failure> {
        Ok(Topic::new(format!("{}.{tail}", self.0.space))?)
    }

    /// A pattern within this case's own topics.
    pub(crate) fn pattern(&self, tail: &str) -> Result<Pattern, Failure> {
        Ok(Pattern::new(format!("{}.{tail}", self.0.space))?)
    }

    /// The name of a queue that is deleted when the case is over.
    pub(crate) fn queue_name(&self, tail: &str) -> Result<Topic, Failure> {
        let name = self.topic(tail)?;
        lock(&self.0.queues).push(name.clone());
        Ok(name)
    }

    /// Declares a queue with the broker's defaults.
    pub(crate) async fn queue(&self, tail: &str) -> Result<Topic, Failure> {
        self.queue_with(tail, |queue| queue).await
    }

    /// Declares a queue.
    pub(crate) async fn queue_with(
        &self,
        tail: &str,
        with: impl FnOnce(Queue) -> Queue,
    ) -> Result<Topic, Failure> {
        let name = self.queue_name(tail)?;
        self.peer().declare(with(Queue::new(name.clone()))).await?;
        Ok(name)
    }

    pub(crate) async fn sender(&self) -> Result<BoxSender, Failure> {
        Ok(self.broker().sender(SenderOptions::new()).await?)
    }

    /// A sender with few messages under way, so that a full receiver is felt soon.
    pub(crate) async fn narrow_sender(&self) -> Result<BoxSender, Failure> {
        let options = SenderOptions::new().window(NARROW, 1 << 20);
        Ok(self.broker().sender(options).await?)
    }

    pub(crate) async fn subscriber(&self, tail: &str) -> Result<BoxReceiver, Failure> {
        self.receiver(Subscription::topic(self.pattern(tail)?)?).await
    }

    /// A consumer that settles by hand, or, where nothing is settled at all, by itself.
    pub(crate) async fn consumer(&self, queue: &Topic) -> Result<BoxReceiver, Failure> {
        self.receiver(self.consuming(queue)?).await
    }

    /// The subscription of such a consumer.
    pub(crate) fn consuming(&self, queue: &Topic) -> Result<Subscription, Failure> {
        let of = Subscription::queue(queue)?;
        Ok(if self.has(Capability::ManualAck) { of } else { of.ack(Ack::Auto) })
    }

    pub(crate) async fn receiver(&self, of: Subscription) -> Result<BoxReceiver, Failure> {
        Ok(self.peer().receiver(of).await?)
    }

    pub(crate) async fn info(&self, queue: &Topic) -> Result<QueueInfo, Failure> {
        Ok(self.broker().queue(queue).await?)
    }

    pub(crate) async fn stats(&self) -> Result<Stats, Failure> {
        Ok(self.broker().stats().await?)
    }

    /// Looks again and again until `holds` says yes; `what` is what is waited for.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut holds: impl AsyncFnMut() -> Result<bool, Failure>,
    ) -> Outcome {
        // With a clock the case's watchdog ends a wait that is in vain.
        let mut looks = 0;
        while self.0.runtime.is_some() || looks < LOOKS_MAX {
            if holds().await? {
                return Ok(());
            }
            looks += 1;
            match &self.0.runtime {
                // What takes longer than a few round trips takes as long without a busy wait.
                Some(_) if looks > BUSY_LOOKS => self.wait(LOOK_AGAIN).await?,
                _ => yield_now().await,
            }
        }
        Err(Failure::new(format!("this never came about: {what}")))
    }

    /// Waits by the runtime's clock.
    pub(crate) async fn wait(&self, time: Duration) -> Outcome {
        let runtime = self.runtime()?;
        let mut timer = runtime.timer();
        timer.as_mut().reset(runtime.now() + time);
        timer.await;
        Ok(())
    }

    /// Waits until the queue's information is as wanted.
    pub(crate) async fn until_queue(
        &self,
        queue: &Topic,
        what: &str,
        holds: impl Fn(&QueueInfo) -> bool,
    ) -> Outcome {
        self.until(what, async || Ok(holds(&self.info(queue).await?))).await
    }

    /// Waits until whatever is on its way has arrived, as far as round trips can tell.
    pub(crate) async fn quiet(&self) -> Outcome {
        for _ in 0..QUIET_LOOKS {
            if self.has(Capability::Inspection) {
                self.stats().await?;
                self.peer().stats().await?;
            }
            yield_now().await;
        }
        Ok(())
    }

    /// Sends numbered messages from `first` on until there is no room any more, at most `most`,
    /// and says how many were taken. Checks law S1 at the message that was not.
    pub(crate) async fn fill(
        &self,
        sender: &mut (impl Sender + ?Sized),
        make: impl Fn(u64) -> Message,
        most: u64,
    ) -> Result<u64, Failure> {
        let probe = Probe::new();
        let mut taken = 0;
        let mut slot = None;
        let mut last_look = false;
        while taken < most {
            let message = make(taken + 1);
            if slot.is_none() {
                slot = Some(message.clone());
            }
            if probe.with(|cx| sender.poll_send(cx, &mut slot))?.is_ready() {
                check!(slot.is_none(), "a message that was taken is still in the slot");
                (taken, last_look) = (taken + 1, false);
            } else {
                check_eq!(slot.as_ref(), Some(&message), "the slot of a pending send");
                if last_look {
                    break;
                }
                if self.has(Capability::Durability) && message.is_to_queue() {
                    // What is under way may wait for a disk, as does this, behind it.
                    self.broker().declare(Queue::new(message.topic())).await?;
                }
                self.quiet().await?;
                last_look = true;
            }
        }
        sender.disarm();
        Ok(taken)
    }

    /// What holds after every case: nothing that it opened is left, and the books balance.
    pub(crate) async fn check_aftermath(&self) -> Outcome {
        self.check_sends()?;
        if let Some(after) = self.0.after.get() {
            return Box::pin(after.check_aftermath()).await;
        }
        if self.broker().stats().await.is_err_and(|error| is_gone(&error)) {
            // The case closed its broker, and what is behind it cannot be asked any more.
            return Ok(());
        }
        self.delete_queues().await?;
        if !self.has(Capability::Inspection) {
            return Ok(());
        }
        if self.0.fixture.shared.is_some() {
            return self.check_stats(&self.stats().await?);
        }
        self.check_nothing_left().await.map_err(|failure| failure.of(Law::B6))?;
        self.check_books().await.map_err(|failure| failure.of(Law::B5))
    }

    /// That the books of both clients balance, which is a law of its own.
    pub(crate) fn check_sends(&self) -> Outcome {
        for client in [self.broker(), self.peer()] {
            let sends = client.sends().unwrap_or_default();
            if !sends.is_balanced() {
                let text = format!("a client's books do not balance: {sends:?}");
                return Err(Failure::new(text).of(Law::S7));
            }
        }
        Ok(())
    }

    async fn check_nothing_left(&self) -> Outcome {
        self.until("no subscription is left after the case", async || {
            Ok(self.stats().await?.subscriptions == 0)
        })
        .await?;
        // What a dropped sender had under way may declare its queue again when it arrives.
        self.until("no queue is left after the case", async || {
            self.delete_queues().await?;
            self.quiet().await?;
            Ok(self.stats().await?.queues.is_empty())
        })
        .await
    }

    async fn delete_queues(&self) -> Outcome {
        let queues = lock(&self.0.queues).clone();
        for queue in queues {
            match self.broker().delete(&queue).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn check_books(&self) -> Outcome {
        self.until("the broker holds nothing after the case", async || {
            let stats = self.stats().await?;
            self.check_stats(&stats)?;
            Ok(stats.ledger.held == 0)
        })
        .await
    }

    fn check_stats(&self, stats: &Stats) -> Outcome {
        let books = stats.queues.iter().map(|info| (info.name.as_str(), &info.ledger));
        let mut books = books.chain([("the broker", &stats.ledger)]);
        books.try_for_each(|(whose, ledger)| check_balance(ledger, whose))
    }
}

/// Whether the broker, or the way to it, was closed.
fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Disconnected)
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("fixture", &self.0.fixture)
            .field("space", &self.0.space)
            .finish_non_exhaustive()
    }
}

/// Checks that books balance, which is a law of its own wherever it is looked at.
pub(crate) fn check_balance(ledger: &Ledger, whose: &str) -> Outcome {
    if ledger.is_balanced() {
        return Ok(());
    }
    Err(Failure::new(format!("the books of {whose} do not balance: {ledger:?}")).of(Law::B5))
}

/// Checks that the error of `what` is one sentence, which is a law of its own wherever it is seen.
pub(crate) fn check_sentence(error: &Error, what: &str) -> Outcome {
    let text = error.to_string();
    let words = text.split(' ').filter(|word| !word.is_empty()).count();
    let is_sentence = words >= 3
        && text.chars().count() <= 400
        && !text.contains(['\n', '\r'])
        && !text.ends_with('.')
        && text.trim() == text;
    if is_sentence {
        return Ok(());
    }
    Err(Failure::new(format!("the error of {what} is no sentence: {text:?}")).of(Law::D3))
}

/// The window of a narrow sender, in messages.
pub(crate) const NARROW: usize = 4;

/// A message to a topic whose payload is a number.
pub(crate) fn numbered(topic: &Topic, number: u64) -> Message {
    Message::new(topic.clone(), number.to_string())
}

/// A message into a queue whose payload is a number.
pub(crate) fn numbered_to(queue: &Topic, number: u64) -> Message {
    Message::to_queue(queue.clone(), number.to_string())
}

/// The number that is a delivery's payload.
pub(crate) fn number_of(delivery: &Delivery) -> Result<u64, Failure> {
    let payload = delivery.payload();
    std::str::from_utf8(payload)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Failure::new(format!("a payload that nobody sent: {payload:?}")))
}

/// Sends the numbers of a range into a queue and waits until all are confirmed.
pub(crate) async fn send_numbers(
    sender: &mut BoxSender,
    make: impl Fn(u64) -> Message,
    numbers: impl IntoIterator<Item = u64>,
) -> Outcome {
    let mut last = Seq::new(0);
    for number in numbers {
        last = sender.feed(make(number)).await?;
    }
    let receipt = sender.flush().await?;
    check!(receipt.upto >= last, "a flush up to {last} ended at {}", receipt.upto);
    check_eq!(receipt.returned, 0, "messages that came back");
    Ok(())
}

/// The next delivery; the end is a failure.
pub(crate) async fn next(receiver: &mut (impl Receiver + ?Sized)) -> Result<Delivery, Failure> {
    let delivery = receiver.recv().await?;
    delivery.ok_or_else(|| Failure::new("the receiver has ended"))
}

/// Receives and acks `count` deliveries, and returns their numbers.
pub(crate) async fn take_numbers(
    receiver: &mut (impl Receiver + ?Sized),
    count: usize,
) -> Result<Vec<u64>, Failure> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let delivery = next(receiver).await?;
        numbers.push(number_of(&delivery)?);
        delivery.ack();
    }
    Ok(numbers)
}

/// Checks that the next delivery bears `number`, so that nothing else came before it; acks it.
pub(crate) async fn expect(
    receiver: &mut (impl Receiver + ?Sized),
    number: u64,
    what: &str,
) -> Outcome {
    let delivery = next(receiver).await?;
    check_eq!(number_of(&delivery)?, number, "{what}");
    delivery.ack();
    Ok(())
}
