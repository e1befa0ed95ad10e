//! Dead letters, brought back to where they died, and queues that are emptied.

use std::time::Duration;

use posthaste_core::{
    BoxReceiver, Bus, Delivery, Message, Queue, ReceiverExt, Subscription, Topic,
};
use posthaste_servers::harness::{Trials, space};
use tokio::time::timeout;

use crate::faults::{bus, on_tokio};

pub(crate) fn add(trials: &mut Trials) {
    trials.needing("nats", "dead_letters_are_replayed", |server| {
        let url = server.url().to_owned();
        on_tokio(dead_letters_are_replayed(url));
    });
    trials.needing("nats", "a_purge_leaves_what_is_handed_out", |server| {
        let url = server.url().to_owned();
        on_tokio(a_purge_leaves_what_is_handed_out(url));
    });
}

async fn consume(bus: &Bus, queue: &Topic) -> BoxReceiver {
    bus.receiver(Subscription::queue(queue).unwrap().prefetch(1)).await.unwrap()
}

async fn next(consumer: &mut BoxReceiver) -> Delivery {
    timeout(Duration::from_secs(20), consumer.next_delivery()).await.unwrap().unwrap()
}

async fn dead_letters_are_replayed(url: String) {
    let (bus, space) = (bus(&url).await, space());
    let topic = |tail: &str| Topic::new(format!("{space}.{tail}")).unwrap();
    let (jobs, gone, dead) = (topic("jobs"), topic("gone"), topic("dead"));
    // Its own messages come again within the window, and are not taken for repetitions.
    let window = Duration::from_secs(60);
    bus.declare(Queue::new(jobs.clone()).dead_letter(dead.clone()).dedup_window(window))
        .await
        .unwrap();
    bus.declare(Queue::new(gone.clone()).dead_letter(dead.clone())).await.unwrap();
    for (queue, payload) in [(&jobs, "1"), (&jobs, "2"), (&gone, "3"), (&jobs, "4")] {
        let message = Message::builder(queue.clone()).to_queue().payload(payload);
        let message = message.id(format!("id {payload}")).build().unwrap();
        bus.send_message(message).await.unwrap();
        let mut consumer = consume(&bus, queue).await;
        next(&mut consumer).await.reject("no good");
        consumer.settled().await.unwrap();
    }
    bus.delete(&gone).await.unwrap();
    bus.send(&dead, "no letter").await.unwrap();

    let replayed = bus.broker().replay(&dead, 3).await.unwrap();
    assert_eq!((replayed.moved, replayed.kept), (2, 1));
    let why = replayed.why.unwrap();
    assert!(why.contains("gone"), "{why}");
    let replayed = bus.broker().replay(&dead, 10).await.unwrap();
    assert_eq!((replayed.moved, replayed.kept), (1, 2), "{:?}", replayed.why);
    let mut consumer = consume(&bus, &jobs).await;
    for payload in ["1", "2", "4"] {
        let delivery = next(&mut consumer).await;
        assert_eq!((&delivery.payload()[..], delivery.attempt()), (payload.as_bytes(), 1));
        assert_eq!(delivery.message().id(), Some(&*format!("id {payload}")));
        let deaths: Vec<_> = delivery.message().deaths().map(|death| death.queue).collect();
        assert_eq!(deaths, std::slice::from_ref(&jobs), "its history stays");
        delivery.ack();
    }
    consumer.settled().await.unwrap();
    // What stays was not attempted by that.
    let mut letters = consume(&bus, &dead).await;
    for payload in ["3", "no letter"] {
        let delivery = next(&mut letters).await;
        assert_eq!((&delivery.payload()[..], delivery.attempt()), (payload.as_bytes(), 1));
        delivery.ack();
    }
    letters.close().await.unwrap();
    bus.delete(&jobs).await.unwrap();
    bus.delete(&dead).await.unwrap();
}

async fn a_purge_leaves_what_is_handed_out(url: String) {
    let (bus, queue) = (bus(&url).await, Topic::new(format!("{}.full", space())).unwrap());
    bus.declare(Queue::new(queue.clone())).await.unwrap();
    for number in 0..600 {
        bus.send(&queue, number.to_string()).await.unwrap();
    }
    let mut consumer = consume(&bus, &queue).await;
    let held = next(&mut consumer).await;
    assert_eq!(bus.broker().purge(&queue).await.unwrap(), 599);
    assert_eq!(bus.queue(&queue).await.unwrap().messages, 1);
    held.ack();
    consumer.settled().await.unwrap();
    assert_eq!(bus.queue(&queue).await.unwrap().messages, 0);
    bus.delete(&queue).await.unwrap();
}
