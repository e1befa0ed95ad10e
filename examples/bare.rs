//! No runtime, no server, no socket: a broker in this process, under a bare `block_on`.
//!
//! Run it with `cargo run --example bare`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use posthaste::Memory;
use posthaste::prelude::*;

fn main() -> Result<(), Error> {
    pollster::block_on(async {
        let bus = Bus::new(Memory::new());

        // Publish-subscribe: every subscriber whose pattern matches has its own copy.
        let mut every_room = bus.subscribe("home.*.temperature").await?;
        let mut whole_house = bus.subscribe("home.>").await?;
        let receipt = bus.publish("home.kitchen.temperature", "21.5").await?;
        assert_eq!(receipt.matched, 2);
        println!("published: {} subscribers have it", receipt.matched);

        for subscriber in [&mut every_room, &mut whole_house] {
            let reading = subscriber.next_delivery().await?;
            assert_eq!(reading.payload(), "21.5");
            println!("received: {} is 21.5", reading.message().topic());
        }

        // A queue holds its messages while nobody consumes them ...
        for dish in ["soup", "pasta"] {
            bus.send("kitchen.orders", dish).await?;
        }
        println!("queued: {} orders", bus.queue("kitchen.orders").await?.messages);

        // ... and hands each to one consumer, until it is settled.
        let mut cook = bus.consume("kitchen.orders").await?;
        let soup = cook.next_delivery().await?;
        assert_eq!((soup.payload().as_ref(), soup.attempt()), (&b"soup"[..], 1));
        drop(soup); // Burnt. What is dropped without an ack is delivered again.
        for _ in 0..2 {
            let order = cook.next_delivery().await?;
            println!("cooked: {:?}, attempt {}", order.payload(), order.attempt());
            order.ack();
        }
        cook.settled().await?;

        let ledger = bus.ledger().await?;
        assert!(ledger.is_balanced());
        assert_eq!((ledger.auto, ledger.acked, ledger.held), (2, 2, 0));
        println!("the books: {ledger}");
        Ok(())
    })
}
