//! What passes between who asks and who works on it, beside messages: it is not wanted any more,
//! it takes longer.

use std::pin::pin;
use std::time::Duration;

use posthaste_core::{
    Broker, Cancel, Error, ErrorKind, Message, ReceiverExt, SenderExt, SenderOptions, Seq,
    SharedRuntime, Subscription,
};
use posthaste_link::{Remote, RemoteOptions, Server, ServerOptions};

use crate::scripted::Scripted;
use crate::support::{Client, World, job, on_every_runtime, topic};

/// A server of a broker that does as it is told, and a client of it.
async fn scripted(runtime: SharedRuntime) -> (Scripted, World, Server, Client) {
    let broker = Scripted::default();
    let world = World::new(runtime.clone()).await;
    let server = Server::new(runtime.clone(), broker.clone(), ServerOptions::new());
    let here = server.listen(world.pipe.clone(), "pipe:scripted".parse().unwrap()).await.unwrap();
    let remote =
        Remote::connect(runtime, world.pipe.clone(), here, RemoteOptions::new()).await.unwrap();
    (broker, world, server, Client::of(remote))
}

fn request(number: u64) -> Message {
    let to = Message::builder(topic("work")).reply_to(topic("_ph.inbox.me"), number);
    to.build().unwrap()
}

fn cancel(number: u64) -> Cancel {
    Cancel::of(&request(number)).unwrap()
}

fn by_hand() -> Subscription {
    Subscription::topic("work").unwrap().ack(posthaste_core::Ack::Manual)
}

#[test]
fn a_cancel_reaches_the_broker_and_comes_back_to_who_works_on_the_request() {
    on_every_runtime(async |runtime| {
        let (broker, _world, _server, remote) = scripted(runtime).await;
        let mut work = remote.receiver(by_hand()).await.unwrap();
        (1..=3).for_each(|number| broker.deliver(request(number)));
        let one = work.next_delivery().await.unwrap();
        let two = work.next_delivery().await.unwrap();
        remote.cancel(&cancel(2));
        two.cancelled().await;
        assert_eq!(broker.cancels(), [cancel(2)]);
        assert!(smol::future::poll_once(one.cancelled()).await.is_none());
        // One that nobody has looked at yet is known to be cancelled when somebody does.
        remote.cancel(&cancel(3));
        remote.cancel(&cancel(1));
        one.cancelled().await;
        let three = work.next_delivery().await.unwrap();
        three.cancelled().await;
        [one, two, three].into_iter().for_each(posthaste_core::Delivery::ack);
        work.settled().await.unwrap();
    });
}

#[test]
fn a_cancel_passes_through_a_gateway_both_ways() {
    on_every_runtime(async |runtime| {
        let (broker, world, _server, middle) = scripted(runtime.clone()).await;
        let gateway = Server::new(runtime.clone(), middle.clone(), ServerOptions::new());
        let there = "pipe:gateway".parse().unwrap();
        let there = gateway.listen(world.pipe.clone(), there).await.unwrap();
        let options = RemoteOptions::new();
        let far = Remote::connect(runtime, world.pipe.clone(), there, options).await.unwrap();
        let mut work = far.receiver(by_hand()).await.unwrap();
        broker.deliver(request(7));
        let delivery = work.next_delivery().await.unwrap();
        let mut cancelled = pin!(delivery.cancelled());
        assert!(smol::future::poll_once(cancelled.as_mut()).await.is_none());
        far.cancel(&cancel(7));
        cancelled.await;
        assert_eq!(broker.cancels(), [cancel(7)]);
    });
}

#[test]
fn whoever_works_longer_says_so_and_the_broker_hears_it() {
    on_every_runtime(async |runtime| {
        let (broker, world, _server, remote) = scripted(runtime).await;
        let mut work = remote.receiver(by_hand()).await.unwrap();
        broker.deliver(request(1));
        broker.deliver(job("work", "no request"));
        let one = work.next_delivery().await.unwrap();
        let two = work.next_delivery().await.unwrap();
        two.extend();
        one.extend();
        two.extend();
        world.until("all are heard", async || broker.extended() == [1, 0, 1]).await;
        assert_eq!(broker.settled(), [], "that settles nothing");
        one.ack();
        two.ack();
        work.settled().await.unwrap();
        assert_eq!(broker.settled(), [0, 1]);
    });
}

#[test]
fn a_subscriber_that_is_cut_off_hears_why_once_and_then_the_end() {
    on_every_runtime(async |runtime| {
        let (broker, _world, _server, remote) = scripted(runtime).await;
        let mut work = remote.receiver(by_hand()).await.unwrap();
        broker.deliver(request(1));
        let held = work.next_delivery().await.unwrap();
        broker.fail(Error::new(ErrorKind::SlowConsumer, "too slow"));
        let error = work.recv().await.unwrap_err();
        assert_eq!((error.kind(), error.text()), (ErrorKind::SlowConsumer, "too slow"));
        assert!(work.recv().await.unwrap().is_none());
        assert!(work.recv().await.unwrap().is_none());
        held.ack();
    });
}

#[test]
fn what_a_lossy_subscription_has_on_its_way_is_little() {
    use posthaste_core::Overflow;
    for policy in [Overflow::DropNewest, Overflow::DropOldest, Overflow::LatestPerKey] {
        on_every_runtime(async |runtime| {
            let (broker, world, _server, remote) = scripted(runtime).await;
            let lossy = by_hand().overflow(policy).prefetch(500);
            let mut work = remote.receiver(lossy).await.unwrap();
            (1..=200).for_each(|number| broker.deliver(request(number)));
            let taken = async || broker.taken();
            world.until("the window is full", async || taken().await == 64).await;
            remote.stats().await.unwrap();
            assert_eq!(taken().await, 64);
            for _ in 0..200 {
                work.next_delivery().await.unwrap().ack();
            }
        });
    }
}

#[test]
fn what_a_full_queue_refuses_comes_back_as_full() {
    on_every_runtime(async |runtime| {
        let (_broker, _world, _server, remote) = scripted(runtime).await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for text in ["yes", "no 2", "no 3", "yes", "no 5"] {
            sender.feed(job("jobs", text)).await.unwrap();
        }
        let receipt = sender.flush().await.unwrap();
        assert_eq!((receipt.confirmed, receipt.returned), (2, 3));
        for number in [2, 3, 5] {
            let returned = sender.take_returned(Seq::FIRST).unwrap();
            assert_eq!(returned.error.kind(), ErrorKind::Full);
            assert_eq!(returned.seq, Seq::new(number));
            assert_eq!(returned.message.payload(), &format!("no {number}"));
        }
        let sends = remote.sends().unwrap();
        assert_eq!((sends.taken, sends.confirmed, sends.returned), (5, 2, 3));
    });
}

#[test]
fn the_books_count_also_what_dropped_senders_have_sent() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        for round in 1..=5 {
            let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
            for number in 0..10 {
                sender.feed(job("jobs", number.to_string())).await.unwrap();
            }
            drop(sender);
            let sends = remote.sends().unwrap();
            assert_eq!(sends.taken, round * 10);
            assert!(sends.is_balanced(), "{sends:?}");
        }
        let settled = async || remote.sends().unwrap().confirmed == 50;
        world.until("all is confirmed", settled).await;
        assert_eq!(remote.sends().unwrap().pending, 0);
        remote.drain(Duration::from_secs(1)).await.unwrap();
    });
}

#[test]
fn what_comes_back_and_is_not_taken_counts_against_the_window() {
    on_every_runtime(async |runtime| {
        let (_broker, _world, _server, remote) = scripted(runtime).await;
        let mut sender = remote.sender(SenderOptions::new().window(4, 1 << 20)).await.unwrap();
        for _ in 0..4 {
            sender.feed(job("jobs", "no")).await.unwrap();
        }
        assert_eq!(sender.flush().await.unwrap().returned, 4);
        let mut slot = Some(job("jobs", "yes"));
        // Nobody else can make room, so there is nothing to wait for.
        let full = sender.send_from(&mut slot).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Full);
        assert!(slot.is_some(), "the window is full of what came back");
        assert!(sender.take_returned(Seq::FIRST).is_some());
        sender.send_from(&mut slot).await.unwrap();
        sender.flush().await.unwrap();
    });
}
