//! Deliveries are settled at the broker as the application said, and what it did not see goes back.

use std::time::Duration;

use posthaste_core::{Ack, Broker, Message, ReceiverExt, SenderExt, SenderOptions, Subscription};

use crate::support::{World, event, job, on_every_runtime, on_one_runtime, topic};

async fn put(world: &World, count: usize) {
    let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
    for number in 0..count {
        sender.send(job("jobs", number.to_string())).await.unwrap();
    }
}

#[test]
fn each_kind_of_settlement_reaches_the_broker() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        put(&world, 5).await;
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap().prefetch(5);
        let mut receiver = remote.receiver(jobs).await.unwrap();
        let mut first = Vec::new();
        while first.len() < 5 {
            receiver.recv_many(&mut first, 5).await.unwrap();
        }
        let mut first = first.into_iter();
        first.next().unwrap().ack();
        first.next().unwrap().reject("broken");
        first.next().unwrap().retry(Duration::ZERO, "busy");
        first.next().unwrap().release();
        drop(first.next());
        receiver.settled().await.unwrap();
        let mut again = Vec::new();
        for _ in 0..3 {
            let delivery = receiver.next_delivery().await.unwrap();
            again.push((delivery.payload().clone(), delivery.attempt()));
            delivery.ack();
        }
        again.sort();
        let expected = [("2", 2), ("3", 1), ("4", 2)].map(|(text, n)| (text.into(), n));
        assert_eq!(again, expected, "retried and dropped count, released does not");
        receiver.settled().await.unwrap();
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!((info.messages, info.ledger.acked), (0, 4));
        assert!(info.ledger.is_balanced(), "{}", info.ledger);
    });
}

#[test]
fn a_dropped_receiver_gives_back_what_was_not_seen_uncounted() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        put(&world, 20).await;
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap();
        let mut receiver = remote.receiver(jobs.clone()).await.unwrap();
        let held = receiver.next_delivery().await.unwrap();
        drop(receiver);
        let mut second = remote.receiver(jobs).await.unwrap();
        for number in 1..20 {
            let delivery = second.next_delivery().await.unwrap();
            assert_eq!((delivery.payload(), delivery.attempt()), (&number.to_string().into(), 1));
            delivery.ack();
        }
        // What was handed out is still the application's.
        held.ack();
        world
            .until("the queue is empty", async || {
                world.memory.queue(&topic("jobs")).await.unwrap().messages == 0
            })
            .await;
    });
}

#[test]
fn automatic_consumers_of_a_queue_lose_only_what_they_took() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        put(&world, 10).await;
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
        let mut receiver = remote.receiver(jobs).await.unwrap();
        for number in 0..3 {
            let delivery = receiver.next_delivery().await.unwrap();
            assert_eq!(delivery.payload(), &number.to_string());
            assert!(!delivery.is_leased());
        }
        drop(receiver);
        world
            .until("the others are back", async || {
                let info = world.memory.queue(&topic("jobs")).await.unwrap();
                (info.messages, info.unsettled) == (7, 0)
            })
            .await;
    });
}

#[test]
fn a_limit_is_the_end_and_no_more_is_taken_from_the_queue() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        put(&world, 10).await;
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap().limit(4);
        let mut receiver = remote.receiver(jobs).await.unwrap();
        for _ in 0..4 {
            receiver.next_delivery().await.unwrap().ack();
        }
        assert!(receiver.recv().await.unwrap().is_none());
        assert!(receiver.recv().await.unwrap().is_none(), "the end is sticky");
        receiver.settled().await.unwrap();
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!((info.messages, info.unsettled), (6, 0));
    });
}

#[test]
fn prefetch_bounds_what_is_unsettled_and_may_be_kept_to_the_last() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        put(&world, 30).await;
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap().prefetch(10);
        let mut receiver = remote.receiver(jobs).await.unwrap();
        let mut kept = Vec::new();
        for _ in 0..6 {
            kept.push(receiver.next_delivery().await.unwrap());
        }
        for _ in 0..4 {
            receiver.next_delivery().await.unwrap().ack();
        }
        // Six are kept, so four more may be out, although less than half has gone back.
        for _ in 0..4 {
            kept.push(receiver.next_delivery().await.unwrap());
        }
        assert!(receiver.try_recv().unwrap().is_none());
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!(info.unsettled, 10);
    });
}

#[test]
fn a_closed_receiver_gets_no_more_and_its_subscription_is_gone() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut receiver = remote.receiver(Subscription::topic("a.*").unwrap()).await.unwrap();
        receiver.close().await.unwrap();
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        let receipt = sender.send(event("a.b", "x")).await.unwrap();
        assert_eq!(receipt.matched, 0);
        assert!(receiver.recv().await.unwrap().is_none());
    });
}

#[test]
fn deleting_a_queue_ends_its_remote_consumers() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        put(&world, 1).await;
        let remote = world.client().await;
        let mut receiver = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        receiver.next_delivery().await.unwrap().ack();
        remote.delete(&topic("jobs")).await.unwrap();
        assert!(receiver.recv().await.unwrap().is_none());
    });
}

#[test]
fn large_messages_do_not_hold_up_small_ones() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let (one, other) = (world.client().await, world.client().await);
        let mut large = other.receiver(Subscription::topic("large").unwrap()).await.unwrap();
        let mut small = other.receiver(Subscription::topic("small").unwrap()).await.unwrap();
        let payload: Vec<u8> = (0..3 << 20).map(|at: usize| at.to_le_bytes()[at % 3]).collect();
        let (mut big, mut little) = (
            one.sender(SenderOptions::new()).await.unwrap(),
            one.sender(SenderOptions::new()).await.unwrap(),
        );
        for _ in 0..3 {
            big.feed(event("large", payload.clone())).await.unwrap();
            for _ in 0..100 {
                little.send(event("small", "x")).await.unwrap();
            }
        }
        for _ in 0..300 {
            small.next_delivery().await.unwrap().ack();
        }
        for _ in 0..3 {
            assert_eq!(large.next_delivery().await.unwrap().payload()[..], payload[..]);
        }
        assert_eq!(big.flush().await.unwrap().confirmed, 3);
    });
}

#[test]
fn everything_a_message_carries_arrives() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let remote = world.client().await;
        let (address, mut inbox) = remote.inbox().await.unwrap();
        let deadline = runtime.now() + Duration::from_secs(60);
        let message = Message::builder(address)
            .payload(&b"\xff\0"[..])
            .key("k")
            .id("i")
            .header("name", "value")
            .priority(3)
            .reply_to(topic("answers"), 7)
            .deadline(deadline)
            .build()
            .unwrap();
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        assert_eq!(sender.send(message.clone()).await.unwrap().matched, 1);
        let delivery = inbox.next_delivery().await.unwrap();
        let arrived = delivery.message();
        assert_eq!((arrived.key(), arrived.id()), (Some("k"), Some("i")));
        assert_eq!(arrived.header("name"), Some("value"));
        assert_eq!((arrived.priority(), arrived.correlation()), (3, 7));
        assert_eq!((arrived.kind(), arrived.payload()), (message.kind(), message.payload()));
        assert_eq!(arrived.reply_to(), Some(topic("answers")));
        let arrived = arrived.deadline().expect("it has a deadline");
        // Each hop takes a little, and none adds any.
        assert!(arrived <= runtime.now() + Duration::from_secs(60));
        assert!(arrived > deadline - Duration::from_secs(20));
    });
}
