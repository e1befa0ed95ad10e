//! Answering requests and working through deliveries, many at a time in one task.

use std::fmt;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::sending::Sending;
use super::{Bus, crew};
use crate::runtime::timeout_at;
use crate::{
    Ack, BoxReceiver, Delivery, Error, Message, Pattern, Queue, ReceiverExt, Source, Status,
    Subscription, Topic,
};

/// The group that responders of one pattern share unless they name another.
const GROUP: &str = "responders";
/// How many requests a responder has unanswered at a time unless it says otherwise.
const CONCURRENCY: usize = 64;

/// How a responder answers; [`open`](Self::open) opens it.
///
/// Responders of the same pattern share a group, so each request goes to one of them.
///
/// ```
/// # use posthaste_core::{Bus, Error};
/// # use posthaste_memory::Memory;
/// # fn main() -> Result<(), Error> { pollster::block_on(async {
/// let bus = Bus::new(Memory::new());
/// let responder = bus.serve("math.*").group("calculators").concurrency(8).open().await?;
/// # drop(responder);
/// # Ok(()) }) }
/// ```
#[derive(Debug)]
#[must_use = "nothing is served until the responder is opened"]
pub struct Serve {
    bus: Bus,
    pattern: Result<Pattern, Error>,
    via: Result<Via, Error>,
    concurrency: usize,
    limit: Option<u64>,
}

/// How requests come to a responder.
#[derive(Debug)]
enum Via {
    Alone,
    Group(Topic),
    Queue(Topic),
}

impl Serve {
    pub(super) fn new(bus: Bus, pattern: Result<Pattern, Error>) -> Self {
        Self {
            bus,
            pattern,
            via: Topic::new(GROUP).map(Via::Group),
            concurrency: CONCURRENCY,
            limit: None,
        }
    }

    /// Shares the requests with the responders of this group alone; `responders` unless named.
    pub fn group<G>(mut self, group: G) -> Self
    where
        G: TryInto<Topic>,
        Error: From<G::Error>,
    {
        self.via = group.try_into().map(Via::Group).map_err(Error::from);
        self
    }

    /// Gets every request, shared with nobody, so that a [survey](Bus::survey) reaches each of many.
    pub fn alone(mut self) -> Self {
        self.via = Ok(Via::Alone);
        self
    }

    /// Answers what is in a queue, as one of its consumers, instead of what is asked right now.
    /// The queue is declared and bound to the pattern; if both have the same name nothing is
    /// bound, and the requests that come are those sent [to the queue](super::Ask::to_queue).
    pub fn queue<Q>(mut self, queue: Q) -> Self
    where
        Q: TryInto<Topic>,
        Error: From<Q::Error>,
    {
        self.via = queue.try_into().map(Via::Queue).map_err(Error::from);
        self
    }

    /// How many requests may be unanswered at a time, at least 1: those that
    /// [`recv`](Responder::recv) has handed out, or those that [`run`](Responder::run) works on.
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// At most this many requests in all; after the last one comes the end.
    pub fn limit(mut self, requests: u64) -> Self {
        self.limit = Some(requests);
        self
    }

    /// Opens the responder: requests that are sent from now on are answered.
    ///
    /// # Errors
    /// `InvalidTopic` for a pattern, group or queue; else as
    /// [`Broker::receiver`](crate::Broker::receiver) and, for a queue,
    /// [`Broker::declare`](crate::Broker::declare).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind, except perhaps the declared queue.
    pub async fn open(self) -> Result<Responder, Error> {
        let pattern = self.pattern?;
        let subscription = match self.via? {
            Via::Alone => Subscription::topic(pattern)?,
            Via::Group(group) => Subscription::shared(pattern, group)?,
            Via::Queue(queue) => {
                if queue.as_str() != pattern.as_str() {
                    let bound = Queue::new(queue.clone()).bind(pattern);
                    self.bus.declare(bound).await?;
                }
                Subscription::queue(queue)?
            }
        };
        let mut subscription = subscription.ack(Ack::Manual).prefetch(self.concurrency);
        subscription.limit = self.limit;
        let source = subscription.source.clone();
        Ok(Responder {
            receiver: self.bus.receiver(subscription).await?,
            bus: self.bus,
            source,
            concurrency: self.concurrency,
        })
    }
}

/// Receives requests, to be answered one by one or by a handler.
///
/// ```
/// # use posthaste_core::{Bus, Error};
/// # use posthaste_memory::Memory;
/// # fn main() -> Result<(), Error> { pollster::block_on(async {
/// # let bus = Bus::new(Memory::new());
/// let mut responder = bus.serve("math.double").open().await?;
/// let answering = async {
///     while let Some(request) = responder.recv().await? {
///         match std::str::from_utf8(request.payload()).map(str::parse::<i64>) {
///             Ok(Ok(number)) => request.reply((2 * number).to_string()).await?,
///             _ => request.fail("send a number").await?,
///         }
///     }
///     Ok::<(), Error>(())
/// };
/// # let asking = async {
/// #     assert_eq!(bus.request("math.double", "21").await?.payload(), "42");
/// #     let failed = bus.request("math.double", "x").await.unwrap_err();
/// #     assert_eq!(failed.to_string(), "send a number");
/// #     Ok(())
/// # };
/// # let (answering, asking) = (std::pin::pin!(answering), std::pin::pin!(asking));
/// # futures::future::select(answering, asking).await.factor_first().0
/// # }) }
/// ```
pub struct Responder {
    bus: Bus,
    receiver: BoxReceiver,
    source: Source,
    concurrency: usize,
}

impl Responder {
    /// The next request, or `None` at the end. One whose deadline has passed is not handed out.
    ///
    /// A message that asks for no reply is handed out as well: replying to it settles it.
    ///
    /// # Errors
    /// Why the responder cannot go on; after it comes the end.
    ///
    /// # Cancel safety
    /// Safe: a dropped receive takes neither a request nor a wake-up.
    pub async fn recv(&mut self) -> Result<Option<Request>, Error> {
        while let Some(delivery) = self.receiver.recv().await? {
            if let Some(request) = admit(&self.bus, delivery) {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    /// Answers every request with what `handler` makes of it, several at a time, all within this
    /// future: nothing is spawned. Resolves when the responder ends and the last handler is done.
    ///
    /// `Ok` is the reply's content; `Err` is the text that the requester gets with a `Failed`
    /// error. A handler is dropped when its requester has gone, where the broker can tell, and when
    /// the request's deadline passes, on a bus that has a clock; the others go on. A panic in a
    /// handler goes through, and the requesters of what was unanswered are told.
    ///
    /// # Errors
    /// Why the responder could not go on.
    ///
    /// # Cancel safety
    /// Dropping the future drops the handlers; the requesters of what was unanswered are told.
    ///
    /// ```
    /// # use posthaste_core::{Bus, Error, Message};
    /// # use posthaste_memory::Memory;
    /// # fn main() -> Result<(), Error> { pollster::block_on(async {
    /// # let bus = Bus::new(Memory::new());
    /// let responder = bus.serve("text.upper").open().await?;
    /// let serving = responder.run(async |request: Message| {
    ///     match std::str::from_utf8(request.payload()) {
    ///         Ok(text) => Ok(text.to_uppercase()),
    ///         Err(error) => Err(format!("not a text: {error}")),
    ///     }
    /// });
    /// let asking = async {
    ///     assert_eq!(bus.request("text.upper", "hello").await?.payload(), "HELLO");
    ///     Ok::<(), Error>(())
    /// };
    /// # let (serving, asking) = (std::pin::pin!(serving), std::pin::pin!(asking));
    /// # futures::future::select(serving, asking).await.factor_first().0
    /// # }) }
    /// ```
    pub async fn run<H, F, R, E>(self, mut handler: H) -> Result<(), Error>
    where
        H: FnMut(Message) -> F,
        F: Future<Output = Result<R, E>>,
        R: Into<Bytes>,
        E: fmt::Display,
    {
        let bus = self.bus;
        let timer = bus.runtime().map(|runtime| runtime.timer());
        crew::run(self.receiver, self.concurrency, timer, |delivery| {
            let request = admit(&bus, delivery)?;
            let handling = handler(request.message().clone());
            Some(answer(request, handling))
        })
        .await
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("source", &self.source)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// Refuses what is too late to be worth starting.
fn admit(bus: &Bus, delivery: Delivery) -> Option<Request> {
    let request = Request { delivery, bus: bus.clone() };
    if request.has_expired() {
        request.drop_unwanted();
        return None;
    }
    Some(request)
}

async fn answer<F, R, E>(request: Request, handling: F)
where
    F: Future<Output = Result<R, E>>,
    R: Into<Bytes>,
    E: fmt::Display,
{
    let failed = match while_wanted(&request, handling).await {
        Some(Ok(payload)) => match request.send(request.message().reply(payload)).await {
            Ok(()) => return request.delivery.ack(),
            // Too large, say: the requester is told what became of its reply.
            Err(error) => error.to_string(),
        },
        Some(Err(error)) => error.to_string(),
        None => return request.drop_unwanted(),
    };
    // Should that fail, dropping the request leaves it to the broker to tell. Boxed, so that the
    // others are small.
    let _ = Box::pin(request.fail(failed)).await;
}

/// What `work` comes to; `None` as soon as nobody wants the answer to the request any more, which
/// drops the work. Whoever polls this polls it at the request's deadline too.
async fn while_wanted<F: Future>(request: &Request, work: F) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if request.has_expired() => Poll::Ready(None),
        Poll::Pending => request.delivery.poll_cancelled(cx).map(|()| None),
    })
    .await
}

/// A request handed out by a [`Responder`], which owes it an answer.
///
/// Dropping it unanswered is an answer too: the broker tells the requester that it was dropped.
#[must_use = "the requester of a request that is dropped is told that it failed"]
#[derive(Debug)]
pub struct Request {
    pub(super) delivery: Delivery,
    pub(super) bus: Bus,
}

impl Request {
    /// The topic it was sent to.
    #[must_use]
    pub fn topic(&self) -> Topic {
        self.message().topic()
    }

    /// The content.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        self.message().payload()
    }

    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.message().header(name)
    }

    /// The whole message.
    #[must_use]
    pub fn message(&self) -> &Message {
        self.delivery.message()
    }

    /// When the requester stops waiting, if the broker passed that on.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.message().deadline()
    }

    /// How long the requester still waits; `None` without a deadline, and on a bus without a
    /// clock.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let now = self.bus.runtime()?.now();
        Some(self.deadline()?.saturating_duration_since(now))
    }

    /// Answers. A message that asks for no reply is settled and nothing is sent.
    ///
    /// # Errors
    /// Why the reply could not be sent; the request is then dropped.
    ///
    /// # Cancel safety
    /// Dropping the future drops the request; the reply was sent or was not.
    pub async fn reply(self, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.send(self.message().reply(payload)).await?;
        self.delivery.ack();
        Ok(())
    }

    /// Answers that it failed: the requester gets `text` as a `Failed` error. A message that asks
    /// for no reply is rejected for that reason instead.
    ///
    /// # Errors
    /// Why the answer could not be sent; the request is then dropped.
    ///
    /// # Cancel safety
    /// Dropping the future drops the request; the answer was sent or was not.
    pub async fn fail(self, text: impl Into<String>) -> Result<(), Error> {
        let text = text.into();
        match self.message().status_reply(Status::Failed, text.clone()) {
            None => self.delivery.reject(&text),
            status => {
                self.send(status).await?;
                self.delivery.ack();
            }
        }
        Ok(())
    }

    /// Resolves when the requester no longer wants the answer: it gave up, where the broker can
    /// tell, or its deadline has passed, on a bus that has a clock.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cancelled(&self) {
        let cancelled = poll_fn(|cx| self.delivery.poll_cancelled(cx));
        match self.bus.runtime().zip(self.deadline()) {
            Some((runtime, at)) => drop(timeout_at(&**runtime, at, cancelled).await),
            None => cancelled.await,
        }
    }

    pub(super) fn has_expired(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// Settles what nobody wants an answer to any more, as [`cancelled`](Self::cancelled) tells: it
    /// is neither delivered again nor answered.
    pub fn drop_unwanted(self) {
        match self.has_expired() {
            true => self.delivery.reject("expired"),
            false => self.delivery.ack(),
        }
    }

    async fn send(&self, answer: Option<Message>) -> Result<(), Error> {
        match answer {
            Some(answer) => Ok(self.bus.send_once(Sending::new(answer)).await.map(|_| ())?),
            None => Ok(()),
        }
    }
}

/// Works through what a receiver delivers, several deliveries at a time in one task.
///
/// ```
/// # use posthaste_core::{Bus, Consumer, Error, Message, Subscription};
/// # use posthaste_memory::Memory;
/// # fn main() -> Result<(), Error> { pollster::block_on(async {
/// let bus = Bus::new(Memory::new());
/// bus.send("jobs", "work").await?;
/// let jobs = bus.receiver(Subscription::queue("jobs")?.limit(1)).await?;
/// Consumer::new(jobs)
///     .run(4, async |job: Message| {
///         if job.payload().is_empty() { Err("there is nothing to do") } else { Ok(()) }
///     })
///     .await?;
/// assert_eq!(bus.ledger().await?.acked, 1);
/// # Ok(()) }) }
/// ```
pub struct Consumer(BoxReceiver);

impl Consumer {
    /// Works through what `receiver` delivers.
    #[must_use]
    pub fn new(receiver: BoxReceiver) -> Self {
        Self(receiver)
    }

    /// Hands each message to `handler`, up to `concurrency` at a time, all within this future:
    /// nothing is spawned. `Ok` is an ack; `Err` is a retry at once, for that reason. Resolves
    /// when the receiver ends and the last handler is done.
    ///
    /// # Errors
    /// Why the receiver could not go on, or the first settlement that failed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the handlers; what they worked on is delivered again.
    pub async fn run<H, F, E>(self, concurrency: usize, mut handler: H) -> Result<(), Error>
    where
        H: FnMut(Message) -> F,
        F: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        crew::run(self.0, concurrency, None, |delivery| {
            let handling = handler(delivery.message().clone());
            Some(async move {
                match handling.await {
                    Ok(()) => delivery.ack(),
                    Err(why) => delivery.retry(Duration::ZERO, &why.to_string()),
                }
            })
        })
        .await
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}
