//! What Posthaste costs beside bare lapin: the same messages through the same server, in turns.
//!
//! ```text
//! cargo run --release -p posthaste-amqp --example overhead -- amqp://guest:guest@127.0.0.1:5672
//! ```
//!
//! Publishing is persistent messages with confirms, many in flight; consuming is manual acks with a
//! prefetch of 1,024. Both sides do each in every round, in turns, and the medians are compared.

#![allow(clippy::disallowed_methods, reason = "a program may ask the clock")]
#![allow(clippy::print_stdout, reason = "a program writes to its terminal")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use posthaste_amqp::Amqp;
use posthaste_core::{
    Broker, Message, Queue, ReceiverExt, SenderExt, SenderOptions, Subscription, Topic,
};
use posthaste_tokio::Tokio;

const MESSAGES: usize = 20_000;
const ROUNDS: usize = 9;
const PAYLOAD: [u8; 256] = [7; 256];
const IN_FLIGHT: usize = 1_024;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| String::from("amqp://guest:guest@127.0.0.1:5672"));
    let ours = Amqp::connect(Tokio::current(), &url).await?;
    let bare = Connection::connect(&url, ConnectionProperties::default()).await?;
    let mut times = [const { Vec::new() }; 4];
    for round in 0..=ROUNDS {
        let bare = [publish_bare(&bare).await?, consume_bare(&bare).await?];
        let ours = [publish_ours(&ours).await?, consume_ours(&ours).await?];
        // The first is for warming up.
        if round > 0 {
            for (times, time) in times.iter_mut().zip(bare.into_iter().chain(ours)) {
                times.push(time);
            }
        }
    }
    let [publish_bare, consume_bare, publish_ours, consume_ours] = times.map(median);
    println!("{MESSAGES} messages of {} bytes, medians of {ROUNDS} rounds", PAYLOAD.len());
    for (what, bare, ours) in
        [("publish", publish_bare, publish_ours), ("consume", consume_bare, consume_ours)]
    {
        let per = |time: Duration| time.as_secs_f64() * 1e6 / MESSAGES as f64;
        let more = (ours.as_secs_f64() / bare.as_secs_f64() - 1.0) * 100.0;
        println!(
            "{what}: lapin {:.1} us, posthaste {:.1} us a message ({more:+.1} %)",
            per(bare),
            per(ours)
        );
    }
    ours.delete(&Topic::new(QUEUE)?).await?;
    Ok(())
}

const QUEUE: &str = "posthaste.overhead";

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn channel(bare: &Connection) -> Result<Channel, Failure> {
    let channel = bare.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-priority".into(), AMQPValue::LongInt(3));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), options, arguments).await?;
    Ok(channel)
}

async fn publish_bare(bare: &Connection) -> Result<Duration, Failure> {
    let channel = channel(bare).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let began = Instant::now();
    let mut confirms = VecDeque::new();
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    for _ in 0..MESSAGES {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent = channel.basic_publish("".into(), QUEUE.into(), options, &PAYLOAD, properties);
        confirms.push_back(sent.await?);
        if confirms.len() >= IN_FLIGHT
            && let Some(confirm) = confirms.pop_front()
            && !confirm.await?.is_ack()
        {
            return Err("a message was not taken".into());
        }
    }
    for confirm in confirms {
        if !confirm.await?.is_ack() {
            return Err("a message was not taken".into());
        }
    }
    Ok(began.elapsed())
}

async fn consume_bare(bare: &Connection) -> Result<Duration, Failure> {
    let channel = channel(bare).await?;
    let began = Instant::now();
    channel.basic_qos(1_024, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?;
    for _ in 0..MESSAGES {
        let delivery = consumer.next().await.ok_or("the consumer has ended")??;
        channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await?;
    }
    Ok(began.elapsed())
}

async fn publish_ours(ours: &Amqp) -> Result<Duration, Failure> {
    let queue = Topic::new(QUEUE)?;
    ours.declare(Queue::new(queue.clone())).await?;
    let options = SenderOptions::new().window(IN_FLIGHT, 64 << 20);
    let mut sender = ours.sender(options).await?;
    let began = Instant::now();
    for _ in 0..MESSAGES {
        sender.feed(Message::to_queue(queue.clone(), &PAYLOAD[..])).await?;
    }
    let receipt = sender.flush().await?;
    if receipt.returned > 0 {
        return Err("a message came back".into());
    }
    Ok(began.elapsed())
}

async fn consume_ours(ours: &Amqp) -> Result<Duration, Failure> {
    let began = Instant::now();
    let mut consumer = ours.receiver(Subscription::queue(QUEUE)?).await?;
    for _ in 0..MESSAGES {
        consumer.next_delivery().await?.ack();
    }
    consumer.settled().await?;
    Ok(began.elapsed())
}
