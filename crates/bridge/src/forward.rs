//! Forwarding: a batch is taken, sent, confirmed, and only then acknowledged.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::future::{Either, select};
use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    BoxReceiver, BoxSender, Bus, Delivery, Error, ErrorKind, Level, ReceiverExt, SenderExt,
    SenderOptions, Seq, SharedRuntime, Topic,
};

use crate::Counts;

/// How many are under way at a time.
pub(crate) const BATCH: usize = 1_024;

/// A bridge at work.
pub struct Forwarder {
    to: Bus,
    runtime: SharedRuntime,
    receiver: BoxReceiver,
    sender: Option<BoxSender>,
    /// The queue that everything goes into; topics go to their own.
    queue: Option<Topic>,
    counts: Counts,
}

impl Forwarder {
    pub(crate) fn new(
        to: Bus,
        runtime: SharedRuntime,
        receiver: BoxReceiver,
        queue: Option<Topic>,
    ) -> Self {
        Self { to, runtime, receiver, sender: None, queue, counts: Counts::default() }
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
    /// or `until` resolves. While the target cannot be reached it is tried again; what is under way
    /// when `until` resolves goes back.
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
        let mut until = std::pin::pin!(until);
        let begun = self.counts.forwarded;
        let mut batch = Vec::new();
        loop {
            let done = self.counts.forwarded - begun;
            let left = limit.map_or(BATCH as u64, |limit| limit.saturating_sub(done));
            let most = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
            if most == 0 {
                break;
            }
            let coming = self.receiver.recv_many(&mut batch, most);
            let deadline = silence.and_then(|time| self.runtime.now().checked_add(time));
            let coming = async {
                match deadline {
                    Some(deadline) => timeout_at(&*self.runtime, deadline, coming).await,
                    None => Some(coming.await),
                }
            };
            match select(std::pin::pin!(coming), until.as_mut()).await {
                Either::Left((None | Some(Ok(0)), _)) | Either::Right(_) => break,
                Either::Left((Some(Ok(_)), _)) => {}
                // The source is there again, and goes on.
                Either::Left((Some(Err(error)), _)) if error.kind() == ErrorKind::SessionLost => {
                    continue;
                }
                Either::Left((Some(Err(error)), _)) => return Err(error),
            }
            let batch = batch.drain(..).filter_map(admit).collect();
            if self.forward(batch, until.as_mut()).await? {
                break;
            }
        }
        self.receiver.settled().await?;
        Ok(self.counts())
    }

    /// Forwards a batch; whether `until` has resolved before that was done.
    async fn forward(
        &mut self,
        mut batch: VecDeque<Delivery>,
        mut until: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, Error> {
        let mut pause = PAUSE_MIN;
        while !batch.is_empty() {
            let sent = {
                let sending = std::pin::pin!(self.send(&batch));
                match select(sending, until.as_mut()).await {
                    Either::Left((sent, _)) => Some(sent),
                    Either::Right(_) => None,
                }
            };
            let Some(sent) = sent else {
                batch.into_iter().for_each(Delivery::release);
                return Ok(true);
            };
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
            let rest = std::pin::pin!(rest(&self.runtime, pause));
            if let Either::Right(_) = select(rest, until.as_mut()).await {
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
