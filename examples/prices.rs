//! Real-time data: a price feed with two kinds of readers. The recorder misses no tick and holds
//! the feed up if it must; the screen holds nobody up, and what it missed is counted.
//!
//! Run it with `cargo run --example prices`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use posthaste::prelude::*;
use posthaste::{Memory, Overflow};

const TICKS: u64 = 50_000;
const SYMBOLS: [&str; 4] = ["ACME", "BOLT", "COGS", "DYNE"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::new(Memory::new());
    let recorder = Subscription::topic("px.>")?.capacity(1_024, 1 << 20);
    let screen = Subscription::topic("px.*.ACME")?.capacity(64, 1 << 16);
    let mut recorder = bus.receiver(recorder).await?;
    let mut screen = bus.receiver(screen.overflow(Overflow::DropNewest)).await?;

    // The feed: many messages in flight, one flush for all of them.
    let mut feed = bus.sender(SenderOptions::new()).await?;
    let feeding = async {
        for tick in 0..TICKS {
            feed.feed(price(tick)?).await?;
        }
        let receipt = feed.flush().await?;
        let (ticks, copies) = (receipt.confirmed, receipt.matched);
        println!("fed {ticks} ticks, {copies} copies matched");
        Ok::<_, Error>(())
    };

    let recording = async {
        let (mut batch, mut recorded) = (Vec::new(), 0);
        while recorded < TICKS {
            recorder.recv_many(&mut batch, 256).await?;
            for tick in batch.drain(..) {
                assert_eq!(tick.message().id(), Some(recorded.to_string().as_str()));
                recorded += 1;
            }
        }
        println!("recorded {recorded} ticks, in order, none missing");
        Ok::<_, Error>(())
    };
    tokio::try_join!(feeding, recording)?;

    // The screen looks up only now: it has the oldest ticks, and the books have the others.
    let mut shown = 0;
    while let Some(tick) = screen.try_recv()? {
        assert!(tick.message().topic().as_str().ends_with(".ACME"));
        shown += 1;
    }
    let ledger = bus.ledger().await?;
    assert!(ledger.is_balanced());
    assert_eq!(shown + ledger.dropped, TICKS / 4);
    println!("shown {shown} ticks; dropped: {:?}", ledger.dropped_by);
    Ok(())
}

fn price(tick: u64) -> Result<Message, Error> {
    let symbol = SYMBOLS[(tick % 4) as usize];
    let cents = 10_000 + tick * 7 % 1_000;
    Message::builder(Topic::new(format!("px.xnas.{symbol}"))?)
        .id(tick.to_string())
        .key(symbol)
        .payload(format!("{}.{:02}", cents / 100, cents % 100))
        .build()
}
