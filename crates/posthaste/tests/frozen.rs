//! A peer that neither answers nor goes: a drain reports in time all the same, and whatever is
//! dropped meanwhile holds up nobody.

use futures::channel::oneshot;
use posthaste::prelude::*;
use posthaste::{Memory, Runtime, SenderOptions, SharedRuntime};
use posthaste_conformance::Books;
use posthaste_tokio::Tokio;
use tokio::net::{TcpListener, TcpStream};

/// A server, and a client of it whose connection can be frozen: no byte passes any more.
struct World {
    client: Bus,
    freeze: Option<oneshot::Sender<()>>,
    _server: posthaste::Server,
    _books: Books,
}

impl World {
    async fn new() -> Self {
        let runtime: SharedRuntime = Tokio::current().into();
        let broker = Memory::with_runtime(runtime.clone());
        let books = Books::watch(broker.clone());
        let server = posthaste::serve(runtime.clone(), broker, "tcp://127.0.0.1:0").await.unwrap();
        let to = server.endpoints()[0].address().to_owned();
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcp://{}", proxy.local_addr().unwrap());
        let (freeze, frozen) = oneshot::channel();
        runtime.spawn(Box::pin(async move {
            let (mut from, _) = proxy.accept().await.unwrap();
            let mut to = TcpStream::connect(to).await.unwrap();
            tokio::select! {
                _ended = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                _ = frozen => std::future::pending().await,
            }
        }));
        let client = posthaste::connect(runtime, url).await.unwrap();
        Self { client, freeze: Some(freeze), _server: server, _books: books }
    }

    fn freeze(&mut self) {
        let _ended = self.freeze.take().unwrap().send(());
    }
}

#[tokio::test]
async fn a_drain_reports_in_time_although_nobody_answers() {
    let mut world = World::new().await;
    let client = world.client.clone();
    client.send("jobs", "one").await.unwrap();
    let mut jobs = client.consume("jobs").await.unwrap();
    let held = jobs.next_delivery().await.unwrap();
    let mut sender = client.sender(SenderOptions::new()).await.unwrap();
    let asking = client.consume("other").await.unwrap();
    world.freeze();
    sender.try_send(Message::to_queue("jobs".try_into().unwrap(), "two")).unwrap();
    let clock = Tokio::current();
    let began = clock.now();
    let report = client.drain(Duration::from_millis(100)).await.unwrap();
    assert!(clock.now() - began < Duration::from_secs(5), "{report}");
    assert!(report.abandoned + report.held > 0, "{report}");
    drop((held, jobs, asking, sender));
    let sends = client.broker().sends().unwrap();
    assert!(sends.is_balanced(), "{sends:?}");
}

#[tokio::test]
async fn whatever_is_dropped_while_nobody_answers_holds_up_nobody() {
    let mut world = World::new().await;
    let client = world.client.clone();
    client.send("jobs", "one").await.unwrap();
    let mut jobs = client.consume("jobs").await.unwrap();
    let held = jobs.next_delivery().await.unwrap();
    world.freeze();
    let asking = Box::pin(client.request("nobody", "").into_future());
    let publishing = Box::pin(client.publish("news", "x"));
    let opening = Box::pin(client.subscribe("news"));
    let closing = Box::pin(jobs.close());
    let all = futures::future::join4(asking, publishing, opening, closing);
    assert!(futures::FutureExt::now_or_never(all).is_none());
    drop(held);
    drop((jobs, client, world));
}
