//! The kit on Kafka: against a server that speaks its protocol, and against librdkafka's own mock
//! cluster, which differ from each other and from Kafka; what is promised is what holds on both.

use std::time::Duration;

use async_trait::async_trait;
use posthaste_conformance::{BROKER_CASES, Fixture, Need};
use posthaste_core::{
    BoxFuture, BoxReceiver, BoxSender, Broker, Capabilities, Capability, DrainReport, Error,
    ErrorKind, Queue, QueueInfo, SenderOptions, Sends, SharedRuntime, Stats, Subscription, Topic,
};
use posthaste_kafka::{Create, Kafka, KafkaOptions};
use posthaste_servers::harness::{self, Trials};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};

fn main() -> std::process::ExitCode {
    let mut trials = Trials::default();
    // Who joins a group waits for three seconds, and some cases join many.
    trials.patience(Duration::from_secs(120));
    let no_commits = "the mock cluster takes no commits once somebody joins, so that what was \
                      settled right before comes again; Kafka does, and so does the server";
    trials.leave_out("mock", "r5_a_dropped_handle_gives_its_wakeup_back", no_commits);
    let cannot_delete = "neither server can be asked to delete what somebody reads";
    for suite in ["server", "mock"] {
        trials.leave_out(suite, "r4_a_deleted_queue_ends_its_consumers", cannot_delete);
    }
    // The mock cluster does not, and runs these.
    let forgets = "this server forgets who joins a group at the moment at which another leaves it";
    // Queues are read as groups too; `server.rs` tries both on this server, and waits where it has to.
    let grouped = [Capability::Groups, Capability::Queues].map(Need::Has);
    let grouped = BROKER_CASES.iter().filter(|case| grouped.iter().any(|n| case.needs.contains(n)));
    for case in grouped {
        trials.leave_out("server", case.name, forgets);
    }
    trials.kit_singly("kafka", "server", |runtime, url| {
        Box::pin(async move {
            // This server forgets who joins a group while another leaves it, and Kafka does not:
            // who joins asks again after this time.
            let options: KafkaOptions = url.parse()?;
            two_clients(runtime, options.property("max.poll.interval.ms", "6000")).await
        })
    });
    trials.kit("kafka", "mock", |runtime, _| {
        Box::pin(async move {
            let (servers, cluster) = mock();
            let options = KafkaOptions::new(servers).create(Create::Broker);
            Ok(two_clients(runtime, options).await?.keep(cluster))
        })
    });
    harness::main(trials)
}

/// Two clients, one of which sends while the other receives.
fn two_clients(
    runtime: SharedRuntime,
    options: KafkaOptions,
) -> BoxFuture<'static, Result<Fixture, Error>> {
    let options =
        options.discovery(Duration::from_millis(250)).session_timeout(Duration::from_secs(6));
    Box::pin(async move {
        let one = Kafka::with_options(runtime.clone(), options.clone()).await?;
        let other = Kafka::with_options(runtime, options).await?;
        Ok(Fixture::new(Keeping(one)).peer(Keeping(other)))
    })
}

/// A cluster of one broker in this process, which lives as long as the client that has it.
fn mock() -> (String, BaseProducer) {
    let mut config = ClientConfig::new();
    let producer: BaseProducer =
        config.set("test.mock.num.brokers", "1").create().expect("a mock cluster");
    let servers = producer.client().mock_cluster().map(|cluster| cluster.bootstrap_servers());
    (servers.expect("the cluster of the client"), producer)
}

/// A client that deletes nothing: the mock cluster cannot, and the server answers a fetch from a
/// topic that is gone with an id of zero and a new leader, which brings librdkafka 2.12 down. Kafka
/// answers with the id that was asked for.
struct Keeping(Kafka);

#[async_trait]
impl Broker for Keeping {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        self.0.sender(options).await
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        self.0.receiver(subscription).await
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        self.0.inbox().await
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        self.0.declare(queue).await
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        Err(Error::new(ErrorKind::NotFound, format!("the queue {queue} stays where it is")))
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        self.0.queue(queue).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        self.0.stats().await
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.0.drain(within).await
    }

    fn sends(&self) -> Option<Sends> {
        self.0.sends()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}
