//! A lost connection: what is known is told, what is not known is said to be so, and what can go on
//! goes on.

use std::time::Duration;

use posthaste_core::transport::{Endpoint, Transport};
use posthaste_core::{
    Ack, Broker, ErrorKind, Queue, Receipt, ReceiverExt, SenderExt, SenderOptions, Seq,
    Subscription,
};
use posthaste_link::{Reconnect, Remote, RemoteOptions};

use crate::support::{RawPeer, World, event, job, on_every_runtime, on_one_runtime, topic};

pub(crate) fn never() -> RemoteOptions {
    RemoteOptions::new().reconnect(Reconnect::Never)
}

#[test]
fn what_was_not_confirmed_comes_back_as_unknown() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client_with(never()).await;
        remote.declare(Queue::new(topic("full")).capacity(2)).await.unwrap();
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..5 {
            sender.feed(job("full", number.to_string())).await.unwrap();
        }
        world
            .until("two are in", async || {
                world.memory.queue(&topic("full")).await.unwrap().messages == 2
            })
            .await;
        world.pipe.cut();
        let receipt = sender.flush().await.unwrap();
        assert_eq!(receipt.confirmed + receipt.returned, 5);
        assert!(receipt.returned >= 3, "{receipt:?}");
        let mut last = 0;
        while let Some(returned) = sender.take_returned(Seq::FIRST) {
            assert_eq!(returned.error.kind(), ErrorKind::Unknown);
            assert_eq!(returned.message.payload(), &(returned.seq.get() - 1).to_string());
            assert!(returned.seq.get() > last, "oldest first");
            last = returned.seq.get();
        }
        assert_eq!(last, 5);
        let failed = sender.send(job("full", "x")).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Disconnected);
        assert_eq!(failed.into_message().payload(), "x");
    });
}

#[test]
fn every_waiting_future_resolves() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client_with(never()).await;
        let mut receiver = remote.receiver(Subscription::topic("a").unwrap()).await.unwrap();
        let waiting = async {
            let error = receiver.recv().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected);
            assert!(receiver.recv().await.unwrap().is_none());
        };
        let cutting = async {
            smol::future::yield_now().await;
            world.pipe.cut();
        };
        smol::future::zip(waiting, cutting).await;
        assert!(remote.stats().await.is_err());
        assert!(remote.sender(SenderOptions::new()).await.is_err());
    });
}

#[test]
fn subscriptions_queues_and_inboxes_go_on_after_a_session_was_lost() {
    on_every_runtime(async |runtime| {
        let world = World::forgetful(runtime).await;
        let remote = world.client().await;
        let mut events = remote.receiver(Subscription::topic("a.>").unwrap()).await.unwrap();
        let mut jobs = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let (address, mut inbox) = remote.inbox().await.unwrap();
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        sender.send(job("jobs", "one")).await.unwrap();
        let held = jobs.next_delivery().await.unwrap();
        for round in 0..5 {
            world.pipe.cut();
            // A call waits for the connection, and links are opened again before it.
            world.until("connected", async || remote.stats().await.is_ok()).await;
            let text = round.to_string();
            let receipt = sender.send(event("a.b", text.clone())).await.unwrap();
            assert_eq!(receipt.matched, 1);
            assert_eq!(events.next_delivery().await.unwrap().payload(), &text);
            let receipt = sender.send(event(address.as_str(), text.clone())).await.unwrap();
            assert_eq!(receipt.matched, 1, "the inbox has kept its address");
            let lost = inbox.next_delivery().await.unwrap_err();
            assert_eq!(lost.kind(), ErrorKind::SessionLost, "it says so once");
            assert_eq!(inbox.next_delivery().await.unwrap().payload(), &text);
        }
        let again = jobs.next_delivery().await.unwrap();
        assert!(again.attempt() >= 2, "it was sent again on every connection");
        held.ack();
        jobs.settled().await.expect_err("its settlement is not known");
        again.ack();
        jobs.settled().await.unwrap();
        assert_eq!(world.memory.queue(&topic("jobs")).await.unwrap().messages, 0);
    });
}

#[test]
fn a_sender_waits_for_the_connection_and_goes_on() {
    on_every_runtime(async |runtime| {
        let world = World::forgetful(runtime).await;
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        let mut sent = 0_u64;
        let mut receipt = Receipt::empty(Seq::new(0));
        for round in 0..20_u64 {
            for _ in 0..50 {
                sent += 1;
                sender.feed(job("jobs", sent.to_string())).await.unwrap();
            }
            match round % 4 {
                0 => world.pipe.cut(),
                2 => receipt.merge(&sender.flush().await.unwrap()),
                _ => {}
            }
        }
        receipt.merge(&sender.flush().await.unwrap());
        assert_eq!(receipt.confirmed + receipt.returned, sent, "each has one outcome");
        let mut unknown = 0;
        while let Some(returned) = sender.take_returned(Seq::FIRST) {
            assert_eq!(returned.error.kind(), ErrorKind::Unknown);
            unknown += 1;
        }
        assert_eq!(unknown, receipt.returned);
        let held = world.memory.queue(&topic("jobs")).await.unwrap().messages;
        assert!(held >= receipt.confirmed && held <= sent, "{held} of {sent}, {receipt:?}");
    });
}

#[test]
fn an_automatic_consumer_never_gets_a_message_twice() {
    on_every_runtime(async |runtime| {
        let world = World::forgetful(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..2_000 {
            local.send(job("jobs", number.to_string())).await.unwrap();
        }
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto).prefetch(100);
        let mut receiver = remote.receiver(jobs).await.unwrap();
        let mut last = -1;
        let mut count = 0;
        while last < 1_999 {
            let delivery = receiver.next_delivery().await.unwrap();
            let number: i32 = std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap();
            assert!(number > last, "{number} after {last}");
            (last, count) = (number, count + 1);
            if count % 300 == 0 {
                world.pipe.cut();
            }
            if world.memory.queue(&topic("jobs")).await.unwrap().messages == 0 {
                break;
            }
        }
        assert!(count > 300);
        let books = world.memory.stats().await.unwrap().ledger;
        assert!(books.is_balanced(), "{books}");
    });
}

#[test]
fn a_server_that_is_dropped_says_so_and_one_that_returns_is_found() {
    on_every_runtime(async |runtime| {
        let mut world = World::new(runtime).await;
        let remote = world.client().await;
        let mut receiver = remote.receiver(Subscription::topic("a").unwrap()).await.unwrap();
        world.restart().await;
        // What was on its way when the connection was lost fails; the next one waits.
        while remote.stats().await.is_err() {
            smol::future::yield_now().await;
        }
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        assert_eq!(sender.send(event("a", "x")).await.unwrap().matched, 1);
        assert_eq!(receiver.next_delivery().await.unwrap().payload(), "x");
    });
}

#[test]
fn a_server_that_drains_returns_the_brokers_report() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client_with(never()).await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        sender.send(job("jobs", "x")).await.unwrap();
        let report = world.server.drain(Duration::from_millis(200)).await.unwrap();
        assert_eq!(report.held, 1);
        assert_eq!(world.server.connections(), 0);
        world.until("the client has heard it", async || remote.stats().await.is_err()).await;
        let failed = sender.send(job("jobs", "y")).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Disconnected);
    });
}

#[test]
fn connecting_waits_for_a_server_that_starts_and_gives_up_in_time() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let elsewhere = Endpoint::new("pipe", "later");
        let options = RemoteOptions::new().connect_timeout(Duration::from_millis(300));
        let nobody = Remote::connect(
            runtime.clone(),
            world.pipe.clone(),
            elsewhere.clone(),
            options.clone(),
        );
        let error = nobody.await.expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().contains("pipe://later"), "{error}");
        let connecting =
            Remote::connect(runtime.clone(), world.pipe.clone(), elsewhere.clone(), options);
        let starting = async {
            smol::future::yield_now().await;
            world.server.listen(world.pipe.clone(), elsewhere).await
        };
        let (connected, listening) = smol::future::zip(connecting, starting).await;
        listening.unwrap();
        connected.unwrap();
    });
}

#[test]
fn what_never_left_the_server_counts_as_no_attempt() {
    on_every_runtime(async |runtime| {
        const COUNT: usize = 4_000;
        let world = World::forgetful(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        for _ in 0..COUNT {
            local.send(job("jobs", vec![0; 1_000])).await.unwrap();
        }
        // A client that grants much and stops to read after the first message.
        let mut client = RawPeer::connect(&world).await;
        client.subscribe("jobs", 1_000_000).await;
        client.read_until_a_message_comes().await;
        let unsettled = async || world.memory.queue(&topic("jobs")).await.unwrap().unsettled;
        world.until("the server has filled what it has", async || unsettled().await > 1_000).await;
        drop(client);
        let mut consumer =
            world.memory.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let mut attempts = [0; 3];
        for _ in 0..COUNT {
            let delivery = consumer.next_delivery().await.unwrap();
            attempts[delivery.attempt() as usize] += 1;
            delivery.ack();
        }
        let [_, never_sent, sent] = attempts;
        assert!(sent > 0 && never_sent > COUNT - 2_500, "{attempts:?}");
    });
}

#[test]
fn settling_after_a_loss_is_said_to_be_in_vain() {
    on_every_runtime(async |runtime| {
        let world = World::forgetful(runtime).await;
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        sender.send(job("jobs", "x")).await.unwrap();
        let mut jobs = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let first = jobs.next_delivery().await.unwrap();
        world.pipe.cut();
        let second = jobs.next_delivery().await.unwrap();
        assert_eq!(second.attempt(), 2);
        first.ack();
        let error = jobs.settled().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SessionLost);
        second.ack();
        jobs.settled().await.unwrap();
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!((info.messages, info.ledger.acked), (0, 1));
    });
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let there = Endpoint::new("pipe", "mute");
        let _mute = world.pipe.bind(&there).await.unwrap();
        let options = RemoteOptions::new().connect_timeout(Duration::from_millis(200));
        let connecting = Remote::connect(runtime.clone(), world.pipe.clone(), there, options);
        let error = connecting.await.expect_err("nobody has answered");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_server_that_falls_silent_is_found_out_by_the_heartbeat() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let there = Endpoint::new("pipe", "mute");
        let mut mute = world.pipe.bind(&there).await.unwrap();
        let options = never().heartbeat(Duration::from_millis(100));
        let connecting =
            Remote::connect(runtime.clone(), world.pipe.clone(), there.clone(), options);
        let serving = async {
            let connection = mute.accept().await.unwrap().await.unwrap();
            let config = posthaste_wire::Config::default();
            let session = posthaste_wire::Session::server(config, runtime.now());
            let mut server = RawPeer::new(session, connection, runtime.clone());
            while !server.session.is_established() {
                server.read().await;
            }
            // It says WELCOME, and then nothing any more.
            server.write().await;
            std::future::pending::<Result<Remote, posthaste_core::Error>>().await
        };
        let error = smol::future::or(connecting, serving).await.expect_err("it has fallen silent");
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().contains("nothing was received"), "{error}");
    });
}
