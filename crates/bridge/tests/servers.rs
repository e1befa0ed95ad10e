//! What a bridge promises while the engines on both sides are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use futures::future::{Either, join, select};
use posthaste_amqp::Amqp;
use posthaste_bridge::Bridge;
use posthaste_core::{
    Bus, ErrorKind, Message, ReceiverExt, SenderExt, SenderOptions, SharedRuntime, Topic,
};
use posthaste_kafka::{Create, Kafka, KafkaOptions};
use posthaste_nats::Nats;
use posthaste_servers::Server;
use posthaste_servers::harness::{self, Trials};
use posthaste_tokio::Tokio;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::time::timeout;

const MESSAGES: u64 = 10_000;

fn main() -> ExitCode {
    let mut trials = Trials::default();
    for (from, to) in [("nats", "nats"), ("nats", "rabbitmq"), ("rabbitmq", "nats")] {
        let name = format!("{from}_to_{to}_survives_kills_of_bridge_source_and_target");
        trials.owning(from, name, move |source| {
            let target = Server::start(to).unwrap();
            on_tokio(kills(Side::of(source), Side::of(target)));
        });
    }
    // The servers for Kafka keep what they have in memory: all else is killed.
    trials.owning("nats", "nats_to_kafka_survives_kills_of_bridge_and_source", |source| {
        on_tokio(kills(Side::of(source), Side::mock()));
    });
    trials.owning("nats", "kafka_to_nats_survives_kills_of_bridge_and_target", |target| {
        on_tokio(kills(Side::mock(), Side::of(target)));
    });
    harness::main(trials)
}

fn on_tokio(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
}

/// An engine on one side of a bridge.
struct Side {
    url: String,
    /// What can be killed and started again.
    server: Option<Server>,
    /// librdkafka's cluster in this process, which goes with this.
    _cluster: Option<BaseProducer>,
}

impl Side {
    fn of(server: Server) -> Self {
        Self { url: server.url().to_owned(), server: Some(server), _cluster: None }
    }

    fn mock() -> Self {
        let mut config = ClientConfig::new();
        let cluster: BaseProducer = config.set("test.mock.num.brokers", "1").create().unwrap();
        let servers = cluster.client().mock_cluster().unwrap().bootstrap_servers();
        Self { url: format!("kafka://{servers}"), server: None, _cluster: Some(cluster) }
    }

    /// Whether a message that comes another time is known there.
    fn deduplicates(&self) -> bool {
        self.url.starts_with("nats:")
    }

    /// Kills its server, if it has one, and starts it again.
    async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let killing = tokio::task::spawn_blocking(move || {
                server.kill();
                server.restart().unwrap();
                server
            });
            self.server = Some(killing.await.unwrap());
        }
    }

    async fn bus(&self) -> Bus {
        let (runtime, url): (SharedRuntime, _) = (Tokio::current().into(), &self.url);
        match url.split(':').next() {
            Some("nats") => {
                // What a dead bridge had in hand comes again soon.
                let url = format!("{url}?ack_wait=2");
                Bus::with_runtime(Nats::connect(runtime.clone(), url).await.unwrap(), runtime)
            }
            Some("amqp") => {
                Bus::with_runtime(Amqp::connect(runtime.clone(), url).await.unwrap(), runtime)
            }
            _ => {
                let options: KafkaOptions = url.parse().unwrap();
                let options = options.create(Create::Broker);
                let kafka = Kafka::with_options(runtime.clone(), options).await.unwrap();
                Bus::with_runtime(kafka, runtime)
            }
        }
    }
}

/// Sends numbers while the bridge, its source and its target are killed in turn, and takes what
/// arrives: everything that was confirmed, and each of it once where the target can tell.
async fn kills(mut from: Side, mut to: Side) {
    let jobs = Topic::new("jobs").unwrap();
    let (source, target) = (from.bus().await, to.bus().await);
    let once = to.deduplicates();
    let bridging = async {
        for round in 0..6 {
            let mut bridge = Bridge::queue(&source, &target, jobs.clone()).open().await.unwrap();
            bridge.run(Some(700), None, pending()).await.unwrap();
            let server = if round % 2 == 0 { &mut from } else { &mut to };
            // It goes on while its engine dies and comes back, and is given up wherever it is then,
            // as by a kill.
            let going_on = pin!(bridge.run(None, None, pending()));
            match select(going_on, pin!(server.kill())).await {
                Either::Left((ended, _)) => panic!("it ended by itself: {ended:?}"),
                Either::Right(_) => {}
            }
        }
        let mut bridge = Bridge::queue(&source, &target, jobs.clone()).open().await.unwrap();
        bridge.run(None, Some(Duration::from_secs(10)), pending()).await.unwrap();
    };
    let (confirmed, ()) = join(send(&source, &jobs), bridging).await;
    let arrived = take(&target, &jobs, &confirmed).await;
    let lost = confirmed.iter().filter(|number| !arrived.contains_key(number)).count();
    let doubled = arrived.values().filter(|count| **count > 1).count();
    assert_eq!(lost, 0, "of {} confirmed", confirmed.len());
    assert!(!once || doubled == 0, "{doubled} arrived more than once");
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
                let passing = matches!(
                    kind,
                    ErrorKind::Unknown | ErrorKind::Failed | ErrorKind::Disconnected
                );
                assert!(passing, "{kind:?}: {}", failed.error());
            }
        }
    }
    confirmed
}

/// What arrives until everything that is `wanted` has, and a little longer.
async fn take(target: &Bus, jobs: &Topic, wanted: &[u64]) -> BTreeMap<u64, u64> {
    let mut arrived = BTreeMap::new();
    let mut missing: BTreeSet<u64> = wanted.iter().copied().collect();
    let mut receiver = target.consume(jobs).await.unwrap();
    loop {
        let patience = if missing.is_empty() { 2 } else { 30 };
        let next = timeout(Duration::from_secs(patience), receiver.recv());
        let Ok(next) = next.await else { return arrived };
        let delivery = next.unwrap().unwrap();
        let number = std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap();
        *arrived.entry(number).or_default() += 1;
        missing.remove(&number);
        delivery.ack();
    }
}
