//! The scenarios: each says in what kind of world it runs and what has to hold in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use posthaste_core::transport::Endpoint;
use posthaste_core::{
    Broker, Bus, Message, Overflow, Queue, ReceiverExt, SenderExt, SenderOptions, Subscription,
};
use posthaste_sim::{Faults, Node, Sim, World, check};

use crate::support::{
    BrokerNode, Consuming, Producing, client, client_at, consume, pause, produce, there, topic,
    within,
};

/// The most messages that the queue of the jobs holds.
const JOBS: u64 = 12;

// ---- a work queue with everything that goes wrong with clients and the network

pub(crate) fn rough() -> Sim {
    Sim::new().faults(Faults::rough())
}

/// Producers and mortal consumers share a queue; the broker lives.
pub(crate) async fn work_queue(world: World) {
    world
        .check(check::no_invention())
        .check(check::no_confirmed_loss())
        .check(check::each_attempt_once())
        .check(check::settled_stays_settled())
        .check(check::one_holder_at_a_time())
        .check(check::every_send_has_an_outcome())
        .check(check::books_balance())
        .check(check::bounds_hold());
    let jobs = Queue::new(topic("jobs")).capacity(JOBS as usize);
    let broker = BrokerNode::start(&world, false, vec![jobs]).await;
    let consuming = Consuming::from("jobs", 1 + world.random(6) as usize);
    let consumers: Vec<Node> = ["taker-a", "taker-b"]
        .map(|name| {
            let consuming = consuming.clone();
            world.node(name).mortal().start(move |node| consume(node, consuming.clone()))
        })
        .into();
    let producers = ["maker-a", "maker-b"].map(|name| {
        let producing = Producing::to("jobs", 25);
        world.node(name).start(move |node| produce(node, producing.clone()))
    });
    let recorder = broker.node.recorder();
    let held = async || {
        let held = broker.held("jobs").await;
        recorder.high_water("messages in the queue", held, JOBS);
        held
    };
    for producer in &producers {
        let often = Duration::from_millis(40);
        while within(producer, often, producer.finished()).await.is_none() {
            held().await;
        }
    }
    world.healed().await;
    world.until("the queue is empty", async || held().await == 0).await;
    consuming.stop.store(true, Ordering::Relaxed);
    for consumer in &consumers {
        consumer.finished().await;
    }
    broker.deserted(&world).await;
    broker.audit().await;
}

// ---- the same, and the broker dies as well

/// As the work queue, but the broker dies with all that it holds; a subscriber comes back to what
/// it has subscribed to.
pub(crate) async fn broker_dies(world: World) {
    world
        .check(check::no_invention())
        .check(check::no_confirmed_loss_but_by("broker"))
        .check(check::every_send_has_an_outcome())
        .check(check::books_balance());
    let broker = BrokerNode::start(&world, true, vec![Queue::new(topic("jobs"))]).await;
    let consuming = Consuming::from("jobs", 4);
    let taking = consuming.clone();
    let consumer = world.node("taker").start(move |node| consume(node, taking.clone()));
    let heard = Arc::new(AtomicU64::new(0));
    let hears = Arc::clone(&heard);
    world.node("subscriber").start(move |node| subscribe(node, Arc::clone(&hears)));
    let producer = world.node("maker").start(|node| produce(node, Producing::to("jobs", 40)));
    producer.finished().await;
    world.healed().await;
    let speaker = world.node("speaker").start(|node| async move {
        let remote = client(&node).await;
        let bus = Bus::with_runtime(remote, node.runtime());
        for number in 0_u64.. {
            let _ = bus.publish("news", format!("news.{number}")).await;
            node.sleep(Duration::from_millis(500)).await;
        }
    });
    let before = heard.load(Ordering::Relaxed);
    let hears_again = async || heard.load(Ordering::Relaxed) > before;
    world.until("the subscriber hears what is said now", hears_again).await;
    world.until("the queue is empty", async || broker.held("jobs").await == 0).await;
    speaker.kill();
    world.node("subscriber").kill();
    consuming.stop.store(true, Ordering::Relaxed);
    consumer.finished().await;
    broker.deserted(&world).await;
    broker.audit().await;
}

/// Subscribes once, and counts what it hears.
async fn subscribe(node: Node, heard: Arc<AtomicU64>) {
    let remote = client(&node).await;
    let mut news = loop {
        match remote.receiver(Subscription::topic("news").expect("a good pattern")).await {
            Ok(news) => break news,
            Err(_) => pause(&node, 50).await,
        }
    };
    while news.next_delivery().await.is_ok() {
        heard.fetch_add(1, Ordering::Relaxed);
    }
}

// ---- one line: order

pub(crate) fn gentle() -> Sim {
    Sim::new().faults(Faults::gentle()).heal_after(Duration::from_secs(10))
}

/// Two producers, one queue, one consumer at a time: order.
pub(crate) async fn one_line(world: World) {
    line(world, 0).await;
}

/// The same, and the connections of the producers are cut. (A consumer whose connection is cut is
/// two consumers for a while.)
pub(crate) async fn cut_line(world: World) {
    line(world, 8).await;
}

async fn line(world: World, cuts: u64) {
    let prefetch = 1 + world.random(4) as usize;
    world
        .check(check::no_invention())
        .check(check::no_confirmed_loss())
        .check(check::each_attempt_once())
        .check(check::settled_stays_settled())
        .check(check::fifo_per_sender())
        .check(check::confirms_are_ordered())
        .check(check::retried_come_back_first(prefetch + 1))
        .check(check::books_balance());
    let jobs = Queue::new(topic("jobs")).capacity(JOBS as usize);
    let broker = BrokerNode::start(&world, false, vec![jobs]).await;
    let consuming = Consuming { leaves_one_in: 0, ..Consuming::from("jobs", prefetch) };
    let taking = consuming.clone();
    let consumer = world.node("taker").start(move |node| consume(node, taking.clone()));
    let producers = ["maker-a", "maker-b"].map(|name| {
        let producing = Producing { pause: 20, ..Producing::to("jobs", 30) };
        world.node(name).start(move |node| produce(node, producing.clone()))
    });
    for _ in 0..cuts {
        world.sleep(Duration::from_millis(world.random(400))).await;
        producers[world.random(2) as usize].cut();
    }
    for producer in &producers {
        producer.finished().await;
    }
    world.until("the queue is empty", async || broker.held("jobs").await == 0).await;
    consuming.stop.store(true, Ordering::Relaxed);
    consumer.finished().await;
    broker.deserted(&world).await;
    broker.audit().await;
}

// ---- prices: publish-subscribe

/// A publisher, a subscriber that keeps up, one that may lose some, one that comes late.
pub(crate) async fn prices(world: World) {
    world
        .check(check::no_invention())
        .check(check::subscribers_miss_nothing_unsaid())
        .check(check::every_send_has_an_outcome())
        .check(check::books_balance());
    let broker = BrokerNode::start(&world, false, Vec::new()).await;
    let all = Subscription::topic("px.>").expect("a good pattern");
    let few = all.clone().capacity(3, 1 << 16).overflow(Overflow::DropNewest);
    let some = Subscription::topic("px.*.bid").expect("a good pattern");
    let plans = [("keeps-up", all, 0), ("loses-some", few, 0), ("comes-late", some, 300)];
    let last = Arc::new(AtomicU64::new(0));
    let mut subscribers = Vec::new();
    for (name, subscription, late) in plans {
        let last = Arc::clone(&last);
        let node = world.node(name);
        let here = node.clone();
        subscribers.push(node.spawn(async move {
            here.sleep(Duration::from_millis(late)).await;
            listen(here, subscription, last).await;
        }));
    }
    let publisher = world.node("publisher");
    let says = publisher.spawn({
        let (node, last) = (publisher.clone(), Arc::clone(&last));
        async move { publish(node, last).await }
    });
    for subscriber in subscribers {
        subscriber.await;
    }
    says.await;
    broker.deserted(&world).await;
    broker.audit().await;
}

/// Publishes prices, and then goes on until each of three has heard the end.
async fn publish(node: Node, ends: Arc<AtomicU64>) {
    let remote = client(&node).await;
    let mut sender = remote.sender(SenderOptions::new()).await.expect("the connection holds");
    for number in 0_u64.. {
        let over = number >= 60;
        if over && ends.load(Ordering::Relaxed) == 3 {
            return;
        }
        let side = if number % 2 == 0 { "bid" } else { "ask" };
        let text = if over { "end" } else { "price" };
        let to = topic(&format!("px.eur.{side}"));
        let price = Message::new(to, format!("{text}.{number}"));
        sender.feed(price).await.expect("the connection holds");
        if over || node.random(6) == 0 {
            sender.flush().await.expect("the connection holds");
            pause(&node, 40).await;
        }
    }
}

async fn listen(node: Node, subscription: Subscription, ends: Arc<AtomicU64>) {
    let remote = client(&node).await;
    let mut prices = remote.receiver(subscription).await.expect("the connection holds");
    loop {
        let patience = Duration::from_millis(node.random(100));
        let Some(next) = within(&node, patience, prices.next_delivery()).await else { continue };
        let price = next.expect("the connection holds");
        if price.payload().starts_with(b"end") {
            break;
        }
        pause(&node, 12).await;
    }
    ends.fetch_add(1, Ordering::Relaxed);
}

// ---- questions: request-reply

/// Two who ask, two mortal ones who answer, and a network that fails.
pub(crate) async fn questions(world: World) {
    world
        .check(check::requests_have_one_outcome(Duration::from_secs(5)))
        .check(check::books_balance());
    let broker = BrokerNode::start(&world, false, Vec::new()).await;
    let answers = |node| answer_at(node, there());
    let answerers = ["sage-a", "sage-b"].map(|name| world.node(name).mortal().start(answers));
    let asks = |node| ask_at(node, there());
    let askers = ["asker-a", "asker-b"].map(|name| world.node(name).start(asks));
    for asker in &askers {
        asker.finished().await;
    }
    world.healed().await;
    let late = world.node("asker-c").start(|node| async move {
        let bus = Bus::with_runtime(client(&node).await, node.runtime());
        while bus.request("sum", "late").within(Duration::from_secs(5)).await.is_err() {
            pause(&node, 100).await;
        }
    });
    let answered = async || within(&late, Duration::ZERO, late.finished()).await.is_some();
    world.until("somebody is answered again", answered).await;
    answerers.iter().for_each(Node::kill);
    broker.deserted(&world).await;
    broker.audit().await;
}

/// Asks one question after another.
pub(crate) async fn ask_at(node: Node, there: Endpoint) {
    let bus = Bus::with_runtime(client_at(&node, there).await, node.runtime());
    for number in 0..25 {
        let id = format!("{}.{number}", node.name());
        let time = Duration::from_millis(100 + node.random(4_000));
        let asking = bus.request("sum", id.clone()).within(time);
        let asking = async { asking.await };
        let answers =
            |reply: &posthaste_core::Reply| String::from_utf8_lossy(reply.payload()).into_owned();
        let _ = node.recorder().ask(&id, time, asking, answers).await;
        pause(&node, 300).await;
    }
}

/// Answers questions, each with itself, for as long as it lives.
pub(crate) async fn answer_at(node: Node, there: Endpoint) {
    loop {
        let bus = Bus::with_runtime(client_at(&node, there.clone()).await, node.runtime());
        let Ok(responder) = bus.serve("sum").concurrency(3).open().await else {
            pause(&node, 100).await;
            continue;
        };
        let here = node.clone();
        let answering = responder.run(move |request: Message| {
            let node = here.clone();
            async move {
                let id = String::from_utf8_lossy(request.payload()).into_owned();
                if id != "late" {
                    node.recorder().execute(&id);
                }
                pause(&node, 60).await;
                match node.random(20) {
                    0 => Err("no idea".to_owned()),
                    _ => Ok(id),
                }
            }
        });
        let _ = answering.await;
    }
}
