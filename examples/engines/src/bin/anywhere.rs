//! One program, and where it runs is a URL: `memory:`, `tcp://127.0.0.1:7411`,
//! `amqp://guest:guest@127.0.0.1:5672`, `nats://127.0.0.1:4222`.
//!
//! ```text
//! cargo run -p posthaste-example-engines --bin anywhere -- URL
//! ```
//!
//! It hands jobs to competing workers, publishes what they did, and answers questions about it, with
//! whatever the engine behind the URL has; what it lacks it is told when it connects, by name.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::error::Error;
use std::time::Duration;

use posthaste::prelude::*;
use posthaste_tokio::Tokio;

const JOBS: u64 = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| String::from("memory:"));
    let bus = posthaste::connect(Tokio::current(), &url)
        .needs(&[Capability::Queues, Capability::ManualAck, Capability::Topics])
        .await?;
    let engine = bus.capabilities().backend().to_owned();
    // A name of its own, so that several may run at the same broker.
    let queue = Topic::new(format!("anywhere-{}", std::process::id()))?;
    let done = format!("{queue}.done");

    // Publish-subscribe: whoever wants to know subscribes.
    let mut finished = bus.subscribe(&*format!("{queue}.*")).await?;

    // Point-to-point: a queue holds jobs, and each goes to one of the workers.
    bus.declare(Queue::new(queue.clone())).await?;
    let mut sender = bus.sender(SenderOptions::new()).await?;
    for job in 0..JOBS {
        let message = Message::builder(queue.clone()).to_queue().payload(job.to_string());
        sender.feed(message.key(format!("customer-{}", job % 7)).build()?).await?;
    }
    let receipt = sender.flush().await?;
    let level = receipt.level;
    println!(
        "{engine}: {} jobs confirmed, {level} on {} node(s)",
        receipt.confirmed, receipt.nodes
    );

    let mut worker = bus.consume(&queue).await?;
    let mut sum = 0;
    for _ in 0..JOBS {
        let job = worker.next_delivery().await?;
        sum += std::str::from_utf8(job.payload())?.parse::<u64>()?;
        bus.publish(&*done, job.payload().clone()).await?;
        job.ack();
    }
    worker.settled().await?;
    println!("{engine}: all of them done, their sum is {sum}");
    assert_eq!(sum, JOBS * (JOBS - 1) / 2);

    let mut heard = 0;
    while heard < JOBS {
        drop(finished.next_delivery().await?);
        heard += 1;
    }
    println!("{engine}: {heard} of them heard of by who subscribed");

    // Request-reply.
    let asked = format!("{queue}.sum");
    let mut service = bus.serve(&*asked).open().await?;
    let asking = async { bus.request(&*asked, "").within(Duration::from_secs(10)).await };
    let answering = async {
        match service.recv().await? {
            Some(request) => request.reply(sum.to_string()).await,
            None => Ok(()),
        }
    };
    let (answer, answered) = futures::future::join(asking, answering).await;
    answered?;
    println!("{engine}: asked, and answered {}", String::from_utf8_lossy(answer?.payload()));

    worker.close().await?;
    bus.delete(&queue).await?;
    Ok(())
}
