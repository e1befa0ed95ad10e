//! What a message costs inside one process: queues, topics, fan-out and requests on the memory
//! broker, beside async-channel in the same run.
//!
//! `cargo bench --bench in_process`. Ratios within a run hold; absolute figures drift with the
//! machine. "recv" rows take one delivery at a time, as async-channel does; "recv_many" and "acked"
//! rows take batches, and are there to be compared with each other.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

mod machine;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use futures::StreamExt;
use futures::stream;
use posthaste::{
    Ack, BoxReceiver, Bus, Error, Message, Queue, ReceiverExt, SenderExt, SenderOptions,
    SharedRuntime, Subscription, Topic,
};

use machine::{Machine, Task, group};

/// How many messages one measured round moves.
const MESSAGES: u64 = 20_000;
/// How many requests one measured round asks.
const REQUESTS: u64 = 2_000;
/// How many messages queue, subscription and channel hold.
const CAPACITY: usize = 1_024;
/// How many subscribers a message fans out to.
const FAN: u64 = 10;
const PAYLOAD: &[u8; 64] = &[7; 64];

#[derive(Clone, Copy)]
enum Taking {
    /// One delivery at a time.
    One,
    /// All that are there, up to 256.
    Many,
    /// All that are there, each acknowledged.
    Acked,
}

fn queues(c: &mut Criterion) {
    for (name, senders, machines) in
        [("queue 1p1c", 1, Machine::all()), ("queue 4p1c", 4, vec![Machine::tokio_threads()])]
    {
        let mut group = group(c, name, MESSAGES);
        for machine in &machines {
            channel(&mut group, machine, senders);
            for (row, taking) in
                [("recv", Taking::One), ("recv_many", Taking::Many), ("acked", Taking::Acked)]
            {
                let setup = || queue_round(machine.runtime(), senders, taking);
                machine.bench(&mut group, row, setup);
            }
        }
    }
}

async fn queue_round(
    runtime: SharedRuntime,
    senders: u64,
    taking: Taking,
) -> Result<Vec<Task>, Error> {
    let bus = posthaste::connect(runtime, "memory:").await?;
    let queue = Topic::new("jobs")?;
    bus.declare(Queue::new(queue.clone()).capacity(CAPACITY)).await?;
    let ack = match taking {
        Taking::Acked => Ack::Manual,
        Taking::One | Taking::Many => Ack::Auto,
    };
    let jobs = bus.receiver(Subscription::queue(&queue)?.ack(ack)).await?;
    let mut tasks: Vec<Task> = vec![Box::pin(take(jobs, MESSAGES, taking))];
    for _ in 0..senders {
        let message = Message::to_queue(queue.clone(), &PAYLOAD[..]);
        tasks.push(Box::pin(feed(bus.clone(), message, MESSAGES / senders)));
    }
    Ok(tasks)
}

fn topics(c: &mut Criterion) {
    for (name, subscribers) in [("topic 1p1c", 1), ("fan-out 1:10", FAN)] {
        let mut group = group(c, name, MESSAGES);
        for machine in Machine::all() {
            if subscribers == 1 {
                channel(&mut group, &machine, 1);
            } else {
                machine.bench(&mut group, "async-channel each", fan_out_channels);
            }
            for (row, taking) in [("recv", Taking::One), ("recv_many", Taking::Many)] {
                let setup = || topic_round(machine.runtime(), subscribers, taking);
                machine.bench(&mut group, row, setup);
            }
        }
    }
}

/// Moves [`MESSAGES`] copies in all, however many subscribers share them.
async fn topic_round(
    runtime: SharedRuntime,
    subscribers: u64,
    taking: Taking,
) -> Result<Vec<Task>, Error> {
    let bus = posthaste::connect(runtime, "memory:").await?;
    let mut tasks: Vec<Task> = Vec::new();
    for _ in 0..subscribers {
        let readings = Subscription::topic("home.*")?.capacity(CAPACITY, 1 << 20);
        let readings = bus.receiver(readings).await?;
        tasks.push(Box::pin(take(readings, MESSAGES / subscribers, taking)));
    }
    let message = Message::new(Topic::new("home.kitchen")?, &PAYLOAD[..]);
    tasks.push(Box::pin(feed(bus, message, MESSAGES / subscribers)));
    Ok(tasks)
}

async fn feed(bus: Bus, message: Message, count: u64) -> Result<(), Error> {
    let mut sender = bus.sender(SenderOptions::new()).await?;
    for _ in 0..count {
        sender.feed(message.clone()).await?;
    }
    sender.flush().await?;
    Ok(())
}

async fn take(mut receiver: BoxReceiver, count: u64, taking: Taking) -> Result<(), Error> {
    let mut taken = 0;
    let mut batch = Vec::with_capacity(256);
    while taken < count {
        match taking {
            Taking::One => {
                receiver.next_delivery().await?.ack();
                taken += 1;
            }
            Taking::Many | Taking::Acked => {
                taken += receiver.recv_many(&mut batch, 256).await? as u64;
                for delivery in batch.drain(..) {
                    delivery.ack();
                }
            }
        }
    }
    receiver.settled().await
}

/// The reference: the same messages through a bounded channel.
fn channel(group: &mut BenchmarkGroup<'_, WallTime>, machine: &Machine, senders: u64) {
    machine.bench(group, "async-channel", || async move {
        let (sender, receiver) = async_channel::bounded(CAPACITY);
        let mut tasks: Vec<Task> = vec![Box::pin(take_from_channel(receiver, MESSAGES))];
        for _ in 0..senders {
            tasks.push(Box::pin(feed_channels(vec![sender.clone()], MESSAGES / senders)));
        }
        Ok(tasks)
    });
}

async fn fan_out_channels() -> Result<Vec<Task>, Error> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..FAN {
        let (sender, receiver) = async_channel::bounded(CAPACITY);
        senders.push(sender);
        tasks.push(Box::pin(take_from_channel(receiver, MESSAGES / FAN)));
    }
    tasks.push(Box::pin(feed_channels(senders, MESSAGES / FAN)));
    Ok(tasks)
}

async fn feed_channels(
    senders: Vec<async_channel::Sender<Message>>,
    count: u64,
) -> Result<(), Error> {
    let message = Message::new(Topic::new("home.kitchen")?, &PAYLOAD[..]);
    for _ in 0..count {
        for sender in &senders {
            let sent = sender.send(message.clone()).await;
            sent.map_err(|_| Error::closed("the channel"))?;
        }
    }
    Ok(())
}

async fn take_from_channel(
    receiver: async_channel::Receiver<Message>,
    count: u64,
) -> Result<(), Error> {
    for _ in 0..count {
        let taken = receiver.recv().await;
        taken.map_err(|_| Error::closed("the channel"))?;
    }
    Ok(())
}

fn requests(c: &mut Criterion) {
    for (name, in_flight) in [("request 1 in flight", 1), ("request 64 in flight", 64)] {
        let mut group = group(c, name, REQUESTS);
        for machine in Machine::all() {
            machine.bench(&mut group, "async-channel", || channel_requests(in_flight));
            machine.bench(&mut group, "posthaste", || request_round(machine.runtime(), in_flight));
        }
    }
}

async fn request_round(runtime: SharedRuntime, in_flight: usize) -> Result<Vec<Task>, Error> {
    let bus = posthaste::connect(runtime, "memory:").await?;
    let echo = bus.serve("echo").open().await?;
    let asked_all = async_channel::bounded::<()>(1);
    let serving = async move {
        let serving = std::pin::pin!(
            echo.run(async |request: Message| { Ok::<_, Error>(request.into_payload()) })
        );
        let over = std::pin::pin!(asked_all.1.recv());
        futures::future::select(serving, over).await;
        Ok(())
    };
    let asking = async move {
        let topic = Topic::new("echo")?;
        let mut answers = stream::iter(0..REQUESTS)
            .map(|_| bus.request(&topic, &PAYLOAD[..]).into_future())
            .buffer_unordered(in_flight);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        drop(asked_all.0);
        Ok(())
    };
    Ok(vec![Box::pin(serving), Box::pin(asking)])
}

/// The reference: a channel of requests that each bring a channel for the reply.
async fn channel_requests(in_flight: usize) -> Result<Vec<Task>, Error> {
    let (sender, receiver) = async_channel::bounded(in_flight);
    let serving = async move {
        while let Ok((request, reply)) = receiver.recv().await {
            let reply: async_channel::Sender<Message> = reply;
            let replied = reply.send(request).await;
            replied.map_err(|_| Error::closed("the reply channel"))?;
        }
        Ok(())
    };
    let asking = async move {
        let message = Message::new(Topic::new("echo")?, &PAYLOAD[..]);
        let mut answers = stream::iter(0..REQUESTS)
            .map(|_| async {
                let (reply, answer) = async_channel::bounded(1);
                let asked = sender.send((message.clone(), reply)).await;
                asked.map_err(|_| Error::closed("the channel"))?;
                answer.recv().await.map_err(|_| Error::closed("the reply channel"))
            })
            .buffer_unordered(in_flight);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    };
    Ok(vec![Box::pin(serving), Box::pin(asking)])
}

criterion_group! {
    name = in_process;
    config = machine::criterion();
    targets = queues, topics, requests
}
criterion_main!(in_process);
