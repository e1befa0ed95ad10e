//! Ways that messages go: a subscription that is live from its first moment on, a gateway between
//! client and broker, calls beside each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthaste_core::transport::Endpoint;
use posthaste_core::{
    Broker, Bus, Event, Message, Queue, ReceiverExt, SenderExt, SenderOptions, Subscription,
};
use posthaste_link::{Server, ServerOptions};
use posthaste_sim::{Node, World, check};

use crate::scenarios::{answer_at, ask_at};
use crate::support::{BrokerNode, client, client_at, pause, remote_at, there, topic, within};

// ---- the barrier

/// Subscribers that are told of what is published from the moment on at which they are live, over
/// whichever connection.
pub(crate) async fn barrier(world: World) {
    world
        .check(check::no_invention())
        .check(check::subscribers_miss_nothing_unsaid())
        .check(check::books_balance());
    let broker = BrokerNode::start(&world, false, Vec::new()).await;
    let listeners = ["ear-a", "ear-b", "ear-c"].map(|name| {
        let node = world.node(name);
        node.clone().start(|node| async move {
            let (hears, speaks) = (client(&node).await, client(&node).await);
            for round in 0..6 {
                hear(&node, &*hears, &*speaks, round).await;
            }
        })
    });
    for listener in &listeners {
        listener.finished().await;
    }
    broker.deserted(&world).await;
    broker.audit().await;
}

/// Subscribes over one connection, publishes over another, and has to hear of it.
async fn hear(node: &Node, hears: &impl Broker, speaks: &impl Broker, round: u64) {
    let own = format!("said.{}.{round}", node.name());
    let subscription = match node.random(4) {
        0 => Subscription::topic("said.>"),
        1 => Subscription::topic("said.*.*"),
        2 => Subscription::shared("said.>", topic(&format!("group.{}.{round}", node.name()))),
        _ => Subscription::topic(&*own),
    };
    let mut receiver = hears.receiver(subscription.expect("a good pattern")).await.expect("whole");
    let mut sender = speaks.sender(SenderOptions::new()).await.expect("the connection holds");
    let receipt = sender.send(Message::new(topic(&own), own.clone())).await;
    assert!(receipt.expect("the connection holds").matched > 0, "nobody was there for {own}");
    loop {
        let heard = receiver.next_delivery().await.expect("the connection holds");
        if heard.payload() == own.as_bytes() {
            return;
        }
    }
}

// ---- the gateway

fn gateway() -> Endpoint {
    Endpoint::new("sim", "gateway:7000")
}

/// Questions and answers that go through a gateway, which dies now and then.
pub(crate) async fn hops(world: World) {
    world
        .check(check::requests_have_one_outcome(Duration::from_secs(5)))
        .check(check::books_balance());
    let broker = BrokerNode::start(&world, false, Vec::new()).await;
    let between = world.node("gateway").mortal().start(|node| async move {
        let remote = remote_at(&node, there()).await;
        let server = Server::new(node.runtime(), remote, ServerOptions::new());
        server.listen(node.transport(), gateway()).await.expect("the port is free");
        std::future::pending::<()>().await;
    });
    let near = world.node("sage-near").mortal().start(|node| answer_at(node, there()));
    let far = world.node("sage-far").mortal().start(|node| answer_at(node, gateway()));
    let asker = world.node("asker").start(|node| ask_at(node, gateway()));
    asker.finished().await;
    world.healed().await;
    let late = world.node("late").start(|node| async move {
        let bus = Bus::with_runtime(client_at(&node, gateway()).await, node.runtime());
        while bus.request("sum", "late").within(Duration::from_secs(5)).await.is_err() {
            pause(&node, 100).await;
        }
    });
    let answered = async || within(&late, Duration::ZERO, late.finished()).await.is_some();
    world.until("somebody is answered again", answered).await;
    [near, far, between].iter().for_each(Node::kill);
    broker.deserted(&world).await;
    broker.audit().await;
}

// ---- a session that is lost

/// A broker that is started anew knows nothing of the sessions of its clients, and they say so to
/// whoever subscribes to events.
pub(crate) async fn lost_session(world: World) {
    let broker = BrokerNode::start(&world, false, Vec::new()).await;
    let told = Arc::new(AtomicBool::new(false));
    let tells = Arc::clone(&told);
    let client = world.node("client").start(move |node| listen(node, Arc::clone(&tells)));
    world.healed().await;
    broker.node.kill();
    broker.node.restart();
    let is_told = async || told.load(Ordering::Relaxed);
    world.until("a client is told that its session is lost", is_told).await;
    client.finished().await;
}

/// Waits for the event.
async fn listen(node: Node, told: Arc<AtomicBool>) {
    let remote = client(&node).await;
    let events = Subscription::topic(Event::PATTERN).expect("a good pattern");
    let mut events = loop {
        match remote.receiver(events.clone()).await {
            Ok(events) => break events,
            Err(_) => pause(&node, 50).await,
        }
    };
    while let Ok(delivery) = events.next_delivery().await {
        if Event::from_message(delivery.message()) == Some(Event::SessionLost) {
            told.store(true, Ordering::Relaxed);
            return;
        }
    }
}

// ---- calls

/// Calls beside each other on one connection, each of which has to get its own answer.
pub(crate) async fn calls(world: World) {
    world.check(check::my("calls get their own answers", |history| {
        match history.notes("another's answer").next() {
            None => Ok(()),
            Some(text) => Err(text.to_owned()),
        }
    }));
    let names = ["one", "two", "three"];
    let queues = names.map(|name| Queue::new(topic(name))).into();
    let broker = BrokerNode::start(&world, false, queues).await;
    let curious = world.node("curious");
    let remote = client(&curious).await;
    let asking = names.map(|name| {
        let (node, remote) = (curious.clone(), remote.clone());
        curious.spawn(async move {
            for _ in 0..8 {
                // Given up half-way now and then.
                let patience = Duration::from_millis(node.random(200));
                let (queue, recorder) = (topic(name), node.recorder());
                let asked = within(&node, patience, remote.queue(&queue)).await;
                if let Some(Ok(info)) = asked
                    && info.name != queue
                {
                    recorder.note("another's answer", format!("asked of {name}: {}", info.name));
                }
                pause(&node, 10).await;
            }
        })
    });
    for asks in asking {
        asks.await;
    }
    drop(remote);
    broker.deserted(&world).await;
}
