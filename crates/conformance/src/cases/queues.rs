//! Cases of queues and their books: declaring, deleting, inspecting, draining, and law B5.

use std::time::Duration;

use posthaste_core::{
    Broker, Capability, ErrorKind, Overflow, Pattern, Queue, ReceiverExt, SenderExt, Subscription,
};

use crate::Context;
use crate::context::{expect, next, number_of, numbered, numbered_to, send_numbers, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::Probe;

pub(crate) async fn b5_a_queue_tells_what_it_holds(cx: Context) -> Outcome {
    let binding = cx.pattern("orders.>")?;
    let with = |queue: Queue| queue.bind(binding.clone()).capacity(50).capacity_bytes(60_000);
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=9).await?;
    let size = numbered_to(&queue, 1).size() as u64;
    let info = cx.info(&queue).await?;
    check_eq!(info.name, queue, "the name");
    check_eq!(info.messages, 9, "messages");
    check_eq!(info.unsettled, 0, "unsettled ones");
    check_eq!(info.bytes, 9 * size, "bytes");
    check_eq!(info.consumers, 0, "consumers");
    check_eq!(
        (info.settings.capacity_messages, info.settings.capacity_bytes),
        (50, 60_000),
        "the capacity"
    );
    check_eq!(info.bindings, [binding], "the bindings");
    check_eq!((info.ledger.accepted, info.ledger.held), (9, 9), "accepted and held copies");

    let mut consumer = cx.consumer(&queue).await?;
    let (first, second) = (next(&mut consumer).await?, next(&mut consumer).await?);
    let info = cx.info(&queue).await?;
    check_eq!((info.messages, info.consumers), (9, 1), "messages and consumers");
    check!((2..=9).contains(&info.unsettled), "2 are unsettled, it says {}", info.unsettled);
    first.ack();
    second.reject("no good");
    consumer.settled().await?;
    drop(consumer);
    cx.until_queue(&queue, "the consumer is gone and its settlements are booked", |info| {
        info.consumers == 0 && info.unsettled == 0 && info.messages == 7
    })
    .await?;
    let info = cx.info(&queue).await?;
    check!(info.ledger.is_balanced(), "the queue's ledger: {}", info.ledger);
    check_eq!((info.ledger.acked, info.ledger.dropped), (1, 1), "acked and dropped copies");
    check_eq!(info.bytes, 7 * size, "bytes");
    Ok(())
}

pub(crate) async fn b5_every_copy_is_accounted_for(cx: Context) -> Outcome {
    let topic = cx.topic("orders.eu")?;
    let bound = cx.pattern("orders.*")?;
    let queue = cx.queue_with("jobs", |queue| queue.bind(bound)).await?;
    let before = cx.stats().await?.ledger;
    let mut subscriber = cx.subscriber("orders.*").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=10).await?;
    let ledger = cx.stats().await?.ledger;
    check_eq!(ledger.accepted - before.accepted, 20, "copies of 10 messages to 2 places");
    check!(ledger.is_balanced(), "after publishing: {ledger}");

    check_eq!(take_numbers(&mut subscriber, 10).await?.len(), 10, "the subscription's copies");
    let mut consumer = cx.consumer(&queue).await?;
    for number in 1..=10 {
        let delivery = next(&mut consumer).await?;
        match number % 3 {
            0 => delivery.ack(),
            1 => delivery.reject("every third"),
            _ => {
                delivery.retry(Duration::ZERO, "once more");
                next(&mut consumer).await?.ack();
            }
        }
    }
    consumer.settled().await?;
    cx.until("all copies are settled", async || {
        let ledger = cx.stats().await?.ledger;
        check!(ledger.is_balanced(), "while settling: {ledger}");
        Ok(ledger.auto - before.auto == 10 && ledger.held == before.held)
    })
    .await?;
    let ledger = cx.stats().await?.ledger;
    check_eq!(ledger.acked - before.acked, 6, "acked copies");
    check_eq!(ledger.dropped - before.dropped, 4, "rejected copies");
    let books = cx.info(&queue).await?.ledger;
    check_eq!((books.accepted, books.acked, books.dropped), (10, 6, 4), "the queue's own books");
    Ok(())
}

pub(crate) async fn b5_unmatched_messages_are_counted_beside_the_balance(cx: Context) -> Outcome {
    let before = cx.stats().await?.ledger;
    let nowhere = cx.topic("nobody.listens")?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&nowhere, n), 1..=5).await?;
    let ledger = cx.stats().await?.ledger;
    check_eq!(ledger.unmatched - before.unmatched, 5, "messages that matched nothing");
    check_eq!(ledger.accepted, before.accepted, "copies of messages that matched nothing");
    Ok(())
}

pub(crate) async fn b5_what_a_subscription_leaves_behind_is_dropped_and_counted(
    cx: Context,
) -> Outcome {
    let topic = cx.topic("news")?;
    let before = cx.stats().await?.ledger;
    let mut sender = cx.sender().await?;
    let mut subscriber = cx.subscriber("news").await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=8).await?;
    take_numbers(&mut subscriber, 3).await?;
    drop(subscriber);
    cx.until("what was left is booked", async || {
        let ledger = cx.stats().await?.ledger;
        check!(ledger.is_balanced(), "while the subscription goes: {ledger}");
        Ok(ledger.held == before.held)
    })
    .await?;
    let ledger = cx.stats().await?.ledger;
    check_eq!(ledger.accepted - before.accepted, 8, "copies accepted");
    let gone = ledger.auto - before.auto + ledger.dropped - before.dropped;
    check_eq!(gone, 8, "copies taken or dropped");
    check!(ledger.auto - before.auto >= 3, "three were taken: {ledger}");
    Ok(())
}

pub(crate) async fn b5_a_full_subscription_that_drops_is_booked(cx: Context) -> Outcome {
    let topic = cx.topic("ticks")?;
    let before = cx.stats().await?.ledger;
    let of = Subscription::topic(&topic)?.capacity(5, 1 << 20).overflow(Overflow::DropNewest);
    let lossy = cx.receiver(of).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=500).await?;
    let ledger = cx.stats().await?.ledger;
    check!(ledger.is_balanced(), "while it is full: {ledger}");
    check!(ledger.dropped > before.dropped, "nothing was dropped: {ledger}");
    drop(lossy);
    Ok(())
}

pub(crate) async fn b5_queues_are_listed_by_name(cx: Context) -> Outcome {
    let mut names = Vec::new();
    for tail in ["m", "a", "z", "a.b", "k"] {
        names.push(cx.queue(tail).await?);
    }
    names.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    let listed: Vec<_> = cx.stats().await?.queues.into_iter().map(|info| info.name).collect();
    let ours: Vec<_> = listed.iter().filter(|name| names.contains(name)).cloned().collect();
    check_eq!(ours, names, "the queues, in the order of their names");
    Ok(())
}

pub(crate) async fn b5_subscriptions_are_counted_while_they_live(cx: Context) -> Outcome {
    let (topic, group) = (cx.topic("news")?, cx.topic("group")?);
    check_eq!(cx.stats().await?.subscriptions, 0, "subscriptions at first");
    let one = cx.subscriber("news").await?;
    let two = cx.receiver(Subscription::shared(&topic, &group)?).await?;
    let three = cx.receiver(Subscription::shared(&topic, &group)?).await?;
    check_eq!(cx.stats().await?.subscriptions, 2, "a subscription and a group");
    drop((one, two));
    cx.until("the group alone is left", async || Ok(cx.stats().await?.subscriptions == 1)).await?;
    drop(three);
    cx.until("none is left", async || Ok(cx.stats().await?.subscriptions == 0)).await
}

// ---- declaring and deleting

pub(crate) async fn b7_declaring_again_keeps_what_is_not_named(cx: Context) -> Outcome {
    let (one, other) = (cx.pattern("orders.>")?, cx.pattern("news.>")?);
    let with = |queue: Queue| queue.capacity(10).capacity_bytes(10_000).bind(one.clone());
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;

    cx.broker().declare(Queue::new(queue.clone())).await?;
    let info = cx.info(&queue).await?;
    check_eq!(
        (info.settings.capacity_messages, info.settings.capacity_bytes),
        (10, 10_000),
        "what was not named"
    );
    check_eq!(info.messages, 1, "messages after the same declaration again");

    let again = Queue::new(queue.clone()).capacity(20).bind(other.clone()).bind(one.clone());
    cx.broker().declare(again).await?;
    let info = cx.info(&queue).await?;
    check_eq!(
        (info.settings.capacity_messages, info.settings.capacity_bytes),
        (20, 10_000),
        "what was named"
    );
    let mut bindings = info.bindings;
    bindings.sort_unstable();
    check_eq!(bindings, [other, one], "bindings, of which none is there twice");
    Ok(())
}

pub(crate) async fn b7_a_larger_capacity_lets_waiting_senders_go_on(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(1)).await?;
    let mut sender = cx.narrow_sender().await?;
    let taken = cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    let probe = Probe::new();
    let mut slot = Some(numbered_to(&queue, taken + 1));
    let mut sending = sender.send_from(&mut slot);
    check!(probe.poll(&mut sending).is_pending(), "a full queue took one more");
    cx.broker().declare(Queue::new(queue.clone()).capacity(100)).await?;
    probe.finish(&mut sending).await?;
    Ok(())
}

pub(crate) async fn b5_deleting_drops_and_counts_what_was_held(cx: Context) -> Outcome {
    let topic = cx.topic("orders")?;
    let bound = Pattern::from(&topic);
    let queue = cx.queue_with("jobs", |queue| queue.bind(bound)).await?;
    let before = cx.stats().await?.ledger;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=6).await?;
    cx.broker().delete(&queue).await?;
    let ledger = cx.stats().await?.ledger;
    check_eq!(ledger.dropped - before.dropped, 6, "copies dropped");
    check!(ledger.is_balanced(), "after deleting: {ledger}");
    let kind = cx.broker().queue(&queue).await.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::NotFound), "asking after a deleted queue");
    // Its bindings went with it.
    let receipt = sender.send(numbered(&topic, 7)).await?;
    cx.check_matched(receipt.matched, 0, "places that a message to a deleted binding went to")?;
    Ok(())
}

pub(crate) async fn b7_deleting_lets_waiting_senders_go_on(cx: Context) -> Outcome {
    let topic = cx.topic("orders")?;
    let bound = Pattern::from(&topic);
    let queue = cx.queue_with("jobs", |queue| queue.bind(bound).capacity(1)).await?;
    let mut sender = cx.narrow_sender().await?;
    let taken = cx.fill(&mut sender, |n| numbered(&topic, n), 100).await?;
    let probe = Probe::new();
    let mut slot = Some(numbered(&topic, taken + 1));
    let mut sending = sender.send_from(&mut slot);
    check!(probe.poll(&mut sending).is_pending(), "a full queue took one more");
    cx.broker().delete(&queue).await?;
    probe.finish(&mut sending).await?;
    Ok(())
}

pub(crate) async fn b7_a_queue_that_is_not_there_is_not_found(cx: Context) -> Outcome {
    let nowhere = cx.topic("nowhere")?;
    let kind = cx.broker().delete(&nowhere).await.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::NotFound), "deleting a queue that is not there");
    if cx.has(Capability::Inspection) {
        let kind = cx.broker().queue(&nowhere).await.err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::NotFound), "asking after a queue that is not there");
    }
    Ok(())
}

pub(crate) async fn b7_a_name_can_be_used_again_after_deleting(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    for round in 1..=5 {
        send_numbers(&mut sender, |n| numbered_to(&queue, n), [round, round + 100]).await?;
        let mut consumer = cx.consumer(&queue).await?;
        let delivery = next(&mut consumer).await?;
        check_eq!(number_of(&delivery)?, round, "the first message of the new queue");
        cx.broker().delete(&queue).await?;
        // Settling what the deleted queue had handed out touches nothing of the new one.
        cx.broker().declare(Queue::new(queue.clone())).await?;
        delivery.ack();
        check_eq!(cx.info(&queue).await?.messages, 0, "messages in the new queue");
    }
    Ok(())
}

// ---- draining

pub(crate) async fn b5_a_drain_waits_for_what_was_handed_out(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.broker().sender(posthaste_core::SenderOptions::new()).await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    let of = Subscription::queue(&queue)?.prefetch(1);
    let mut consumer = cx.broker().receiver(of).await?;
    let delivery = next(&mut consumer).await?;
    let finishing = async {
        let probe = Probe::new();
        let mut draining = cx.broker().drain(Duration::from_secs(20));
        check!(probe.poll(&mut draining).is_pending(), "a drain did not wait for a delivery");
        delivery.ack();
        Ok::<_, Failure>(probe.finish(&mut draining).await?)
    };
    let report = finishing.await?;
    check_eq!(report.abandoned, 0, "abandoned deliveries: {report}");
    check!(report.finished <= 1, "one delivery was under way: {report}");
    let kind = match sender.send(numbered_to(&queue, 4)).await {
        Ok(_) => None,
        Err(failed) => Some(failed.kind()),
    };
    check_eq!(kind, Some(ErrorKind::Closed), "sending after a drain");
    Ok(())
}

pub(crate) async fn b5_a_drain_gives_up_in_time_and_says_so(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.broker().sender(posthaste_core::SenderOptions::new()).await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut consumer = cx.broker().receiver(Subscription::queue(&queue)?).await?;
    let kept = next(&mut consumer).await?;
    let report = cx.broker().drain(Duration::from_millis(20)).await?;
    check_eq!(report.abandoned, 1, "abandoned deliveries: {report}");
    drop(kept);
    Ok(())
}

pub(crate) async fn b5_expired_messages_are_not_handed_out(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let runtime = cx.runtime()?;
    let mut sender = cx.sender().await?;
    let late = posthaste_core::Message::builder(queue.clone())
        .to_queue()
        .payload("1")
        .deadline(runtime.now() + Duration::from_millis(5))
        .build()?;
    let in_time = posthaste_core::Message::builder(queue.clone())
        .to_queue()
        .payload("2")
        .deadline(runtime.now() + Duration::from_secs(600))
        .build()?;
    // The queue may refuse what is too late already, but it may not hand it out.
    let refused = match sender.send(late).await {
        Ok(_) => 0,
        Err(failed) => {
            check_eq!(failed.kind(), ErrorKind::Expired, "why the late one was refused");
            1
        }
    };
    sender.send(in_time).await?;
    let deadline = runtime.now() + Duration::from_millis(10);
    posthaste_core::runtime::timeout_at(&**runtime, deadline, std::future::pending::<()>()).await;
    let mut consumer = cx.consumer(&queue).await?;
    expect(&mut consumer, 2, "the one that is not too late").await?;
    consumer.settled().await?;
    cx.until_queue(&queue, "the late one is booked as expired", |info| {
        info.ledger.expired + refused == 1 && info.messages == 0
    })
    .await
}
