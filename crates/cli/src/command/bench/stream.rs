//! Queues and publish-subscribe: messages in one direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use posthaste::{
    Ack, BoxReceiver, BoxSender, Delivery, Error, ErrorKind, Message, ReceiverExt, SenderExt,
    SenderOptions, Seq, Subscription, Topic,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::load::{Plan, Quota, Target};
use super::meter::{Clock, Sample, histogram};
use super::{Acknowledge, Pattern};
use crate::exit::{Code, Failure};

/// The bytes of the time that a message carries.
const STAMP: usize = 8;
/// With this many in flight, only one message in so many carries its time: reading the clock
/// would be a part of what is measured.
const MANY_IN_FLIGHT: usize = 64;
const STAMPED: u64 = 16;
/// How many deliveries are taken at a time.
const BATCH: usize = 1_024;
/// How long nothing may arrive while something is still to come.
const STALLED: Duration = Duration::from_secs(30);

/// Sends, receives, and waits until everything has arrived.
pub(super) async fn run(target: &Target, plan: Plan) -> Result<Sample, Failure> {
    let copies = match plan.pattern {
        Pattern::Pubsub => target.receivers.len() as u64,
        Pattern::Queue | Pattern::Request => 1,
    };
    let (finish, finished) = watch::channel(false);
    let arrived = Arc::new(Arrived::default());
    let clock = Clock::start();
    let mut receiving = JoinSet::new();
    for bus in &target.receivers {
        let receiver = bus.receiver(subscription(target, &plan)?).await?;
        receiving.spawn(receive(receiver, clock, Arc::clone(&arrived), finished.clone()));
    }
    let mut senders = Vec::with_capacity(target.senders.len());
    for bus in &target.senders {
        senders.push(bus.sender(options(target, &plan)).await?);
    }
    let count = senders.len();
    let began = clock.elapsed();
    let mut sending = JoinSet::new();
    for (nth, sender) in senders.into_iter().enumerate() {
        let quota = plan.work.share(nth, count);
        let source = Source::new(target.address.clone(), &plan);
        sending.spawn(send(sender, source, quota, clock));
    }
    let mut sent = 0;
    while let Some(one) = sending.join_next().await {
        sent += joined(one)?;
    }
    let expected = sent * copies;
    arrived.wait_for(expected).await?;
    // Without receivers to ask: nothing more is on its way.
    let _ = finish.send(true);
    let (mut latency, mut ended) = (histogram(), began);
    while let Some(one) = receiving.join_next().await {
        let (latencies, at) = joined(one)?;
        // Every histogram has the same bounds.
        let _ = latency.add(&latencies);
        ended = ended.max(at);
    }
    Ok(Sample { sent, received: expected, elapsed: ended - began, latency })
}

fn subscription(target: &Target, plan: &Plan) -> Result<Subscription, Error> {
    if plan.pattern == Pattern::Pubsub {
        return Subscription::topic(&target.address);
    }
    let queue = Subscription::queue(&target.address)?;
    Ok(match plan.acknowledge {
        Acknowledge::Auto => queue.ack(Ack::Auto),
        Acknowledge::Manual => queue,
    })
}

fn options(target: &Target, plan: &Plan) -> SenderOptions {
    let bytes = plan.size.saturating_mul(plan.in_flight).max(8 << 20);
    let options = SenderOptions::new().window(plan.in_flight, bytes);
    match plan.pattern {
        Pattern::Queue => options.queue(target.address.clone()),
        Pattern::Pubsub | Pattern::Request => options,
    }
}

/// Makes the messages of one sender.
struct Source {
    address: Topic,
    to_queue: bool,
    plain: Bytes,
    stamp_every: u64,
}

impl Source {
    fn new(address: Topic, plan: &Plan) -> Self {
        let many = plan.in_flight >= MANY_IN_FLIGHT;
        Self {
            address,
            to_queue: plan.pattern == Pattern::Queue,
            plain: Bytes::from(vec![0; plan.size]),
            stamp_every: if many { STAMPED } else { 1 },
        }
    }

    /// The `nth` message, counted from 1.
    fn message(&self, nth: u64, clock: &Clock) -> Result<Message, Error> {
        if !nth.is_multiple_of(self.stamp_every) && nth != 1 {
            return Ok(self.of(self.plain.clone()));
        }
        if self.plain.len() >= STAMP {
            let mut payload = BytesMut::zeroed(self.plain.len());
            payload[..STAMP].copy_from_slice(&clock.stamp().to_le_bytes());
            return Ok(self.of(payload.freeze()));
        }
        // Too small to carry its time itself.
        let builder = Message::builder(self.address.clone())
            .payload(self.plain.clone())
            .key(clock.stamp().to_string());
        match self.to_queue {
            true => builder.to_queue().build(),
            false => builder.build(),
        }
    }

    fn of(&self, payload: Bytes) -> Message {
        match self.to_queue {
            true => Message::to_queue(self.address.clone(), payload),
            false => Message::new(self.address.clone(), payload),
        }
    }
}

/// When a message was sent, if it says so.
fn stamp_of(delivery: &Delivery) -> Option<u64> {
    let stamp = match delivery.payload().first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => delivery.message().key()?.parse().ok()?,
    };
    Some(stamp).filter(|stamp| *stamp > 0)
}

async fn send(
    mut sender: BoxSender,
    source: Source,
    mut quota: Quota,
    clock: Clock,
) -> Result<u64, Error> {
    while quota.take(&clock) {
        let mut slot = Some(source.message(quota.taken, &clock)?);
        sender.send_from(&mut slot).await?;
    }
    let receipt = sender.flush().await?;
    if receipt.returned > 0
        && let Some(returned) = sender.take_returned(Seq::FIRST)
    {
        return Err(returned.error);
    }
    Ok(quota.taken)
}

/// Receives until it is told to finish; answers the latencies, and when everything was settled.
async fn receive(
    mut receiver: BoxReceiver,
    clock: Clock,
    arrived: Arc<Arrived>,
    mut finished: watch::Receiver<bool>,
) -> Result<(Histogram<u64>, Duration), Error> {
    let mut latency = histogram();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            biased;
            received = receiver.recv_many(&mut batch, BATCH) => received?,
            _ = finished.wait_for(|finished| *finished) => break,
        };
        if received == 0 {
            return Err(Error::new(ErrorKind::Closed, "the broker ended a receiver"));
        }
        let now = clock.stamp();
        for delivery in batch.drain(..) {
            if let Some(stamp) = stamp_of(&delivery) {
                latency.saturating_record(now.saturating_sub(stamp));
            }
            delivery.ack();
        }
        arrived.add(received as u64);
    }
    receiver.settled().await?;
    let settled = clock.elapsed();
    receiver.close().await?;
    Ok((latency, settled))
}

/// How many deliveries all receivers have taken.
#[derive(Default)]
struct Arrived {
    count: AtomicU64,
    changed: tokio::sync::Notify,
}

impl Arrived {
    fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::SeqCst);
        self.changed.notify_one();
    }

    async fn wait_for(&self, expected: u64) -> Result<(), Failure> {
        loop {
            let count = self.count.load(Ordering::SeqCst);
            if count >= expected {
                return Ok(());
            }
            let changed = tokio::time::timeout(STALLED, self.changed.notified());
            if changed.await.is_err() {
                let text = format!("{count} of {expected} messages arrived, and then no more");
                return Err(Failure::new(Code::Failed, text));
            }
        }
    }
}

/// The result of a task; a panic in it goes through.
pub(super) fn joined<T>(
    task: Result<Result<T, Error>, tokio::task::JoinError>,
) -> Result<T, Failure> {
    match task {
        Ok(outcome) => Ok(outcome?),
        Err(error) => Err(Failure::new(Code::Failed, format!("a task was lost: {error}"))),
    }
}
