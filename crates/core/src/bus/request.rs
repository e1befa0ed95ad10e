//! Asking: the request being put together, the future that awaits its reply, and the reply.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pool::{Lease, Refusal};
use super::table::Outcome;
use super::{Bus, needs_clock};
use crate::{
    BoxFuture, BoxSender, Error, ErrorKind, Message, MessageBuilder, SenderOptions, Seq, Status,
    Topic,
};

/// How long a request waits unless it says otherwise, on a bus that has a clock.
const WITHIN: Duration = Duration::from_secs(30);

/// A request being put together; awaiting it sends it and resolves with its [`Reply`].
///
/// On a bus with a runtime it waits 30 s unless it says otherwise; without one it waits until the
/// reply comes or the inbox is lost.
///
/// # Errors
///
/// Awaiting it answers `NoResponders` at once if nobody is there to answer, `DeadlineExceeded`,
/// `Failed` with the responder's own text, `Unsupported` for a deadline on a bus without a clock,
/// `Limit` if 65,536 requests of this bus wait already, and whatever the broker answers to a send
/// or to the opening of the inbox. If the inbox is lost every waiting request gets its error, and
/// the next request opens a new one.
///
/// # Cancel safety
///
/// Dropping the future gives the request up and frees its slot; a reply that still comes is
/// counted in [`Bus::late_replies`] and delivered to nobody. Waiting requests take turns at
/// polling the inbox that all of them share: a future that is kept but no longer polled may hold
/// up the others until the next request, so poll it or drop it.
///
/// ```
/// # use posthaste_core::{Bus, Error, ErrorKind};
/// # use posthaste_memory::Memory;
/// # fn main() -> Result<(), Error> { pollster::block_on(async {
/// let bus = Bus::new(Memory::new());
/// let nobody = bus.request("math.add", "20 22").header("trace", "7").await;
/// assert_eq!(nobody.unwrap_err().kind(), ErrorKind::NoResponders);
/// # Ok(()) }) }
/// ```
#[must_use = "a request is sent when it is awaited"]
pub struct Ask {
    bus: Bus,
    topic: Result<Topic, Error>,
    draft: Draft,
    until: Until,
}

/// Applied to the message once the address of the inbox is known.
type Draft = Option<MessageBuilder>;

#[derive(Debug, Clone, Copy)]
enum Until {
    Default,
    Within(Duration),
    At(Instant),
}

impl Ask {
    pub(super) fn new(bus: Bus, topic: Result<Topic, Error>, payload: Bytes) -> Self {
        let draft = topic.as_ref().ok();
        Self {
            draft: draft.map(|topic| Message::builder(topic.clone()).payload(payload)),
            bus,
            topic,
            until: Until::Default,
        }
    }

    /// Waits at most that long. Needs a clock: give the bus a runtime.
    pub fn within(mut self, time: Duration) -> Self {
        self.until = Until::Within(time);
        self
    }

    /// Waits until then at most. Needs a clock: give the bus a runtime.
    pub fn deadline(mut self, at: Instant) -> Self {
        self.until = Until::At(at);
        self
    }

    /// Adds a header.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|draft| draft.header(name, value))
    }

    /// The key.
    pub fn key(self, key: impl Into<String>) -> Self {
        self.with(|draft| draft.key(key))
    }

    /// The message id.
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with(|draft| draft.id(id))
    }

    /// Asks the consumers of the one queue that the topic names.
    pub fn to_queue(self) -> Self {
        self.with(MessageBuilder::to_queue)
    }

    /// Lets the request wait in a queue while nobody is there to answer it.
    pub fn waits(self) -> Self {
        self.with(MessageBuilder::waits)
    }

    fn with(mut self, change: impl FnOnce(MessageBuilder) -> MessageBuilder) -> Self {
        self.draft = self.draft.map(change);
        self
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("topic", &self.topic)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for Ask {
    type Output = Result<Reply, Error>;
    type IntoFuture = Asking;

    fn into_future(self) -> Asking {
        Asking {
            bus: self.bus,
            topic: self.topic,
            until: self.until,
            deadline: None,
            correlation: 0,
            stage: Stage::New(self.draft),
        }
    }
}

/// The future of an [`Ask`].
#[must_use = "futures do nothing unless awaited"]
pub struct Asking {
    bus: Bus,
    topic: Result<Topic, Error>,
    until: Until,
    deadline: Option<Instant>,
    /// The slot in the table; 0 while there is none.
    correlation: u64,
    stage: Stage,
}

enum Stage {
    New(Draft),
    /// Registered; waits for the address of the inbox.
    Addressing(Draft),
    Leasing(Message),
    /// Opens a sender, because none is idle.
    Opening(Message, BoxFuture<'static, Result<BoxSender, Error>>),
    Sending(Lease, Message),
    /// The outcome of the send; the reply may come first.
    Confirming(Lease, Seq),
    Waiting,
}

impl Future for Asking {
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answer = loop {
            if this.correlation != 0
                && let Poll::Ready(outcome) = this.bus.inbox().poll(this.correlation, cx)
            {
                this.correlation = 0;
                break this.answer(outcome);
            }
            match this.advance(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending => return Poll::Pending,
            }
        };
        this.give_up();
        Poll::Ready(answer)
    }
}

impl Asking {
    /// Goes one stage on; ready when the reply may be there.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let pending = match mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::New(draft) => {
                self.deadline = self.resolve_deadline()?;
                self.correlation = self.bus.inbox().register(self.deadline, cx.waker())?;
                self.stage = Stage::Addressing(draft);
                return Poll::Ready(Ok(()));
            }
            Stage::Addressing(draft) => match self.bus.inbox().address() {
                Some(to) => {
                    let draft = draft.ok_or_else(|| Error::closed("the request"))?;
                    let mut draft = draft.reply_to(to.topic, self.correlation);
                    if let Some(at) = self.deadline.filter(|_| to.deadlines) {
                        draft = draft.deadline(at);
                    }
                    self.stage = Stage::Leasing(draft.build()?);
                    return self.advance(cx);
                }
                None => Stage::Addressing(draft),
            },
            Stage::Leasing(message) => {
                self.stage = match self.bus.askers().lease_idle() {
                    Some(lease) => Stage::Sending(lease, message),
                    None => Stage::Opening(message, self.bus.open_sender(SenderOptions::new())),
                };
                return self.advance(cx);
            }
            Stage::Opening(message, mut opening) => match opening.as_mut().poll(cx) {
                Poll::Ready(sender) => {
                    let lease = self.bus.askers().lease_opened(sender?);
                    self.stage = Stage::Sending(lease, message);
                    return self.advance(cx);
                }
                Poll::Pending => Stage::Opening(message, opening),
            },
            Stage::Sending(mut lease, message) => {
                let mut slot = Some(message);
                match (lease.poll_send(cx, &mut slot), slot) {
                    (Poll::Pending, Some(message)) => Stage::Sending(lease, message),
                    (Poll::Ready(Ok(seq)), _) => {
                        self.stage = Stage::Confirming(lease, seq);
                        return self.advance(cx);
                    }
                    (Poll::Ready(Err(Refusal::Stale)), Some(message)) => {
                        self.stage = Stage::Leasing(message);
                        return self.advance(cx);
                    }
                    (Poll::Ready(Err(Refusal::Error(error))), _) => return Poll::Ready(Err(error)),
                    // Law S1 says that the message is still there.
                    (_, None) => return Poll::Ready(Err(Error::closed("the sender"))),
                }
            }
            Stage::Confirming(mut lease, seq) => match lease.poll_flush(cx, seq) {
                Poll::Ready(Ok(Ok(_))) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Err(returned))) => return Poll::Ready(Err(returned.error)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => Stage::Confirming(lease, seq),
            },
            Stage::Waiting => Stage::Waiting,
        };
        self.stage = pending;
        Poll::Pending
    }

    fn resolve_deadline(&self) -> Result<Option<Instant>, Error> {
        self.topic.as_ref().map_err(Error::clone)?;
        let Some(runtime) = self.bus.runtime() else {
            return match self.until {
                Until::Default => Ok(None),
                Until::Within(_) | Until::At(_) => Err(needs_clock("a request's deadline")),
            };
        };
        let now = runtime.now();
        let at = match self.until {
            Until::Default => now.checked_add(WITHIN),
            Until::Within(time) => now.checked_add(time),
            Until::At(at) => Some(at),
        };
        if at.is_some_and(|at| at <= now) {
            return Err(self.too_late());
        }
        Ok(at)
    }

    fn answer(&self, outcome: Outcome) -> Result<Reply, Error> {
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Expired => return Err(self.too_late()),
            Outcome::Lost(error) => return Err(error),
        };
        let kind = match reply.status() {
            None => return Ok(Reply(reply)),
            Some(Status::NoResponders) => ErrorKind::NoResponders,
            Some(Status::Failed) => ErrorKind::Failed,
        };
        // The responder's or the broker's own words, if it has any.
        let text = match String::from_utf8_lossy(reply.payload()).into_owned() {
            text if !text.is_empty() => text,
            _ if kind == ErrorKind::Failed => format!("the responder of {} failed", self.to()),
            _ => format!("nobody answers requests to {}", self.to()),
        };
        Err(Error::new(kind, text))
    }

    fn too_late(&self) -> Error {
        let text = format!("no reply came from {} before the deadline", self.to());
        Error::new(ErrorKind::DeadlineExceeded, text)
    }

    fn to(&self) -> &str {
        self.topic.as_ref().map_or("", Topic::as_str)
    }

    /// Frees the slot, and gives the sender back by dropping its lease.
    fn give_up(&mut self) {
        self.stage = Stage::Waiting;
        if self.correlation != 0 {
            self.bus.inbox().leave(mem::take(&mut self.correlation));
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking")
            .field("topic", &self.topic)
            .field("correlation", &self.correlation)
            .finish_non_exhaustive()
    }
}

/// The answer to a request.
///
/// ```
/// # use posthaste_core::{Bus, Error};
/// # use posthaste_memory::Memory;
/// # fn main() -> Result<(), Error> { pollster::block_on(async {
/// # let bus = Bus::new(Memory::new());
/// # let mut responder = bus.serve("clock.now").open().await?;
/// # let answering = async {
/// #     if let Some(request) = responder.recv().await? { request.reply("12:00").await?; }
/// #     Ok::<(), Error>(())
/// # };
/// # let asking = async {
/// let reply = bus.request("clock.now", "").await?;
/// assert_eq!(reply.payload(), "12:00");
/// #     Ok::<(), Error>(())
/// # };
/// # let (answered, asked) = futures::join!(answering, asking);
/// # answered.and(asked)
/// # }) }
/// ```
#[derive(Debug, Clone)]
pub struct Reply(Message);

impl Reply {
    /// The content.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        self.0.payload()
    }

    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name)
    }

    /// The whole message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0
    }

    /// Takes the whole message.
    #[must_use]
    pub fn into_message(self) -> Message {
        self.0
    }

    /// Takes the content.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        self.0.into_payload()
    }
}
