//! An application in two hundred hostile worlds: its network fails, its warehouse dies, and no order
//! that was confirmed is forgotten. Of the same application with one line in the wrong place the
//! simulator says which order is lost, and how.
//!
//! Run it with `cargo run --example simulated_shop`; docs/simulation.md is the guide.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use posthaste::prelude::*;
use posthaste::{Memory, Remote, RemoteOptions, Server, ServerOptions};
use posthaste_sim::{Faults, Node, Sim, World, check, history::History};

/// The application: it knows buses, and nothing of simulations.
mod shop {
    use posthaste::prelude::*;

    /// When the warehouse acknowledges an order.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Acks {
        OnceShipped,
        AtOnce,
    }

    /// Places an order, again and again until it is confirmed: with an id, so that the queue takes
    /// it once.
    pub(crate) async fn order(bus: &Bus, number: u32) -> Result<String, Error> {
        let id = format!("order {number}");
        loop {
            let order = Message::builder(Topic::new("orders")?).to_queue().id(&*id);
            match bus.send_message(order.payload(id.clone()).build()?).await {
                Ok(_) => return Ok(id),
                Err(failed) if failed.kind() == ErrorKind::Unknown => {}
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    /// Ships what is ordered, for as long as the warehouse is there.
    pub(crate) async fn warehouse<F>(
        bus: &Bus,
        acks: Acks,
        ship: impl Fn(String) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = ()>,
    {
        let mut orders = bus.receiver(Subscription::queue("orders")?.prefetch(4)).await?;
        while let Some(order) = orders.recv().await? {
            let id = String::from_utf8_lossy(order.payload()).into_owned();
            match acks {
                Acks::OnceShipped => {
                    ship(id).await;
                    order.ack();
                }
                Acks::AtOnce => {
                    order.ack();
                    ship(id).await;
                }
            }
        }
        Ok(())
    }
}

const ORDERS: u32 = 30;

/// The world of the shop: a broker, customers, and a warehouse that may die.
async fn world(world: World, acks: shop::Acks) {
    world
        .check(check::books_balance())
        .check(check::my("every order that was confirmed is shipped", all_shipped));
    world.node("broker").start(async |node| {
        let orders =
            Queue::new(Topic::new("orders").unwrap()).dedup_window(Duration::from_secs(60));
        let memory = Memory::with_runtime(node.runtime());
        memory.declare(orders).await.unwrap();
        let server = Server::new(node.runtime(), memory, ServerOptions::new());
        server.listen(node.transport(), "sim://broker:7000".parse().unwrap()).await.unwrap();
        std::future::pending::<()>().await;
    });
    world.node("warehouse").mortal().start(move |node| async move {
        let bus = connect(&node).await;
        let ship = |id: String| {
            let node = node.clone();
            async move {
                // Packing takes its time, and the power may fail meanwhile.
                node.sleep(Duration::from_millis(node.random(80))).await;
                node.recorder().note("shipped", id);
            }
        };
        let _ = shop::warehouse(&bus, acks, ship).await;
    });
    let customers = world.node("customers").start(async |node| {
        let bus = connect(&node).await;
        for number in 0..ORDERS {
            let id = shop::order(&bus, number).await.unwrap();
            node.recorder().note("confirmed", id);
            node.sleep(Duration::from_millis(node.random(100))).await;
        }
    });
    customers.finished().await;
    world.healed().await;
    let auditor = connect(&world.node("auditor")).await;
    world.until("the queue is empty", async || held(&auditor).await == Some(0)).await;
    world.sleep(Duration::from_secs(1)).await;
    world.recorder().books(&auditor.ledger().await.unwrap());
}

/// A bus over a connection to the broker, however long that takes.
async fn connect(node: &Node) -> Bus {
    loop {
        let there = "sim://broker:7000".parse().unwrap();
        let (runtime, transport) = (node.runtime(), node.transport());
        let remote = Remote::connect(runtime, transport, there, RemoteOptions::new()).await;
        if let Ok(remote) = remote {
            return Bus::with_runtime(node.record(remote), node.runtime());
        }
    }
}

async fn held(bus: &Bus) -> Option<u64> {
    Some(bus.queue("orders").await.ok()?.messages)
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
    let report = sim.run(async |it| world(it, shop::Acks::OnceShipped).await);
    let (worlds, steps, time) = (report.seeds, report.steps, report.elapsed.as_secs() / 60);
    println!(
        "{worlds} hostile worlds, {steps} steps, {time} minutes of virtual time: all is well."
    );

    println!("\nThe same shop, but the warehouse acknowledges before it ships:");
    let failure =
        sim.lines(usize::MAX).search(async |it| world(it, shop::Acks::AtOnce).await).unwrap_err();
    println!("seed {} breaks \"{}\"\n  {}", failure.seed, failure.check, failure.what);
    // Of the whole timeline, what happened to that order, and to the warehouse.
    let order = failure.what.split(" was").next().unwrap_or_default();
    for line in failure.lines_about(&[order, "warehouse  ***"]) {
        println!("  {line}");
    }
    println!("To see it again: {}", failure.replay());
    assert_eq!(failure.check, "every order that was confirmed is shipped");
}
