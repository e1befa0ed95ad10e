//! Receiving: the trait that backends implement, and the futures that users await.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::delivery::{Delivery, Outcome};
use crate::{Error, ErrorKind, Message};

/// A boxed receiver; it is a [`Stream`] of deliveries.
pub type BoxReceiver = Box<dyn Receiver + Send>;

/// One handle that receives.
///
/// Backends write these polls; users call the methods of [`ReceiverExt`].
///
/// # Laws
///
/// - **R1** Dropping a pending receive loses nothing.
/// - **R2** The messages of one sender arrive in the order in which it sent them.
/// - **R3** An acked delivery is never delivered again; one that was retried, or dropped after it
///   was handed out, is, with its attempt one higher.
/// - **R4** The end (`None`, or 0 of a batch) is sticky.
/// - **R5** A handle that is not being polled never swallows a wake-up: `Ready` leaves no
///   registration behind (also when a batch gathered some and then met `Pending`, also when
///   another poll came first), `disarm` removes every registration of the handle and passes a
///   wake-up on that was received, and after `share_wakeup` a wake-up that goes to this handle
///   also goes to the next waiter. (A broker that hands out ahead of polls may keep a message for
///   a handle that lives; dropping the handle gives it to the next.)
/// - **R6** A batch that gathered something reports an error at the next call; 0 means the end
///   and nothing else.
/// - **R7** A delivery that its consumer neither settles nor extends in time goes to another, one
///   attempt higher, and what the first one says later settles nothing.
/// - **R8** A receiver that is cut off, by its own policy or for blocking too long, says
///   `SlowConsumer` once, and then it has ended.
/// - **D1** Dropping the handle, anywhere, neither panics, blocks nor spawns. What was handed out
///   stays leased until it is settled or dropped; what was not goes back at once.
pub trait Receiver: Unpin {
    /// The next delivery, an error, or `None` at the end.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>>;

    /// Appends up to `limit` deliveries that are there now to `into` and says how many; pending
    /// while there is none, 0 at the end.
    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>>;

    /// Ready once every settlement so far is at the queue's own level; an error of a settlement
    /// surfaces here.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Stops new deliveries and waits until what was settled is confirmed.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// The caller gave up a pending poll: leave every wait list, and pass a swallowed wake-up on.
    fn disarm(&mut self) {}

    /// The caller has no moment at which it could [`disarm`](Self::disarm) the pending poll that
    /// it just made (a stream): a wake-up that goes to it has to wake the next waiter as well.
    fn share_wakeup(&mut self) {}

    /// Nobody asks for a while, because the connection behind this handle is gone and may come
    /// back: what is held stays and what comes is still kept within the bounds, but the handle
    /// takes no part in the decision who can answer requests. Not parked any more, it is as it was.
    ///
    /// Backends that know their responders heed it; others need not.
    fn park(&mut self, _parked: bool) {}

    /// At which offset a reader of a queue that retains begins, as far as that was known when it was
    /// opened: a link that is lost before anything came goes on there.
    fn begins_at(&mut self) -> Option<u64> {
        None
    }

    /// Whether what is handed out settled is counted only when [`account`](Self::account) and
    /// [`write_off`](Self::write_off) say what became of it, from now on: for one who passes it on to
    /// an application that is elsewhere. Until then the broker's books show it as held, also when the
    /// handle is closed. What is left when it is dropped is lost: nobody can say any more what became
    /// of it.
    /// A request is leased all the same, because somebody waits to hear what becomes of it.
    /// A delivery may be a [run](Message::count) from then on, and a limit on what is handed
    /// out at a time may be overstepped by the rest of one. Ask before the first delivery.
    ///
    /// A backend that cannot do that answers `false`, and counts as it hands out.
    ///
    /// ```
    /// use posthaste_core::{Broker, Message, Outcome, Receiver, ReceiverExt, Subscription, Topic};
    /// use posthaste_core::{SenderExt, SenderOptions};
    /// use posthaste_memory::Memory;
    ///
    /// # pollster::block_on(async {
    /// let broker = Memory::new();
    /// let mut receiver = broker.receiver(Subscription::topic("readings")?).await?;
    /// assert!(receiver.defer_accounts());
    /// let mut sender = broker.sender(SenderOptions::new()).await?;
    /// for reading in ["20.9", "21.0", "21.2"] {
    ///     sender.send(Message::new(Topic::new("readings")?, reading)).await?;
    /// }
    /// let mut deliveries = Vec::new();
    /// receiver.recv_many(&mut deliveries, 3).await?;
    /// assert_eq!(broker.stats().await?.ledger.held, 3);
    ///
    /// // Two came to where they were passed on to, one was lost on the way.
    /// receiver.account(2);
    /// receiver.write_off(deliveries[2].message().clone(), Outcome::Lost);
    /// let ledger = broker.stats().await?.ledger;
    /// assert_eq!((ledger.held, ledger.auto, ledger.dropped), (0, 2, 1));
    /// assert_eq!(ledger.dropped_by["connection_lost"], 1);
    /// # Ok::<(), posthaste_core::Error>(())
    /// # }).unwrap();
    /// ```
    fn defer_accounts(&mut self) -> bool {
        false
    }

    /// So many of those that were handed out and not counted yet have come to the application. More
    /// than there are does nothing, as does everything unless
    /// [`defer_accounts`](Self::defer_accounts) said `true`.
    fn account(&mut self, _taken: u64) {}

    /// A message, or a run of them, that was handed out and not counted yet never will come to the
    /// application: it was given back unseen (`Release`), refused (`Reject`), or is lost (anything
    /// else).
    fn write_off(&mut self, _message: Message, _outcome: Outcome<'_>) {}
}

crate::forward_to_box! { Receiver:
    poll_recv(cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>>;
    poll_recv_many(
        cx: &mut Context<'_>, into: &mut Vec<Delivery>, limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>>;
    poll_settled(cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    poll_close(cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    disarm() -> ();
    share_wakeup() -> ();
    park(parked: bool) -> ();
    begins_at() -> Option<u64>;
    defer_accounts() -> bool;
    account(taken: u64) -> ();
    write_off(message: Message, outcome: Outcome<'_>) -> ();
}

impl Stream for dyn Receiver + Send + '_ {
    type Item = Result<Delivery, Error>;

    /// In a `select!` prefer [`ReceiverExt::recv`]: a stream has no moment at which it can give a
    /// wake-up back, so its wake-ups go to one more waiter than needed.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = this.poll_recv(cx);
        if next.is_pending() {
            this.share_wakeup();
        }
        next
    }
}

/// What users call on a receiver.
pub trait ReceiverExt: Receiver {
    /// The next delivery, or `None` at the end.
    ///
    /// # Errors
    /// Why the receiver cannot go on; after it comes the end.
    ///
    /// # Cancel safety
    /// Safe: a dropped receive takes neither a message nor a wake-up.
    #[inline]
    fn recv(&mut self) -> Recv<'_, Self> {
        Recv { receiver: self, armed: false }
    }

    /// Waits for a delivery, then appends those that are there, up to `limit`, to `into`, and
    /// says how many; 0 is the end. A `limit` of 0 counts as 1.
    ///
    /// # Errors
    /// Why the receiver cannot go on; after it comes the end.
    ///
    /// # Cancel safety
    /// Safe: a dropped receive takes neither a message nor a wake-up.
    fn recv_many<'a>(
        &'a mut self,
        into: &'a mut Vec<Delivery>,
        limit: usize,
    ) -> RecvMany<'a, Self> {
        let limit = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
        RecvMany { receiver: self, into, limit, armed: false }
    }

    /// A delivery that is there now, or `None` if there is none (or no more).
    ///
    /// # Errors
    /// Why the receiver cannot go on.
    fn try_recv(&mut self) -> Result<Option<Delivery>, Error> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next.transpose(),
            Poll::Pending => {
                self.disarm();
                Ok(None)
            }
        }
    }

    /// The next delivery; the end is an error.
    ///
    /// # Errors
    /// `Closed` at the end, else why the receiver cannot go on.
    ///
    /// # Cancel safety
    /// Safe, as [`recv`](Self::recv).
    #[inline]
    fn next_delivery(&mut self) -> NextDelivery<'_, Self> {
        NextDelivery { receiver: self, armed: false }
    }

    /// Waits until every settlement so far is at the queue's own level.
    ///
    /// # Errors
    /// The first settlement that failed, and why.
    ///
    /// # Cancel safety
    /// Safe to call again.
    fn settled(&mut self) -> Settled<'_, Self> {
        Settled { receiver: self }
    }

    /// Stops new deliveries and waits until what was settled is confirmed.
    ///
    /// # Errors
    /// The first settlement that failed, and why.
    ///
    /// # Cancel safety
    /// Safe to call again.
    fn close(&mut self) -> CloseReceiver<'_, Self> {
        CloseReceiver { receiver: self }
    }
}

impl<R: Receiver + ?Sized> ReceiverExt for R {}

crate::disarm_when_dropped!(Receiver: receiver, [Recv, NextDelivery, RecvMany]);

/// The future of [`ReceiverExt::recv`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Recv<'a, R: Receiver + ?Sized> {
    receiver: &'a mut R,
    armed: bool,
}

impl<R: Receiver + ?Sized> Future for Recv<'_, R> {
    type Output = Result<Option<Delivery>, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let next = this.receiver.poll_recv(cx);
        this.armed = next.is_pending();
        next.map(Option::transpose)
    }
}

/// The future of [`ReceiverExt::next_delivery`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct NextDelivery<'a, R: Receiver + ?Sized> {
    receiver: &'a mut R,
    armed: bool,
}

impl<R: Receiver + ?Sized> Future for NextDelivery<'_, R> {
    type Output = Result<Delivery, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.armed = false;
        match this.receiver.poll_recv(cx) {
            Poll::Ready(Some(next)) => Poll::Ready(next),
            Poll::Ready(None) => Poll::Ready(Err(ended())),
            Poll::Pending => {
                this.armed = true;
                Poll::Pending
            }
        }
    }
}

#[cold]
fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the receiver has ended")
}

/// The future of [`ReceiverExt::recv_many`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct RecvMany<'a, R: Receiver + ?Sized> {
    receiver: &'a mut R,
    into: &'a mut Vec<Delivery>,
    limit: NonZeroUsize,
    armed: bool,
}

impl<R: Receiver + ?Sized> Future for RecvMany<'_, R> {
    type Output = Result<usize, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let count = this.receiver.poll_recv_many(cx, this.into, this.limit);
        this.armed = count.is_pending();
        count
    }
}

/// The future of [`ReceiverExt::settled`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Settled<'a, R: Receiver + ?Sized> {
    receiver: &'a mut R,
}

impl<R: Receiver + ?Sized> Future for Settled<'_, R> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().receiver.poll_settled(cx)
    }
}

/// The future of [`ReceiverExt::close`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct CloseReceiver<'a, R: Receiver + ?Sized> {
    receiver: &'a mut R,
}

impl<R: Receiver + ?Sized> Future for CloseReceiver<'_, R> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().receiver.poll_close(cx)
    }
}
