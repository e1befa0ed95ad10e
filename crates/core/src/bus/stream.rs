//! Streamed replies: many replies to one request, in order and no faster than they are read.
//!
//! Every reply of a stream is numbered, so that one that is missing shows. The first ones say where
//! the requester sends its credit: how many it has read by now. A plain reply is a stream of one.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::Bus;
use super::question::{Question, Resting};
use super::request::{Ask, Reply};
use super::sending::Sending;
use super::serve::Request;
use super::table::{Heard, Takes};
use crate::{BoxFuture, Error, ErrorKind, Message, Topic};

/// On a request: it takes a stream. On a reply: which one of its stream it is.
const STREAM: &str = "_ph.stream";
/// On the end of a stream, which has no content.
const END: &str = "_ph.end";
/// Where credit goes, and its correlation.
const CREDIT_TO: &str = "_ph.credit-to";
const CREDIT: &str = "_ph.credit";

/// How many replies may be on their way or unread, and how many bytes, overdrawn by one reply.
const WINDOW: usize = 64;
const WINDOW_BYTES: usize = 1 << 20;
/// The window, the end, and what the broker has to say.
pub(super) const UNREAD_MAX: usize = 2 * WINDOW;
/// Credit counts everything read so far, so a few are more than ever wait.
const CREDITS_MAX: usize = 8;

impl Ask<Replies> {
    pub(super) fn streamed(question: Question) -> Self {
        Self::new(question).header(STREAM, WINDOW.to_string())
    }

    /// The replies, to be taken one by one: the request is sent at the first
    /// [`next`](Replies::next).
    pub fn open(self) -> Replies {
        Replies {
            question: self.question,
            next: 0,
            unread: 0,
            unread_bytes: 0,
            tell: None,
            crediting: None,
            done: false,
        }
    }
}

/// The replies to a [streamed request](super::Bus::request_stream), as they come.
///
/// Dropping it cancels the request where the broker can tell its responder: nothing more is made.
///
/// ```
/// # use posthaste_core::{Bus, Error};
/// # use posthaste_memory::Memory;
/// # fn main() -> Result<(), Error> { pollster::block_on(async {
/// let bus = Bus::new(Memory::new());
/// let mut responder = bus.serve("count").open().await?;
/// let serving = async {
///     if let Some(request) = responder.recv().await? {
///         let mut replies = request.stream()?;
///         for number in 1..=3 {
///             replies.send(number.to_string()).await?;
///         }
///         replies.finish().await?;
///     }
///     Ok::<(), Error>(())
/// };
/// let asking = async {
///     let mut replies = bus.request_stream("count", "").open();
///     let mut sum = 0;
///     while let Some(reply) = replies.next().await {
///         sum += std::str::from_utf8(reply?.payload()).unwrap_or("").parse().unwrap_or(0);
///     }
///     assert_eq!(sum, 6);
///     Ok::<(), Error>(())
/// };
/// let (served, asked) = futures::join!(serving, asking);
/// # served.and(asked)
/// # }) }
/// ```
#[must_use = "the request is sent when the first reply is asked for"]
pub struct Replies {
    question: Question,
    /// The number of the reply that is to come.
    next: u64,
    /// What was read and the responder does not know of.
    unread: usize,
    unread_bytes: usize,
    /// How the responder hears of it.
    tell: Option<(Topic, u64)>,
    /// Credit on its way to the responder.
    crediting: Option<BoxFuture<'static, ()>>,
    done: bool,
}

impl Replies {
    /// The next reply, or `None` at the end.
    ///
    /// # Errors
    /// As of a [request](Ask); `Unknown` if replies are missing. After an error comes the end.
    ///
    /// # Cancel safety
    /// Safe: a reply is taken or is not.
    pub async fn next(&mut self) -> Option<Result<Reply, Error>> {
        let resting = Resting(self);
        poll_fn(|cx| resting.0.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Reply, Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        self.poll_credit(cx);
        let next = ready!(self.question.poll(cx)).and_then(|message| self.read(message));
        if matches!(next, Err(_) | Ok(None)) {
            self.end();
        }
        self.poll_credit(cx);
        Poll::Ready(next.transpose())
    }

    /// Looks which reply it is; `None` is the end.
    fn read(&mut self, message: Message) -> Result<Option<Reply>, Error> {
        let number = message.header(STREAM).map(str::parse::<u64>);
        let last = message.header(END).is_some();
        let to = message.header(CREDIT_TO).and_then(|topic| Topic::new(topic).ok());
        let credit = message.header(CREDIT).and_then(|number| number.parse().ok());
        let (size, reply) = (message.size(), self.question.read(message)?);
        match number {
            None => {
                self.end();
                return Ok(Some(reply));
            }
            Some(Ok(number)) if number == self.next => {}
            Some(_) => {
                let text = "replies of the stream are missing: they came faster than they could \
                            be kept, or from several responders";
                return Err(Error::new(ErrorKind::Unknown, text));
            }
        }
        if last {
            return Ok(None);
        }
        self.next += 1;
        self.tell = to.zip(credit).or(self.tell.take());
        (self.unread, self.unread_bytes) = (self.unread + 1, self.unread_bytes + size);
        Ok(Some(reply))
    }

    /// Tells the responder what was read, whenever that is half of what may be unread.
    fn poll_credit(&mut self, cx: &mut Context<'_>) {
        loop {
            let crediting = match &mut self.crediting {
                Some(crediting) => crediting,
                None => match self.credit() {
                    Some(credit) => self.crediting.insert(credit),
                    None => return,
                },
            };
            if crediting.as_mut().poll(cx).is_pending() {
                return;
            }
            // More may have been read meanwhile.
            self.crediting = None;
        }
    }

    /// What tells the responder, if that is due.
    fn credit(&mut self) -> Option<BoxFuture<'static, ()>> {
        let due = self.unread >= WINDOW / 2 || self.unread_bytes >= WINDOW_BYTES / 2;
        let (to, correlation) = self.tell.as_ref().filter(|_| due)?;
        let bus = self.question.bus.clone();
        let draft = Message::builder(to.clone()).payload(self.next.to_string());
        let credit = draft.answers(*correlation).build();
        (self.unread, self.unread_bytes) = (0, 0);
        Some(Box::pin(async move {
            // A responder that cannot be told is one that is lost, which shows.
            if let Ok(credit) = credit {
                let _ = bus.send_message(credit).await;
            }
        }))
    }

    fn end(&mut self) {
        self.done = true;
        self.question.finish();
    }
}

impl AsMut<Question> for Replies {
    fn as_mut(&mut self) -> &mut Question {
        &mut self.question
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replies").field(&self.question).finish()
    }
}

// ---- the one who answers

impl Request {
    /// Whether the requester takes a [`stream`](Self::stream) of replies.
    #[must_use]
    pub fn takes_stream(&self) -> bool {
        self.message().header(STREAM).is_some()
    }

    /// Answers with many replies.
    ///
    /// # Errors
    /// `InvalidArgument` if the requester takes a single reply; the request is then dropped.
    pub fn stream(self) -> Result<ReplyWriter, Error> {
        if !self.takes_stream() {
            let text = format!("who asks {} takes one reply and no stream", self.topic());
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let line = CreditLine { bus: self.bus.clone(), correlation: 0, address: None };
        let sizes = VecDeque::new();
        Ok(ReplyWriter { request: self, line, sending: Sending::default(), sent: 0, sizes })
    }
}

/// Answers a [`Request`] with many replies, and waits while the requester does not read them.
///
/// Dropping it unfinished drops the request, and the broker tells the requester.
#[must_use = "the requester of a stream that is dropped is told that it failed"]
pub struct ReplyWriter {
    request: Request,
    line: CreditLine,
    sending: Sending,
    /// How many replies were sent.
    sent: u64,
    /// The sizes of those that may be unread, oldest first.
    sizes: VecDeque<usize>,
}

impl ReplyWriter {
    /// The request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Sends one more reply, once there is room for it.
    ///
    /// # Errors
    /// `Closed` when the requester no longer wants any, where the broker can tell;
    /// `DeadlineExceeded`; why the reply could not be sent.
    ///
    /// # Cancel safety
    /// Safe: dropped before it is ready, the reply is not sent.
    pub async fn send(&mut self, payload: impl Into<Bytes>) -> Result<(), Error> {
        let this = Waiting(self);
        poll_fn(|cx| this.0.poll_room(cx)).await?;
        let part = this.0.part(payload.into(), false)?;
        let size = part.size();
        this.0.put(part).await?;
        this.0.sent += 1;
        this.0.sizes.push_back(size);
        Ok(())
    }

    /// Ends the stream, and waits until every reply is confirmed.
    ///
    /// # Errors
    /// Why a reply could not be sent; the request is then dropped.
    ///
    /// # Cancel safety
    /// Dropping the future drops the request; the stream was ended or was not.
    pub async fn finish(mut self) -> Result<(), Error> {
        let end = self.part(Bytes::new(), true)?;
        Waiting(&mut self).0.put(end).await?;
        self.flush().await?;
        self.request.delivery.ack();
        Ok(())
    }

    /// Ends the stream with a failure: the requester gets `text` as a `Failed` error, behind the
    /// replies so far.
    ///
    /// # Errors
    /// As of [`finish`](Self::finish).
    ///
    /// # Cancel safety
    /// As of [`finish`](Self::finish).
    pub async fn fail(mut self, text: impl Into<String>) -> Result<(), Error> {
        self.flush().await?;
        self.request.fail(text).await
    }

    /// Ready when one more reply may be on its way.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.request.has_expired() || self.request.delivery.poll_cancelled(cx).is_ready() {
            let text = format!("the requester of {} wants no more", self.request.topic());
            return Poll::Ready(Err(Error::new(ErrorKind::Closed, text)));
        }
        while let Poll::Ready(read) = self.line.poll(&self.request, cx)? {
            while self.sent - (self.sizes.len() as u64) < read && self.sizes.pop_front().is_some() {
            }
        }
        let has_room = self.sizes.len() < WINDOW && self.sizes.iter().sum::<usize>() < WINDOW_BYTES;
        match has_room && self.line.address.is_some() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// A reply of the stream, or its end.
    fn part(&self, payload: Bytes, last: bool) -> Result<Message, Error> {
        let request = self.request.message();
        let to = request.reply_to().ok_or_else(|| Error::closed("the request"))?;
        let mut draft = Message::builder(to).payload(payload).header(STREAM, self.sent.to_string());
        if last {
            draft = draft.header(END, "");
        }
        if let Some(address) = self.line.address.as_ref().filter(|_| self.sent == 0) {
            let correlation = self.line.correlation.to_string();
            draft = draft.header(CREDIT_TO, address.as_str()).header(CREDIT, correlation);
        }
        draft.answers(request.correlation()).build()
    }

    /// Sends a message behind those before it.
    async fn put(&mut self, message: Message) -> Result<(), Error> {
        let (bus, sending) = (&self.line.bus, &mut self.sending);
        sending.slot = Some(message);
        poll_fn(|cx| sending.poll_taken(cx, bus, &bus.0.publishers)).await.map(drop)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let (bus, sending) = (&self.line.bus, &mut self.sending);
        sending.slot = None;
        if !sending.is_taken() {
            return Ok(());
        }
        match poll_fn(|cx| sending.poll_outcome(cx, bus, &bus.0.publishers)).await? {
            Ok(_) => Ok(()),
            Err(returned) => Err(returned.error),
        }
    }
}

impl fmt::Debug for ReplyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplyWriter").field(&self.request).finish()
    }
}

/// A writer that is being polled: afterwards it waits for nothing, so that it holds up nobody.
struct Waiting<'a>(&'a mut ReplyWriter);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let ReplyWriter { line, sending, .. } = &mut *self.0;
        if line.correlation != 0 {
            line.bus.0.inbox.rest(line.correlation);
        }
        sending.rest();
    }
}

/// By which credit comes in: a slot of the bus's own inbox.
struct CreditLine {
    bus: Bus,
    correlation: u64,
    address: Option<Topic>,
}

impl CreditLine {
    /// How many replies have been read, when there is news of it.
    fn poll(&mut self, request: &Request, cx: &Context<'_>) -> Result<Poll<u64>, Error> {
        let inbox = &self.bus.0.inbox;
        if self.correlation == 0 {
            let deadline = self.bus.runtime().and(request.deadline());
            self.correlation = inbox.register(Takes::Many(CREDITS_MAX), deadline, cx)?;
        }
        let heard = inbox.poll(self.correlation, cx);
        if self.address.is_none() {
            self.address = inbox.address().map(|address| address.topic);
        }
        let Poll::Ready(heard) = heard else { return Ok(Poll::Pending) };
        match heard {
            Heard::Reply(credit) => {
                let read = std::str::from_utf8(credit.payload()).ok();
                Ok(Poll::Ready(read.and_then(|read| read.parse().ok()).unwrap_or(0)))
            }
            Heard::Expired => {
                let text = format!("the deadline of {} passed in its stream", request.topic());
                Err(Error::new(ErrorKind::DeadlineExceeded, text))
            }
            Heard::Lapsed(error) | Heard::Lost(error) => Err(error),
        }
    }
}

impl Drop for CreditLine {
    fn drop(&mut self) {
        if self.correlation != 0 {
            self.bus.0.inbox.leave(self.correlation);
        }
    }
}
