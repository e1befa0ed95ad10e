//! A live move: producers and consumers go from one broker to another while messages flow, none is
//! lost, and each key's order holds.
//!
//! ```text
//! cargo run --release -p posthaste-example-engines --bin cut_over -- [FROM TO] [SECONDS] [RATE] [KEYS]
//! ```
//!
//! Without arguments it moves from a broker in this process to one behind a TCP socket: 3 s at 5,000
//! messages a second over 1,000 keys. It ends with what it saw: the longest pause of any producer and
//! of the consumer, and the books of what was sent and taken.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use posthaste::prelude::*;
use posthaste::{Memory, SharedRuntime};
use posthaste_bridge::{MovingReceiver, MovingSender};
use posthaste_tokio::Tokio;

const PRODUCERS: u64 = 4;
/// How often a producer sends what is due.
const TICK: Duration = Duration::from_millis(10);

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = env::args().skip(1).collect();
    let (urls, numbers): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.contains(':'));
    let number = |at: usize, default: u64| -> Result<u64, Failure> {
        Ok(numbers.get(at).map_or(Ok(default), |text| text.parse())?)
    };
    let (seconds, rate, keys) = (number(0, 3)?, number(1, 5_000)?, number(2, 1_000)?);
    let runtime: SharedRuntime = Tokio::current().into();
    let connect = |url: String| posthaste::connect(runtime.clone(), url);
    let (old, new, _server) = match urls[..] {
        [from, to] => (connect(from.clone()).await?, connect(to.clone()).await?, None),
        _ => {
            let broker = Memory::with_runtime(runtime.clone());
            let server = posthaste::serve(runtime.clone(), broker, "tcp://127.0.0.1:0").await?;
            let url = server.endpoints()[0].to_string();
            (connect("memory:".into()).await?, connect(url).await?, Some(server))
        }
    };
    let queue = Topic::new(format!("moving-{}", std::process::id()))?;
    println!(
        "{rate} messages a second over {keys} keys for {seconds} s, moving after half of that"
    );
    let total = Duration::from_secs(seconds);
    let mut consumer = MovingReceiver::open(&old, queue.clone()).await?.prefetch(4_096);
    consumer.also(&new).await?;

    let producing = (0..PRODUCERS).map(|nth| {
        let keys = (keys * nth / PRODUCERS)..(keys * (nth + 1) / PRODUCERS);
        produce(&runtime, &old, &new, &queue, keys, rate / PRODUCERS, total)
    });
    let producing = futures::future::try_join_all(producing);
    let expected = rate / PRODUCERS * PRODUCERS * seconds;
    let (produced, consumed) =
        futures::future::try_join(producing, consume(&mut consumer, expected)).await?;
    let sent: u64 = produced.iter().map(|(sent, ..)| sent).sum();
    let barriers: usize = produced.iter().map(|(_, barriers, _)| barriers).sum();
    let held_up = produced.iter().map(|(.., pause)| *pause).max().unwrap_or_default();
    println!("{sent} sent and confirmed, {} taken, in the order of each key", consumed.0);
    println!(
        "{barriers} barriers; longest pause: {held_up:?} of a producer, {:?} of the consumer",
        consumed.1
    );
    drop(consumer);
    for bus in [&old, &new] {
        let left = bus.queue(&queue).await?.messages;
        assert_eq!(left, 0, "messages left behind");
        bus.delete(&queue).await?;
    }
    if held_up.max(consumed.1) > Duration::from_secs(2) {
        return Err("a pause was longer than 2 s".into());
    }
    Ok(())
}

/// Sends at a rate, and moves after half of the time; how many were confirmed, how many barriers
/// the move took, and the longest time between two sends.
async fn produce(
    runtime: &SharedRuntime,
    old: &Bus,
    new: &Bus,
    queue: &Topic,
    keys: std::ops::Range<u64>,
    rate: u64,
    total: Duration,
) -> Result<(u64, usize, Duration), Failure> {
    let mut sender = MovingSender::open(old, queue.clone()).await?;
    let mut next: BTreeMap<u64, u64> = keys.clone().map(|key| (key, 0)).collect();
    let (begun, mut timer) = (runtime.now(), runtime.timer());
    let (mut sent, mut confirmed, mut barriers, mut pause) = (0, 0, 0, Duration::ZERO);
    let (mut moved, mut last) = (false, begun);
    let all = rate * total.as_secs();
    while sent < all {
        let elapsed = runtime.now() - begun;
        if !moved && elapsed >= total / 2 {
            confirmed += settle(&mut sender).await?;
            barriers = sender.move_to(new, Duration::from_secs(30)).await?;
            moved = true;
        }
        let due = (elapsed.as_micros() as u64 * rate / 1_000_000).min(all);
        while sent < due {
            let key = keys.start + sent % (keys.end - keys.start);
            let number = next.entry(key).or_default();
            let message = Message::builder(queue.clone()).to_queue().key(format!("key-{key}"));
            sender.feed(message.payload(format!("{key} {number}")).build()?).await?;
            *number += 1;
            sent += 1;
        }
        let now = runtime.now();
        pause = pause.max(now - last);
        last = now;
        confirmed += settle(&mut sender).await?;
        timer.as_mut().reset(runtime.now() + TICK);
        timer.as_mut().await;
    }
    confirmed += settle(&mut sender).await?;
    assert_eq!(sent, confirmed, "every message has to be confirmed");
    Ok((confirmed, barriers, pause))
}

async fn settle(sender: &mut MovingSender) -> Result<u64, Failure> {
    let receipt = sender.flush().await?;
    match sender.take_returned(posthaste::Seq::FIRST) {
        Some(returned) => Err(returned.error.into()),
        None => Ok(receipt.confirmed),
    }
}

/// Takes so many, checks the order of each key, and says how long it waited at most.
async fn consume(receiver: &mut MovingReceiver, expected: u64) -> Result<(u64, Duration), Failure> {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut taken, mut pause, mut last) = (0, Duration::ZERO, None::<Instant>);
    while taken < expected {
        let delivery = receiver.recv().await?.ok_or("the queue has ended")?;
        let now = now();
        pause = pause.max(last.map_or(Duration::ZERO, |last| now - last));
        last = Some(now);
        let text = std::str::from_utf8(delivery.payload())?;
        let (key, number) = text.split_once(' ').ok_or("a message of somebody else's")?;
        let expected = next.entry(key.parse()?).or_default();
        let number: u64 = number.parse()?;
        if number != *expected {
            return Err(format!("key {key} came with {number} instead of {expected}").into());
        }
        *expected += 1;
        taken += 1;
        delivery.ack();
    }
    Ok((taken, pause))
}

#[expect(clippy::disallowed_methods, reason = "a program that measures reads the clock")]
fn now() -> Instant {
    Instant::now()
}
