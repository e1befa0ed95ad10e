//! What is measured inside one process, on one thread.
//!
//! The broker has the clock of a runtime, as one behind a server has; the runtime has nothing to do.

use std::error::Error;
use std::future::Future;

use bytes::Bytes;
use posthaste::{
    Ack, BoxReceiver, BoxSender, Bus, Message, Queue, ReceiverExt, SenderExt, SenderOptions,
    Subscription, Topic,
};
use posthaste_measure::Usage;
use posthaste_tokio::Tokio;
use tokio::runtime::Builder;

use crate::point::Point;

type Outcome<T = Point> = Result<T, Box<dyn Error>>;

/// How many messages go to the broker before they are taken from it.
const BATCH: usize = 64;
/// How many messages each subscriber gets before it takes them.
const FAN_BATCH: usize = 16;
const PAYLOAD: &[u8; 64] = &[7; 64];
const TOPICS: u64 = 1_000;
const IN_PROCESS: &str = "in process";

/// How much work is measured.
fn work(quick: bool) -> u64 {
    if quick { 2_000 } else { 500_000 }
}

/// Runs on this thread, with a broker in this process.
fn with_broker<F>(run: impl FnOnce(Bus) -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bus = posthaste::connect(Tokio::current(), "memory:").await?;
        run(bus).await
    })
}

/// `size` patterns, of which one matches.
pub(crate) fn subscriptions(size: u64, quick: bool) -> Outcome {
    with_broker(async |bus| {
        let mut point = Point::default();
        let mut orders = bus.subscribe("orders.*.created").await?;
        let before = Usage::now()?;
        let mut others = Vec::new();
        for nth in 1..size {
            others.push(bus.subscribe(other_pattern(nth).as_str()).await?);
        }
        point.memory(size - 1, &before, &Usage::now()?);
        let mut sender = bus.sender(SenderOptions::new()).await?;
        let message = |nth: u64| -> Outcome<Message> {
            Ok(Message::new(Topic::new(format!("orders.{nth}.created"))?, &PAYLOAD[..]))
        };
        for (how, topics) in [("one topic", 1), ("1,000 topics", TOPICS)] {
            let messages = (0..topics).map(message).collect::<Outcome<Vec<_>>>()?;
            let mut nth = 0;
            let next = || {
                nth = (nth + 1) % messages.len();
                messages[nth].clone()
            };
            Trip { sender: &mut sender, receiver: &mut orders }
                .measure(how, next, quick, &mut point)
                .await?;
        }
        Ok(point)
    })
}

/// A pattern that matches none of the topics, but is close to them.
fn other_pattern(nth: u64) -> String {
    match nth % 3 {
        0 => format!("orders.{}.shipped", nth / 3),
        1 => format!("orders.*.region{}", nth / 3),
        _ => format!("stock.{}.>", nth / 3),
    }
}

/// `size` subscribers of one topic.
pub(crate) fn subscribers(size: u64, quick: bool) -> Outcome {
    with_broker(async |bus| {
        let mut point = Point::default();
        let before = Usage::now()?;
        let mut subscribers = Vec::new();
        for _ in 0..size {
            subscribers.push(bus.subscribe("news.today").await?);
        }
        point.memory(size, &before, &Usage::now()?);
        let mut sender = bus.sender(SenderOptions::new()).await?;
        let message = Message::new(Topic::new("news.today")?, &PAYLOAD[..]);
        let deliveries = size * FAN_BATCH as u64;
        let times = work(quick).div_ceil(deliveries).max(2);
        fan_out(&mut sender, &mut subscribers, &message, 1).await?;
        let before = Usage::now()?;
        fan_out(&mut sender, &mut subscribers, &message, times).await?;
        point.cost(IN_PROCESS, Usage::now()?.cpu_since(&before), deliveries * times);
        Ok(point)
    })
}

async fn fan_out(
    sender: &mut BoxSender,
    subscribers: &mut [BoxReceiver],
    message: &Message,
    times: u64,
) -> Outcome<()> {
    let mut taken = Vec::with_capacity(FAN_BATCH);
    for _ in 0..times {
        for _ in 0..FAN_BATCH {
            sender.feed(message.clone()).await?;
        }
        for subscriber in &mut *subscribers {
            take(subscriber, &mut taken, FAN_BATCH).await?;
        }
        sender.flush().await?;
    }
    Ok(())
}

/// A queue in which `size` messages wait.
pub(crate) fn depth(size: u64, quick: bool) -> Outcome {
    with_broker(async |bus| {
        let mut point = Point::default();
        let name = Topic::new("jobs")?;
        let room = usize::try_from(size)? + 2 * BATCH;
        let queue = Queue::new(name.clone()).capacity(room);
        bus.declare(queue.capacity_bytes(room.saturating_mul(1_024))).await?;
        let mut sender = bus.sender(SenderOptions::new()).await?;
        let before = Usage::now()?;
        // As from an application: a payload of its own for each.
        let message = || Message::to_queue(name.clone(), PAYLOAD.to_vec());
        for _ in 0..size {
            sender.feed(message()).await?;
        }
        sender.flush().await?;
        point.memory(size, &before, &Usage::now()?);
        let mut jobs = bus.receiver(Subscription::queue(&name)?).await?;
        Trip { sender: &mut sender, receiver: &mut jobs }
            .measure(IN_PROCESS, message, quick, &mut point)
            .await?;
        Ok(point)
    })
}

/// `size` queues, of which one is used.
pub(crate) fn queues(size: u64, quick: bool) -> Outcome {
    with_broker(async |bus| {
        let mut point = Point::default();
        let name = Topic::new("jobs.0")?;
        bus.declare(Queue::new(name.clone())).await?;
        let before = Usage::now()?;
        for nth in 1..size {
            bus.declare(Queue::new(Topic::new(format!("jobs.{nth}"))?)).await?;
        }
        point.memory(size - 1, &before, &Usage::now()?);
        let mut sender = bus.sender(SenderOptions::new()).await?;
        let mut jobs = bus.receiver(Subscription::queue(&name)?).await?;
        let message = Message::to_queue(name, &PAYLOAD[..]);
        Trip { sender: &mut sender, receiver: &mut jobs }
            .measure(IN_PROCESS, || message.clone(), quick, &mut point)
            .await?;
        Ok(point)
    })
}

/// What a payload of so many bytes costs through a queue in this process.
pub(crate) fn payload(size: usize, quick: bool) -> Outcome {
    with_broker(async |bus| {
        let mut point = Point::default();
        let name = Topic::new("jobs")?;
        let room = size.saturating_mul(2 * BATCH).max(1 << 20);
        bus.declare(Queue::new(name.clone()).capacity_bytes(room)).await?;
        let mut sender = bus.sender(SenderOptions::new().window(BATCH, room)).await?;
        let mut jobs = bus.receiver(Subscription::queue(&name)?.ack(Ack::Auto)).await?;
        let message = Message::to_queue(name, Bytes::from(vec![7; size]));
        Trip { sender: &mut sender, receiver: &mut jobs }
            .measure(IN_PROCESS, || message.clone(), quick, &mut point)
            .await?;
        Ok(point)
    })
}

/// From a sender to a receiver.
struct Trip<'a> {
    sender: &'a mut BoxSender,
    receiver: &'a mut BoxReceiver,
}

impl Trip<'_> {
    /// Measures what a message costs, after a warm-up.
    async fn measure(
        &mut self,
        how: &str,
        mut next: impl FnMut() -> Message,
        quick: bool,
        point: &mut Point,
    ) -> Outcome<()> {
        self.go(&mut next, work(quick) / 10).await?;
        let before = Usage::now()?;
        let went = self.go(&mut next, work(quick)).await?;
        point.cost(how, Usage::now()?.cpu_since(&before), went);
        Ok(())
    }

    /// Sends `count` messages or a few more, in batches, and takes and acknowledges as many.
    /// Answers how many that were.
    async fn go(&mut self, next: &mut impl FnMut() -> Message, count: u64) -> Outcome<u64> {
        let mut taken = Vec::with_capacity(BATCH);
        let batches = count.div_ceil(BATCH as u64).max(1);
        for _ in 0..batches {
            for _ in 0..BATCH {
                self.sender.feed(next()).await?;
            }
            take(self.receiver, &mut taken, BATCH).await?;
            self.sender.flush().await?;
        }
        self.receiver.settled().await?;
        Ok(batches * BATCH as u64)
    }
}

/// Takes and acknowledges exactly so many.
async fn take(
    receiver: &mut BoxReceiver,
    taken: &mut Vec<posthaste::Delivery>,
    count: usize,
) -> Outcome<()> {
    let mut missing = count;
    while missing > 0 {
        let came = receiver.recv_many(taken, missing).await?;
        if came == 0 {
            return Err("a receiver ended early".into());
        }
        missing -= came;
        taken.drain(..).for_each(posthaste::Delivery::ack);
    }
    Ok(())
}
