//! Asking: the request being put together, the future that awaits its reply, and the reply.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::question::Question;
use crate::{Error, Message, MessageBuilder};

/// A request being put together; awaiting it sends it and resolves with its [`Reply`].
///
/// On a bus with a runtime it waits 30 s unless it says otherwise; without one it waits until the
/// reply comes or the inbox is lost. What it asks for decides how it goes on: one [`Reply`] here,
/// everybody's in a [survey](super::Bus::survey), many in a [stream](super::Bus::request_stream).
///
/// # Errors
///
/// Awaiting it answers `NoResponders` at once if nobody is there to answer, `DeadlineExceeded`,
/// `Failed` with the responder's own text, `Unsupported` for a deadline on a bus without a clock,
/// `Limit` if 65,536 requests of this bus wait already, and whatever the broker answers to a send
/// or to the opening of the inbox. If the inbox is lost every waiting request gets its error, and
/// the next request opens a new one. If the session with a remote broker is lost, `SessionLost` or
/// `Unknown`: the request may have been carried out, and is not sent a second time unless it is
/// [idempotent](Self::idempotent).
///
/// # Cancel safety
///
/// Dropping the future gives the request up and frees its slot. If it was sent, the broker is
/// told: the request is removed where it is queued, and its handler is dropped. A reply that still
/// comes is counted in [`Bus::late_replies`](super::Bus::late_replies) and delivered to nobody.
/// Waiting requests take turns at polling the inbox that all of them share: a future that is kept
/// but no longer polled may hold up the others until the next request, so poll it or drop it.
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
pub struct Ask<T = Reply> {
    pub(super) question: Question,
    answer: PhantomData<fn() -> T>,
}

impl<T> Ask<T> {
    pub(super) fn new(question: Question) -> Self {
        Self { question, answer: PhantomData }
    }

    /// Waits at most that long. Needs a clock: give the bus a runtime.
    pub fn within(mut self, time: Duration) -> Self {
        self.question.within = Some(time);
        self
    }

    /// Waits until then at most, also if [`within`](Self::within) allows more; `None` says
    /// nothing. Needs a clock: give the bus a runtime.
    ///
    /// A handler passes on what is left of its own request's time:
    ///
    /// ```
    /// # use posthaste_core::{Bus, Error, Message};
    /// async fn handle(bus: Bus, request: Message) -> Result<bytes::Bytes, Error> {
    ///     let nested = bus.request("stock.count", "").deadline(request.deadline());
    ///     Ok(nested.await?.into_payload())
    /// }
    /// ```
    pub fn deadline(mut self, at: impl Into<Option<Instant>>) -> Self {
        self.question.until = at.into().or(self.question.until);
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

    pub(super) fn with(mut self, change: impl FnOnce(MessageBuilder) -> MessageBuilder) -> Self {
        self.question.change(change);
        self
    }
}

impl Ask {
    /// Says that being carried out twice does no harm: if nobody can tell whether the request
    /// arrived, because the session with the broker was lost, it is sent again, up to 16 times and
    /// until its deadline. Otherwise a request is carried out at most once.
    pub fn idempotent(mut self) -> Self {
        self.question.resends = RESENDS;
        self
    }
}

/// How often an idempotent request is sent again.
const RESENDS: u32 = 16;

impl<T> fmt::Debug for Ask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ask").field(&self.question).finish()
    }
}

impl IntoFuture for Ask {
    type Output = Result<Reply, Error>;
    type IntoFuture = Asking;

    fn into_future(self) -> Asking {
        Asking(self.question)
    }
}

/// The future of an [`Ask`] for one reply.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Asking(Question);

impl Future for Asking {
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let question = &mut self.get_mut().0;
        let heard = ready!(question.poll(cx));
        question.give_up();
        Poll::Ready(heard.and_then(|message| question.read(message)))
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
pub struct Reply(pub(super) Message);

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
