//! Handles and futures may be dropped at any point, anywhere, and leave nothing behind.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use posthaste_core::{Broker, ReceiverExt, SenderExt, SenderOptions, Subscription};
use posthaste_link::{Remote, RemoteOptions};

use crate::support::{World, event, job, on_every_runtime, on_one_runtime, topic};

/// Polls `future` up to `polls` times with nobody to wake, then drops it.
fn poll_then_drop(future: impl Future, polls: usize) -> bool {
    let mut future = pin!(future);
    (0..polls).any(|_| {
        let poll = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        matches!(poll, Poll::Ready(_))
    })
}

#[test]
fn opening_that_is_dropped_leaves_no_subscription_and_no_sender() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        for polls in 0..3 {
            poll_then_drop(remote.receiver(Subscription::topic("a").unwrap()), polls);
            poll_then_drop(remote.sender(SenderOptions::new()), polls);
            poll_then_drop(remote.inbox(), polls);
            poll_then_drop(remote.declare(posthaste_core::Queue::new(topic("q"))), polls);
        }
        world
            .until("nothing is subscribed", async || {
                remote.stats().await.unwrap().subscriptions == 0
            })
            .await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        assert_eq!(sender.send(event("a", "x")).await.unwrap().matched, 0);
    });
}

#[test]
fn connecting_that_is_dropped_leaves_no_connection() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        for polls in 0..4 {
            let options = RemoteOptions::new();
            let (pipe, here) = (world.pipe.clone(), world.here.clone());
            poll_then_drop(Remote::connect(runtime.clone(), pipe, here, options), polls);
        }
        world.until("nobody is connected", async || world.server.connections() == 0).await;
    });
}

#[test]
fn what_was_fed_is_sent_although_everything_is_dropped() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..1_000 {
            sender.feed(job("jobs", number.to_string())).await.unwrap();
        }
        sender.feed(job("jobs", vec![0; 1 << 20])).await.unwrap();
        drop((sender, remote));
        world
            .until("everything has arrived", async || {
                let jobs = world.memory.queue(&topic("jobs")).await;
                jobs.is_ok_and(|jobs| jobs.messages == 1_001)
            })
            .await;
        world.until("it is gone", async || world.server.connections() == 0).await;
    });
}

#[test]
fn deliveries_that_outlive_their_remote_go_back_and_may_still_be_settled() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        sender.send(job("jobs", "x")).await.unwrap();
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap();
        let mut receiver = remote.receiver(jobs.clone()).await.unwrap();
        let delivery = receiver.next_delivery().await.unwrap();
        drop((receiver, remote));
        let mut local = world.memory.receiver(jobs).await.unwrap();
        let again = local.next_delivery().await.unwrap();
        assert_eq!(again.attempt(), 2, "nobody can say any more what became of it");
        delivery.ack();
        again.ack();
    });
}

#[test]
fn handles_are_dropped_on_a_foreign_thread_in_any_order() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        let mut receiver = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        sender.send(job("jobs", "x")).await.unwrap();
        let delivery = receiver.next_delivery().await.unwrap();
        #[allow(clippy::disallowed_methods, reason = "the point is a thread of no runtime")]
        let thread = std::thread::spawn(move || {
            drop(remote);
            drop(receiver);
            drop(sender);
            drop(delivery);
        });
        thread.join().expect("dropping does not panic");
        world.until("nobody is connected", async || world.server.connections() == 0).await;
        assert_eq!(world.memory.queue(&topic("jobs")).await.unwrap().unsettled, 0);
    });
}

#[test]
fn a_drained_remote_has_flushed_and_given_back() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..10 {
            sender.feed(job("jobs", number.to_string())).await.unwrap();
        }
        let mut receiver = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        receiver.next_delivery().await.unwrap().ack();
        let kept = receiver.next_delivery().await.unwrap();
        let report = remote.drain(std::time::Duration::from_millis(50)).await.unwrap();
        assert!(report.abandoned >= 1, "{report}");
        assert_eq!(sender.flush().await.unwrap().confirmed, 10);
        drop(kept);
        assert!(remote.sender(SenderOptions::new()).await.is_err());
        world
            .until("all but the first are back", async || {
                let info = world.memory.queue(&topic("jobs")).await.unwrap();
                (info.messages, info.unsettled) == (9, 0)
            })
            .await;
    });
}
