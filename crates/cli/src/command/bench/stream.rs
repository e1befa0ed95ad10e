//! Queues and publish-subscribe: messages in one direction.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use posthaste::{
    Ack, BoxReceiver, BoxSender, Delivery, Error, ErrorKind, Level, Message, ReceiverExt,
    SenderExt, SenderOptions, Seq, Subscription, Topic,
};
use posthaste_measure::{Clock, Latency};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::load::{Arrived, Plan, Quota, Target, Turn};
use super::sample::{Sample, Stopwatch};
use super::{Acknowledge, Pattern};
use crate::exit::{Code, Failure};

/// The bytes of the time that a message carries.
const STAMP: usize = 8;
/// Larger payloads are not copied to write a time into them, nor are there smaller ones than that.
const STAMPED_BYTES_MAX: usize = 4_096;
/// How many deliveries are taken at a time.
const BATCH: usize = 1_024;

/// Sends, receives, and waits until everything has arrived.
pub(super) async fn run(
    target: &Target,
    plan: &Plan,
    arrived: &Arc<Arrived>,
) -> Result<Sample, Failure> {
    let mut receivers = Vec::with_capacity(target.receivers.len());
    for bus in &target.receivers {
        receivers.push(bus.receiver(subscription(target, plan)?).await?);
    }
    let mut senders = Vec::with_capacity(target.senders.len());
    for bus in &target.senders {
        senders.push(bus.sender(options(target, plan)).await?);
    }
    let (finish, finished) = watch::channel(false);
    let stopwatch = Stopwatch::start();
    let clock = stopwatch.clock;
    let mut receiving = JoinSet::new();
    for receiver in receivers {
        receiving.spawn(receive(receiver, clock, Arc::clone(arrived), finished.clone()));
    }
    let count = senders.len();
    let mut sending = JoinSet::new();
    for (nth, sender) in senders.into_iter().enumerate() {
        let source = Source::new(target.address.clone(), plan);
        sending.spawn(send(sender, source, plan.share(nth, count), clock));
    }
    let mut sent = 0;
    while let Some(one) = sending.join_next().await {
        sent += joined(one)?;
    }
    let expected = sent * plan.copies;
    arrived.wait_for(expected).await?;
    // Without receivers to ask: nothing more is on its way.
    let _ = finish.send(true);
    let (mut latency, mut ended) = (Latency::new(), Duration::ZERO);
    while let Some(one) = receiving.join_next().await {
        let (latencies, at) = joined(one)?;
        latency.add(&latencies);
        ended = ended.max(at);
    }
    Ok(stopwatch.stop(ended, sent, expected, latency))
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
    let mut options = SenderOptions::new().window(plan.in_flight, bytes);
    options.confirm = plan.durable.then_some(Level::Stored);
    match plan.pattern {
        Pattern::Queue => options.queue(target.address.clone()),
        Pattern::Pubsub | Pattern::Request => options,
    }
}

/// Makes the messages of one sender.
struct Source {
    /// The message, without a time. Its copies share its bytes.
    plain: Message,
}

impl Source {
    fn new(address: Topic, plan: &Plan) -> Self {
        let payload = Bytes::from(vec![0; plan.size]);
        Self {
            plain: match plan.pattern {
                Pattern::Queue => Message::to_queue(address, payload),
                Pattern::Pubsub | Pattern::Request => Message::new(address, payload),
            },
        }
    }

    /// A message that carries the time.
    fn timed(&self, nanos: u64) -> Result<Message, Error> {
        let payload = self.plain.payload();
        let (topic, key) = (self.plain.topic(), nanos.to_string());
        let builder = Message::builder(topic);
        let builder = match (STAMP..=STAMPED_BYTES_MAX).contains(&payload.len()) {
            true => {
                let mut stamped = BytesMut::from(&payload[..]);
                stamped[..STAMP].copy_from_slice(&nanos.to_le_bytes());
                builder.payload(stamped.freeze())
            }
            false => builder.payload(payload.clone()).key(key),
        };
        match self.plain.is_to_queue() {
            true => builder.to_queue().build(),
            false => builder.build(),
        }
    }
}

/// When a message was sent, if it says so.
fn time_of(delivery: &Delivery) -> Option<u64> {
    let payload = delivery.payload();
    let nanos = match payload.first_chunk() {
        Some(bytes) if payload.len() <= STAMPED_BYTES_MAX => u64::from_le_bytes(*bytes),
        _ => delivery.message().key()?.parse().ok()?,
    };
    Some(nanos).filter(|nanos| *nanos > 0)
}

async fn send(
    mut sender: BoxSender,
    source: Source,
    mut quota: Quota,
    clock: Clock,
) -> Result<u64, Error> {
    loop {
        let mut slot = match quota.take(&clock) {
            Turn::Plain => Some(source.plain.clone()),
            Turn::Timed(nanos) => Some(source.timed(nanos)?),
            Turn::Over => break,
        };
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
) -> Result<(Latency, Duration), Error> {
    let mut latency = Latency::new();
    let mut batch = Vec::with_capacity(BATCH);
    let mut finished = pin!(finished.wait_for(|finished| *finished));
    loop {
        let received = tokio::select! {
            biased;
            received = receiver.recv_many(&mut batch, BATCH) => received?,
            _ = &mut finished => break,
        };
        if received == 0 {
            return Err(Error::new(ErrorKind::Closed, "the broker ended a receiver"));
        }
        let now = clock.nanos();
        for delivery in batch.drain(..) {
            if let Some(sent) = time_of(&delivery) {
                latency.record_nanos(now.saturating_sub(sent));
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

/// The result of a task; a panic in it goes through.
pub(super) fn joined<T>(task: Result<Result<T, Error>, JoinError>) -> Result<T, Failure> {
    match task {
        Ok(outcome) => Ok(outcome?),
        Err(error) => Err(Failure::new(Code::Failed, format!("a task was lost: {error}"))),
    }
}
