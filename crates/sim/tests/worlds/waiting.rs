//! Consumers that wait beside each other at a broker in the same process, and give up.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use posthaste_core::{Broker, Bus, Error, ReceiverExt, Subscription};
use posthaste_memory::Memory;
use posthaste_sim::{Node, World, check};

/// Impatient consumers line up before a patient one: a wake-up that one of them gets at the moment
/// at which it gives up is the next one's.
pub(crate) async fn impatience(world: World) {
    world.check(check::books_balance());
    let node = world.node("app");
    let memory = Memory::with_runtime(node.runtime());
    for _ in 0..25 {
        line_up(&world, &node, &memory).await;
    }
    let ledger = memory.stats().await.expect("memory answers").ledger;
    node.recorder().books(&ledger);
}

async fn line_up(world: &World, node: &Node, memory: &Memory) {
    let taken = Arc::new(AtomicU64::new(0));
    for _ in 0..3 {
        let patience = Duration::from_micros(node.random(600));
        drop(node.spawn(hurry(node.clone(), memory.clone(), patience, Arc::clone(&taken))));
    }
    world.sleep(Duration::from_micros(world.random(200))).await;
    let calm = node.spawn(wait(memory.clone(), Arc::clone(&taken)));
    let mut calm = pin!(calm);
    let bus = Bus::new(memory.clone());
    for sent in 1.. {
        world.sleep(Duration::from_micros(world.random(300))).await;
        bus.send("jobs", "work").await.expect("there is room");
        let all = async || taken.load(Ordering::Relaxed) == sent;
        world.until("somebody takes what was sent", all).await;
        let done = poll_fn(|cx| Poll::Ready(calm.as_mut().poll(cx).is_ready())).await;
        if done {
            return;
        }
    }
}

/// Waits for one job.
async fn wait(memory: Memory, taken: Arc<AtomicU64>) {
    take(&memory, &taken).await.expect("the queue is there");
}

/// Waits for one job, and gives up without another look at it.
async fn hurry(node: Node, memory: Memory, patience: Duration, taken: Arc<AtomicU64>) {
    let mut timer = node.runtime().timer();
    timer.as_mut().reset(node.runtime().now() + patience);
    let mut taking = pin!(take(&memory, &taken));
    poll_fn(|cx| {
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        taking.as_mut().poll(cx).map(|taken| taken.expect("the queue is there"))
    })
    .await;
}

async fn take(memory: &Memory, taken: &AtomicU64) -> Result<(), Error> {
    let mut jobs = memory.receiver(Subscription::queue("jobs")?).await?;
    jobs.next_delivery().await?.ack();
    taken.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
