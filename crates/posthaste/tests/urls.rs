//! URLs: what they connect to, what is refused, and when.

use std::time::Duration;

use posthaste::prelude::*;
use posthaste::{Memory, Reconnect, SharedRuntime};
use posthaste_conformance::Books;
use posthaste_tokio::Tokio;

#[tokio::test]
async fn memory_is_a_broker_of_its_own_for_each_connect() {
    let one = posthaste::connect(Tokio::current(), "memory:").await.unwrap();
    let other = posthaste::connect(Tokio::current(), "memory:").await.unwrap();
    one.send("jobs", "x").await.unwrap();
    assert_eq!(one.clone().stats().await.unwrap().queues.len(), 1);
    assert_eq!(other.stats().await.unwrap().queues.len(), 0);
}

#[tokio::test]
async fn every_spelling_of_a_socket_reaches_the_broker_that_is_served_there() {
    let runtime: SharedRuntime = Tokio::current().into();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ph.sock");
    let broker = Memory::with_runtime(runtime.clone());
    let _books = Books::watch(broker.clone());
    let url = format!("unix:{}", path.display());
    let _server = posthaste::serve(runtime.clone(), broker, &url).await.unwrap();
    for url in [url, format!("unix://{}", path.display())] {
        let bus = posthaste::connect(runtime.clone(), &url).await.unwrap();
        bus.send("jobs", "x").await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_serves_a_broker_that_is_itself_remote() {
    let runtime: SharedRuntime = Tokio::current().into();
    let folder = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let broker = Memory::with_runtime(runtime.clone());
    let _books = Books::watch(broker.clone());
    let _server = posthaste::serve(runtime.clone(), broker, url("one")).await.unwrap();
    let behind = posthaste::connect(runtime.clone(), url("one")).await.unwrap();
    let broker = behind.broker().clone();
    let _gateway = posthaste::serve(runtime.clone(), broker, url("two")).await.unwrap();
    let bus = posthaste::connect(runtime, url("two")).await.unwrap();
    bus.send("jobs", "x").await.unwrap();
    assert_eq!(behind.queue("jobs").await.unwrap().messages, 1);
}

#[tokio::test]
async fn what_is_needed_and_lacking_is_refused_at_connect_time() {
    let refused = posthaste::connect(Tokio::current(), "memory:")
        .needs(&[Capability::Topics, Capability::Durability])
        .await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "memory does not support durability");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_given_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", folder.path().join("nobody").display());
    let refused = posthaste::connect(Tokio::current(), &url)
        .connect_timeout(Duration::from_millis(20))
        .reconnect(Reconnect::Never)
        .await;
    assert!(refused.unwrap_err().to_string().contains("nobody"));
}

#[test]
fn a_url_that_this_build_does_not_know_is_told_which_it_does() {
    for url in ["gopher://host", "pigeon://host", "", "tcp", "memory:named", "MEMORY:"] {
        let error = posthaste::endpoint(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
    }
    let error = posthaste::endpoint("gopher://host").unwrap_err().to_string();
    for known in ["memory:", "tcp://HOST:PORT", "unix:/PATH"] {
        assert!(error.contains(known), "{error}");
    }
}

#[test]
fn a_comma_separates_urls_only_where_another_one_follows() {
    for (list, urls) in [
        ("tcp://a:1", vec!["tcp://a:1"]),
        ("tcp://a:1,tcp://b:2,unix:/c", vec!["tcp://a:1", "tcp://b:2", "unix:/c"]),
        ("unix:///a,unix:/b,c,d", vec!["unix:/a", "unix:/b,c,d"]),
        ("unix:/a,b:c,tcp://d:4", vec!["unix:/a,b:c", "tcp://d:4"]),
    ] {
        let endpoints = posthaste::endpoints(list).unwrap();
        let read: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(read, urls, "{list}");
    }
    for list in ["", "tcp://a:1,gopher://b:2", "tcp://a:1,memory:", "gopher://a,tcp://b:1"] {
        let error = posthaste::endpoints(list).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{list}");
    }
}

#[tokio::test]
async fn nobody_can_connect_to_memory_so_it_is_not_served() {
    let broker = Memory::with_runtime(Tokio::current().into());
    let _books = Books::watch(broker.clone());
    let refused = posthaste::serve(Tokio::current(), broker, "memory:").await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
