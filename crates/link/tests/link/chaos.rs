//! Connections that are cut at any moment, by the seed: nothing that was confirmed is lost, nothing
//! is invented, and nothing is left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    Broker, ErrorKind, Queue, Receipt, ReceiverExt, SenderExt, SenderOptions, Seq, SharedRuntime,
    Subscription,
};
use posthaste_tokio::Tokio;

use crate::support::{World, job, topic};

const SEEDS: u64 = 24;
const MESSAGES: u64 = 300;
const CUTS: u64 = 3;

/// A small generator (xorshift): the same seed, the same numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn what_was_confirmed_is_delivered_in_order_however_often_the_connection_is_cut() {
    for seed in 1..=SEEDS {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let runtime: SharedRuntime = Tokio::new(tokio.handle().clone()).into();
        tokio.block_on(async {
            let deadline = runtime.now() + Duration::from_secs(20);
            let ended = timeout_at(&*runtime, deadline, storm(runtime.clone(), seed)).await;
            assert!(ended.is_some(), "seed {seed} hangs");
        });
    }
}

async fn storm(runtime: SharedRuntime, seed: u64) {
    let world = World::new(runtime).await;
    world
        .memory
        .declare(Queue::new(topic("jobs")).capacity(50).max_attempts(u32::MAX))
        .await
        .unwrap();
    let (sent, (seen, acked)) = smol::future::zip(
        smol::future::zip(send(&world, seed), cut(&world, seed)),
        consume(&world, seed),
    )
    .await;
    let (confirmed, ()) = sent;
    for number in &confirmed {
        assert!(acked.contains(number), "seed {seed}: {number} was confirmed and is lost");
    }
    assert!(seen.iter().all(|number| *number < MESSAGES), "seed {seed}: one was invented");
    // One of which nothing is known may come late: its connection is gone, not what it has sent.
    let known: Vec<_> = seen.into_iter().filter(|number| confirmed.contains(number)).collect();
    assert!(known.is_sorted(), "seed {seed}: {known:?}");
    world.until("nobody is connected", async || world.server.connections() == 0).await;
    world
        .until("nobody consumes", async || {
            world.memory.queue(&topic("jobs")).await.unwrap().consumers == 0
        })
        .await;
    let stats = world.memory.stats().await.unwrap();
    let ledger = &stats.ledger;
    assert_eq!(ledger.held, 0, "seed {seed}");
    assert_eq!(ledger.accepted, ledger.acked, "seed {seed}: {ledger:?}");
    assert_eq!(stats.subscriptions, 0, "seed {seed}");
}

async fn pause(dice: &mut Dice, polls: u64) {
    for _ in 0..dice.below(polls) {
        smol::future::yield_now().await;
    }
}

async fn cut(world: &World, seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..CUTS {
        pause(&mut dice, 400).await;
        world.pipe.cut();
    }
}

/// Sends every number once, and says which were confirmed.
async fn send(world: &World, seed: u64) -> BTreeSet<u64> {
    let mut dice = Dice(seed.wrapping_mul(0xd1b5_4a32_d192_ed03));
    let remote = world.client().await;
    let window = 1 + usize::try_from(dice.below(40)).unwrap();
    let options = SenderOptions::new().window(window, 1 << 20);
    let mut sender = remote.sender(options).await.unwrap();
    let mut receipt = Receipt::empty(Seq::new(0));
    for number in 0..MESSAGES {
        let taken = sender.feed(job("jobs", number.to_string())).await.unwrap();
        assert_eq!(taken.get(), number + 1);
        if dice.below(20) == 0 {
            receipt.merge(&sender.flush().await.unwrap());
        }
        pause(&mut dice, 4).await;
    }
    receipt.merge(&sender.flush().await.unwrap());
    assert_eq!(receipt.confirmed + receipt.returned, MESSAGES, "seed {seed}");
    let mut confirmed: BTreeSet<u64> = (0..MESSAGES).collect();
    while let Some(returned) = sender.take_returned(Seq::FIRST) {
        assert_eq!(returned.error.kind(), ErrorKind::Unknown, "seed {seed}");
        assert!(confirmed.remove(&(returned.seq.get() - 1)), "seed {seed}: it came back twice");
    }
    assert_eq!(confirmed.len() as u64, receipt.confirmed, "seed {seed}");
    sender.send(job("jobs", "end")).await.ok();
    // The end itself may be cut off, and is then sent once more.
    while world.memory.queue(&topic("jobs")).await.unwrap().ledger.accepted <= receipt.confirmed {
        sender.send(job("jobs", "end")).await.ok();
    }
    confirmed
}

/// Consumes until the end comes and nothing is left, and says what it has seen, in the order of
/// the first times, and what it has acknowledged.
async fn consume(world: &World, seed: u64) -> (Vec<u64>, BTreeSet<u64>) {
    let mut dice = Dice(seed.wrapping_mul(0xa076_1d64_78bd_642f));
    let remote = world.client().await;
    let prefetch = 1 + usize::try_from(dice.below(30)).unwrap();
    let jobs = Subscription::queue("jobs").unwrap().prefetch(prefetch);
    let mut receiver = remote.receiver(jobs).await.unwrap();
    let (mut seen, mut acked, mut ended) = (Vec::new(), BTreeSet::new(), false);
    loop {
        let next = async { Some(receiver.next_delivery().await.unwrap()) };
        let empty = async {
            let left = async || world.memory.queue(&topic("jobs")).await.unwrap().messages;
            while !ended || left().await > 0 {
                smol::future::yield_now().await;
            }
            None
        };
        let Some(delivery) = smol::future::or(next, empty).await else {
            return (seen, acked);
        };
        let Ok(number) = String::from_utf8_lossy(delivery.payload()).parse::<u64>() else {
            delivery.ack();
            ended = true;
            continue;
        };
        if !seen.contains(&number) {
            seen.push(number);
        }
        match dice.below(8) {
            0 => delivery.retry(Duration::ZERO, "again"),
            1 => drop(delivery),
            2 => delivery.release(),
            _ => {
                delivery.ack();
                acked.insert(number);
            }
        }
        if dice.below(10) == 0 {
            let _ = smol::future::poll_once(receiver.settled()).await;
        }
        pause(&mut dice, 3).await;
    }
}
