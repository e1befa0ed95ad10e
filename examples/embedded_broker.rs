//! No broker process: one peer has the broker inside and serves it, the other connects to it.
//! What they say to each other is the same in one process, over a Unix socket and over TCP; the
//! one thing that differs is a URL.
//!
//! Run it with `cargo run --example embedded_broker`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use posthaste::prelude::*;
use posthaste::{Memory, SharedRuntime};
use posthaste_smol::Smol;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("kitchen.sock");
    for url in ["memory:", &format!("unix:{}", socket.display()), "tcp://127.0.0.1:0"] {
        smol::block_on(dinner(url))?;
    }
    Ok(())
}

async fn dinner(url: &str) -> Result<(), Error> {
    // The kitchen's own bus is on its own broker, so it never leaves the process.
    let runtime: SharedRuntime = Smol::global().into();
    let broker = Memory::with_runtime(runtime.clone());
    let kitchen = Bus::with_runtime(broker.clone(), runtime.clone());

    let server = match url {
        "memory:" => None,
        url => Some(posthaste::serve(runtime.clone(), broker, url).await?),
    };
    let waiter = match &server {
        None => kitchen.clone(),
        Some(server) => posthaste::connect(runtime, server.endpoints()[0].to_string()).await?,
    };
    talk(&kitchen, &waiter).await?;
    println!("{url}: served over {}", waiter.capabilities().backend());
    Ok(())
}

/// Nothing in here knows where the other one is.
async fn talk(kitchen: &Bus, waiter: &Bus) -> Result<(), Error> {
    let mut ready = waiter.subscribe("dish.*.ready").await?;
    waiter.send("orders", "soup").await?;

    let mut orders = kitchen.consume("orders").await?;
    let order = orders.next_delivery().await?;
    assert_eq!(order.payload(), "soup");
    let receipt = kitchen.publish("dish.soup.ready", "hot").await?;
    assert_eq!(receipt.matched, 1, "the waiter is listening, wherever that is");
    order.ack();
    orders.settled().await?;

    assert_eq!(ready.next_delivery().await?.payload(), "hot");
    // Over a link the broker hears of that a moment later; then the books say so.
    ready.settled().await?;
    let ledger = kitchen.ledger().await?;
    assert_eq!((ledger.acked, ledger.held), (1, 0));
    Ok(())
}
