//! Several brokers that stand in for each other: whichever can be had is used, and when it goes,
//! another one is.

use std::time::Duration;

use posthaste::prelude::*;
use posthaste::{ErrorKind, Memory, Server, SharedRuntime};
use posthaste_conformance::Books;
use posthaste_smol::Smol;

/// A broker at a URL of its own, with its books watched.
struct Place {
    server: Server,
    url: String,
    _books: Books,
}

impl Place {
    async fn at(url: &str) -> Self {
        let runtime: SharedRuntime = Smol::global().into();
        let broker = Memory::with_runtime(runtime.clone());
        let books = Books::watch(broker.clone());
        let server = posthaste::serve(runtime, broker, url).await.expect("the address is free");
        let url = server.endpoints()[0].to_string();
        Self { server, url, _books: books }
    }
}

#[test]
fn the_first_that_can_be_had_is_used_and_another_one_when_it_goes() {
    smol::block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let missing = format!("unix:{}", folder.path().join("missing.sock").display());
        let here = Place::at("tcp://127.0.0.1:0").await;
        let there =
            Place::at(&format!("unix:{}", folder.path().join("there.sock").display())).await;
        let urls = format!("{missing},{},{}", here.url, there.url);
        let bus = posthaste::connect(Smol::global(), &urls).await.unwrap();
        let mut news = bus.subscribe("news").await.unwrap();
        assert_eq!(here.server.connections() + there.server.connections(), 1);
        assert_eq!(bus.publish("news", "here").await.unwrap().matched, 1);
        assert_eq!(news.next_delivery().await.unwrap().payload(), "here");
        let (used, other) =
            if here.server.connections() == 1 { (here, there) } else { (there, here) };
        drop(used);
        while other.server.connections() == 0 {
            smol::future::yield_now().await;
        }
        // The subscription goes on at the other one, as soon as it is opened there.
        while !bus.publish("news", "there").await.is_ok_and(|receipt| receipt.matched == 1) {
            smol::future::yield_now().await;
        }
        assert_eq!(news.next_delivery().await.unwrap().payload(), "there");
        assert_eq!(other.server.connections(), 1);
    });
}

#[test]
fn where_none_can_be_had_the_last_reason_is_told_in_time() {
    smol::block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let missing = |name: &str| format!("unix:{}", folder.path().join(name).display());
        let urls = format!("{},{}", missing("a.sock"), missing("b.sock"));
        let connecting =
            posthaste::connect(Smol::global(), &urls).connect_timeout(Duration::from_millis(200));
        let error = connecting.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert!(error.to_string().contains(".sock"), "{error}");
    });
}

#[test]
fn a_broker_in_this_process_stands_in_for_none() {
    smol::block_on(async {
        let connecting = posthaste::connect(Smol::global(), "tcp://127.0.0.1:1,memory:");
        assert_eq!(connecting.await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    });
}
