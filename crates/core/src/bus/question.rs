//! A question on its way: entered in the table, addressed, sent and confirmed; then it listens.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::pool::{Lease, Pool, Refusal};
use super::request::Reply;
use super::table::{Heard, Takes};
use super::{Bus, needs_clock};
use crate::{
    BoxFuture, BoxSender, Cancel, Error, ErrorKind, Message, MessageBuilder, SenderOptions, Seq,
    Status, Topic,
};

/// How long a question waits unless it says otherwise, on a bus that has a clock.
const WITHIN: Duration = Duration::from_secs(30);

/// What requests, surveys and streams have in common: a message that goes out once, and a slot in
/// the table to which what is said about it comes.
pub(super) struct Question {
    pub(super) bus: Bus,
    topic: Result<Topic, Error>,
    takes: Takes,
    pub(super) within: Option<Duration>,
    pub(super) until: Option<Instant>,
    /// How often it may be sent again.
    pub(super) resends: u32,
    /// How many got it, once the broker has confirmed it.
    pub(super) matched: Option<u64>,
    deadline: Option<Instant>,
    /// The slot in the table; 0 while there is none.
    correlation: u64,
    stage: Stage,
    /// What to send again, if it may be.
    copy: Option<Message>,
    /// What takes it back, once it was sent.
    cancel: Option<Cancel>,
}

/// Applied to the message once the address of the inbox is known.
type Draft = Option<MessageBuilder>;

enum Stage {
    New(Draft),
    /// Entered in the table; waits for the address of the inbox.
    Addressing(Draft),
    Leasing(Message),
    /// Opens a sender, because none is idle.
    Opening(Message, BoxFuture<'static, Result<BoxSender, Error>>),
    Sending(Lease, Message),
    /// The outcome of the send; the reply may come first.
    Confirming(Lease, Seq),
    Waiting,
}

impl Question {
    pub(super) fn new(
        bus: Bus,
        takes: Takes,
        topic: Result<Topic, Error>,
        payload: bytes::Bytes,
    ) -> Self {
        let draft = topic.as_ref().ok();
        let draft = draft.map(|topic| Message::builder(topic.clone()).payload(payload));
        Self {
            bus,
            topic,
            takes,
            within: None,
            until: None,
            resends: 0,
            matched: None,
            deadline: None,
            correlation: 0,
            stage: Stage::New(draft),
            copy: None,
            cancel: None,
        }
    }

    /// Changes the message before it is sent.
    pub(super) fn change(&mut self, change: impl FnOnce(MessageBuilder) -> MessageBuilder) {
        if let Stage::New(draft) = &mut self.stage {
            *draft = draft.take().map(change);
        }
    }

    /// The next reply or status, or why there will be none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        loop {
            if self.correlation != 0
                && let Poll::Ready(heard) = self.bus.inbox().poll(self.correlation, cx)
            {
                match heard {
                    Heard::Reply(reply) => return Poll::Ready(Ok(reply)),
                    Heard::Expired => return Poll::Ready(Err(self.too_late())),
                    Heard::Lost(error) => return Poll::Ready(Err(error)),
                    // Of what was not sent yet, nothing is lost.
                    Heard::Lapsed(_) if self.cancel.is_none() => {}
                    Heard::Lapsed(error) => self.send_again(error)?,
                }
                continue;
            }
            if let Err(error) = ready!(self.advance(cx)) {
                self.send_again(error)?;
            }
        }
    }

    /// Makes of a reply what the requester gets.
    pub(super) fn read(&self, reply: Message) -> Result<Reply, Error> {
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

    /// Gives up what is not wanted any more: frees the slot, gives the sender back, and takes the
    /// message back if it was sent and may still be answered.
    pub(super) fn give_up(&mut self) {
        self.stage = Stage::Waiting;
        let cancel = self.cancel.take();
        if self.correlation == 0 {
            return;
        }
        let open = self.bus.inbox().leave(mem::take(&mut self.correlation));
        if let Some(cancel) = cancel.filter(|_| open && !self.is_too_late()) {
            self.bus.broker().cancel(&cancel);
        }
    }

    /// Gives up what has come to its end: nothing is taken back.
    pub(super) fn finish(&mut self) {
        self.cancel = None;
        self.give_up();
    }

    /// Goes one stage on; ready when there may be something to hear.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let pending = match mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::New(draft) => {
                self.deadline = self.resolve_deadline()?;
                self.correlation = self.bus.inbox().register(self.takes, self.deadline, cx)?;
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
                    let message = draft.build()?;
                    self.copy = (self.resends > 0).then(|| message.clone());
                    self.stage = Stage::Leasing(message);
                    return self.advance(cx);
                }
                None => Stage::Addressing(draft),
            },
            Stage::Leasing(message) => {
                self.stage = match self.pool().lease_idle() {
                    Some(lease) => Stage::Sending(lease, message),
                    None => Stage::Opening(message, self.bus.open_sender(SenderOptions::new())),
                };
                return self.advance(cx);
            }
            Stage::Opening(message, mut opening) => match opening.as_mut().poll(cx) {
                Poll::Ready(sender) => {
                    let lease = self.pool().lease_opened(sender?);
                    self.stage = Stage::Sending(lease, message);
                    return self.advance(cx);
                }
                Poll::Pending => Stage::Opening(message, opening),
            },
            Stage::Sending(mut lease, message) => {
                let cancel = Cancel::of(&message);
                let mut slot = Some(message);
                match (lease.poll_send(cx, &mut slot), slot) {
                    (Poll::Pending, Some(message)) => Stage::Sending(lease, message),
                    (Poll::Ready(Ok(seq)), _) => {
                        self.cancel = cancel;
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
                Poll::Ready(Ok(Ok(receipt))) => {
                    self.matched = Some(receipt.matched);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(Err(returned))) => {
                    // What was refused is nowhere to be taken back from.
                    self.cancel.take_if(|_| returned.error.kind() != ErrorKind::Unknown);
                    return Poll::Ready(Err(returned.error));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => Stage::Confirming(lease, seq),
            },
            Stage::Waiting => Stage::Waiting,
        };
        self.stage = pending;
        Poll::Pending
    }

    /// Sends the message again, if it may be and that may help; else hands the error back.
    fn send_again(&mut self, error: Error) -> Result<(), Error> {
        use ErrorKind::{Disconnected, SessionLost, Unknown};
        let uncertain = matches!(error.kind(), SessionLost | Unknown | Disconnected);
        let Some(message) = self.copy.as_ref().filter(|_| uncertain && self.resends > 0) else {
            return Err(error);
        };
        self.resends -= 1;
        self.stage = Stage::Leasing(message.clone());
        Ok(())
    }

    /// Whoever counts replies needs to know how many were asked, by a receipt of its own.
    fn pool(&self) -> &Arc<Pool> {
        match self.takes {
            Takes::One => self.bus.askers(),
            Takes::Many(_) => self.bus.publishers(),
        }
    }

    fn resolve_deadline(&self) -> Result<Option<Instant>, Error> {
        self.topic.as_ref().map_err(Error::clone)?;
        let limited = self.within.is_some() || self.until.is_some();
        let Some(runtime) = self.bus.runtime() else {
            return match limited {
                true => Err(needs_clock("a request's deadline")),
                false => Ok(None),
            };
        };
        let now = runtime.now();
        let within = if limited { self.within } else { Some(WITHIN) };
        let within = within.and_then(|time| now.checked_add(time));
        let at = within.into_iter().chain(self.until).min();
        if at.is_some_and(|at| at <= now) {
            return Err(self.too_late());
        }
        Ok(at)
    }

    fn is_too_late(&self) -> bool {
        let now = self.bus.runtime().map(|runtime| runtime.now());
        self.deadline.zip(now).is_some_and(|(at, now)| at <= now)
    }

    fn too_late(&self) -> Error {
        let text = format!("no reply came from {} before the deadline", self.to());
        Error::new(ErrorKind::DeadlineExceeded, text)
    }

    fn to(&self) -> &str {
        self.topic.as_ref().map_or("", Topic::as_str)
    }
}

/// What holds a question and polls it by a future that may be dropped before it is ready: what is
/// not being polled then waits for nothing, so that it holds up nobody.
pub(super) struct Resting<'a, T: AsMut<Question>>(pub(super) &'a mut T);

impl<T: AsMut<Question>> Drop for Resting<'_, T> {
    fn drop(&mut self) {
        let question = self.0.as_mut();
        if question.correlation != 0 {
            question.bus.inbox().rest(question.correlation);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("topic", &self.topic)
            .field("within", &self.within)
            .field("correlation", &self.correlation)
            .finish_non_exhaustive()
    }
}
