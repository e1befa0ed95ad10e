//! Sending: the trait that backends implement, and the futures that users await.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures_sink::Sink;

use crate::receipt::{Receipt, Returned, Seq};
use crate::{Error, ErrorKind, Message, SendError};

/// A boxed sender.
pub type BoxSender = Box<dyn Sender + std::marker::Send>;

/// One handle that sends: one waiting task, one FIFO order, one identity for deduplication.
///
/// Backends write these polls; users call the methods of [`SenderExt`].
///
/// # Laws
///
/// - **S1** `Pending` or `Err` from `poll_send` leaves the message in the slot; from
///   `poll_send_many` it is about the message that is at the front now, which like all behind it
///   was not taken.
/// - **S2** `Ready(Ok(seq))` empties the slot and numbers the message: 1, 2, 3, ... A batch is
///   numbered and ordered as if its messages had been sent one by one.
/// - **S3** Dropping a wait on `poll_send` leaves the message in the caller's slot, unsent;
///   dropping one on `poll_send_many` leaves those that were not taken in the caller's queue.
/// - **S4** After a flush every message up to it has exactly one outcome: counted in a receipt as
///   confirmed, or counted as returned and handed out by `take_returned`, once.
/// - **S5** Sending after a close is `Closed` and leaves the message in the slot.
/// - **S6** With a stalled receiver memory stays bounded: `poll_send` becomes `Pending` after the
///   receiver's capacity (twice that for a subscription, of which one batch may be on its way
///   out), its prefetch and the sender's window.
/// - **S7** The client's own books balance: what its senders took is confirmed, returned or pending
///   ([`Broker::sends`](crate::Broker::sends)).
/// - **R5** `Ready` leaves no registration of this handle behind; `disarm` removes every one and
///   passes a wake-up on that was already received.
/// - **D1** Dropping the handle, anywhere, neither panics, blocks nor spawns.
pub trait Sender: Unpin {
    /// Takes the message out of `slot` and numbers it, or waits for room.
    ///
    /// An empty slot is `InvalidArgument`.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>>;

    /// Takes messages from the front of `messages` until none is left, each as
    /// [`poll_send`](Self::poll_send) takes one; `Pending` and `Err` are about the one that is at
    /// the front then. How many were taken is how many are gone, whatever the answer.
    ///
    /// For whoever has many at once: a backend that can takes those that go the same way in one
    /// step, and wakes their receiver once.
    fn poll_send_many(
        &mut self,
        cx: &mut Context<'_>,
        messages: &mut VecDeque<Message>,
    ) -> Poll<Result<(), Error>> {
        while let Some(message) = messages.pop_front() {
            let mut slot = Some(message);
            let sent = self.poll_send(cx, &mut slot);
            if let Some(message) = slot {
                messages.push_front(message);
            }
            ready!(sent)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready once every message up to `upto` has its outcome; the receipt covers all since the
    /// last one. A lost connection is an outcome (`Unknown`), not an error.
    fn poll_flush(&mut self, cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>>;

    /// Takes the oldest message numbered `from` or later that came back.
    fn take_returned(&mut self, from: Seq) -> Option<Returned>;

    /// Flushes and closes.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// The caller gave up a pending poll: leave every wait list, and pass a swallowed wake-up on.
    fn disarm(&mut self) {}

    /// Takes a [run](Message::count) as a whole, if there is room for it everywhere at once and
    /// nothing has to look at its messages one by one; the number of its last message. Else the run
    /// stays in the slot, for the caller to take it apart and send one message after another.
    fn try_send_run(&mut self, _run: &mut Option<Message>) -> Option<Seq> {
        None
    }
}

crate::forward_to_box! { Sender:
    poll_send(cx: &mut Context<'_>, slot: &mut Option<Message>) -> Poll<Result<Seq, Error>>;
    poll_send_many(
        cx: &mut Context<'_>, messages: &mut VecDeque<Message>,
    ) -> Poll<Result<(), Error>>;
    poll_flush(cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>>;
    take_returned(from: Seq) -> Option<Returned>;
    poll_close(cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    disarm() -> ();
    try_send_run(run: &mut Option<Message>) -> Option<Seq>;
}

/// What users call on a sender.
pub trait SenderExt: Sender {
    /// Sends one message and waits for its outcome.
    ///
    /// # Errors
    /// The reason, with the message handed back. `Unknown` says that it may have arrived.
    ///
    /// # Cancel safety
    /// Dropped before the message was taken, it is unsent; dropped after that, it is sent, and its
    /// outcome belongs to the next flush.
    fn send(&mut self, message: Message) -> Send<'_, Self> {
        Send { taking: self.feed(message), seq: None }
    }

    /// Sends one message without waiting for its outcome, which belongs to the next flush.
    ///
    /// # Errors
    /// The reason, with the message handed back.
    ///
    /// # Cancel safety
    /// Dropped before it resolved, the message is unsent (and dropped; keep it with
    /// [`send_from`](Self::send_from)).
    #[inline]
    fn feed(&mut self, message: Message) -> Feed<'_, Self> {
        Feed { sender: self, slot: Some(message), armed: false }
    }

    /// Like [`feed`](Self::feed), with the message in a slot of the caller's: the form for
    /// `select!`.
    ///
    /// # Errors
    /// The reason; the message is still in the slot.
    ///
    /// # Cancel safety
    /// Safe: dropped before it resolved, the message is still in the slot.
    fn send_from<'a>(&'a mut self, slot: &'a mut Option<Message>) -> SendFrom<'a, Self> {
        SendFrom { sender: self, slot, armed: false }
    }

    /// Sends all of `messages` in their order, without waiting for their outcomes, which belong to
    /// the next flush.
    ///
    /// # Errors
    /// Why the message that is at the front now was not taken; those before it were, those behind
    /// it were not tried.
    ///
    /// # Cancel safety
    /// Safe: what is still in `messages` is unsent.
    fn feed_many<'a>(&'a mut self, messages: &'a mut VecDeque<Message>) -> FeedMany<'a, Self> {
        FeedMany { sender: self, messages, armed: false }
    }

    /// Sends without waiting for room.
    ///
    /// # Errors
    /// `Full` if there is no room now, else the reason; the message is handed back.
    fn try_send(&mut self, message: Message) -> Result<Seq, SendError> {
        let mut slot = Some(message);
        let outcome = match self.poll_send(&mut Context::from_waker(Waker::noop()), &mut slot) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                self.disarm();
                Err(Error::new(ErrorKind::Full, "there is no room now; send waits for it"))
            }
        };
        outcome.map_err(|error| hand_back(error, slot))
    }

    /// Waits until every message sent so far has its outcome.
    ///
    /// # Errors
    /// `Closed` on a closed sender. Returned messages are no error: look at
    /// [`Receipt::returned`].
    ///
    /// # Cancel safety
    /// Safe: what was confirmed meanwhile is in the next receipt.
    fn flush(&mut self) -> Flush<'_, Self> {
        Flush { sender: self, upto: Seq::new(u64::MAX), armed: false }
    }

    /// Flushes and closes.
    ///
    /// # Errors
    /// What the backend answers.
    ///
    /// # Cancel safety
    /// Safe to call again.
    fn close(&mut self) -> Close<'_, Self> {
        Close { sender: self }
    }

    /// The sender as a [`Sink`].
    ///
    /// A sink holds one message after `start_send` was `Ok`; dropping the sink then drops that
    /// message, unsent. Prefer the sender's own methods.
    fn into_sink(self) -> IntoSink<Self>
    where
        Self: Sized,
    {
        IntoSink { sender: self, slot: None }
    }
}

impl<S: Sender + ?Sized> SenderExt for S {}

crate::disarm_when_dropped!(Sender: sender, [Feed, SendFrom, FeedMany, Flush]);

#[cold]
fn hand_back(error: Error, slot: Option<Message>) -> SendError {
    // Law S1: an error leaves the message in the slot. A backend that broke it has lost the
    // message, and an empty one in its place keeps the caller's types honest about the error.
    let message = slot.unwrap_or_else(Message::lost);
    SendError::new(error, message)
}

/// The future of [`SenderExt::feed`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Feed<'a, S: Sender + ?Sized> {
    sender: &'a mut S,
    slot: Option<Message>,
    armed: bool,
}

impl<S: Sender + ?Sized> Future for Feed<'_, S> {
    type Output = Result<Seq, SendError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = this.sender.poll_send(cx, &mut this.slot);
        this.armed = outcome.is_pending();
        outcome.map_err(|error| hand_back(error, this.slot.take()))
    }
}

/// The future of [`SenderExt::send`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Send<'a, S: Sender + ?Sized> {
    taking: Feed<'a, S>,
    seq: Option<Seq>,
}

impl<S: Sender + ?Sized> Future for Send<'_, S> {
    type Output = Result<Receipt, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let seq = match this.seq {
            Some(seq) => seq,
            None => {
                let seq = ready!(Pin::new(&mut this.taking).poll(cx))?;
                *this.seq.insert(seq)
            }
        };
        let sender = &mut *this.taking.sender;
        let flushed = sender.poll_flush(cx, seq);
        this.taking.armed = flushed.is_pending();
        let receipt = match ready!(flushed) {
            Ok(receipt) => receipt,
            Err(error) => return Poll::Ready(Err(hand_back(error, None))),
        };
        if receipt.returned > 0
            && let Some(returned) = sender.take_returned(seq)
        {
            return Poll::Ready(Err(returned.into()));
        }
        Poll::Ready(Ok(receipt))
    }
}

/// The future of [`SenderExt::send_from`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct SendFrom<'a, S: Sender + ?Sized> {
    sender: &'a mut S,
    slot: &'a mut Option<Message>,
    armed: bool,
}

impl<S: Sender + ?Sized> Future for SendFrom<'_, S> {
    type Output = Result<Seq, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = this.sender.poll_send(cx, this.slot);
        this.armed = outcome.is_pending();
        outcome
    }
}

/// The future of [`SenderExt::feed_many`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct FeedMany<'a, S: Sender + ?Sized> {
    sender: &'a mut S,
    messages: &'a mut VecDeque<Message>,
    armed: bool,
}

impl<S: Sender + ?Sized> Future for FeedMany<'_, S> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = this.sender.poll_send_many(cx, this.messages);
        this.armed = outcome.is_pending();
        outcome
    }
}

/// The future of [`SenderExt::flush`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Flush<'a, S: Sender + ?Sized> {
    sender: &'a mut S,
    upto: Seq,
    armed: bool,
}

impl<S: Sender + ?Sized> Future for Flush<'_, S> {
    type Output = Result<Receipt, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = this.sender.poll_flush(cx, this.upto);
        this.armed = outcome.is_pending();
        outcome
    }
}

/// The future of [`SenderExt::close`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Close<'a, S: Sender + ?Sized> {
    sender: &'a mut S,
}

impl<S: Sender + ?Sized> Future for Close<'_, S> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().sender.poll_close(cx)
    }
}

/// A sender as a [`Sink`]; see [`SenderExt::into_sink`].
#[derive(Debug)]
pub struct IntoSink<S> {
    sender: S,
    slot: Option<Message>,
}

impl<S> IntoSink<S> {
    /// The sender, and the message that the sink still holds.
    pub fn into_parts(self) -> (S, Option<Message>) {
        (self.sender, self.slot)
    }
}

impl<S: Sender> Sink<Message> for IntoSink<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.slot.is_none() {
            return Poll::Ready(Ok(()));
        }
        this.sender.poll_send(cx, &mut this.slot).map_ok(|_| ())
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let slot = &mut self.get_mut().slot;
        if slot.is_some() {
            return Err(Error::new(ErrorKind::Full, "start_send comes after poll_ready is ready"));
        }
        *slot = Some(message);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_ready(cx))?;
        let receipt = ready!(self.sender.poll_flush(cx, Seq::new(u64::MAX)))?;
        if receipt.returned > 0
            && let Some(returned) = self.sender.take_returned(Seq::FIRST)
        {
            return Poll::Ready(Err(returned.error));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.sender.poll_close(cx)
    }
}
