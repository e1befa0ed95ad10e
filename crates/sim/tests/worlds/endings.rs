//! Ends in good order: servers and clients that drain while others go on.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthaste_core::{Broker, DrainReport, Queue, ReceiverExt, Subscription};
use posthaste_sim::{Node, World, check};

use crate::support::{
    BrokerNode, Consuming, Producing, client, consume, pause, produce, topic, within,
};

/// How much later than it said a drain may be back: what a node stands still, and the goodbyes.
const LATE: Duration = Duration::from_secs(7);

/// A drain that is over.
#[derive(Debug, Clone)]
struct Drained {
    who: String,
    within: Duration,
    took: Duration,
    report: DrainReport,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, within, took, report } = self;
        write!(f, "{who} drained for {took:?}, of {within:?}: {report:?}")
    }
}

type Drains = Arc<Mutex<Vec<Drained>>>;

/// Has somebody drain, and notes what came of it.
async fn drain<F>(node: &Node, drains: &Drains, drain: impl FnOnce(Duration) -> F)
where
    F: Future<Output = Result<DrainReport, posthaste_core::Error>>,
{
    let runtime = node.runtime();
    let within = Duration::from_millis(500 + node.random(15_000));
    let began = runtime.now();
    let report = drain(within).await.expect("a drain that nobody else has begun");
    let took = runtime.now() - began;
    drains.lock().unwrap().push(Drained { who: node.name(), within, took, report });
}

/// A client leaves in good order, and later the server does, while faults strike.
pub(crate) async fn drains(world: World) {
    let drains = Drains::default();
    let (all, late) = (Arc::clone(&drains), Arc::clone(&drains));
    world
        .check(check::no_invention())
        .check(check::my("a drain waits for what is handed out", move |_| {
            let all = all.lock().unwrap();
            let hasty = |it: &&Drained| it.report.abandoned > 0 && it.took < it.within;
            all.iter().find(hasty).map_or(Ok(()), |it| Err(it.to_string()))
        }))
        .check(check::my("a drain ends in time", move |_| {
            let all = late.lock().unwrap();
            let slow = |it: &&Drained| it.took > it.within + LATE;
            all.iter().find(slow).map_or(Ok(()), |it| Err(it.to_string()))
        }))
        .check(check::books_balance());
    let broker = BrokerNode::start(&world, false, vec![Queue::new(topic("jobs"))]).await;
    let takes = Consuming { holds: 2, pause: 400, ..Consuming::from("jobs", 4) };
    world.node("taker").start(move |node| consume(node, takes.clone()));
    let sends = Producing { pause: 30, ..Producing::to("jobs", 200) };
    world.node("maker").start(move |node| produce(node, sends.clone()));
    let noted = Arc::clone(&drains);
    let leaver = world.node("leaver").start(move |node| leave(node, Arc::clone(&noted)));
    leaver.finished().await;
    pause(&broker.node, 500).await;
    let (node, server, noted) = (broker.node.clone(), broker.server(), Arc::clone(&drains));
    let ended = broker.node.spawn(async move {
        drain(&node, &noted, |within| async move { server.drain(within).await }).await;
    });
    ended.await.expect("the broker lives");
    broker.audit().await;
    let kept = broker.broker().stats().await.expect("memory answers").ledger.held;
    let report = drains.lock().unwrap().last().expect("it was noted").report;
    assert!(kept <= report.held + report.abandoned, "{kept} are held, of {report:?}");
}

/// Takes jobs, does each in a task of its own, and leaves.
async fn leave(node: Node, drains: Drains) {
    let remote = client(&node).await;
    let jobs = Subscription::queue("jobs").expect("a good name").prefetch(4);
    let mut receiver = loop {
        match remote.receiver(jobs.clone()).await {
            Ok(receiver) => break receiver,
            Err(_) => pause(&node, 50).await,
        }
    };
    for _ in 0..10 {
        let patience = Duration::from_millis(300);
        let Some(Ok(delivery)) = within(&node, patience, receiver.next_delivery()).await else {
            continue;
        };
        let here = node.clone();
        let work = async move {
            pause(&here, 800).await;
            delivery.ack();
        };
        drop(node.spawn(work));
    }
    drain(&node, &drains, |within| async move { remote.drain(within).await }).await;
}
