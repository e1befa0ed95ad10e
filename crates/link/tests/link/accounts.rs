//! What the books of a broker say of copies that go to a subscriber over a link.

use std::time::Duration;

use posthaste_core::{
    Ack, BoxReceiver, Broker, Cancel, Delivery, Event, Ledger, Message, Overflow, Receiver,
    ReceiverExt, SenderExt, SenderOptions, Status, Subscription,
};
use posthaste_wire::{self as wire, Link, Role, fields};

use crate::losing::never;
use crate::support::{RawPeer, World, event, on_every_runtime, topic};

fn news() -> Subscription {
    Subscription::topic("news").unwrap()
}

/// A request, and where its answer comes.
async fn ask(world: &World) -> (Message, BoxReceiver) {
    let (address, inbox) = world.memory.inbox().await.unwrap();
    let request = Message::builder(topic("news")).reply_to(address, 1).build().unwrap();
    let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
    local.send(request.clone()).await.unwrap();
    (request, inbox)
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
fn what_is_given_back_in_good_order_went_with_its_subscription() {
    on_every_runtime(async |runtime| {
        for close in [true, false] {
            let world = World::new(runtime.clone()).await;
            let remote = world.client().await;
            let mut receiver = remote.receiver(news()).await.unwrap();
            put(&world, 0, 10).await;
            arrive(&*remote).await;
            take(&mut receiver, 0, 4).await;
            if close {
                receiver.close().await.unwrap();
            }
            drop(receiver);
            until_books(&world, 0, 4, 6).await;
            assert_eq!(dropped_as(&world, "unsubscribed").await, 6);
        }
    });
}

#[test]
fn every_message_that_is_lost_or_given_back_is_told() {
    on_every_runtime(async |runtime| {
        for lose in [true, false] {
            let world = World::forgetful(runtime.clone()).await;
            let drops = Subscription::topic("_ph.event.dropped").unwrap();
            let mut events = world.memory.receiver(drops).await.unwrap();
            let remote = world.client_with(never()).await;
            let mut receiver = remote.receiver(news()).await.unwrap();
            put(&world, 0, 10).await;
            arrive(&*remote).await;
            take(&mut receiver, 0, 4).await;
            receiver.settled().await.unwrap();
            let reason = if lose { "connection_lost" } else { "unsubscribed" };
            match lose {
                true => world.pipe.cut(),
                false => drop(receiver),
            }
            for _ in 0..6 {
                let told = events.next_delivery().await.unwrap();
                let (subscriber, topic, reason) = ("news".into(), topic("news"), reason.into());
                let dropped = Event::Dropped { subscriber, topic, reason };
                assert_eq!(Event::from_message(told.message()), Some(dropped));
                told.ack();
            }
            assert!(events.try_recv().unwrap().is_none());
        }
    });
}

#[test]
fn who_asks_is_told_at_once_when_the_request_is_lost_or_given_back() {
    on_every_runtime(async |runtime| {
        for lose in [true, false] {
            let world = World::forgetful(runtime.clone()).await;
            let remote = world.client_with(never()).await;
            let receiver = remote.receiver(news()).await.unwrap();
            put(&world, 0, 2).await;
            let (_, mut inbox) = ask(&world).await;
            put(&world, 2, 2).await;
            arrive(&*remote).await;
            until_books(&world, 5, 0, 0).await;
            match lose {
                true => world.pipe.cut(),
                false => drop(receiver),
            }
            let answer = inbox.next_delivery().await.unwrap();
            assert_eq!(answer.message().status(), Some(Status::NoResponders));
            answer.ack();
            let reason = if lose { "connection_lost" } else { "unsubscribed" };
            until_books(&world, 0, 1, 5).await;
            assert_eq!(dropped_as(&world, reason).await, 5);
        }
    });
}

/// A peer that subscribes as an automatic consumer, once it is subscribed.
async fn subscribe(world: &World) -> (RawPeer, Link) {
    let mut peer = RawPeer::connect(world).await;
    let mut options = Vec::new();
    fields::Writer::new(&mut options).str(1, "news").u8(5, 0);
    let link = peer.session.open(Role::Receiver, &options).unwrap();
    peer.session.grant(link, 100, 1 << 20);
    until(&mut peer, |event| matches!(event, wire::Event::Opened { .. })).await;
    (peer, link)
}

/// Writes what is to be said, and reads until something comes.
async fn until(peer: &mut RawPeer, mut found: impl FnMut(&wire::Event) -> bool) {
    peer.write().await;
    loop {
        while let Some(event) = peer.session.poll_event() {
            if found(&event) {
                return;
            }
        }
        assert!(peer.read().await, "the server has ended the connection");
    }
}

/// Waits until so many messages have come.
async fn until_messages(peer: &mut RawPeer, mut count: u32) {
    let counted = |event: &wire::Event| {
        if let wire::Event::Transfer { transfer, .. } = event {
            count -= transfer.count;
        }
        count == 0
    };
    until(peer, counted).await;
}

#[test]
fn a_cancel_reaches_an_automatic_subscriber_that_has_the_request() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let (mut peer, _) = subscribe(&world).await;
        put(&world, 0, 2).await;
        let (request, _inbox) = ask(&world).await;
        put(&world, 2, 2).await;
        until_messages(&mut peer, 5).await;
        world.memory.cancel(&Cancel::of(&request).unwrap());
        let cancelled = |event: &_| matches!(event, wire::Event::Cancelled { number: 3, .. });
        until(&mut peer, cancelled).await;
    });
}

#[test]
fn a_request_among_messages_is_settled_in_its_turn() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let (mut peer, link) = subscribe(&world).await;
        put(&world, 0, 3).await;
        let (_, mut inbox) = ask(&world).await;
        put(&world, 3, 3).await;
        until_messages(&mut peer, 7).await;
        for (first, last, held) in [(2, 2, 6), (4, 5, 4), (1, 7, 0)] {
            peer.session.settle(link, first, last, wire::Outcome::Ack, None, "");
            peer.write().await;
            until_books(&world, held, 7 - held, 0).await;
        }
        assert!(inbox.try_recv().unwrap().is_none(), "somebody has it, and may answer");
    });
}

#[test]
fn after_a_stop_what_became_of_each_message_is_what_the_client_says() {
    on_every_runtime(async |runtime| {
        for lose in [true, false] {
            let world = World::forgetful(runtime.clone()).await;
            let (mut peer, link) = subscribe(&world).await;
            put(&world, 0, 10).await;
            until_messages(&mut peer, 10).await;
            peer.session.settle(link, 1, 2, wire::Outcome::Ack, None, "");
            peer.session.stop(link);
            until(&mut peer, |event| matches!(event, wire::Event::Stopped { .. })).await;
            until_books(&world, 8, 2, 0).await;
            peer.session.settle(link, 4, 5, wire::Outcome::Ack, None, "");
            peer.session.settle(link, 6, 8, wire::Outcome::Release, None, "");
            peer.write().await;
            until_books(&world, 3, 4, 3).await;
            assert_eq!(dropped_as(&world, "unsubscribed").await, 3);
            // Whoever closes in good order has settled what it has seen.
            match lose {
                true => world.pipe.cut(),
                false => {
                    peer.session.close(link);
                    peer.write().await;
                }
            }
            until_books(&world, 0, 4, 6).await;
            let lost = ledger(&world).await.dropped_by.get("connection_lost").copied();
            assert_eq!(lost, lose.then_some(3));
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
