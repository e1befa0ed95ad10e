//! Sending many messages: what `pub` and `send` share.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use posthaste::{
    BoxSender, Error, ErrorKind, Level, Message, Receipt, Runtime, Sender, SenderExt,
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
    /// Lost with the connection: they may or may not have arrived.
    unknown: u64,
    /// The first reason why something was not confirmed.
    reason: Option<String>,
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
        let (confirmed, taken) = (self.confirmed, self.taken);
        let text = match self.unknown {
            0 => format!("{reason}; confirmed {confirmed} of {taken}"),
            lost => format!(
                "{reason}; confirmed {confirmed} of {taken}, and {lost} may or may not have arrived"
            ),
        };
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
                if let Some(message) = self.refused(&error, slot) {
                    self.again.push_front(message);
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

    /// Looks at what came back. What is sent again goes before everything that comes later.
    fn collect(&mut self) {
        let mut again = Vec::new();
        while let Some(returned) = self.sender.take_returned(Seq::FIRST) {
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
                let text = "the connection was lost while messages were on their way";
                self.tally.reason.get_or_insert_with(|| text.to_owned());
                None
            }
            // A broker that is going away took nothing, and another one may take its place.
            ErrorKind::Closed if self.waited < self.patience => message,
            // Any other refusal would repeat itself.
            _ => {
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
