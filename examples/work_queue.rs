//! A work queue on tokio: workers that compete, a failure that is tried again, a job that nobody
//! can do, and a worker that leaves in the middle.
//!
//! Run it with `cargo run --example work_queue`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use posthaste::Memory;
use posthaste::prelude::*;
use tokio::task::{JoinSet, yield_now};

const IMAGES: u32 = 12;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::new(Memory::new());
    let mut news = bus.subscribe("images.news").await?;
    for image in 0..IMAGES {
        bus.send("images.resize", format!("{image}.png")).await?;
    }
    bus.send("images.resize", "notes.txt").await?;

    // This one takes a job and leaves: the job goes back, for somebody else.
    let mut leaver = bus.consume("images.resize").await?;
    let abandoned = leaver.next_delivery().await?;
    println!("taken, and left undone: {}", text(&abandoned));
    drop((abandoned, leaver));

    let mut workers = JoinSet::new();
    for name in ["Ann", "Bob", "Cem"] {
        workers.spawn(work(name, bus.clone()));
    }
    for _ in 0..=IMAGES {
        println!("{}", text(&news.next_delivery().await?));
    }

    // The consumers of a queue that is deleted come to their end.
    bus.delete("images.resize").await?;
    while let Some(done) = workers.join_next().await {
        assert!(done?? > 0, "every worker had a share");
    }
    let ledger = bus.ledger().await?;
    assert!(ledger.is_balanced());
    assert_eq!((ledger.acked, ledger.dropped), (u64::from(IMAGES), 1));
    println!("the books: {ledger}, dropped for {:?}", ledger.dropped_by);
    Ok(())
}

/// Works until the queue ends and says how many jobs that were. The prefetch of 1 leaves to the
/// others what is not begun yet.
async fn work(name: &str, bus: Bus) -> Result<u32, Error> {
    let mut jobs = bus.receiver(Subscription::queue("images.resize")?.prefetch(1)).await?;
    let mut done = 0;
    while let Some(job) = jobs.recv().await? {
        let report = format!("{name}, attempt {} at {}", job.attempt(), text(&job));
        let report = match resize(&job).await {
            Ok(()) => {
                job.ack();
                format!("{report}: done")
            }
            Err(Failure::Busy) => {
                job.retry(Duration::ZERO, "the scaler is busy");
                continue;
            }
            Err(Failure::NoImage) => {
                job.reject("not an image");
                format!("{report}: refused")
            }
        };
        done += 1;
        bus.publish("images.news", report).await?;
    }
    Ok(done)
}

enum Failure {
    Busy,
    NoImage,
}

/// Pretends to take its time, so that the other workers have their turn.
async fn resize(job: &Delivery) -> Result<(), Failure> {
    yield_now().await;
    match job.payload().as_ref() {
        b"7.png" if job.attempt() < 3 => Err(Failure::Busy),
        name if name.ends_with(b".png") => Ok(()),
        _ => Err(Failure::NoImage),
    }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.payload()).into_owned()
}
