//! Cloud scheduling: a queue of jobs over TCP and worker processes. One of them is killed with jobs
//! in its hands, and the others do those as well.
//!
//! Run it with `cargo run --example jobs`; the program starts itself again as its own workers.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use std::collections::BTreeSet;
use std::env;

use posthaste::prelude::*;
use posthaste::{Memory, SharedRuntime};
use posthaste_tokio::Tokio;
use tokio::process::{Child, Command};

const JOBS: usize = 30;
/// How many jobs a worker holds at a time.
const HANDS: usize = 3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let [url, name] = &env::args().skip(1).collect::<Vec<_>>()[..] {
        return Ok(work(url, name).await?);
    }
    let runtime: SharedRuntime = Tokio::current().into();
    let broker = Memory::with_runtime(runtime.clone());
    let bus = Bus::with_runtime(broker.clone(), runtime.clone());
    let server = posthaste::serve(runtime, broker, "tcp://127.0.0.1:0").await?;
    let url = server.endpoints()[0].to_string();
    let mut staff = bus.subscribe("worker.*").await?;
    let mut done = bus.subscribe("job.done").await?;
    for job in 0..JOBS {
        bus.send("jobs", format!("job {job}")).await?;
    }

    // This worker takes jobs, finishes none, and is killed: no goodbye, no acks.
    let mut doomed = start(&url, "doomed")?;
    for _ in 0..=HANDS {
        println!("{}", text(&staff.next_delivery().await?));
    }
    doomed.kill().await?;
    println!("killed");

    // The others do what is left, and what it had.
    let workers = [start(&url, "Ann")?, start(&url, "Bob")?];
    for _ in &workers {
        println!("{}", text(&staff.next_delivery().await?));
    }
    let (mut jobs, mut again) = (BTreeSet::new(), 0);
    while jobs.len() < JOBS {
        let report = done.next_delivery().await?;
        again += usize::from(report.message().header("attempt") == Some("2"));
        assert!(jobs.insert(text(&report)), "each job is done once");
    }
    assert_eq!(again, HANDS);
    println!("{JOBS} jobs done, {again} of them at the second attempt");

    // Deleting the queue ends its consumers, and with them the workers.
    bus.delete("jobs").await?;
    for mut worker in workers {
        assert!(worker.wait().await?.success());
    }
    let ledger = bus.ledger().await?;
    assert!(ledger.is_balanced() && ledger.acked == JOBS as u64);
    Ok(())
}

fn start(url: &str, name: &str) -> std::io::Result<Child> {
    let mut worker = Command::new(env::current_exe()?);
    worker.args([url, name]).kill_on_drop(true).spawn()
}

async fn work(url: &str, name: &str) -> Result<(), Error> {
    let bus = posthaste::connect(Tokio::current(), url).await?;
    let queue = Subscription::queue("jobs")?.prefetch(HANDS);
    let mut jobs = bus.receiver(queue).await?;
    bus.publish("worker.ready", format!("{name} is here")).await?;
    let mut kept = Vec::new();
    while let Some(job) = jobs.recv().await? {
        if name == "doomed" {
            let news = format!("{name} takes {}", text(&job));
            bus.publish("worker.busy", news).await?;
            kept.push(job);
            continue;
        }
        let report = Message::builder(Topic::new("job.done")?)
            .header("attempt", job.attempt().to_string())
            .payload(job.payload().clone());
        job.ack();
        jobs.settled().await?;
        bus.send_message(report.build()?).await?;
    }
    Ok(())
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.payload()).into_owned()
}
