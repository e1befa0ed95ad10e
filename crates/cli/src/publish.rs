//! Sending many messages: what `pub` and `send` share.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::iter;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use posthaste::{
    BoxSender, Error, ErrorKind, Level, Message, Receipt, Returned, Runtime, Sender, SenderExt,
    SenderOptions, Seq, Topic,
};
use posthaste_tokio::Tokio;

use crate::args::{HandlingArgs, PayloadArgs, PropertyArgs};
use crate::exit::{Code, Failure};
use crate::input::{self, Lines};
use crate::signals::Signals;

/// How many messages are taken between two looks at what became of earlier ones.
const STRIDE: u64 = 4_096;
/// How long a broker that is going away is left alone before it is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// What errors say of one message, and the counts at the end of all.
const MAY_HAVE_ARRIVED: &str = "; the message may or may not have arrived";

/// What is sent, but for the payload.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) to: Topic,
    pub(crate) to_queue: bool,
    pub(crate) properties: PropertyArgs,
    pub(crate) handling: HandlingArgs,
}

impl Template {
    /// What the sender needs to know beforehand.
    pub(crate) fn sender_options(&self) -> SenderOptions {
        let options = SenderOptions::new();
        match self.to_queue {
            true => options.queue(self.to.clone()),
            false => options,
        }
    }

    fn message(&self, payload: Bytes) -> Result<Message, Error> {
        let HandlingArgs { id, ttl, delay, priority } = &self.handling;
        let mut builder = Message::builder(self.to.clone())
            .payload(payload)
            .delay(delay.unwrap_or_default())
            .priority(*priority);
        if self.to_queue {
            builder = builder.to_queue();
        }
        for (name, value) in &self.properties.headers {
            builder = builder.header(name, value);
        }
        if let Some(key) = &self.properties.key {
            builder = builder.key(key);
        }
        if let Some(id) = id {
            builder = builder.id(id);
        }
        if let Some(ttl) = ttl {
            builder = builder.deadline(Tokio::current().now() + *ttl);
        }
        builder.build()
    }
}

/// Where the payloads come from.
#[derive(Debug)]
pub(crate) enum Payloads {
    /// The same one so many times.
    Repeated(Bytes, u64),
    /// The lines of stdin, or the first so many of them.
    Lines(Lines, Option<u64>),
}

impl Payloads {
    /// The payloads that a command line asks for.
    pub(crate) async fn read(args: PayloadArgs) -> Result<Self, Failure> {
        let PayloadArgs { payload, lines, count } = args;
        if lines {
            return Ok(Self::Lines(Lines::of_stdin(), count));
        }
        let payload = input::payload(payload).await?;
        Ok(Self::Repeated(payload, count.unwrap_or(1)))
    }

    /// The next payload, if it takes no waiting.
    fn next_ready(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Repeated(_, 0) | Self::Lines(_, Some(0)) => Ok(None),
            Self::Repeated(payload, left) => {
                *left -= 1;
                Ok(Some(payload.clone()))
            }
            Self::Lines(lines, left) => {
                let line = lines.next_buffered()?;
                if line.is_some() {
                    *left = left.map(|left| left - 1);
                }
                Ok(line)
            }
        }
    }

    /// The next payload, or `None` after the last one. Cancel safe.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Lines(lines, left) if *left != Some(0) => {
                let line = lines.next().await?;
                *left = left.map(|left| left - 1);
                Ok(line)
            }
            _ => self.next_ready(),
        }
    }
}

/// What became of the messages.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) confirmed: u64,
    pub(crate) matched: u64,
    /// Whether a message matched nobody; only known where each is waited for on its own.
    pub(crate) unmatched: bool,
    level: Option<Level>,
    taken: u64,
    /// They may or may not have arrived.
    unknown: u64,
    /// The broker did not take them.
    came_back: u64,
    /// The first reason why something was not confirmed.
    reason: Option<String>,
    /// Whether that was for want of room.
    no_room: bool,
}

impl Tally {
    /// The lowest level that all messages reached; of none it is that of a confirm without a
    /// queue.
    pub(crate) fn level(&self) -> Level {
        self.level.unwrap_or(Level::Held)
    }

    fn count(&mut self, receipt: &Receipt) {
        if receipt.confirmed == 0 {
            return;
        }
        self.confirmed += receipt.confirmed;
        self.matched += receipt.matched;
        self.unmatched |= receipt.matched == 0;
        let lowest = self.level.unwrap_or(receipt.level);
        self.level = Some(lowest.min(receipt.level));
    }

    /// Everything was confirmed, or why not and how much of it was.
    fn verdict(self) -> Result<Self, Failure> {
        let Some(reason) = &self.reason else {
            return Ok(self);
        };
        let mut text = format!("{reason}; confirmed {} of {}", self.confirmed, self.taken);
        let others = [(self.came_back, "came back"), (self.unknown, "may or may not have arrived")];
        let others = others.iter().filter(|(count, _)| *count > 0);
        let others: Vec<_> = others.map(|(count, what)| format!("{count} {what}")).collect();
        if !others.is_empty() {
            text.push_str(&format!(", and {}", others.join(", and ")));
        }
        if self.no_room {
            text.push_str("; send that again once there is room");
        }
        Err(Failure::new(Code::Failed, text))
    }
}

/// Sends every payload, many in flight, and waits until all of them are confirmed. With
/// `one_by_one` each message is waited for, so that what each of them matched is known. A broker
/// that is going away is waited for as long as `patience`.
pub(crate) async fn send_all(
    sender: BoxSender,
    template: &Template,
    payloads: Payloads,
    one_by_one: bool,
    patience: Duration,
) -> Result<Tally, Failure> {
    let courier = Courier {
        sender,
        signals: Signals::listen()?,
        stride: if one_by_one { 1 } else { STRIDE },
        patience,
        waited: Duration::ZERO,
        again: VecDeque::new(),
        sent: Seq::default(),
        settled: Seq::default(),
        ended: false,
        stopped: false,
        interrupted: false,
        tally: Tally::default(),
    };
    courier.run(template, payloads).await.verdict()
}

struct Courier {
    sender: BoxSender,
    signals: Signals,
    stride: u64,
    patience: Duration,
    /// How long a broker that is going away has been waited for.
    waited: Duration,
    /// What it did not take, oldest first: to be sent again.
    again: VecDeque<Message>,
    /// The last message that the sender took.
    sent: Seq,
    /// Every message up to this one has been counted.
    settled: Seq,
    /// Whether there are no more payloads.
    ended: bool,
    /// Whether there is no point in sending more.
    stopped: bool,
    /// Whether there is nobody who waits for the rest.
    interrupted: bool,
    tally: Tally,
}

impl Courier {
    async fn run(mut self, template: &Template, mut payloads: Payloads) -> Tally {
        while !self.stopped {
            match self.next(template, &mut payloads).await {
                Some(message) => self.send(message).await,
                None => {
                    self.settle(Seq::new(u64::MAX)).await;
                    if self.again.is_empty() {
                        break;
                    }
                    self.pause().await;
                }
            }
        }
        // Also after a refusal what came before it is confirmed.
        self.settle(Seq::new(u64::MAX)).await;
        self.tally.came_back += u64::try_from(self.again.len()).unwrap_or(u64::MAX);
        self.tally
    }

    /// The next message to send, if there is one. A signal is the end of the payloads.
    async fn next(&mut self, template: &Template, payloads: &mut Payloads) -> Option<Message> {
        while !self.stopped {
            if let Some(message) = self.again.pop_front() {
                return Some(message);
            }
            if self.ended {
                return None;
            }
            let payload = match payloads.next_ready() {
                Ok(None) => self.await_payload(payloads).await,
                ready => ready,
            };
            match payload {
                Ok(None) => {}
                Ok(Some(payload)) => {
                    self.tally.taken += 1;
                    match template.message(payload) {
                        Ok(message) => return Some(message),
                        Err(error) => self.stop(error.to_string()),
                    }
                }
                Err(failure) => self.stop(failure.sentence().to_owned()),
            }
        }
        None
    }

    /// Waits for a payload, and meanwhile for the outcome of what is on its way, so that what
    /// comes back is sent again before anything newer.
    async fn await_payload(&mut self, payloads: &mut Payloads) -> Result<Option<Bytes>, Failure> {
        let (sender, sent) = (&mut self.sender, self.sent);
        let unsettled = self.settled < sent;
        tokio::select! {
            biased;
            flushed = poll_fn(|cx| sender.poll_flush(cx, sent)), if unsettled => {
                self.flushed(flushed);
                if !self.again.is_empty() {
                    self.pause().await;
                }
                Ok(None)
            }
            payload = payloads.next() => {
                self.sender.disarm();
                self.ended = matches!(payload, Ok(None));
                payload
            }
            () = self.signals.next() => {
                self.sender.disarm();
                self.ended = true;
                Ok(None)
            }
        }
    }

    async fn send(&mut self, message: Message) {
        let mut slot = Some(message);
        let taken = tokio::select! {
            biased;
            taken = self.sender.send_from(&mut slot) => taken,
            () = self.signals.next() => return self.interrupt(),
        };
        match taken {
            Ok(seq) => {
                self.sent = seq;
                if seq.get() % self.stride == 0 {
                    // Half a stride behind, so that something is always on its way meanwhile.
                    self.settle(Seq::new(seq.get() - self.stride / 2)).await;
                }
            }
            Err(error) => {
                let returned = self.take_returned();
                // What has come back and fills the window did so for a reason of its own.
                let message = match returned.is_empty() {
                    true => self.refused(&error, slot),
                    false => slot,
                };
                let goes_again = message.is_some();
                message.into_iter().for_each(|message| self.again.push_front(message));
                self.came_back(returned);
                if goes_again && !self.stopped {
                    self.settle(Seq::new(u64::MAX)).await;
                    self.pause().await;
                }
            }
        }
    }

    /// Waits for the outcome of every message up to `upto`, or for a signal.
    async fn settle(&mut self, upto: Seq) {
        if self.interrupted {
            return;
        }
        let flushed = tokio::select! {
            biased;
            flushed = poll_fn(|cx| self.sender.poll_flush(cx, upto)) => flushed,
            () = self.signals.next() => return self.interrupt(),
        };
        self.flushed(flushed);
    }

    fn flushed(&mut self, flushed: Result<Receipt, Error>) {
        match flushed {
            Ok(receipt) => {
                self.count(&receipt);
                self.collect();
            }
            Err(error) => self.stop(error.to_string()),
        }
    }

    fn count(&mut self, receipt: &Receipt) {
        self.settled = self.settled.max(receipt.upto);
        self.tally.count(receipt);
        if receipt.confirmed > 0 {
            self.waited = Duration::ZERO;
        }
    }

    fn collect(&mut self) {
        let returned = self.take_returned();
        self.came_back(returned);
    }

    fn take_returned(&mut self) -> Vec<Returned> {
        iter::from_fn(|| self.sender.take_returned(Seq::FIRST)).collect()
    }

    /// Looks at what came back. What is sent again goes before everything that comes later.
    fn came_back(&mut self, returned: Vec<Returned>) {
        let mut again = Vec::new();
        for returned in returned {
            again.extend(self.refused(&returned.error, Some(returned.message)));
        }
        for message in again.into_iter().rev() {
            self.again.push_front(message);
        }
    }

    /// What to do about a message that was not confirmed: the message, if it is sent again.
    fn refused(&mut self, error: &Error, message: Option<Message>) -> Option<Message> {
        match error.kind() {
            // It may have arrived, so sending it again could double it. The connection is made
            // again, and there is more to send.
            ErrorKind::Unknown => {
                self.tally.unknown += 1;
                let text = error.text();
                let text = text.strip_suffix(MAY_HAVE_ARRIVED).unwrap_or(text);
                self.tally.reason.get_or_insert_with(|| text.to_owned());
                None
            }
            // A broker that is going away took nothing, and another one may take its place.
            ErrorKind::Closed if self.waited < self.patience => message,
            // Any other refusal would repeat itself.
            kind => {
                self.tally.came_back += 1;
                self.tally.no_room |= self.tally.reason.is_none() && kind == ErrorKind::Full;
                self.stop(error.to_string());
                None
            }
        }
    }

    /// Gives a broker that is going away time to be replaced.
    async fn pause(&mut self) {
        self.waited += PAUSE;
        let signal = tokio::time::timeout(PAUSE, self.signals.next());
        if signal.await.is_ok() {
            self.interrupt();
        }
    }

    /// A signal came while something was not confirmed. What is confirmed by now is counted,
    /// although something later is not: the last message whose outcome is known is searched for
    /// by halves.
    fn interrupt(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut unsettled = self.sent.get() + 1;
        while self.settled.get() + 1 < unsettled {
            let middle = self.settled.get().midpoint(unsettled);
            match self.sender.poll_flush(&mut cx, Seq::new(middle)) {
                Poll::Ready(Ok(receipt)) => {
                    self.count(&receipt);
                    self.settled = self.settled.max(Seq::new(middle));
                }
                Poll::Ready(Err(_)) | Poll::Pending => unsettled = middle,
            }
        }
        self.sender.disarm();
        self.collect();
        self.interrupted = true;
        self.stop("interrupted before everything was confirmed".to_owned());
    }

    fn stop(&mut self, reason: String) {
        self.stopped = true;
        self.tally.reason.get_or_insert(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender whose broker hands everything back, and that takes no more while it has a window of that.
    struct Back {
        error: Error,
        window: usize,
        taken: u64,
        returned: VecDeque<Returned>,
    }

    impl Sender for Back {
        fn poll_send(
            &mut self,
            _: &mut Context<'_>,
            slot: &mut Option<Message>,
        ) -> Poll<Result<Seq, Error>> {
            if self.returned.len() == self.window {
                return Poll::Ready(Err(Error::new(ErrorKind::Full, "take them")));
            }
            self.taken += 1;
            let (seq, error) = (Seq::new(self.taken), self.error.clone());
            let returned = slot.take().map(|message| Returned { seq, message, error });
            self.returned.extend(returned);
            Poll::Ready(Ok(seq))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>, _: Seq) -> Poll<Result<Receipt, Error>> {
            Poll::Ready(Ok(Receipt::empty(Seq::new(self.taken))))
        }

        fn take_returned(&mut self, _: Seq) -> Option<Returned> {
            self.returned.pop_front()
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What is said if ten messages are sent, and all come back for this reason.
    fn said(kind: ErrorKind, text: &str) -> String {
        let (error, returned) = (Error::new(kind, text), VecDeque::new());
        let sender = Box::new(Back { error, window: 4, taken: 0, returned });
        let properties = PropertyArgs { headers: Vec::new(), key: None };
        let handling = HandlingArgs { id: None, ttl: None, delay: None, priority: 0 };
        let to = Topic::new("jobs").unwrap();
        let template = Template { to, to_queue: true, properties, handling };
        let payloads = Payloads::Repeated(Bytes::new(), 10);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sent = runtime.block_on(send_all(sender, &template, payloads, false, Duration::ZERO));
        sent.unwrap_err().sentence().to_owned()
    }

    #[test]
    fn a_window_of_what_came_back_is_told_by_its_reason() {
        let expected =
            "no room; confirmed 0 of 5, and 5 came back; send that again once there is room";
        assert_eq!(said(ErrorKind::Full, "no room"), expected);
        let expected = "not allowed; confirmed 0 of 5, and 5 came back";
        assert_eq!(said(ErrorKind::Refused, "not allowed"), expected);
    }

    #[test]
    fn why_nobody_knows_what_arrived_is_said_as_it_was() {
        let expected = "the disk failed; confirmed 0 of 10, and 10 may or may not have arrived";
        assert_eq!(said(ErrorKind::Unknown, "the disk failed"), expected);
        let text = format!("it was cut{MAY_HAVE_ARRIVED}");
        let expected = "it was cut; confirmed 0 of 10, and 10 may or may not have arrived";
        assert_eq!(said(ErrorKind::Unknown, &text), expected);
    }
}
