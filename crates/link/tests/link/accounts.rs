//! What the books of a broker say of copies that go to a subscriber over a link.

use std::time::Duration;

use posthaste_core::{
    Ack, Broker, Delivery, Ledger, Overflow, Receiver, ReceiverExt, SenderExt, SenderOptions,
    Subscription,
};

use crate::losing::never;
use crate::support::{World, event, on_every_runtime};

fn news() -> Subscription {
    Subscription::topic("news").unwrap()
}

/// Messages to everybody, numbered from `first`.
async fn put(world: &World, first: u32, count: u32) {
    let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
    for number in first..first + count {
        local.send(event("news", number.to_string())).await.unwrap();
    }
}

/// Waits until the client has got what was put: its answer comes after the messages.
async fn arrive(remote: &impl Broker) {
    remote.stats().await.unwrap();
}

async fn take(receiver: &mut impl Receiver, first: u32, count: u32) {
    for number in first..first + count {
        let delivery = receiver.next_delivery().await.unwrap();
        assert_eq!(delivery.payload(), &number.to_string());
        delivery.ack();
    }
}

async fn ledger(world: &World) -> Ledger {
    let ledger = world.memory.stats().await.unwrap().ledger;
    assert!(ledger.is_balanced(), "{ledger}");
    ledger
}

/// Waits until so many are held, taken and dropped.
async fn until_books(world: &World, held: u64, auto: u64, dropped: u64) {
    let expected = (held, auto, dropped);
    let books = async || {
        let ledger = ledger(world).await;
        (ledger.held, ledger.auto, ledger.dropped) == expected
    };
    world.until(&format!("held, taken, dropped: {expected:?}"), books).await;
}

/// Why everything that was dropped was dropped.
async fn dropped_as(world: &World, reason: &str) -> u64 {
    let ledger = ledger(world).await;
    assert_eq!(ledger.dropped_by.keys().collect::<Vec<_>>(), [reason], "{ledger}");
    ledger.dropped
}

#[test]
fn what_the_application_took_is_taken_and_the_rest_is_lost_with_its_link() {
    on_every_runtime(async |runtime| {
        for subscription in [news(), news().limit(100)] {
            let world = World::forgetful(runtime.clone()).await;
            let remote = world.client_with(never()).await;
            let mut receiver = remote.receiver(subscription).await.unwrap();
            put(&world, 0, 10).await;
            arrive(&*remote).await;
            until_books(&world, 10, 0, 0).await;
            take(&mut receiver, 0, 4).await;
            receiver.settled().await.unwrap();
            until_books(&world, 6, 4, 0).await;
            world.pipe.cut();
            until_books(&world, 0, 4, 6).await;
            assert_eq!(dropped_as(&world, "connection_lost").await, 6);
        }
    });
}

#[test]
fn a_batch_is_taken_when_the_application_has_it_and_not_when_it_came() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut receiver = remote.receiver(news()).await.unwrap();
        put(&world, 0, 1_000).await;
        arrive(&*remote).await;
        until_books(&world, 1_000, 0, 0).await;
        let mut got = Vec::new();
        while got.len() < 1_000 {
            assert!(receiver.recv_many(&mut got, 1_000).await.unwrap() > 0);
        }
        got.into_iter().for_each(Delivery::ack);
        receiver.settled().await.unwrap();
        until_books(&world, 0, 1_000, 0).await;
    });
}

#[test]
fn a_session_that_goes_on_neither_loses_nor_doubles_an_account() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut receiver = remote.receiver(news()).await.unwrap();
        for round in 0..10 {
            put(&world, round * 30, 30).await;
            take(&mut receiver, round * 30, 15).await;
            if round % 2 == 0 {
                receiver.settled().await.unwrap();
            }
            world.pipe.cut();
            take(&mut receiver, round * 30 + 15, 15).await;
        }
        receiver.settled().await.unwrap();
        until_books(&world, 0, 300, 0).await;
    });
}

#[test]
fn after_a_lost_session_what_was_lost_is_lost_and_what_is_new_is_counted() {
    on_every_runtime(async |runtime| {
        let world = World::forgetful(runtime).await;
        let remote = world.client().await;
        let mut receiver = remote.receiver(news()).await.unwrap();
        put(&world, 0, 10).await;
        arrive(&*remote).await;
        take(&mut receiver, 0, 4).await;
        receiver.settled().await.unwrap();
        until_books(&world, 6, 4, 0).await;
        world.pipe.cut();
        until_books(&world, 0, 4, 6).await;
        // A call waits for the connection, and links are opened again before it.
        world.until("connected", async || remote.stats().await.is_ok()).await;
        put(&world, 10, 5).await;
        // What had come before may still be handed out, and changes nothing.
        loop {
            let delivery = receiver.next_delivery().await.unwrap();
            let is_last = delivery.payload() == "14";
            delivery.ack();
            if is_last {
                break;
            }
        }
        until_books(&world, 0, 9, 6).await;
        assert_eq!(dropped_as(&world, "connection_lost").await, 6);
    });
}

#[test]
fn a_drain_waits_for_what_the_application_has_not_taken() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let remote = world.client().await;
        let mut receiver = remote.receiver(news()).await.unwrap();
        put(&world, 0, 10).await;
        take(&mut receiver, 0, 4).await;
        let begun = runtime.now();
        let drain = world.memory.drain(Duration::from_secs(20));
        let taking = async {
            for _ in 0..100 {
                smol::future::yield_now().await;
            }
            take(&mut receiver, 4, 6).await;
            assert!(receiver.recv().await.unwrap().is_none(), "it ends when all is taken");
        };
        let report = smol::future::zip(drain, taking).await.0.unwrap();
        assert_eq!((report.abandoned, report.held), (0, 0));
        assert!(runtime.now() - begun < Duration::from_secs(10), "it has waited in vain");
        until_books(&world, 0, 10, 0).await;
    });
}

#[test]
fn a_drain_ends_when_the_link_of_what_it_waits_for_is_lost() {
    on_every_runtime(async |runtime| {
        let world = World::forgetful(runtime.clone()).await;
        let remote = world.client_with(never()).await;
        let receiver = remote.receiver(news()).await.unwrap();
        put(&world, 0, 10).await;
        arrive(&*remote).await;
        let begun = runtime.now();
        let drain = world.memory.drain(Duration::from_secs(20));
        let cutting = async {
            for _ in 0..100 {
                smol::future::yield_now().await;
            }
            world.pipe.cut();
        };
        let report = smol::future::zip(drain, cutting).await.0.unwrap();
        assert_eq!((report.abandoned, report.held), (0, 0));
        assert!(runtime.now() - begun < Duration::from_secs(10), "it has waited in vain");
        assert_eq!(dropped_as(&world, "connection_lost").await, 10);
        drop(receiver);
    });
}

#[test]
fn what_may_be_dropped_for_something_newer_is_taken_when_it_is_sent() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let lossy = news().overflow(Overflow::DropOldest);
        let receiver = remote.receiver(lossy).await.unwrap();
        put(&world, 0, 10).await;
        until_books(&world, 0, 10, 0).await;
        drop(receiver);
    });
}

#[test]
fn who_settles_by_hand_has_no_accounts() {
    on_every_runtime(async |runtime| {
        let world = World::forgetful(runtime).await;
        let remote = world.client_with(never()).await;
        let mut receiver = remote.receiver(news().ack(Ack::Manual)).await.unwrap();
        put(&world, 0, 10).await;
        take(&mut receiver, 0, 4).await;
        receiver.settled().await.unwrap();
        let books = ledger(&world).await;
        assert_eq!((books.held, books.acked, books.auto), (6, 4, 0));
        world.pipe.cut();
        until_books(&world, 0, 0, 6).await;
        assert_eq!(dropped_as(&world, "unsubscribed").await, 6);
    });
}
