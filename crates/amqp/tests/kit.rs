//! Every case of the conformance kit, on a real RabbitMQ: classic queues and quorum queues.

use std::process::ExitCode;

use posthaste_amqp::{Amqp, AmqpOptions, QueueType};
use posthaste_conformance::Fixture;
use posthaste_core::{BoxFuture, Error, SharedRuntime};
use posthaste_servers::harness::{self, Trials};

fn open(
    queue_type: QueueType,
) -> impl Fn(SharedRuntime, String) -> BoxFuture<'static, Result<Fixture, Error>> + Clone {
    move |runtime, url| {
        Box::pin(async move {
            let options = AmqpOptions::new().queue_type(queue_type);
            let client = Amqp::connect_with(runtime.clone(), &url, options.clone()).await?;
            let peer = Amqp::connect_with(runtime, &url, options).await?;
            Ok(Fixture::new(client).peer(peer))
        })
    }
}

fn main() -> ExitCode {
    let mut trials = Trials::default();
    trials.kit("rabbitmq", "classic", open(QueueType::Classic));
    trials.kit("rabbitmq", "quorum", open(QueueType::Quorum));
    harness::main(trials)
}
