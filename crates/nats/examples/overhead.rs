//! What Posthaste costs over NATS's own client: the same messages to the same server, round by round
//! in turn, with medians.
//!
//! ```text
//! cargo run --release -p posthaste-nats --example overhead -- nats://USER:PASSWORD@HOST:PORT
//! ```
#![allow(clippy::print_stdout, reason = "a program that measures prints what it found")]
#![allow(clippy::disallowed_methods, reason = "a program that measures reads the clock")]

use std::error::Error;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use posthaste_core::{
    Ack, Bus, Message, Queue, ReceiverExt, SenderExt, SenderOptions, SharedRuntime, Subscription,
    Topic,
};
use posthaste_nats::Nats;
use posthaste_tokio::Tokio;

const ROUNDS: usize = 7;
const PUBLISHED: usize = 200_000;
const QUEUED: usize = 20_000;
const IN_FLIGHT: usize = 1_024;
const PAYLOAD: &[u8] = &[b'x'; 256];

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("name a server: nats://USER:PASSWORD@HOST:PORT")?;
    let runtime: SharedRuntime = Tokio::current().into();
    let nats = Nats::connect(runtime.clone(), &url).await?;
    let bus = Bus::with_runtime(nats, runtime);
    let client = async_nats::ConnectOptions::new().subscription_capacity(1 << 18);
    let at = url::Url::parse(&url)?;
    let client = match at.password() {
        Some(password) => client.user_and_password(at.username().into(), password.into()),
        None => client,
    };
    let host = at.host_str().ok_or("the URL names no host")?;
    let client = client.connect(format!("nats://{host}:{}", at.port().unwrap_or(4222))).await?;
    let jetstream = jetstream::new(client.clone());
    let mut rows: [[Vec<Duration>; 2]; 3] = Default::default();
    for _ in 0..ROUNDS {
        rows[0][0].push(bare_topic(&client).await?);
        rows[0][1].push(our_topic(&bus).await?);
        let bare = bare_queue(&jetstream).await?;
        let ours = our_queue(&bus).await?;
        for (row, (bare, ours)) in rows[1..].iter_mut().zip(bare.into_iter().zip(ours)) {
            row[0].push(bare);
            row[1].push(ours);
        }
    }
    let names = [
        ("publish and receive on a subject", PUBLISHED),
        ("publish to a stream, confirmed", QUEUED),
        ("take from a stream, acknowledged", QUEUED),
    ];
    for ((name, count), [bare, ours]) in names.into_iter().zip(rows) {
        let per_second = |times: Vec<Duration>| count as f64 / median(times).as_secs_f64();
        let (bare, ours) = (per_second(bare), per_second(ours));
        println!("{name}: bare {bare:.0}/s, ours {ours:.0}/s, ratio {:.2}", ours / bare);
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn bare_topic(client: &async_nats::Client) -> Result<Duration, Failure> {
    let mut subscriber = client.subscribe("overhead.bare").await?;
    client.flush().await?;
    let begun = Instant::now();
    let publishing = async {
        for _ in 0..PUBLISHED {
            client.publish("overhead.bare", PAYLOAD.into()).await?;
        }
        client.flush().await?;
        Ok::<_, Failure>(())
    };
    let receiving = async {
        for _ in 0..PUBLISHED {
            subscriber.next().await.ok_or("the subscription has ended")?;
        }
        Ok::<_, Failure>(())
    };
    futures::future::try_join(publishing, receiving).await?;
    Ok(begun.elapsed())
}

async fn our_topic(bus: &Bus) -> Result<Duration, Failure> {
    let topic = Topic::new("overhead.ours")?;
    // A subject has nothing to be acknowledged.
    let all = Subscription::topic(&topic)?.ack(Ack::Auto).capacity(PUBLISHED, 1 << 30);
    let mut receiver = bus.receiver(all).await?;
    let mut sender = bus.sender(SenderOptions::new()).await?;
    let begun = Instant::now();
    let publishing = async {
        for _ in 0..PUBLISHED {
            sender.feed(Message::new(topic.clone(), PAYLOAD)).await?;
        }
        sender.flush().await?;
        Ok::<_, Failure>(())
    };
    let receiving = async {
        for _ in 0..PUBLISHED {
            drop(receiver.next_delivery().await?);
        }
        Ok::<_, Failure>(())
    };
    futures::future::try_join(publishing, receiving).await?;
    let took = begun.elapsed();
    receiver.close().await?;
    Ok(took)
}

async fn bare_queue(jetstream: &jetstream::Context) -> Result<[Duration; 2], Failure> {
    let config = stream::Config {
        name: "OVERHEAD".into(),
        subjects: vec!["overhead.queue".into()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..stream::Config::default()
    };
    let queue = jetstream.create_stream(config).await?;
    let begun = Instant::now();
    let acks = futures::stream::iter(0..QUEUED)
        .then(|_| jetstream.publish("overhead.queue", PAYLOAD.into()))
        .map(|published| async move { Ok::<_, Failure>(published?.await?) })
        .buffered(IN_FLIGHT);
    acks.for_each(|ack| async { drop(ack) }).await;
    let published = begun.elapsed();
    let config = pull::Config { durable_name: Some("overhead".into()), ..pull::Config::default() };
    let consumer = queue.create_consumer(config).await?;
    let begun = Instant::now();
    let mut messages = consumer.stream().max_messages_per_batch(IN_FLIGHT).messages().await?;
    for left in (0..QUEUED).rev() {
        let message = messages.next().await.ok_or("the stream has ended")??;
        match left {
            0 => message.double_ack().await?,
            _ => message.ack().await?,
        }
    }
    let taken = begun.elapsed();
    jetstream.delete_stream("OVERHEAD").await?;
    Ok([published, taken])
}

async fn our_queue(bus: &Bus) -> Result<[Duration; 2], Failure> {
    let queue = Topic::new("overhead")?;
    bus.declare(Queue::new(queue.clone())).await?;
    let options = SenderOptions::new().window(IN_FLIGHT, 1 << 30);
    let mut sender = bus.sender(options).await?;
    let begun = Instant::now();
    for _ in 0..QUEUED {
        sender.feed(Message::to_queue(queue.clone(), PAYLOAD)).await?;
    }
    sender.flush().await?;
    let published = begun.elapsed();
    let begun = Instant::now();
    let mut receiver = bus.receiver(Subscription::queue(&queue)?.prefetch(IN_FLIGHT)).await?;
    for _ in 0..QUEUED {
        receiver.next_delivery().await?.ack();
    }
    receiver.settled().await?;
    let taken = begun.elapsed();
    receiver.close().await?;
    bus.delete(&queue).await?;
    Ok([published, taken])
}
