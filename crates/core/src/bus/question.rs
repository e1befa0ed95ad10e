//! A question on its way: entered in the table, addressed, sent and confirmed; then it listens.

use std::fmt;
use std::mem;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::request::Reply;
use super::sending::Sending;
use super::table::{Address, Heard, Takes};
use super::{Bus, needs_clock};
use crate::task::lock;
use crate::{Cancel, Error, ErrorKind, Message, MessageBuilder, Status, Topic};

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
    /// What is to be sent, until the address of the inbox is known.
    draft: Option<MessageBuilder>,
    sending: Sending,
    /// What to send again, if it may be.
    copy: Option<Message>,
    /// Whether it was sent, so that it can be taken back.
    sent: bool,
    to_queue: bool,
}

enum Stage {
    /// Enters the table, then waits for the address of the inbox.
    Addressing,
    /// Until the outcome of the send is known; the reply may come first.
    Sending,
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
            stage: Stage::Addressing,
            draft,
            sending: Sending::default(),
            copy: None,
            sent: false,
            to_queue: false,
        }
    }

    /// Changes the message before it is sent.
    pub(super) fn change(&mut self, change: impl FnOnce(MessageBuilder) -> MessageBuilder) {
        self.draft = self.draft.take().map(change);
    }

    /// The next reply or status, or why there will be none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        loop {
            if self.correlation != 0
                && let Poll::Ready(heard) = self.bus.0.inbox.poll(self.correlation, cx)
            {
                match heard {
                    Heard::Reply(reply) => {
                        // With its only reply a request has given its slot back.
                        self.correlation *= u64::from(self.takes != Takes::One);
                        return Poll::Ready(Ok(reply));
                    }
                    Heard::Expired => return Poll::Ready(Err(self.too_late())),
                    Heard::Lost(error) => return Poll::Ready(Err(error)),
                    // Of what was not sent yet, nothing is lost.
                    Heard::Lapsed(_) if !self.sent => {}
                    Heard::Lapsed(error) => self.send_again(error)?,
                }
                continue;
            }
            if let Err(error) = ready!(self.advance(cx)) {
                self.rest();
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
        self.rest();
        let (correlation, sent) = (mem::take(&mut self.correlation), mem::take(&mut self.sent));
        let inbox = &self.bus.0.inbox;
        if correlation != 0
            && inbox.leave(correlation)
            && sent
            && !self.is_too_late()
            && let (Ok(target), Some(Address { topic, .. })) = (&self.topic, inbox.address())
        {
            let (target, to_queue, reply_to) = (target.clone(), self.to_queue, topic);
            self.bus.broker().cancel(&Cancel { target, to_queue, reply_to, correlation });
        }
    }

    /// Gives up what has come to its end: nothing is taken back.
    pub(super) fn finish(&mut self) {
        self.sent = false;
        self.give_up();
    }

    /// Gives the sender back; only what was sent before can still be heard of.
    fn rest(&mut self) {
        (self.stage, self.sending) = (Stage::Waiting, Sending::default());
    }

    /// Goes on; ready when there may be something to hear.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match self.stage {
                Stage::Addressing if self.correlation == 0 => {
                    self.deadline = self.resolve_deadline()?;
                    self.correlation = self.bus.0.inbox.register(self.takes, self.deadline, cx)?;
                    return Poll::Ready(Ok(()));
                }
                Stage::Addressing => match self.bus.0.inbox.address() {
                    Some(to) => self.address(to)?,
                    None => return Poll::Pending,
                },
                Stage::Sending => {
                    // Whoever counts replies needs to know how many were asked, by a receipt of
                    // its own.
                    let pool = match self.takes {
                        Takes::One => &self.bus.0.askers,
                        Takes::Many(_) => &self.bus.0.publishers,
                    };
                    let outcome = self.sending.poll_outcome(cx, &self.bus, pool);
                    self.sent |= self.sending.is_taken();
                    match ready!(outcome)? {
                        Ok(receipt) => {
                            self.matched = Some(receipt.matched);
                            self.rest();
                            return Poll::Ready(Ok(()));
                        }
                        Err(returned) => {
                            // What was refused is nowhere to be taken back from.
                            self.sent &= returned.error.kind() == ErrorKind::Unknown;
                            return Poll::Ready(Err(returned.error));
                        }
                    }
                }
                Stage::Waiting => return Poll::Pending,
            }
        }
    }

    /// Makes the message, whose reply goes to the inbox.
    fn address(&mut self, to: Address) -> Result<(), Error> {
        let draft = self.draft.take().ok_or_else(|| Error::closed("the request"))?;
        let mut draft = draft.reply_to(to.topic, self.correlation);
        if let Some(at) = self.deadline.filter(|_| to.deadlines) {
            draft = draft.deadline(at);
        }
        let message = draft.build_after(&mut lock(&self.bus.0.inbox.head))?;
        self.to_queue = message.is_to_queue();
        self.copy = (self.resends > 0).then(|| message.clone());
        self.sending.slot = Some(message);
        self.stage = Stage::Sending;
        Ok(())
    }

    /// Sends the message again, if it may be and that may help; else hands the error back.
    fn send_again(&mut self, error: Error) -> Result<(), Error> {
        use ErrorKind::{Disconnected, SessionLost, Unknown};
        let uncertain = matches!(error.kind(), SessionLost | Unknown | Disconnected);
        let Some(message) = self.copy.as_ref().filter(|_| uncertain && self.resends > 0) else {
            return Err(error);
        };
        self.resends -= 1;
        (self.sending.slot, self.stage) = (Some(message.clone()), Stage::Sending);
        Ok(())
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
            question.bus.0.inbox.rest(question.correlation);
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
