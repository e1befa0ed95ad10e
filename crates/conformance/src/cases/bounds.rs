//! Cases of what happens at a bound: law B14, the policy that was named; law B15, one that stalls
//! among many; law R8, one that is cut off; and law B16, events.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_core::{
    BoxReceiver, Broker, ErrorKind, Event, Message, Overflow, Queue, ReceiverExt, SenderExt,
    Subscription, Topic,
};

use crate::Context;
use crate::context::{
    check_balance, check_sentence, expect, next, number_of, numbered, numbered_to, send_numbers,
    take_numbers,
};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::both;

// ---- B14, queues

pub(crate) async fn b14_a_queue_that_rejects_gives_the_message_back(cx: Context) -> Outcome {
    let with = |queue: Queue| queue.capacity(3).overflow(Overflow::Reject);
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    for round in 0..3 {
        let Err(failed) = sender.send(numbered_to(&queue, 4 + round)).await else {
            return Err(Failure::new("a full queue that rejects took one more"));
        };
        check_eq!(failed.kind(), ErrorKind::Full, "why: {}", failed.error());
        check_sentence(failed.error(), "a full queue that rejects")?;
        check_eq!(failed.message(), &numbered_to(&queue, 4 + round), "what was handed back");
    }
    let mut consumer = cx.consumer(&queue).await?;
    expect(&mut consumer, 1, "what was there first").await?;
    consumer.settled().await?;
    sender.send(numbered_to(&queue, 9)).await?;
    check_eq!(take_numbers(&mut consumer, 3).await?, [2, 3, 9], "what was taken");
    let ledger = cx.info(&queue).await?.ledger;
    check_eq!((ledger.accepted, ledger.dropped), (4, 0), "copies, and those dropped");
    Ok(())
}

pub(crate) async fn b14_one_that_rejects_gives_back_what_all_were_to_have(cx: Context) -> Outcome {
    let topic = cx.topic("orders")?;
    let bound = cx.pattern("orders")?;
    let with = |queue: Queue| queue.bind(bound.clone());
    let full = |queue| with(queue).capacity(1).overflow(Overflow::Reject);
    let (full, roomy) = (cx.queue_with("full", full).await?, cx.queue_with("roomy", with).await?);
    let mut subscriber = cx.subscriber("orders").await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered(&topic, 1)).await?;
    let kind = sender.send(numbered(&topic, 2)).await.err().map(|failed| failed.kind());
    check_eq!(kind, Some(ErrorKind::Full), "publishing to a full queue that rejects");
    check_eq!(cx.info(&roomy).await?.messages, 1, "messages in the queue that has room");
    expect(&mut cx.consumer(&full).await?, 1, "what the full queue has").await?;
    cx.until_queue(&full, "it has room", |info| info.messages == 0).await?;
    sender.send(numbered(&topic, 3)).await?;
    check_eq!(take_numbers(&mut subscriber, 2).await?, [1, 3], "what the subscriber got");
    Ok(())
}

pub(crate) async fn b14_a_queue_drops_its_newest(cx: Context) -> Outcome {
    check_dropping_queue(&cx, Overflow::DropNewest, [1, 2, 3]).await
}

pub(crate) async fn b14_a_queue_drops_its_oldest(cx: Context) -> Outcome {
    check_dropping_queue(&cx, Overflow::DropOldest, [8, 9, 10]).await
}

async fn check_dropping_queue(cx: &Context, policy: Overflow, left: [u64; 3]) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(3).overflow(policy)).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=10).await?;
    let info = cx.info(&queue).await?;
    check_eq!((info.messages, info.ledger.dropped), (3, 7), "messages left, and copies dropped");
    check_balance(&info.ledger, "the queue")?;
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, 3).await?, left, "what was not dropped");
    Ok(())
}

pub(crate) async fn b14_what_is_handed_out_is_never_dropped(cx: Context) -> Outcome {
    for policy in [Overflow::DropOldest, Overflow::DropNewest] {
        let name = format!("jobs.{policy}");
        let queue = cx.queue_with(&name, |queue| queue.capacity(3).overflow(policy)).await?;
        let mut sender = cx.sender().await?;
        send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
        let mut consumer = cx.consumer(&queue).await?;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(next(&mut consumer).await?);
        }
        send_numbers(&mut sender, |n| numbered_to(&queue, n), 4..=6).await?;
        held.into_iter().for_each(posthaste_core::Delivery::ack);
        consumer.settled().await?;
        let ledger = cx.info(&queue).await?.ledger;
        check_eq!((ledger.acked, ledger.dropped), (3, 3), "copies acked and dropped by {policy}");
    }
    Ok(())
}

// ---- B14, subscriptions

/// A subscription for five that is slow to take what it is sent.
fn small(topic: &Topic, policy: Overflow) -> Result<Subscription, Failure> {
    Ok(Subscription::topic(topic)?.capacity(5, 1 << 20).prefetch(2).overflow(policy))
}

pub(crate) async fn b14_a_subscription_drops_its_newest(cx: Context) -> Outcome {
    let found = flood(&cx, Overflow::DropNewest).await?;
    check!(found.first().is_some_and(|(number, _)| *number == 1), "the first one was dropped");
    check_missed(&found)
}

pub(crate) async fn b14_a_subscription_drops_its_oldest(cx: Context) -> Outcome {
    let found = flood(&cx, Overflow::DropOldest).await?;
    let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
    check!(numbers.ends_with(&[298, 299, 300, 301]), "the newest are not there: {numbers:?}");
    check_missed(&found)
}

fn check_missed(found: &[(u64, u64)]) -> Outcome {
    let mut last = 0;
    for (number, missed) in found {
        check_eq!(*missed, number - last - 1, "what was missed between {last} and {number}");
        last = *number;
    }
    Ok(())
}

/// Publishes 300 messages to a subscription that does not take any, and one more when it does;
/// returns the numbers that came and how many each said were missed before it.
async fn flood(cx: &Context, policy: Overflow) -> Result<Vec<(u64, u64)>, Failure> {
    let topic = cx.topic("ticks")?;
    let mut lossy = cx.receiver(small(&topic, policy)?).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=300).await?;
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut sent = 300;
    while found.last().is_none_or(|(number, _)| *number <= 300) {
        // With a policy that drops the newest, the one more may be dropped as well.
        if sent == 300 || policy == Overflow::DropNewest {
            sent += 1;
            sender.send(numbered(&topic, sent)).await?;
        }
        let delivery = next(&mut lossy).await?;
        found.push((number_of(&delivery)?, delivery.missed()));
    }
    check!(found.len() < 300, "a subscription for 5 held {}", found.len());
    Ok(found)
}

pub(crate) async fn b14_the_latest_of_each_key_takes_its_predecessors_place(
    cx: Context,
) -> Outcome {
    let topic = cx.topic("prices")?;
    let mut slow = cx.receiver(small(&topic, Overflow::LatestPerKey)?).await?;
    let mut sender = cx.sender().await?;
    let price = |number: u64, key: &str| {
        let draft = Message::builder(topic.clone()).payload(number.to_string()).key(key);
        draft.build()
    };
    for number in 1..=100 {
        for key in ["a", "b", "c"] {
            sender.feed(price(number, key)?).await?;
        }
    }
    sender.send(price(0, "the end")?).await?;
    let mut last = BTreeMap::new();
    let (mut came, mut missed) = (0, 0);
    loop {
        let delivery = next(&mut slow).await?;
        came += 1;
        missed += delivery.missed();
        let key = delivery.message().key().unwrap_or_default().to_owned();
        if key == "the end" {
            break;
        }
        let number = number_of(&delivery)?;
        let newer = last.insert(key, number).is_none_or(|before| before < number);
        check!(newer, "a price that is older than the one before");
    }
    let latest: Vec<_> = last.into_iter().collect();
    let expected: Vec<_> = ["a", "b", "c"].map(|key| (key.to_owned(), 100)).into();
    check_eq!(latest, expected, "the last price of each key");
    check_eq!(came + missed, 301, "what came and what was missed, of 301");
    check!(came < 200, "a subscription for 5 held {came}");
    Ok(())
}

pub(crate) async fn b14_without_a_key_the_topic_is_the_key(cx: Context) -> Outcome {
    let topics = [cx.topic("px.a")?, cx.topic("px.b")?];
    let of = Subscription::topic(cx.pattern("px.*")?)?.capacity(5, 1 << 20).prefetch(2);
    let mut slow = cx.receiver(of.overflow(Overflow::LatestPerKey)).await?;
    let mut sender = cx.sender().await?;
    for number in 1..=100 {
        for topic in &topics {
            sender.feed(numbered(topic, number)).await?;
        }
    }
    sender.flush().await?;
    let mut last = BTreeMap::new();
    while last.len() < 2 || last.values().any(|number| *number < 100) {
        let delivery = next(&mut slow).await?;
        last.insert(delivery.message().topic(), number_of(&delivery)?);
    }
    Ok(())
}

pub(crate) async fn b14_what_subscriptions_drop_is_booked(cx: Context) -> Outcome {
    for policy in [Overflow::DropNewest, Overflow::DropOldest, Overflow::LatestPerKey] {
        let before = cx.stats().await?.ledger;
        let missed: u64 = flood(&cx, policy).await?.iter().map(|(_, missed)| missed).sum();
        let ledger = cx.stats().await?.ledger;
        let dropped = ledger.dropped - before.dropped;
        check!(dropped >= missed, "{missed} were missed by {policy}, and {dropped} are booked");
        check_balance(&ledger, "the queue")?;
    }
    Ok(())
}

pub(crate) async fn b14_a_policy_that_does_not_suit_is_refused(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let of = Subscription::topic(&topic)?.overflow(Overflow::Reject);
    let kind = cx.broker().receiver(of).await.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::InvalidArgument), "a subscription that rejects");
    for policy in [Overflow::LatestPerKey, Overflow::Disconnect] {
        let queue = Queue::new(cx.queue_name("jobs")?).overflow(policy);
        let kind = cx.broker().declare(queue).await.err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::InvalidArgument), "a queue with the policy {policy}");
    }
    Ok(())
}

// ---- B15

pub(crate) async fn b15_one_that_stalls_keeps_nothing_from_the_others(cx: Context) -> Outcome {
    const MESSAGES: u64 = 200;
    let policies = Overflow::ALL
        .into_iter()
        .filter(|policy| policy.suits_subscriptions() && *policy != Overflow::Block);
    for policy in policies {
        let topic = cx.topic(&format!("news.{policy}"))?;
        let stalled = cx.receiver(small(&topic, policy)?).await?;
        let mut others = Vec::new();
        for _ in 0..9 {
            others.push(cx.receiver(Subscription::topic(&topic)?).await?);
        }
        let mut sender = cx.narrow_sender().await?;
        // Nobody takes anything before all is sent, and still nobody waits.
        send_numbers(&mut sender, |n| numbered(&topic, n), 1..=MESSAGES).await?;
        for other in &mut others {
            let found = take_numbers(other, MESSAGES as usize).await?;
            let all: Vec<u64> = (1..=MESSAGES).collect();
            check_eq!(found, all, "what came beside one that stalls by {policy}");
        }
        drop(stalled);
    }
    Ok(())
}

// ---- R8

pub(crate) async fn r8_who_is_cut_off_for_being_full_is_told_once(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut cut_off = cx.receiver(small(&topic, Overflow::Disconnect)?).await?;
    let mut other = cx.subscriber("news").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=200).await?;
    check_cut_off(&mut cut_off).await?;
    let receipt = sender.send(numbered(&topic, 201)).await?;
    cx.check_matched(receipt.matched, 1, "subscriptions that are left")?;
    let found = take_numbers(&mut other, 201).await?;
    check_eq!(found, (1..=201).collect::<Vec<u64>>(), "what came to the other one");
    Ok(())
}

pub(crate) async fn r8_who_blocks_for_too_long_is_cut_off(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let limit = Duration::from_millis(40);
    let of = small(&topic, Overflow::Block)?.stall_limit(limit);
    let mut stalled = cx.receiver(of).await?;
    let runtime = cx.runtime()?;
    let before = runtime.now();
    let mut sender = cx.narrow_sender().await?;
    // Nobody takes anything, so this goes on only once the one who blocks it is gone.
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=100).await?;
    let waited = runtime.now() - before;
    check!(waited >= limit, "one that may block for {limit:?} was cut off after {waited:?}");
    check_cut_off(&mut stalled).await?;
    let receipt = sender.send(numbered(&topic, 101)).await?;
    cx.check_matched(receipt.matched, 0, "subscriptions that are left")?;
    Ok(())
}

pub(crate) async fn r8_who_takes_what_comes_is_never_cut_off(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let of = small(&topic, Overflow::Block)?.stall_limit(Duration::from_millis(200));
    let mut slow = cx.receiver(of).await?;
    let mut sender = cx.narrow_sender().await?;
    // Slow, so that the sender always waits, for longer than the limit altogether.
    let sending = send_numbers(&mut sender, |n| numbered(&topic, n), 1..=60);
    let taking = async {
        for number in 1..=60 {
            expect(&mut slow, number, "what comes to one that is slow").await?;
            cx.wait(Duration::from_millis(5)).await?;
        }
        Ok(())
    };
    both(sending, taking).await?;
    Ok(())
}

/// Takes what came before the cut, if anything, then the reason, then the end.
async fn check_cut_off(receiver: &mut BoxReceiver) -> Outcome {
    let error = loop {
        match receiver.recv().await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(Failure::new("it has ended and says no reason")),
            Err(error) => break error,
        }
    };
    check_eq!(error.kind(), ErrorKind::SlowConsumer, "why it was cut off: {error}");
    check_sentence(&error, "one that is cut off")?;
    for _ in 0..2 {
        let end = receiver.recv().await?;
        check!(end.is_none(), "a delivery after the cut: {end:?}");
    }
    Ok(())
}

// ---- B16

pub(crate) async fn b16_a_queues_drops_are_events(cx: Context) -> Outcome {
    let mut events = cx.receiver(Subscription::topic(Event::PATTERN)?).await?;
    let with = |queue: Queue| queue.capacity(1).overflow(Overflow::DropNewest);
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=4).await?;
    let reasons = cx.info(&queue).await?.ledger.dropped_by;
    for _ in 0..3 {
        let (topic, reason) = next_drop(&mut events, queue.as_str()).await?;
        check_eq!(topic, queue, "what the event was about");
        check!(reasons.contains_key(&reason), "the reason {reason:?}, of those in the books");
    }
    Ok(())
}

pub(crate) async fn b16_a_subscriptions_drops_are_events(cx: Context) -> Outcome {
    let mut events = cx.receiver(Subscription::topic(Event::PATTERN)?).await?;
    let pattern = cx.pattern("ticks.*")?;
    let topic = cx.topic("ticks.eu")?;
    let of = Subscription::topic(pattern.clone())?.capacity(5, 1 << 20).prefetch(2);
    let stalled = cx.receiver(of.overflow(Overflow::DropOldest)).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=200).await?;
    let (about, reason) = next_drop(&mut events, pattern.as_str()).await?;
    check_eq!(about, topic, "what the event was about");
    check!(!reason.is_empty(), "an event without a reason");
    drop(stalled);
    Ok(())
}

/// What was dropped next of that subscriber, and why; others may use the broker too.
async fn next_drop(events: &mut BoxReceiver, whose: &str) -> Result<(Topic, String), Failure> {
    loop {
        let delivery = next(events).await?;
        match Event::from_message(delivery.message()) {
            Some(Event::Dropped { subscriber, topic, reason }) if subscriber == whose => {
                return Ok((topic, reason));
            }
            Some(_) => {}
            None => return Err(Failure::new("a message that is no event")),
        }
    }
}

pub(crate) async fn b16_who_does_not_read_events_holds_nobody_up(cx: Context) -> Outcome {
    let of = Subscription::topic(Event::PATTERN)?.capacity(2, 1 << 10).prefetch(1);
    let unread = cx.receiver(of).await?;
    let with = |queue: Queue| queue.capacity(1).overflow(Overflow::DropOldest);
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.narrow_sender().await?;
    // Each but the first drops one, which would be an event.
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=300).await?;
    expect(&mut cx.consumer(&queue).await?, 300, "what is left in the queue").await?;
    drop(unread);
    Ok(())
}
