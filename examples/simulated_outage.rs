//! An application with a broker of its own on a disk, in two hundred hostile worlds: it is killed, its
//! power fails, its disk is full, a sync fails, and no order that was confirmed is forgotten. Of the
//! same application, content with orders that were written and not synced, the simulator says which
//! one a loss of power takes.
//!
//! Run it with `cargo run --example simulated_outage`; docs/simulation.md is the guide.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use posthaste::prelude::*;
use posthaste::{Durable, Level, LogOptions};
use posthaste_sim::{Faults, Node, Sim, World, check, history::History};

const ORDERS: u32 = 30;

/// The shop takes orders, which have to reach `level` to be confirmed, and ships them. It takes the
/// next one wherever the life before has ended.
async fn shop(node: Node, level: Level, orders: Arc<AtomicU32>) -> Result<(), Error> {
    let broker = open(&node).await;
    let bus = Bus::with_runtime(broker.clone(), node.runtime());
    let ships = node.spawn(ship(node.clone(), bus));
    let mut sender = broker.sender(SenderOptions::new().confirm(level)).await?;
    loop {
        let number = orders.fetch_add(1, Ordering::Relaxed);
        if number >= ORDERS {
            break;
        }
        let order = format!("order {number}");
        // Whoever gets no confirmation orders elsewhere.
        if sender.send(Message::to_queue(Topic::new("orders")?, order.clone())).await.is_ok() {
            node.recorder().note("confirmed", order);
        }
        node.sleep(Duration::from_millis(node.random(100))).await;
    }
    ships.await.unwrap_or(Ok(()))
}

async fn ship(node: Node, bus: Bus) -> Result<(), Error> {
    let mut orders = bus.receiver(Subscription::queue("orders")?).await?;
    while let Some(order) = orders.recv().await? {
        node.sleep(Duration::from_millis(node.random(80))).await;
        node.recorder().note("shipped", String::from_utf8_lossy(order.payload()));
        order.ack();
    }
    Ok(())
}

/// The broker on the node's disk; one that is full has room again some time.
async fn open(node: &Node) -> Durable {
    let mut options = LogOptions::default();
    // Small, so that a world is, and that segments begin and end in it.
    options.segment_bytes = 16 << 10;
    loop {
        if let Ok((broker, _)) = Durable::open(node.runtime(), node.disk(), options.clone()).await {
            return broker;
        }
        node.sleep(Duration::from_millis(100)).await;
    }
}

async fn world(world: World, level: Level) {
    world.check(check::my("every order that was confirmed is shipped", all_shipped));
    let orders = Arc::new(AtomicU32::new(0));
    let next = Arc::clone(&orders);
    world.node("shop").mortal().start(move |node| {
        let next = Arc::clone(&next);
        async move { drop(shop(node, level, next).await) }
    });
    world.until("all have ordered", async || orders.load(Ordering::Relaxed) >= ORDERS).await;
    world.healed().await;
    // Give it time to come to rest: what was confirmed has to be done now.
    world.sleep(Duration::from_secs(10)).await;
}

fn all_shipped(history: &History) -> Result<(), String> {
    let missing = |id: &&str| !history.notes("shipped").any(|shipped| shipped == *id);
    match history.notes("confirmed").find(missing) {
        None => Ok(()),
        Some(id) => Err(format!("{id} was confirmed and never shipped")),
    }
}

fn main() {
    let sim = Sim::new().seeds(0..200).faults(Faults::rough());
    let report = sim.run(async |it| world(it, Level::Stored).await);
    let (worlds, time) = (report.seeds, report.elapsed.as_secs() / 60);
    println!("{worlds} hostile worlds, {time} minutes of virtual time: all is well.");

    println!("\nThe same shop, content with what is written and not synced:");
    let written = async |it| world(it, Level::Written).await;
    let failure = sim.lines(usize::MAX).search(written).unwrap_err();
    println!("seed {} breaks \"{}\"\n  {}", failure.seed, failure.check, failure.what);
    let order = failure.what.split(" was").next().unwrap_or_default();
    for line in failure.lines_about(&[order, "*** loses its power"]) {
        println!("  {line}");
    }
    println!("To see it again: {}", failure.replay());
    assert_eq!(failure.check, "every order that was confirmed is shipped");
}
