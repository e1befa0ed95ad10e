//! Brokers on disks that are killed, lose their power, and whose disks are full or fail.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use posthaste_core::{BoxFuture, Broker, Level, Queue};
use posthaste_log::{Durable, LogError, LogOptions};
use posthaste_sim::history::What;
use posthaste_sim::{Faults, Node, Sim, World, check};

use crate::guarantees::{ATTEMPTS, work};
use crate::support::{BrokerNode, Consuming, DEAD, Producing, consume, pause, produce, topic};

/// Longer than clocks jump: what is remembered is remembered by the wall clock.
const WINDOW: Duration = Duration::from_secs(6 * 60 * 60);

/// Opens a broker on the node's disk, in small segments.
fn open(node: Node) -> BoxFuture<'static, Arc<dyn Broker>> {
    Box::pin(async move {
        let mut options = LogOptions::default();
        options.segment_bytes = 2_048 + node.random(6_000);
        options.prewritten = node.random(2) == 0;
        loop {
            match Durable::open(node.runtime(), node.disk(), options.clone()).await {
                Ok((broker, _)) => return Arc::new(broker) as Arc<dyn Broker>,
                Err(error) => {
                    let cause = error.source().and_then(|cause| cause.downcast_ref());
                    if let Some(LogError::Damaged(damage)) = cause {
                        panic!("what was stored is not found again: {damage}");
                    }
                    // Of a disk that is full or has failed.
                    pause(&node, 500).await;
                }
            }
        }
    })
}

/// What the scenario notes that finds what should be there no more.
const AGAIN: &str = "it is there again";

/// Producers that send until it is stored, consumers that wait until their settlements are, and a
/// broker that dies every way there is.
pub(crate) async fn stored(world: World) {
    world
        .check(check::no_invention())
        .check(check::no_confirmed_loss())
        .check(check::my("what is confirmed is stored", |history| {
            let less =
                |what: &What| matches!(what, What::SendOk { level, .. } if *level < Level::Stored);
            none(history.iter().filter(|(_, what)| less(what)).map(|(_, what)| what))
        }))
        .check(check::settled_stays_settled())
        .check(check::settled_ids_stay_settled())
        .check(check::every_send_has_an_outcome())
        .check(check::books_balance())
        .check(check::my("nothing is there again", |history| none(history.notes(AGAIN))));
    let jobs = Queue::new(topic("jobs")).capacity(60).dedup_window(WINDOW).max_attempts(1_000);
    let broker = BrokerNode::open(&world, true, vec![jobs.clone()], open).await;
    let takes = Consuming::from("jobs", 3);
    let consumers: Vec<Node> = ["taker-a", "taker-b"]
        .map(|name| {
            let takes = takes.clone();
            world.node(name).mortal().start(move |node| consume(node, takes.clone()))
        })
        .into();
    let sends = Producing { insists: true, stored: true, ..Producing::to("jobs", 25) };
    let producers = ["maker-a", "maker-b"].map(|name| {
        let sends = sends.clone();
        world.node(name).start(move |node| produce(node, sends.clone()))
    });
    for producer in &producers {
        producer.finished().await;
    }
    world.healed().await;
    broker.is_there(&world).await;
    world.until("the queue is empty", async || broker.held("jobs").await == 0).await;
    takes.stop.store(true, Ordering::Relaxed);
    for consumer in &consumers {
        consumer.finished().await;
    }
    broker.deserted(&world).await;
    broker.audit().await;
    // Which waits until everything so far is stored: from here on nothing is a matter of luck.
    broker.broker().declare(jobs).await.expect("the disk is as it should be");
    if world.random(2) == 0 {
        broker.node.kill();
    } else {
        broker.node.power_off();
    }
    broker.node.restart();
    broker.is_there(&world).await;
    let is_empty = async |what: &str| {
        let held = broker.held("jobs").await;
        if held > 0 {
            broker.node.recorder().note(AGAIN, format!("{held} {what}"));
        }
    };
    is_empty("that were settled").await;
    let repeats = producers.map(|node| node.spawn(produce(node.clone(), sends.clone())));
    for repeats in repeats {
        repeats.await;
    }
    is_empty("that were sent once more").await;
    broker.audit().await;
}

/// A clock that goes back while a broker is not there lets what waits in its queues wait the longer.
pub(crate) fn steady() -> Sim {
    Sim::new().faults(Faults::rough().clock_jumps(0))
}

/// Messages that nobody can do anything with end in another queue of the same disk, in one of the two
/// whatever happens.
pub(crate) async fn buried(world: World) {
    world
        .check(check::no_invention())
        .check(check::at_most(ATTEMPTS, topic("jobs")))
        .check(check::the_dead_are_kept(topic("jobs"), topic(DEAD)))
        .check(check::settled_ids_stay_settled())
        .check(check::every_send_has_an_outcome())
        .check(check::books_balance());
    let jobs = Queue::new(topic("jobs"))
        .max_attempts(ATTEMPTS)
        .dedup_window(WINDOW)
        .backoff(Duration::from_millis(world.random(200)))
        .dead_letter(topic(DEAD));
    let dead = Queue::new(topic(DEAD)).capacity(4 + world.random(6) as usize).max_attempts(1_000);
    let broker = BrokerNode::open(&world, true, vec![dead, jobs], open).await;
    let sends = Producing {
        insists: true,
        stored: true,
        bad_one_in: 4,
        pause: 20,
        ..Producing::to("jobs", 25)
    };
    let takes = Consuming { fails_one_in: 9, ..Consuming::from("jobs", 3) };
    let buries = Consuming { stop: Arc::default(), ..Consuming::from(DEAD, 2) };
    work(&world, &broker, sends, &[takes.clone(), takes, buries]).await;
}

/// Nothing is wrong if there are none of them.
fn none<T: std::fmt::Display>(mut wrong: impl Iterator<Item = T>) -> Result<(), String> {
    wrong.next().map_or(Ok(()), |first| Err(first.to_string()))
}
