//! Large messages that cross a connection while requests do, without a pause.
//!
//! A payload is bounded at 16 MiB, so what is larger goes in pieces, one behind the other.

use anyhow::{Result, ensure};
use posthaste::{
    Ack, BoxReceiver, Bus, Message, ReceiverExt, SenderExt, SenderOptions, Subscription, Topic,
};

use crate::stage::Meter;

const QUEUE: &str = "bulk";

/// Where large messages arrive.
pub(super) async fn open(bus: &Bus) -> Result<BoxReceiver> {
    Ok(bus.receiver(Subscription::queue(QUEUE)?.ack(Ack::Auto)).await?)
}

/// Takes them, and counts those.
pub(super) async fn take(mut bulk: BoxReceiver, meter: Meter) -> Result<()> {
    loop {
        bulk.next_delivery().await?.ack();
        meter.add(1);
    }
}

/// Sends them, each in so many pieces, and waits until each has arrived as a whole.
pub(super) async fn send(bus: Bus, size: usize, pieces: usize) -> Result<()> {
    let mut sender = bus.sender(SenderOptions::new()).await?;
    let piece = Message::to_queue(Topic::new(QUEUE)?, vec![7; size / pieces]);
    loop {
        for _ in 0..pieces {
            sender.feed(piece.clone()).await?;
        }
        let receipt = sender.flush().await?;
        ensure!(receipt.returned == 0, "a large message came back");
    }
}
