//! Runtimes are values: a tokio server, a smol client and no runtime at all, in one binary, on one
//! broker.

use posthaste::prelude::*;
use posthaste::{Memory, SharedRuntime};
use posthaste_conformance::Books;
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

#[test]
fn a_tokio_server_a_smol_client_and_a_bare_block_on_share_a_broker() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let serving: SharedRuntime = Tokio::new(tokio.handle().clone()).into();
    let broker = Memory::with_runtime(serving.clone());
    let _books = Books::watch(broker.clone());
    let server =
        tokio.block_on(posthaste::serve(serving, broker.clone(), "tcp://127.0.0.1:0")).unwrap();
    let url = server.endpoints()[0].to_string();

    // No runtime: the broker's own handle, under an executor that is a loop and a thread's park.
    let bare = Bus::new(broker.clone());
    let mut jobs = pollster::block_on(bare.consume("jobs")).unwrap();

    smol::block_on(async {
        let client = posthaste::connect(Smol::global(), &url).await.unwrap();
        assert_eq!(client.send("jobs", "from smol, through tokio").await.unwrap().matched, 1);
        let asked = client.request("nobody", "?").within(Duration::from_secs(60)).await;
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::NoResponders);
    });

    let job = pollster::block_on(jobs.next_delivery()).unwrap();
    assert_eq!(job.payload(), "from smol, through tokio");
    job.ack();
    let ledger = pollster::block_on(bare.ledger()).unwrap();
    assert!(ledger.is_balanced() && ledger.held == 0, "{ledger}");
}

#[test]
fn every_pattern_works_under_a_bare_block_on() {
    pollster::block_on(async {
        let bus = Bus::new(Memory::new());
        let _books = Books::watch(bus.broker().clone());
        let mut news = bus.subscribe("news.>").await.unwrap();
        assert_eq!(bus.publish("news.today", "rain").await.unwrap().matched, 1);
        assert_eq!(news.next_delivery().await.unwrap().payload(), "rain");

        bus.send("jobs", "one").await.unwrap();
        let mut jobs = bus.consume("jobs").await.unwrap();
        drop(jobs.next_delivery().await.unwrap());
        let again = jobs.next_delivery().await.unwrap();
        assert_eq!(again.attempt(), 2);
        again.ack();

        let clerk = bus.serve("double").limit(1).open().await.unwrap();
        let answering = clerk.run(async |request: Message| {
            let number = std::str::from_utf8(request.payload()).unwrap_or_default();
            number.parse::<u64>().map(|number| (2 * number).to_string())
        });
        let asking = bus.request("double", "21");
        let (answered, reply) =
            futures::future::join(answering, async { asking.await.unwrap() }).await;
        answered.unwrap();
        assert_eq!(reply.payload(), "42");
        let late = bus.request("double", "21").within(Duration::from_secs(1)).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Unsupported, "there is no clock");
    });
}
