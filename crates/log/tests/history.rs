//! What a queue that retains has in it after a power cut or a kill, over many seeds: everything that
//! was confirmed and that its retention keeps, each at its offset, and nothing that it let go.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::Random;
use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    Broker, ErrorKind, Message, Queue, ReceiverExt, Retention, Runtime, SenderExt, SenderOptions,
    SharedRuntime, Start, Subscription, Topic,
};
use posthaste_log::storage::Simulated;
use posthaste_log::{Durable, LogOptions};
use posthaste_smol::Smol;

fn history() -> Topic {
    Topic::new("history").unwrap()
}

/// The key of a message, by its number: a few keys, in no order.
fn key(number: u64) -> String {
    format!("key-{}", Random::new(number).below(7))
}

async fn open(disk: &Simulated, random: &mut Random, runtime: impl Into<SharedRuntime>) -> Durable {
    let mut options = LogOptions::default();
    options.segment_bytes = 512 + random.below(6_000);
    options.snapshot_bytes = 200 << random.below(8);
    options.prewritten = random.below(2) == 0;
    options.memory_bytes = [0, 2_000, 128 << 20][usize::try_from(random.below(3)).unwrap()];
    Durable::open(runtime, disk.clone(), options).await.unwrap().0
}

/// What a reader finds from a start on, as many as are said to be there: offsets and numbers.
async fn read(broker: &Durable, start: Start, limit: u64) -> Vec<(u64, u64)> {
    let of = Subscription::queue(history()).unwrap().start(start).limit(limit);
    let mut reader = broker.receiver(of).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..limit {
        let delivery = reader.next_delivery().await.unwrap();
        let payload = std::str::from_utf8(delivery.payload()).unwrap();
        let number = payload.split(' ').next().unwrap().parse().unwrap();
        found.push((delivery.offset().unwrap(), number));
    }
    found
}

/// What is left of the first `sent` messages.
fn expected(sent: u64, retain: Retention) -> Vec<u64> {
    let mut left: Vec<u64> = (0..sent).collect();
    if retain.last_per_key {
        let last: BTreeMap<_, _> = left.iter().map(|number| (key(*number), *number)).collect();
        left.retain(|number| last[&key(*number)] == *number);
    }
    let most = usize::try_from(retain.messages.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    left.split_off(left.len().saturating_sub(most))
}

fn lives(seed: u64) {
    let mut random = Random::new(seed);
    let mut disk = Simulated::new();
    let mut retain = Retention::new();
    if random.below(3) > 0 {
        retain = retain.messages(1 + random.below(40));
    }
    if random.below(2) == 0 {
        retain = retain.last_per_key();
    }
    // How many were sent, and how many of them were confirmed.
    let (mut sent, mut confirmed) = (0, 0);
    for _ in 0..6 {
        let executor = Arc::new(smol::Executor::new());
        let runtime = Smol::new(Arc::clone(&executor));
        smol::block_on(executor.run(async {
            let broker = open(&disk, &mut random, runtime).await;
            broker.declare(Queue::new(history()).retain(retain)).await.unwrap();
            let info = broker.queue(&history()).await.unwrap();
            assert!(info.ledger.is_balanced(), "{}", info.ledger);
            let found = read(&broker, Start::Beginning, info.messages).await;
            // What was not confirmed may be there; if not, its offsets are given again.
            let there = found.last().map_or(0, |(offset, _)| offset + 1);
            assert!(there >= confirmed && there <= sent, "{there} of {sent}, {confirmed} stored");
            let found: Vec<_> = found
                .iter()
                .inspect(|(offset, number)| assert_eq!(offset, number))
                .map(|(offset, _)| *offset)
                .collect();
            assert_eq!(found, expected(there, retain), "of {there} with {retain:?}");
            sent = there;
            let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
            for _ in 0..random.below(120) {
                let most = 1 << random.below(10);
                let size = usize::try_from(random.below(most)).unwrap();
                let draft = Message::builder(history()).to_queue().key(key(sent));
                let draft = draft.payload(format!("{sent} {}", "x".repeat(size)));
                sender.feed(draft.build().unwrap()).await.unwrap();
                sent += 1;
                if random.below(6) == 0 {
                    sender.flush().await.unwrap();
                    confirmed = sent;
                }
            }
            disk = match random.below(3) {
                0 => disk.kill(),
                _ => disk.power_cut(&mut || random.next()),
            };
        }));
    }
}

#[test]
fn what_is_retained_is_there_again_at_its_offset() {
    for seed in 0..300 {
        let lived = std::panic::catch_unwind(|| lives(seed));
        assert!(lived.is_ok(), "seed {seed}");
    }
}

/// Waits until the wall clock has gone on.
async fn tick(runtime: &SharedRuntime) -> std::time::Duration {
    let before = runtime.unix_time();
    while runtime.unix_time() == before {
        smol::future::yield_now().await;
    }
    runtime.unix_time()
}

#[test]
fn when_a_message_came_outlives_the_process_wherever_the_log_has_it() {
    let disk = Simulated::new();
    let executor = Arc::new(smol::Executor::new());
    let runtime: SharedRuntime = Smol::new(Arc::clone(&executor)).into();
    smol::block_on(executor.run(async {
        let mut options = LogOptions::default();
        options.segment_bytes = 4_096;
        let (broker, _) = Durable::open(runtime.clone(), disk.clone(), options).await.unwrap();
        broker.declare(Queue::new(history()).retain(Retention::new())).await.unwrap();
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        let mut then = std::time::Duration::ZERO;
        for number in 0..30 {
            if number == 20 {
                then = tick(&runtime).await;
                tick(&runtime).await;
            }
            sender.send(Message::to_queue(history(), number.to_string())).await.unwrap();
        }
        // What comes and goes elsewhere makes the log note all of that again, further on.
        let busy = Topic::new("busy").unwrap();
        for _ in 0..400 {
            sender.send(Message::to_queue(busy.clone(), vec![b'x'; 100])).await.unwrap();
        }
        broker.purge(&busy).await.unwrap();
        for _ in 0..400 {
            sender.send(Message::to_queue(busy.clone(), vec![b'x'; 100])).await.unwrap();
        }
        broker.close().await.unwrap();
        let broker = open(&disk, &mut Random::new(1), runtime.clone()).await;
        let found = read(&broker, Start::Time(then), 10).await;
        assert_eq!(found, (20..30).map(|number| (number, number)).collect::<Vec<_>>());
    }));
}

#[test]
fn what_retention_lets_go_frees_its_segments() {
    use posthaste_log::storage::Storage;
    let disk = Simulated::new();
    let executor = Arc::new(smol::Executor::new());
    let runtime: SharedRuntime = Smol::new(Arc::clone(&executor)).into();
    smol::block_on(executor.run(async {
        let mut options = LogOptions::default();
        options.segment_bytes = 4_096;
        let (broker, _) = Durable::open(runtime, disk.clone(), options).await.unwrap();
        broker.declare(Queue::new(history()).retain(Retention::new().messages(20))).await.unwrap();
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        for number in 0..2_000 {
            sender.feed(Message::to_queue(history(), format!("{number:0100}"))).await.unwrap();
        }
        sender.flush().await.unwrap();
        let segments = disk.names().unwrap();
        let segments = segments.iter().filter(|name| name.ends_with(".seg")).count();
        assert!(segments < 12, "{segments} segments for twenty messages");
    }));
}

/// What a reader was given is there after a power cut, at its offset: who goes on behind it misses nothing
/// that has come since.
#[test]
fn what_was_read_is_stored() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut disk = Simulated::new();
        for _ in 0..3 {
            let executor = Arc::new(smol::Executor::new());
            let runtime = Smol::new(Arc::clone(&executor));
            let seen = smol::block_on(executor.run(async {
                let broker = open(&disk, &mut random, runtime).await;
                broker.declare(Queue::new(history()).retain(Retention::new())).await.unwrap();
                let of = Subscription::queue(history()).unwrap().start(Start::Beginning);
                let mut reader = broker.receiver(of).await.unwrap();
                let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
                let mut seen = 0;
                for _ in 0..random.below(60) {
                    let draft = Message::builder(history()).to_queue().payload("x");
                    sender.feed(draft.build().unwrap()).await.unwrap();
                    if random.below(10) == 0 {
                        sender.flush().await.unwrap();
                        // What is confirmed is there to be read, sooner or later.
                        let all = broker.queue(&history()).await.unwrap().messages;
                        while seen < all {
                            let delivery = reader.next_delivery().await.unwrap();
                            seen = delivery.offset().unwrap() + 1;
                        }
                    }
                    while let Some(delivery) = reader.try_recv().unwrap() {
                        seen = delivery.offset().unwrap() + 1;
                    }
                    if random.below(3) == 0 {
                        smol::future::yield_now().await;
                    }
                }
                seen
            }));
            disk = match random.below(3) {
                0 => disk.kill(),
                _ => disk.power_cut(&mut || random.next()),
            };
            let executor = Arc::new(smol::Executor::new());
            let runtime = Smol::new(Arc::clone(&executor));
            smol::block_on(executor.run(async {
                let broker = open(&disk, &mut random, runtime).await;
                let there = broker.queue(&history()).await.map_or(0, |info| info.messages);
                assert!(there >= seen, "{seen} were read, {there} are there; seed {seed}");
            }));
        }
    }
}

/// A reader that waits while the disk is full is told nothing of that, and gets what comes when there is
/// room: nobody has to send anything more for that.
#[test]
fn who_reads_on_a_full_disk_gets_it_once_there_is_room() {
    let disk = Simulated::new();
    let executor = Arc::new(smol::Executor::new());
    let runtime = Smol::new(Arc::clone(&executor));
    smol::block_on(executor.run(async {
        let broker = open(&disk, &mut Random::new(1), runtime.clone()).await;
        broker.declare(Queue::new(history()).retain(Retention::new())).await.unwrap();
        let of = Subscription::queue(history()).unwrap().start(Start::Beginning);
        let mut reader = broker.receiver(of).await.unwrap();
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        sender.send(Message::to_queue(history(), "before")).await.unwrap();
        assert_eq!(reader.next_delivery().await.unwrap().payload(), "before");

        let reading = executor.spawn(async move { reader.next_delivery().await });
        loop {
            disk.refuse_writes(true);
            let error = sender.send(Message::to_queue(history(), "after")).await.unwrap_err();
            disk.refuse_writes(false);
            if error.kind() == ErrorKind::Unknown {
                break;
            }
            // It was not taken: what the broker writes by itself had found no room before.
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            while broker.trouble().is_some() {
                smol::future::yield_now().await;
            }
        }
        let soon = runtime.now() + std::time::Duration::from_secs(20);
        let read = timeout_at(&runtime, soon, reading).await;
        let delivery = read.expect("the reader does not wait for ever").unwrap();
        assert_eq!(delivery.payload(), "after");
    }));
}
