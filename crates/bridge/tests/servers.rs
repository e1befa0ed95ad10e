//! What a bridge promises while the engines on both sides are killed.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use futures::future::join;
use posthaste_bridge::Bridge;
use posthaste_core::{
    Bus, ErrorKind, Message, ReceiverExt, SenderExt, SenderOptions, SharedRuntime, Topic,
};
use posthaste_nats::Nats;
use posthaste_servers::Server;
use posthaste_servers::harness::{self, Trials};
use posthaste_tokio::Tokio;
use tokio::time::timeout;

const MESSAGES: u64 = 10_000;

fn main() -> ExitCode {
    let mut trials = Trials::default();
    trials.owning("nats", "nats_to_nats_survives_kills_of_bridge_source_and_target", |from| {
        let to = Server::start("nats").unwrap();
        on_tokio(kills(from, to));
    });
    harness::main(trials)
}

fn on_tokio(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
}

async fn bus(server: &Server) -> Bus {
    let runtime: SharedRuntime = Tokio::current().into();
    // What a dead bridge had in hand comes again soon.
    let url = format!("{}?ack_wait=2", server.url());
    Bus::with_runtime(Nats::connect(runtime.clone(), url).await.unwrap(), runtime)
}

/// Sends numbers while the bridge, its source and its target are killed in turn, and takes what
/// arrives: everything that was confirmed, once.
async fn kills(mut from: Server, mut to: Server) {
    let jobs = Topic::new("jobs").unwrap();
    let (source, target) = (bus(&from).await, bus(&to).await);
    let bridging = async {
        for round in 0..6 {
            let mut bridge = Bridge::queue(&source, &target, jobs.clone()).open().await.unwrap();
            bridge.run(Some(700), None, pending()).await.unwrap();
            let server = if round % 2 == 0 { &mut from } else { &mut to };
            // Given up wherever it is, as by a kill, while its engine dies.
            let dying = async {
                server.kill();
                server.restart().unwrap();
            };
            let mut until = pin!(dying);
            let going_on = timeout(Duration::from_millis(20), bridge.run(None, None, pending()));
            assert!(going_on.await.is_err(), "it ended by itself");
            until.as_mut().await;
        }
        let mut bridge = Bridge::queue(&source, &target, jobs.clone()).open().await.unwrap();
        bridge.run(None, Some(Duration::from_secs(4)), pending()).await.unwrap();
    };
    let (confirmed, ()) = join(send(&source, &jobs), bridging).await;
    let arrived = take(&target, &jobs).await;
    let lost = confirmed.iter().filter(|number| !arrived.contains_key(number)).count();
    let doubled = arrived.values().filter(|count| **count > 1).count();
    assert_eq!((lost, doubled), (0, 0), "of {} confirmed", confirmed.len());
}

/// The numbers that the source has confirmed; what is not known is sent again, with its id.
async fn send(source: &Bus, jobs: &Topic) -> Vec<u64> {
    let mut confirmed = Vec::new();
    let options = SenderOptions::new().queue(jobs.clone());
    let mut sender = source.sender(options).await.unwrap();
    for number in 0..MESSAGES {
        let message = Message::builder(jobs.clone()).to_queue().payload(number.to_string());
        let message = message.id(format!("n{number}")).build().unwrap();
        match sender.send(message).await {
            Ok(_) => confirmed.push(number),
            Err(failed) => {
                let kind = failed.kind();
                let passing = matches!(kind, ErrorKind::Unknown | ErrorKind::Failed);
                assert!(passing, "{kind:?}: {}", failed.error());
            }
        }
    }
    confirmed
}

async fn take(target: &Bus, jobs: &Topic) -> BTreeMap<u64, u64> {
    let mut arrived = BTreeMap::new();
    let mut receiver = target.consume(jobs).await.unwrap();
    loop {
        let next = timeout(Duration::from_secs(2), receiver.recv());
        let Ok(next) = next.await else { return arrived };
        let delivery = next.unwrap().unwrap();
        let number = std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap();
        *arrived.entry(number).or_default() += 1;
        delivery.ack();
    }
}
