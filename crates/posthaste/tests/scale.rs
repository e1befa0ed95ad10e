//! Many at once: a thousand subscribers, over one connection and over a thousand; and requests from
//! many requesters over two responders, one of which is lost.
#![expect(clippy::disallowed_methods, reason = "a test drives tokio itself")]

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use posthaste::prelude::*;
use posthaste::{BoxReceiver, Memory, Server, SharedRuntime};
use posthaste_conformance::Books;
use posthaste_tokio::Tokio;
use tokio::task::JoinHandle;

const SUBSCRIBERS: usize = 1_000;
const MESSAGES: usize = 1_000;

struct World {
    runtime: SharedRuntime,
    broker: Memory,
    server: Server,
    url: String,
    _books: Books,
}

impl World {
    async fn at(url: &str) -> Self {
        let runtime: SharedRuntime = Tokio::current().into();
        let broker = Memory::with_runtime(runtime.clone());
        let books = Books::watch(broker.clone());
        let server = posthaste::serve(runtime.clone(), broker.clone(), url).await.unwrap();
        let url = server.endpoints()[0].to_string();
        Self { runtime, broker, server, url, _books: books }
    }

    async fn connect(&self) -> Bus {
        posthaste::connect(self.runtime.clone(), &self.url).await.unwrap()
    }

    /// Nothing is lost and nothing is left, whatever the test did.
    async fn assert_balanced(&self) {
        // What the applications have taken is settled as soon as the broker hears of it.
        let mut ledger = self.broker.stats().await.unwrap().ledger;
        while ledger.held > 0 {
            assert!(ledger.is_balanced(), "{ledger}");
            tokio::task::yield_now().await;
            ledger = self.broker.stats().await.unwrap().ledger;
        }
        assert!(ledger.is_balanced(), "{ledger}");
    }
}

/// Every subscriber gets every message, in order.
async fn receive_all(mut receiver: BoxReceiver) {
    let mut batch = Vec::new();
    let mut next = 0;
    while next < MESSAGES {
        assert!(receiver.recv_many(&mut batch, 256).await.unwrap() > 0, "ended early");
        for delivery in batch.drain(..) {
            assert_eq!(delivery.payload(), next.to_string().as_str());
            next += 1;
        }
    }
    assert!(receiver.try_recv().unwrap().is_none(), "more than was published");
}

async fn publish_to_a_thousand(world: &World, receivers: Vec<BoxReceiver>) {
    let receiving: Vec<_> =
        receivers.into_iter().map(|receiver| tokio::spawn(receive_all(receiver))).collect();
    let bus = world.connect().await;
    let mut sender = bus.sender(SenderOptions::new()).await.unwrap();
    let topic = Topic::new("news.today").unwrap();
    for number in 0..MESSAGES {
        sender.feed(Message::new(topic.clone(), number.to_string())).await.unwrap();
    }
    let receipt = sender.flush().await.unwrap();
    assert_eq!((receipt.confirmed, receipt.matched), (1_000, (SUBSCRIBERS * MESSAGES) as u64));
    for done in join_all(receiving).await {
        done.unwrap();
    }
    world.assert_balanced().await;
    let ledger = world.broker.stats().await.unwrap().ledger;
    assert_eq!(ledger.dropped, 0, "{:?}", ledger.dropped_by);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscribers_on_one_connection_each_get_their_own_copy() {
    let world = World::at("tcp://127.0.0.1:0").await;
    let bus = world.connect().await;
    let receivers = try_join_all((0..SUBSCRIBERS).map(|_| bus.subscribe("news.*"))).await.unwrap();
    publish_to_a_thousand(&world, receivers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscribers_on_a_thousand_connections_each_get_their_own_copy() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", folder.path().join("scale.sock").display());
    let world = World::at(&url).await;
    let mut receivers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        receivers.push(world.connect().await.subscribe("news.*").await.unwrap());
    }
    assert_eq!(world.server.connections(), SUBSCRIBERS as u64);
    publish_to_a_thousand(&world, receivers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requesters_over_two_responders_each_get_their_own_reply() {
    let world = Arc::new(World::at("tcp://127.0.0.1:0").await);
    for _ in 0..2 {
        let responder = world.connect().await.serve("double").open().await.unwrap();
        tokio::spawn(responder.run(|request| async move {
            let number: u64 = std::str::from_utf8(request.payload()).unwrap().parse().unwrap();
            Ok::<_, std::convert::Infallible>((2 * number).to_string())
        }));
    }
    let asking: Vec<_> = (0..20_u64)
        .map(|requester| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let bus = world.connect().await;
                let ask = |number: u64| {
                    let bus = bus.clone();
                    async move {
                        let reply = bus.request("double", number.to_string()).await.unwrap();
                        assert_eq!(reply.payload(), (2 * number).to_string().as_str());
                    }
                };
                join_all((0..100).map(|number| ask(1_000 * requester + number))).await;
                assert_eq!(bus.late_replies(), 0);
            })
        })
        .collect();
    for done in join_all(asking).await {
        done.unwrap();
    }
}

/// Waits until so many requests wait for somebody to answer them, whom `asking` asked.
async fn until_held<T>(world: &World, counts: RangeInclusive<u64>, asking: &JoinHandle<T>) {
    while !counts.contains(&world.broker.stats().await.unwrap().ledger.held) {
        assert!(!asking.is_finished(), "a request has failed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_are_in_flight_on_one_bus_than_a_connection_has_links() {
    const REQUESTS: u64 = 12_000;
    let world = World::at("tcp://127.0.0.1:0").await;
    let answering = world.connect().await;
    let responder = answering.serve("double").concurrency(1).open().await.unwrap();
    let bus = world.connect().await;
    let ask = |number: u64| {
        let asking = bus.request("double", number.to_string()).within(Duration::from_secs(600));
        async move {
            let reply = asking.await.unwrap();
            assert_eq!(reply.payload(), (2 * number).to_string().as_str());
        }
    };
    // Whoever gives up leaves nothing behind that others miss.
    let given_up = tokio::spawn(join_all((0..REQUESTS).map(ask)));
    until_held(&world, 100..=REQUESTS, &given_up).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    let asked = tokio::spawn(join_all((0..REQUESTS).map(ask)));
    // One that was given up may be in the responder's hands.
    until_held(&world, REQUESTS..=REQUESTS + 1, &asked).await;
    let answered = tokio::spawn(responder.run(|request| async move {
        let number: u64 = std::str::from_utf8(request.payload()).unwrap().parse().unwrap();
        Ok::<_, std::convert::Infallible>((2 * number).to_string())
    }));
    asked.await.unwrap();
    answered.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_responder_is_none_at_once_and_what_it_had_in_hand_is_answered_after_its_session()
{
    let world = World::at("tcp://127.0.0.1:0").await;
    let asking = world.connect().await;
    // A runtime of its own stands for the other process: it dies without a goodbye.
    let process = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let elsewhere = Tokio::new(process.handle().clone());
    let answering = posthaste::connect(elsewhere, &world.url).await.unwrap();
    let mut responder = answering.serve("work").open().await.unwrap();
    let long = Duration::from_secs(600);
    let request = tokio::spawn({
        let asking = asking.clone();
        async move { asking.request("work", "1").within(long).await }
    });
    let in_hand = responder.recv().await.unwrap().unwrap();
    process.shutdown_background();
    let error = request.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoResponders, "{error}");
    let error = asking.request("work", "2").within(long).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoResponders, "{error}");
    drop((in_hand, responder, answering));
    world.assert_balanced().await;
}
