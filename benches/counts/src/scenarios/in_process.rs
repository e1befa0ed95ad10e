//! Scenarios on the memory broker, in process.

use posthaste::{
    Ack, Bus, Error, Message, Queue, SenderOptions, SharedRuntime, Subscription, Topic,
};
use posthaste_memory::Memory;

use super::exchange::{Taking, ask, feed, take};
use super::executor::{Task, run};

/// How many messages queue, subscription and channel hold.
pub(super) const CAPACITY: usize = 1_024;
pub(super) const PAYLOAD: &[u8; 64] = &[7; 64];

/// A queue through the handles that every broker gives out.
pub(super) async fn queue(
    runtime: SharedRuntime,
    count: u64,
    senders: u64,
    taking: Taking,
) -> Result<(), Error> {
    let bus = posthaste::connect(runtime.clone(), "memory:").await?;
    let queue = Topic::new("jobs")?;
    bus.declare(Queue::new(queue.clone()).capacity(CAPACITY)).await?;
    let jobs = bus.receiver(Subscription::queue(&queue)?.ack(ack(taking))).await?;
    let message = Message::to_queue(queue, &PAYLOAD[..]);
    let mut tasks: Vec<Task> = vec![Box::pin(take(jobs, count, taking))];
    for _ in 0..senders {
        let sender = bus.sender(SenderOptions::new()).await?;
        tasks.push(Box::pin(feed(sender, message.clone(), count / senders)));
    }
    run(&runtime, tasks).await
}

/// The same through the memory broker's own types.
pub(super) async fn concrete_queue(runtime: SharedRuntime, count: u64) -> Result<(), Error> {
    let memory = Memory::with_runtime(runtime.clone());
    let queue = Topic::new("jobs")?;
    Bus::new(memory.clone()).declare(Queue::new(queue.clone()).capacity(CAPACITY)).await?;
    let jobs = memory.open_receiver(&Subscription::queue(&queue)?.ack(Ack::Auto))?;
    let sender = memory.open_sender(SenderOptions::new())?;
    let message = Message::to_queue(queue, &PAYLOAD[..]);
    let tasks: Vec<Task> =
        vec![Box::pin(take(jobs, count, Taking::OneByOne)), Box::pin(feed(sender, message, count))];
    run(&runtime, tasks).await
}

/// A topic whose subscribers get `count` copies in all.
pub(super) async fn topic(
    runtime: SharedRuntime,
    count: u64,
    subscribers: u64,
) -> Result<(), Error> {
    let bus = posthaste::connect(runtime.clone(), "memory:").await?;
    let mut tasks: Vec<Task> = Vec::new();
    for _ in 0..subscribers {
        let readings = Subscription::topic("home.*")?.capacity(CAPACITY, 1 << 20);
        let readings = bus.receiver(readings).await?;
        tasks.push(Box::pin(take(readings, count / subscribers, Taking::OneByOne)));
    }
    let message = Message::new(Topic::new("home.kitchen")?, &PAYLOAD[..]);
    let sender = bus.sender(SenderOptions::new()).await?;
    tasks.push(Box::pin(feed(sender, message, count / subscribers)));
    run(&runtime, tasks).await
}

/// Requests to an echo.
pub(super) async fn request(
    runtime: SharedRuntime,
    count: u64,
    in_flight: usize,
) -> Result<(), Error> {
    let bus = posthaste::connect(runtime.clone(), "memory:").await?;
    let tasks = ask(bus.clone(), &bus, count, in_flight).await?;
    run(&runtime, tasks).await
}

pub(super) fn ack(taking: Taking) -> Ack {
    match taking {
        Taking::Acknowledged => Ack::Manual,
        Taking::OneByOne | Taking::Batches => Ack::Auto,
    }
}
