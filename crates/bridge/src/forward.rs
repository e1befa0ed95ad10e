//! Forwarding: a batch is taken, sent, confirmed, and only then acknowledged.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::{Either, select};
use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    BoxReceiver, BoxSender, Bus, Delivery, Error, ErrorKind, Level, Receiver, ReceiverExt,
    SenderExt, SenderOptions, Seq, SharedRuntime, Topic,
};

use crate::Counts;

/// How many are under way at a time.
pub(crate) const BATCH: usize = 1_024;

/// How many acknowledgements may be under way before no more is taken.
const UNCONFIRMED_MAX: usize = 4 * BATCH;
/// How long the source may take to confirm at the end, which somebody waits for.
const LAST: Duration = Duration::from_secs(5);

/// What was acknowledged at the source, as far as that is not confirmed.
#[derive(Default)]
struct Unconfirmed {
    acked: usize,
    /// The first settlement that failed, but for those that were lost with a session.
    failed: Option<Error>,
}

impl Unconfirmed {
    /// The source has said what became of everything that was acknowledged so far. What was lost with a
    /// session comes again, and is forwarded again.
    fn settled(&mut self, settled: Result<(), Error>) {
        self.acked = 0;
        if let Err(error) = settled
            && error.kind() != ErrorKind::SessionLost
        {
            self.failed.get_or_insert(error);
        }
    }
}

/// A bridge at work.
pub struct Forwarder {
    receiver: BoxReceiver,
    unconfirmed: Unconfirmed,
    to: Bus,
    runtime: SharedRuntime,
    sender: Option<BoxSender>,
    /// The queue that everything goes into; topics go to their own.
    queue: Option<Topic>,
    counts: Counts,
}

impl Forwarder {
    pub(crate) fn new(
        receiver: BoxReceiver,
        to: Bus,
        runtime: SharedRuntime,
        queue: Option<Topic>,
    ) -> Self {
        let unconfirmed = Unconfirmed::default();
        Self { receiver, unconfirmed, to, runtime, sender: None, queue, counts: Counts::default() }
    }

    /// What has been done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        if counts.forwarded == 0 {
            counts.level = Level::Sent;
        }
        counts
    }

    /// Forwards until so many have been forwarded, nothing has come for so long, the source ends,
    /// or `until` resolves. While the source or the target cannot be reached it is tried again; what is
    /// under way when `until` resolves goes back.
    ///
    /// A source that was killed and has lost acknowledgements hands those messages out again, and they
    /// are forwarded again, and counted again.
    ///
    /// # Errors
    /// Why it cannot go on: what the source answers, or what the target answers to a message that
    /// would be no different the next time. Whatever was not forwarded is still at the source.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; what was under way is delivered again, as attempted.
    pub async fn run(
        &mut self,
        limit: Option<u64>,
        silence: Option<Duration>,
        until: impl Future<Output = ()>,
    ) -> Result<Counts, Error> {
        self.forward_all(limit, silence, until).await?;
        // Somebody waits for the end, which a source that is gone must not hold up.
        let deadline = self.runtime.now() + LAST;
        let settled = timeout_at(&*self.runtime, deadline, self.receiver.settled()).await;
        let late = "the source did not confirm the last acknowledgements in time; what it has not stored \
                    goes again";
        let late = || Err(Error::new(ErrorKind::TimedOut, late));
        self.unconfirmed.settled(settled.unwrap_or_else(late));
        self.unconfirmed.failed.take().map_or(Ok(self.counts()), Err)
    }

    /// Forwards until one of these says that it is over.
    async fn forward_all(
        &mut self,
        limit: Option<u64>,
        silence: Option<Duration>,
        until: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let mut until = std::pin::pin!(until);
        let begun = self.counts.forwarded;
        let mut batch = Vec::new();
        loop {
            let done = self.counts.forwarded - begun;
            let left = limit.map_or(BATCH as u64, |limit| limit.saturating_sub(done));
            let most = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
            if most == 0 {
                return Ok(());
            }
            if self.unconfirmed.acked >= UNCONFIRMED_MAX
                && unless(until.as_mut(), self.settle()).await.is_none()
            {
                return Ok(());
            }
            match unless(until.as_mut(), self.next(&mut batch, most, silence)).await {
                Some(Ok(true)) => {}
                Some(Ok(false)) | None => return Ok(()),
                Some(Err(error)) => return Err(error),
            }
            let batch = batch.drain(..).filter_map(admit).collect();
            if self.forward(batch, until.as_mut()).await? {
                return Ok(());
            }
        }
    }

    /// Waits for messages; false after as long a silence, or at the end. While there are none, what was
    /// acknowledged is confirmed: a source that goes away later takes nothing with it.
    async fn next(
        &mut self,
        batch: &mut Vec<Delivery>,
        most: usize,
        time: Option<Duration>,
    ) -> Result<bool, Error> {
        let deadline = time.and_then(|time| self.runtime.now().checked_add(time));
        let receiver = &mut self.receiver;
        let coming = Coming { receiver, unconfirmed: &mut self.unconfirmed, batch, most };
        let next = match deadline {
            Some(deadline) => timeout_at(&*self.runtime, deadline, coming).await,
            None => Some(coming.await),
        };
        match next {
            None | Some(Ok(0)) => Ok(false),
            Some(Ok(_)) => Ok(true),
            // The source is there again, and goes on.
            Some(Err(error)) if error.kind() == ErrorKind::SessionLost => Ok(true),
            Some(Err(error)) => Err(error),
        }
    }

    /// Waits until the source has said what became of the acknowledgements.
    async fn settle(&mut self) {
        let settled = self.receiver.settled().await;
        self.unconfirmed.settled(settled);
    }

    /// Takes note of what the source has confirmed, without waiting for it.
    fn look(&mut self) {
        if self.unconfirmed.acked > 0 {
            let receiver = &mut self.receiver;
            match receiver.poll_settled(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(settled) => self.unconfirmed.settled(settled),
                Poll::Pending => receiver.disarm(),
            }
        }
    }

    /// Forwards a batch; whether `until` has resolved before that was done.
    async fn forward(
        &mut self,
        mut batch: VecDeque<Delivery>,
        mut until: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, Error> {
        let mut pause = PAUSE_MIN;
        while !batch.is_empty() {
            let Some(sent) = unless(until.as_mut(), self.send(&batch)).await else {
                batch.into_iter().for_each(Delivery::release);
                return Ok(true);
            };
            self.look();
            let (mut left, all) = (VecDeque::new(), batch.len());
            let mut why = None;
            for (delivery, outcome) in batch.into_iter().zip(sent) {
                match outcome {
                    Ok(()) => self.done(delivery),
                    Err(error) => {
                        left.push_back(delivery);
                        why = why.or(Some(error));
                    }
                }
            }
            batch = left;
            let Some(why) = why else { break };
            if !is_passing(&why) {
                batch.into_iter().for_each(Delivery::release);
                return Err(why);
            }
            self.sender = None;
            if unless(until.as_mut(), rest(&self.runtime, pause)).await.is_none() {
                batch.into_iter().for_each(Delivery::release);
                return Ok(true);
            }
            // A target that takes some, but not all, is asked again soon.
            pause = if batch.len() < all { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        }
        Ok(false)
    }

    fn done(&mut self, delivery: Delivery) {
        self.counts.forwarded += 1;
        self.counts.again += u64::from(delivery.attempt() > 1);
        self.unconfirmed.acked += 1;
        delivery.ack();
    }

    /// Sends a batch, and says of each what became of it. Once one is not taken, none behind it is
    /// sent.
    async fn send(&mut self, batch: &VecDeque<Delivery>) -> Vec<Result<(), Error>> {
        let mut outcomes: Vec<Result<(), Error>> = Vec::with_capacity(batch.len());
        let sender = match self.sender.take() {
            Some(sender) => Ok(sender),
            None => {
                let mut options = SenderOptions::new();
                options.queue.clone_from(&self.queue);
                self.to.sender(options).await
            }
        };
        let mut sender = match sender {
            Ok(sender) => sender,
            Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut first = None;
        let mut refused = None;
        for delivery in batch {
            match sender.feed(delivery.message().clone()).await {
                Ok(seq) => first = first.or(Some(seq)),
                Err(error) => {
                    refused = Some(Error::from(error));
                    break;
                }
            }
            outcomes.push(Ok(()));
        }
        match sender.flush().await {
            Ok(receipt) => {
                self.counts.matched += receipt.matched;
                if receipt.confirmed > 0 {
                    self.counts.level = self.counts.level.min(receipt.level);
                }
            }
            Err(error) => outcomes.iter_mut().for_each(|outcome| *outcome = Err(error.clone())),
        }
        let first = first.unwrap_or(Seq::FIRST).get();
        while let Some(returned) = sender.take_returned(Seq::FIRST) {
            let at = usize::try_from(returned.seq.get().wrapping_sub(first)).ok();
            if let Some(outcome) = at.and_then(|at| outcomes.get_mut(at)) {
                *outcome = Err(returned.error);
            }
        }
        let error = refused.unwrap_or_else(|| Error::closed("the sender"));
        outcomes.resize_with(batch.len(), || Err(error.clone()));
        self.sender = Some(sender);
        outcomes
    }
}

/// The next messages, or a settlement that was confirmed meanwhile.
struct Coming<'a> {
    receiver: &'a mut BoxReceiver,
    unconfirmed: &'a mut Unconfirmed,
    batch: &'a mut Vec<Delivery>,
    most: usize,
}

impl Future for Coming<'_> {
    type Output = Result<usize, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { receiver, unconfirmed, batch, most } = self.get_mut();
        let most = NonZeroUsize::new(*most).unwrap_or(NonZeroUsize::MIN);
        let next = receiver.poll_recv_many(cx, batch, most);
        if next.is_ready() || unconfirmed.acked == 0 {
            return next;
        }
        if let Poll::Ready(settled) = receiver.poll_settled(cx) {
            unconfirmed.settled(settled);
        }
        // Asked again, because whoever is ready waits for nothing any more.
        receiver.poll_recv_many(cx, batch, most)
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.receiver.disarm();
    }
}

/// What comes of the future, unless `until` resolves before it does.
async fn unless<T>(
    until: Pin<&mut impl Future<Output = ()>>,
    future: impl Future<Output = T>,
) -> Option<T> {
    match select(std::pin::pin!(future), until).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// What is forwarded; a request is not, because its answer would not find its way back.
fn admit(delivery: Delivery) -> Option<Delivery> {
    if delivery.message().reply_to().is_none() {
        return Some(delivery);
    }
    delivery.reject("a request does not cross a bridge; let its responders serve behind a gateway");
    None
}

/// Whether the same message may go another time.
fn is_passing(error: &Error) -> bool {
    error.is_retryable()
        || matches!(
            error.kind(),
            ErrorKind::Unknown
                | ErrorKind::Disconnected
                | ErrorKind::Closed
                | ErrorKind::Full
                | ErrorKind::NotFound
                | ErrorKind::SessionLost
                | ErrorKind::TimedOut
        )
}

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

async fn rest(runtime: &SharedRuntime, time: Duration) {
    let mut timer = runtime.timer();
    timer.as_mut().reset(runtime.now() + time);
    timer.await;
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("queue", &self.queue)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
