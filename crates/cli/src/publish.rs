//! Sending many messages: what `pub` and `send` share.

use std::ffi::OsString;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use posthaste::{
    BoxSender, Error, ErrorKind, Level, Message, Receipt, Sender, SenderExt, SenderOptions, Seq,
    Topic,
};

use crate::args::PropertyArgs;
use crate::exit::{Code, Failure};
use crate::input::{self, Lines};
use crate::signals::Signals;

/// How many messages are taken between two looks at what became of earlier ones.
const STRIDE: u64 = 4_096;

/// What is sent, but for the payload.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) to: Topic,
    pub(crate) to_queue: bool,
    pub(crate) properties: PropertyArgs,
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
        let mut builder = Message::builder(self.to.clone()).payload(payload);
        if self.to_queue {
            builder = builder.to_queue();
        }
        for (name, value) in &self.properties.headers {
            builder = builder.header(name, value);
        }
        if let Some(key) = &self.properties.key {
            builder = builder.key(key);
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
    pub(crate) async fn read(
        argument: Option<OsString>,
        lines: bool,
        count: Option<u64>,
    ) -> Result<Self, Failure> {
        if lines {
            return Ok(Self::Lines(Lines::of_stdin(), count));
        }
        let payload = input::payload(argument).await?;
        Ok(Self::Repeated(payload, count.unwrap_or(1)))
    }

    /// The next payload; a signal is the end of them.
    async fn next(&mut self, signals: &mut Signals) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Repeated(_, 0) | Self::Lines(_, Some(0)) => Ok(None),
            Self::Repeated(payload, left) => {
                *left -= 1;
                Ok(Some(payload.clone()))
            }
            Self::Lines(lines, left) => {
                let line = match lines.next_buffered()? {
                    Some(line) => Some(line),
                    None => tokio::select! {
                        line = lines.next() => line?,
                        () = signals.next() => None,
                    },
                };
                if let Some(left) = left {
                    *left -= 1;
                }
                Ok(line)
            }
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
    /// Every message up to this one has been counted.
    settled: Seq,
    /// Lost with the connection: they may or may not have arrived.
    unknown: u64,
    /// The first reason why something was not confirmed.
    reason: Option<String>,
    /// Whether there is no point in sending more.
    stopped: bool,
    /// Whether the user waits for nothing any more.
    interrupted: bool,
}

impl Tally {
    /// The lowest level that all messages reached; of none it is that of a confirm without a
    /// queue.
    pub(crate) fn level(&self) -> Level {
        self.level.unwrap_or(Level::Held)
    }

    fn count(&mut self, receipt: &Receipt) {
        self.settled = self.settled.max(receipt.upto);
        if receipt.confirmed == 0 {
            return;
        }
        self.confirmed += receipt.confirmed;
        self.matched += receipt.matched;
        self.unmatched |= receipt.matched == 0;
        let lowest = self.level.unwrap_or(receipt.level);
        self.level = Some(lowest.min(receipt.level));
    }

    /// A message came back, or was not taken.
    fn blame(&mut self, error: &Error) {
        match error.kind() {
            // The connection is made again; there is more to send.
            ErrorKind::Unknown => self.unknown += 1,
            // A refusal would repeat itself.
            _ => self.stopped = true,
        }
        self.reason.get_or_insert_with(|| error.to_string());
    }

    /// A signal came while something was not confirmed: counts what is.
    fn interrupt(&mut self, sender: &mut BoxSender) {
        self.stop("interrupted before everything was confirmed");
        self.interrupted = true;
        count_confirmed(sender, self);
    }

    fn stop(&mut self, reason: &str) {
        self.stopped = true;
        self.reason.get_or_insert_with(|| reason.to_owned());
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
/// `one_by_one` each message is waited for, so that what each of them matched is known.
pub(crate) async fn send_all(
    mut sender: BoxSender,
    template: &Template,
    mut payloads: Payloads,
    one_by_one: bool,
) -> Result<Tally, Failure> {
    let mut signals = Signals::listen()?;
    let mut tally = Tally::default();
    let stride = if one_by_one { 1 } else { STRIDE };
    while !tally.stopped {
        let payload = match payloads.next(&mut signals).await {
            Ok(Some(payload)) => payload,
            Ok(None) => break,
            // What was read before is confirmed all the same.
            Err(failure) => {
                tally.stop(failure.sentence());
                break;
            }
        };
        tally.taken += 1;
        let mut slot = match template.message(payload) {
            Ok(message) => Some(message),
            Err(error) => {
                tally.blame(&error);
                break;
            }
        };
        let taken = tokio::select! {
            biased;
            taken = sender.send_from(&mut slot) => taken,
            () = signals.next() => {
                tally.interrupt(&mut sender);
                break;
            }
        };
        match taken {
            // Half a stride behind, so that something is always on its way meanwhile.
            Ok(seq) if seq.get() % stride == 0 => {
                let upto = Seq::new(seq.get() - stride / 2);
                settle(&mut sender, upto, &mut signals, &mut tally).await;
            }
            Ok(_) => {}
            Err(error) => tally.blame(&error),
        }
    }
    if !tally.interrupted {
        settle(&mut sender, Seq::new(u64::MAX), &mut signals, &mut tally).await;
    }
    tally.verdict()
}

/// Waits for the outcome of every message up to `upto`, or for a signal.
async fn settle(sender: &mut BoxSender, upto: Seq, signals: &mut Signals, tally: &mut Tally) {
    let flushed = tokio::select! {
        biased;
        flushed = poll_fn(|cx| sender.poll_flush(cx, upto)) => flushed,
        () = signals.next() => {
            tally.interrupt(sender);
            return;
        }
    };
    match flushed {
        Ok(receipt) => tally.count(&receipt),
        Err(error) => tally.blame(&error),
    }
    while let Some(returned) = sender.take_returned(Seq::FIRST) {
        tally.blame(&returned.error);
    }
}

/// Counts what is confirmed by now, although something later is not: the latest message whose
/// outcome is known is searched for by halves.
fn count_confirmed(sender: &mut BoxSender, tally: &mut Tally) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut unsettled = tally.taken + 1;
    while tally.settled.get() + 1 < unsettled {
        let middle = tally.settled.get().midpoint(unsettled);
        match sender.poll_flush(&mut cx, Seq::new(middle)) {
            Poll::Ready(Ok(receipt)) => {
                tally.count(&receipt);
                tally.settled = tally.settled.max(Seq::new(middle));
            }
            Poll::Ready(Err(_)) | Poll::Pending => unsettled = middle,
        }
    }
    sender.disarm();
}
