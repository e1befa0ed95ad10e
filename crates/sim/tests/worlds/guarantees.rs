//! What queues guarantee besides keeping what they hold: keys, ids, dead letters, times.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use posthaste_core::Queue;
use posthaste_sim::history::{History, How, What};
use posthaste_sim::{Node, World, check};

use crate::support::{BrokerNode, Consuming, DEAD, Producing, consume, produce, topic};

/// How often a job is tried at most.
pub(crate) const ATTEMPTS: u32 = 4;

/// Two who send and two mortal ones who take, until everything is done.
pub(crate) async fn work(
    world: &World,
    broker: &BrokerNode,
    sends: Producing,
    takes: &[Consuming],
) {
    let consumers: Vec<Node> = takes
        .iter()
        .enumerate()
        .map(|(number, takes)| {
            let takes = takes.clone();
            let node = world.node(&format!("taker-{number}")).mortal();
            node.start(move |node| consume(node, takes.clone()))
        })
        .collect();
    let producers = ["maker-a", "maker-b"].map(|name| {
        let sends = sends.clone();
        world.node(name).start(move |node| produce(node, sends.clone()))
    });
    for producer in &producers {
        producer.finished().await;
    }
    world.healed().await;
    broker.is_there(world).await;
    let empty = async || broker.held("jobs").await + broker.held(DEAD).await == 0;
    world.until("the queues are empty", empty).await;
    takes.iter().for_each(|takes| takes.stop.store(true, Ordering::Relaxed));
    for consumer in &consumers {
        consumer.finished().await;
    }
    broker.deserted(world).await;
    broker.audit().await;
}

/// Consumers that hold several deliveries at a time, and settle them in any order.
pub(crate) async fn keyed(world: World) {
    world
        .check(check::no_invention())
        .check(check::no_confirmed_loss())
        .check(check::keys_are_in_order())
        .check(check::each_attempt_once())
        .check(check::settled_stays_settled())
        .check(check::books_balance());
    let jobs = Queue::new(topic("jobs")).keyed();
    let broker = BrokerNode::start(&world, false, vec![jobs]).await;
    let sends = Producing { keys: 3, pause: 20, ..Producing::to("jobs", 25) };
    let takes = Consuming { holds: 3, ..Consuming::from("jobs", 4) };
    work(&world, &broker, sends, &[takes.clone(), takes]).await;
}

/// Producers that send again whatever may not have arrived, and more than that.
pub(crate) async fn once(world: World) {
    world
        .check(check::no_invention())
        .check(check::no_confirmed_loss())
        .check(check::ids_are_taken_once())
        .check(check::every_send_has_an_outcome())
        .check(check::books_balance());
    let jobs = Queue::new(topic("jobs")).capacity(12).dedup_window(Duration::from_secs(600));
    let broker = BrokerNode::start(&world, false, vec![jobs]).await;
    let sends = Producing { insists: true, ..Producing::to("jobs", 25) };
    let takes = Consuming::from("jobs", 3);
    work(&world, &broker, sends, &[takes.clone(), takes]).await;
}

/// Messages that nobody can do anything with end where the dead letters are, and hold up no other.
pub(crate) async fn letters(world: World) {
    world
        .check(check::no_invention())
        .check(check::at_most(ATTEMPTS, topic("jobs")))
        .check(check::the_dead_are_kept(topic("jobs"), topic(DEAD)))
        .check(check::each_attempt_once())
        .check(check::books_balance());
    let jobs = Queue::new(topic("jobs"))
        .max_attempts(ATTEMPTS)
        .backoff(Duration::from_millis(world.random(200)))
        .dead_letter(topic(DEAD));
    let dead = Queue::new(topic(DEAD)).capacity(1 + world.random(6) as usize);
    let broker = BrokerNode::start(&world, false, vec![dead, jobs]).await;
    let sends = Producing { bad_one_in: 4, pause: 20, ..Producing::to("jobs", 25) };
    let takes = Consuming { fails_one_in: 9, ..Consuming::from("jobs", 3) };
    let buries = Consuming { stop: Arc::default(), ..Consuming::from(DEAD, 2) };
    work(&world, &broker, sends, &[takes.clone(), takes, buries]).await;
}

/// Messages that are to wait, while the wall clocks jump.
pub(crate) async fn times(world: World) {
    world
        .check(check::no_invention())
        .check(check::no_confirmed_loss())
        .check(check::nothing_comes_early())
        .check(check::each_attempt_once())
        .check(check::books_balance());
    let jobs = Queue::new(topic("jobs")).backoff(Duration::from_millis(world.random(500)));
    let broker = BrokerNode::start(&world, false, vec![jobs]).await;
    let sends = Producing { delay: 4_000, pause: 150, ..Producing::to("jobs", 20) };
    let takes = Consuming::from("jobs", 3);
    work(&world, &broker, sends, &[takes.clone(), takes]).await;
}

/// Messages that are of no use after a while: each is done, or booked as too old.
pub(crate) async fn stale(world: World) {
    world
        .check(check::no_invention())
        .check(check::my("what is not done was too old", done_or_expired))
        .check(check::each_attempt_once())
        .check(check::books_balance());
    let jobs = Queue::new(topic("jobs")).ttl(Duration::from_millis(100 + world.random(900)));
    let broker = BrokerNode::start(&world, false, vec![jobs]).await;
    let sends = Producing { pause: 20, ..Producing::to("jobs", 30) };
    let takes = Consuming { pause: 300, ..Consuming::from("jobs", 2) };
    work(&world, &broker, sends, &[takes.clone(), takes]).await;
}

fn done_or_expired(history: &History) -> Result<(), String> {
    let (mut left, mut expired) = (BTreeSet::new(), 0);
    for (_, what) in history.iter() {
        match what {
            What::SendOk { id, .. } => drop(left.insert(id)),
            What::Books { ledger } => expired = ledger.expired,
            _ => {}
        }
    }
    // A job may be done before its sender hears that it has arrived.
    for (_, what) in history.iter() {
        if let What::Settle { id, how: How::Ack, .. } = what {
            left.remove(id);
        }
    }
    match left.len() as u64 <= expired {
        true => Ok(()),
        false => Err(format!("{} were not done, and {expired} expired: {left:?}", left.len())),
    }
}
