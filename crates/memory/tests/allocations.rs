//! Sending, receiving and settling allocate nothing once warm, concrete and erased.

mod common;

use bytes::Bytes;
use posthaste_core::{
    Ack, Broker, Delivery, Message, Receiver, ReceiverExt, Sender, SenderExt, SenderOptions,
    Subscription, Topic,
};

use common::Memory;

/// Sends and receives 64 bursts of 64, settling by hand where the subscription says so.
async fn exchange<S: Sender + ?Sized, R: Receiver + ?Sized>(
    sender: &mut S,
    receiver: &mut R,
    message: &Message,
) {
    let mut deliveries: Vec<Delivery> = Vec::with_capacity(64);
    for _ in 0..64 {
        for _ in 0..64 {
            sender.feed(message.clone()).await.expect("there is room");
        }
        let receipt = sender.flush().await.expect("open");
        assert_eq!((receipt.confirmed, receipt.matched), (64, 64));
        deliveries.push(receiver.next_delivery().await.expect("one is there"));
        while deliveries.len() < 64 {
            receiver.recv_many(&mut deliveries, 64).await.expect("the rest is there");
        }
        for delivery in deliveries.drain(..) {
            delivery.ack();
        }
    }
}

/// Allocations of a second run of the same exchange, but for the list that each run makes.
fn allocations<S: Sender + ?Sized, R: Receiver + ?Sized>(
    sender: &mut S,
    receiver: &mut R,
    message: &Message,
) -> u64 {
    pollster::block_on(exchange(sender, receiver, message));
    // The executor's own allocations are those of an empty future.
    let idle = allocation_counter::measure(|| pollster::block_on(async {})).count_total;
    let busy = allocation_counter::measure(|| {
        pollster::block_on(exchange(sender, receiver, message));
    });
    busy.count_total - idle - 1
}

#[test]
fn a_message_allocates_nothing_once_warm() {
    let memory = Memory::new();
    let payload = Bytes::from_static(b"a payload that already is Bytes");
    let topic = Topic::new("a.topic").unwrap();
    let to_topic = Message::new(topic.clone(), payload.clone());
    let to_queue = Message::to_queue(Topic::new("a-queue").unwrap(), payload);
    for ack in [Ack::Auto, Ack::Manual] {
        for (message, subscription) in [
            (&to_topic, Subscription::topic(&topic).unwrap().ack(ack)),
            (&to_topic, Subscription::shared(&topic, "group").unwrap().ack(ack)),
            (&to_queue, Subscription::queue("a-queue").unwrap().ack(ack)),
        ] {
            let mut sender = memory.open_sender(SenderOptions::new()).unwrap();
            let mut receiver = memory.open_receiver(&subscription).unwrap();
            let concrete = allocations(&mut sender, &mut receiver, message);
            assert_eq!(concrete, 0, "concrete, {subscription:?}");
            drop(receiver);

            let broker: &dyn Broker = &*memory;
            let mut sender = pollster::block_on(broker.sender(SenderOptions::new())).unwrap();
            let mut receiver = pollster::block_on(broker.receiver(subscription.clone())).unwrap();
            let erased = allocations(&mut *sender, &mut *receiver, message);
            assert_eq!(erased, 0, "erased, {subscription:?}");
        }
    }
    let stats = pollster::block_on(memory.stats()).unwrap();
    assert!(stats.ledger.is_balanced() && stats.ledger.held == 0, "{}", stats.ledger);
}
