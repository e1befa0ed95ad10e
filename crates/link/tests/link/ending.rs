//! Links and connections come to their end, whoever wanted it and whatever else was going on.

use std::time::Duration;

use posthaste_core::{Ack, Broker, Queue, ReceiverExt, SenderExt, SenderOptions, Subscription};
use posthaste_link::{Server, ServerOptions};
use posthaste_wire::{Event, Hop, Outcome, Role, fields};

use crate::support::{RawPeer, World, job, on_every_runtime, on_one_runtime, topic};

/// The next thing that the server tells `peer`, of those that `wanted` picks.
async fn next<T>(peer: &mut RawPeer, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        while let Some(event) = peer.session.poll_event() {
            if let Some(found) = wanted(event) {
                return found;
            }
        }
        assert!(peer.read().await, "the server has ended the connection");
    }
}

#[test]
fn settlements_may_be_asked_about_again_and_again() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..200 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        let remote = world.client().await;
        let mut receiver = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let mut all = Vec::new();
        while all.len() < 200 {
            receiver.recv_many(&mut all, 200).await.unwrap();
        }
        for delivery in all {
            delivery.ack();
            let asked = smol::future::poll_once(receiver.settled()).await;
            assert!(asked.is_none_or(|settled| settled.is_ok()));
        }
        receiver.settled().await.unwrap();
        assert_eq!(world.memory.queue(&topic("jobs")).await.unwrap().messages, 0);
    });
}

#[test]
fn a_stop_before_the_link_is_open_is_heeded() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut peer = RawPeer::connect(&world).await;
        let mut options = Vec::new();
        fields::Writer::new(&mut options).str(3, "jobs").u8(5, 1);
        let link = peer.session.open(Role::Receiver, &options).unwrap();
        peer.session.stop(link);
        peer.write().await;
        next(&mut peer, |event| matches!(event, Event::Stopped { .. }).then_some(())).await;
    });
}

#[test]
fn a_client_that_asks_much_and_reads_nothing_is_gone_after_a_while() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut queue = Queue::new(topic("large"));
        for number in 0..110 {
            let long = format!("{}.{number}", "x".repeat(500));
            queue = queue.bind(long.parse().unwrap());
        }
        world.memory.declare(queue).await.unwrap();
        let mut peer = RawPeer::connect(&world).await;
        let mut name = Vec::new();
        fields::Writer::new(&mut name).str(1, "large");
        for id in 0..160 {
            peer.session.call(id, 3, &name).unwrap();
        }
        peer.write().await;
        world.until("it is gone", async || world.server.connections() == 0).await;
    });
}

#[test]
fn a_client_that_settles_the_same_again_and_again_holds_up_nobody() {
    on_one_runtime(async |runtime| {
        const COUNT: u64 = 50_000;
        let world = World::new(runtime).await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for _ in 0..COUNT {
            sender.feed(job("jobs", "")).await.unwrap();
        }
        sender.flush().await.unwrap();
        let mut peer = RawPeer::connect(&world).await;
        peer.subscribe("jobs", COUNT).await;
        let (mut last, mut link) = (0, None);
        while last < COUNT {
            (last, link) = next(&mut peer, |event| match event {
                Event::Transfer { seq, link, .. } => Some((seq, Some(link))),
                _ => None,
            })
            .await;
        }
        let link = link.expect("a message has come");
        for number in 0..100_000 {
            let first = 2 + number % (COUNT - 2);
            peer.session.settle(link, first, COUNT, Outcome::Ack, None, "");
            if number % 1_000 == 0 {
                peer.write().await;
            }
        }
        peer.session.settle(link, 1, 1, Outcome::Ack, None, "");
        peer.write().await;
        world
            .until("all is settled", async || {
                world.memory.queue(&topic("jobs")).await.unwrap().messages == 0
            })
            .await;
    });
}

#[test]
fn a_link_is_not_closed_before_its_confirms_are_said() {
    on_one_runtime(async |runtime| {
        let mut world = World::new(runtime.clone()).await;
        let behind = world.client().await;
        let gateway = Server::new(runtime, behind.clone(), ServerOptions::new());
        world.here =
            gateway.listen(world.pipe.clone(), "pipe:gateway".parse().unwrap()).await.unwrap();
        let mut peer = RawPeer::connect(&world).await;
        let link = peer.session.open(Role::Sender, &[]).unwrap();
        peer.write().await;
        next(&mut peer, |event| matches!(event, Event::Credit { .. }).then_some(())).await;
        let mut head = vec![4, 0];
        head.extend_from_slice(b"jobs");
        let to_queue = Hop { attributes: 4, ..Hop::default() };
        peer.session.transfer(link, &to_queue, &head, &bytes::Bytes::from_static(b"x")).unwrap();
        peer.session.close(link);
        peer.write().await;
        let mut confirmed = 0;
        next(&mut peer, |event| match event {
            Event::Confirm { upto, .. } => {
                confirmed = upto;
                None
            }
            Event::Closed { .. } => Some(()),
            _ => None,
        })
        .await;
        assert_eq!(confirmed, 1);
        assert_eq!(world.memory.queue(&topic("jobs")).await.unwrap().messages, 1);
    });
}

#[test]
fn draining_ends_as_soon_as_the_last_message_is_taken() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..10 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
        let mut receiver = remote.receiver(jobs).await.unwrap();
        // Its answer comes after the messages.
        remote.stats().await.unwrap();
        receiver.next_delivery().await.unwrap().release();
        let begun = runtime.now();
        let drain = remote.drain(Duration::from_secs(20));
        let taking = async {
            for _ in 0..100 {
                smol::future::yield_now().await;
            }
            while receiver.recv().await.unwrap().is_some() {}
        };
        smol::future::zip(drain, taking).await.0.unwrap();
        assert!(runtime.now() - begun < Duration::from_secs(10), "it has waited in vain");
    });
}

#[test]
fn a_receiver_that_is_closed_while_draining_gives_back_uncounted_what_was_not_seen() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut receiver = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..5 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        receiver.next_delivery().await.unwrap().ack();
        for number in 5..100 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        let drain = remote.drain(Duration::from_secs(20));
        let closing = async {
            for _ in 0..100 {
                smol::future::yield_now().await;
            }
            // The goodbye may come before the answer.
            let _ = receiver.close().await;
        };
        smol::future::zip(drain, closing).await.0.unwrap();
        let mut local = world.memory.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        for number in 1..100 {
            let delivery = local.next_delivery().await.unwrap();
            assert_eq!(delivery.payload(), &number.to_string());
            assert_eq!(delivery.attempt(), 1, "nobody has seen it");
            delivery.ack();
        }
    });
}

#[test]
fn connections_that_are_lost_again_and_again_do_not_fill_the_memory() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..1_000 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto).prefetch(100);
        let mut receiver = remote.receiver(jobs).await.unwrap();
        for _ in 0..5 {
            world
                .until("a window has gone out", async || {
                    let connected = remote.stats().await.is_ok();
                    let jobs = world.memory.queue(&topic("jobs")).await.unwrap();
                    connected && jobs.messages <= 1_000
                })
                .await;
            remote.stats().await.unwrap();
            world.pipe.cut();
        }
        world.until("connected", async || remote.stats().await.is_ok()).await;
        let left = world.memory.queue(&topic("jobs")).await.unwrap().messages;
        assert!(left >= 900, "{left} are left: the client has taken several windows");
        let mut last = None;
        while last != Some(999) {
            let delivery = receiver.next_delivery().await.unwrap();
            let number: u64 = String::from_utf8_lossy(delivery.payload()).parse().unwrap();
            assert!(last < Some(number), "each comes once, in order");
            last = Some(number);
        }
    });
}
