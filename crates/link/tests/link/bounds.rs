//! A stalled receiver costs a bounded amount of memory at every hop, and nobody else anything.

use posthaste_core::{
    Broker, ErrorKind, Queue, ReceiverExt, SenderExt, SenderOptions, Subscription,
};

use crate::support::{World, event, job, on_every_runtime, on_one_runtime, topic};

#[test]
fn a_full_queue_stops_its_senders_and_no_others() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        remote.declare(Queue::new(topic("full")).capacity(100)).await.unwrap();
        let options = SenderOptions::new().window(1_000, 1 << 20);
        let mut sender = remote.sender(options).await.unwrap();
        let mut taken = 0;
        world
            .until("the sender is full", async || {
                while sender.try_send(job("full", "x")).is_ok() {
                    taken += 1;
                }
                world.memory.queue(&topic("full")).await.unwrap().messages == 100 && taken == 1_100
            })
            .await;
        // The window has gone out and waits before the queue; the sender holds the rest back.
        let failed = sender.try_send(job("full", "x")).unwrap_err();
        assert_eq!((failed.kind(), failed.into_message().payload().len()), (ErrorKind::Full, 1));
        let mut other = remote.sender(SenderOptions::new()).await.unwrap();
        other.send(job("empty", "x")).await.unwrap();
        // Room in the queue lets everything through.
        let mut receiver = remote.receiver(Subscription::queue("full").unwrap()).await.unwrap();
        for _ in 0..1_100 {
            receiver.next_delivery().await.unwrap().ack();
        }
        assert_eq!(sender.flush().await.unwrap().upto.get(), 1_100);
    });
}

#[test]
fn a_stalled_receiver_gets_no_more_than_its_window() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for _ in 0..1_000 {
            sender.send(job("jobs", vec![0; 100])).await.unwrap();
        }
        let jobs = Subscription::queue("jobs").unwrap();
        let few = remote.receiver(jobs.clone().prefetch(64)).await.unwrap();
        let unsettled = async || world.memory.queue(&topic("jobs")).await.unwrap().unsettled;
        world.until("its window is full", async || unsettled().await == 64).await;
        let bytes = remote.receiver(jobs.capacity(65_536, 2_000)).await.unwrap();
        // Twenty bytes of credit are left after nineteen messages: one more overdraws them.
        world.until("its window is full", async || unsettled().await >= 64 + 19).await;
        remote.stats().await.unwrap();
        assert!(unsettled().await <= 64 + 20 + 256, "{}", unsettled().await);
        drop((few, bytes));
        world.until("all went back", async || unsettled().await == 0).await;
    });
}

#[test]
fn a_stalled_subscription_does_not_delay_another_on_the_same_connection() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let stalled = Subscription::topic("a").unwrap().capacity(1_000_000, 64 << 20);
        let _stalled = remote.receiver(stalled).await.unwrap();
        let mut lively = remote.receiver(Subscription::topic("a").unwrap()).await.unwrap();
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..20_000_u32 {
            sender.send(event("a", number.to_string())).await.unwrap();
            if number % 100 == 99 {
                for _ in 0..100 {
                    lively.next_delivery().await.unwrap().ack();
                }
            }
        }
    });
}

#[test]
fn a_thousand_links_share_one_connection() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut receivers = Vec::new();
        for number in 0..1_000 {
            let subscription = Subscription::topic(format!("t.{number}")).unwrap();
            receivers.push(remote.receiver(subscription).await.unwrap());
        }
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..1_000 {
            sender.feed(event(&format!("t.{number}"), number.to_string())).await.unwrap();
        }
        assert_eq!(sender.flush().await.unwrap().matched, 1_000);
        for (number, receiver) in receivers.iter_mut().enumerate() {
            let delivery = receiver.next_delivery().await.unwrap();
            assert_eq!(delivery.payload(), &number.to_string());
        }
        assert_eq!(world.server.connections(), 1);
    });
}

#[test]
fn more_links_than_the_limit_are_refused_and_the_rest_goes_on() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let limits = posthaste_wire::Limits { links: 3, ..posthaste_wire::Limits::default() };
        let options = posthaste_link::RemoteOptions::new().limits(limits);
        let remote = world.client_with(options).await;
        let mut senders = Vec::new();
        for _ in 0..3 {
            senders.push(remote.sender(SenderOptions::new()).await.unwrap());
        }
        let error = remote.sender(SenderOptions::new()).await.err().expect("there is no link left");
        assert_eq!(error.kind(), ErrorKind::Limit);
        senders.pop();
        world
            .until("the number is free again", async || {
                remote.sender(SenderOptions::new()).await.is_ok()
            })
            .await;
        senders[0].send(event("a", "x")).await.unwrap();
    });
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    on_one_runtime(async |runtime| {
        let options = posthaste_link::ServerOptions::new().connections(2);
        let world = World::with(runtime, options).await;
        let _both = (world.client().await, world.client().await);
        let third = posthaste_link::Remote::connect(
            world.runtime.clone(),
            world.pipe.clone(),
            world.here.clone(),
            posthaste_link::RemoteOptions::new(),
        );
        let error = third.await.expect_err("the server is full");
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains("2 connections"), "{error}");
    });
}
