//! Cases of law B4: of subscriptions, groups and queues each one that matches gets its own copy.

use posthaste_core::{Overflow, Pattern, ReceiverExt, SenderExt, Subscription, Topic};

use crate::Context;
use crate::context::{expect, next, number_of, numbered, numbered_to, send_numbers, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::Probe;
use crate::random::Xorshift;

pub(crate) async fn b4_every_subscription_gets_its_own_copy(cx: Context) -> Outcome {
    let topic = cx.topic("news.eu")?;
    let mut subscribers = Vec::new();
    for tail in ["news.eu", "news.*", "news.>", "*.eu", ">", "news.eu"] {
        subscribers.push(cx.subscriber(tail).await?);
    }
    let mut others = [cx.subscriber("news").await?, cx.subscriber("news.eu.west").await?];
    let mut sender = cx.sender().await?;
    for number in 1..=50 {
        let receipt = sender.send(numbered(&topic, number)).await?;
        cx.check_matched(receipt.matched, 6, "subscriptions that matched")?;
    }
    for subscriber in &mut subscribers {
        let found = take_numbers(subscriber, 50).await?;
        check_eq!(found, (1..=50).collect::<Vec<u64>>(), "one subscription's copies");
    }
    for (other, tail) in others.iter_mut().zip(["news", "news.eu.west"]) {
        sender.send(numbered(&cx.topic(tail)?, 99)).await?;
        expect(other, 99, "the first message that matches").await?;
    }
    Ok(())
}

pub(crate) async fn b4_every_group_gets_one_copy(cx: Context) -> Outcome {
    let topic = cx.topic("work")?;
    let mut groups = Vec::new();
    for name in ["red", "blue", "green"] {
        let group = cx.topic(name)?;
        let of = || Subscription::shared(&topic, &group);
        groups.push([cx.receiver(of()?).await?, cx.receiver(of()?).await?]);
    }
    let mut sender = cx.sender().await?;
    for number in 1..=12 {
        let receipt = sender.send(numbered(&topic, number)).await?;
        cx.check_matched(receipt.matched, 3, "groups that matched")?;
    }
    for [one, other] in groups {
        let mut found = Vec::new();
        let mut members = [one, other];
        cx.until("a group has all", async || {
            for member in &mut members {
                while let Some(delivery) = member.try_recv()? {
                    found.push(number_of(&delivery)?);
                }
            }
            cx.quiet().await?;
            Ok(found.len() >= 12)
        })
        .await?;
        found.sort_unstable();
        check_eq!(found, (1..=12).collect::<Vec<u64>>(), "one group's copies");
    }
    Ok(())
}

pub(crate) async fn b4_a_queue_gets_one_copy_however_many_bindings_match(cx: Context) -> Outcome {
    let topic = cx.topic("orders.eu")?;
    let (all_orders, every) = (cx.pattern("orders.>")?, cx.pattern("*.eu")?);
    let literal = Pattern::from(&topic);
    let twice =
        cx.queue_with("twice", |queue| queue.bind(all_orders).bind(every).bind(literal)).await?;
    let bound = cx.pattern("orders.*")?;
    let once = cx.queue_with("once", |queue| queue.bind(bound)).await?;
    let apart = cx.queue("apart").await?;
    let mut subscriber = cx.subscriber("orders.eu").await?;
    let mut sender = cx.sender().await?;
    let receipt = sender.send(numbered(&topic, 1)).await?;
    cx.check_matched(receipt.matched, 3, "two bound queues and a subscription")?;
    expect(&mut subscriber, 1, "the subscription's copy").await?;
    for (queue, messages) in [(&twice, 1), (&once, 1), (&apart, 0)] {
        check_eq!(cx.info(queue).await?.messages, messages, "copies in {queue}");
    }
    let bindings = cx.info(&twice).await?.bindings.len();
    check_eq!(bindings, 3, "bindings that the queue tells");
    Ok(())
}

pub(crate) async fn b4_a_message_to_a_queue_goes_there_alone(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let everything = cx.pattern(">")?;
    let greedy = cx.queue_with("greedy", |queue| queue.bind(everything)).await?;
    let mut subscriber = cx.subscriber(">").await?;
    let mut sender = cx.sender().await?;
    let receipt = sender.send(numbered_to(&queue, 1)).await?;
    cx.check_matched(receipt.matched, 1, "places that a message to a queue went to")?;
    // And the other way round: a topic that is called as the queue is not the queue.
    let receipt = sender.send(numbered(&queue, 2)).await?;
    cx.check_matched(receipt.matched, 2, "places that a message to a topic went to")?;
    expect(&mut subscriber, 2, "what the subscription got").await?;
    check_eq!(cx.info(&queue).await?.messages, 1, "messages in the queue");
    check_eq!(cx.info(&greedy).await?.messages, 1, "messages in the bound queue");
    Ok(())
}

pub(crate) async fn b4_publishing_is_all_or_nothing(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let bound = Pattern::from(&topic);
    let full = cx.queue_with("full", |queue| queue.bind(bound).capacity(1)).await?;
    let mut subscriber = cx.subscriber("news").await?;
    let mut sender = cx.narrow_sender().await?;
    sender.send(numbered(&topic, 1)).await?;
    expect(&mut subscriber, 1, "the first copy").await?;
    // The queue is full now, so the next message waits, and nobody has a copy of it before.
    let probe = Probe::new();
    let mut slot = Some(numbered(&topic, 2));
    let mut sending = sender.send_from(&mut slot);
    let polled = probe.poll(&mut sending);
    check!(!(cx.is_pulled() && polled.is_ready()), "a full queue was passed over");
    cx.quiet().await?;
    let early = subscriber.try_recv()?;
    check!(early.is_none(), "a copy of what another receiver has no room for: {early:?}");
    let mut consumer = cx.consumer(&full).await?;
    expect(&mut consumer, 1, "what filled the queue").await?;
    if polled.is_pending() {
        probe.finish(&mut sending).await?;
    }
    expect(&mut subscriber, 2, "the copy after there is room").await?;
    expect(&mut consumer, 2, "the queue's copy after there is room").await
}

pub(crate) async fn b4_patterns_match_as_they_are_defined(cx: Context) -> Outcome {
    const WORDS: [&str; 4] = ["a", "b", "eu", "*"];
    let mut random = Xorshift::new(0x5EED);
    let mut word = |wild: bool| WORDS[random.below(if wild { 4 } else { 3 })];
    let mut topics = Vec::new();
    let mut patterns = Vec::new();
    for nth in 0..24 {
        let words: Vec<_> = (0..1 + nth % 4).map(|_| word(false)).collect();
        topics.push(cx.topic(&words.join("."))?);
        let mut words: Vec<_> = (0..1 + nth % 3).map(|_| word(true)).collect();
        if nth % 4 == 3 {
            words.push(">");
        }
        patterns.push(cx.pattern(&words.join("."))?);
    }
    check_against_oracle(&cx, &topics, &patterns).await
}

pub(crate) async fn b4_leading_wildcards_leave_reserved_topics_alone(cx: Context) -> Outcome {
    let topics: Result<Vec<_>, _> = ["_ph.kit.a", "_ph.kit.b", "kit.a", "_phx.a", "ph.kit.a"]
        .into_iter()
        .map(Topic::new)
        .collect();
    let patterns: Result<Vec<_>, _> =
        [">", "*.kit.a", "*.>", "*.a", "_ph.kit.*", "_ph.>", "_ph.*.a", "kit.>", "*.*.*"]
            .into_iter()
            .map(Pattern::new)
            .collect();
    check_against_oracle(&cx, &topics?, &patterns?).await
}

/// Publishes to every topic with a subscription for every pattern, and checks who got what
/// against `Pattern::matches`.
async fn check_against_oracle(cx: &Context, topics: &[Topic], patterns: &[Pattern]) -> Outcome {
    let mut subscribers = Vec::new();
    for pattern in patterns {
        subscribers.push(cx.receiver(Subscription::topic(pattern.clone())?).await?);
    }
    let mut sender = cx.sender().await?;
    for (number, topic) in (0..).zip(topics) {
        let receipt = sender.send(numbered(topic, number)).await?;
        let matching = patterns.iter().filter(|pattern| pattern.matches(topic)).count();
        cx.check_matched(
            receipt.matched,
            matching as u64,
            &format!("patterns of {patterns:?} matching {topic}"),
        )?;
    }
    for (pattern, subscriber) in patterns.iter().zip(&mut subscribers) {
        let expected: Vec<u64> = (0..)
            .zip(topics)
            .filter(|(_, topic)| pattern.matches(topic))
            .map(|(number, _)| number)
            .collect();
        let found = take_numbers(subscriber, expected.len()).await?;
        // Several topics may have no order among each other; each has its own.
        let by_topic = |mut numbers: Vec<u64>| {
            numbers
                .sort_by_key(|number| usize::try_from(*number).ok().and_then(|at| topics.get(at)));
            numbers
        };
        check_eq!(by_topic(found), by_topic(expected), "what came to {pattern} of {topics:?}");
    }
    Ok(())
}

pub(crate) async fn b4_a_subscription_that_drops_holds_nobody_up(cx: Context) -> Outcome {
    let found = flood_a_lossy_subscription(&cx).await?;
    let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
    check!(numbers.len() < 500, "a subscription for 5 messages held {}", numbers.len());
    check!(numbers.is_sorted_by(|a, b| a < b), "what was not dropped came as {numbers:?}");
    Ok(())
}

pub(crate) async fn b5_a_subscription_that_drops_says_what_it_missed(cx: Context) -> Outcome {
    let mut last = 0;
    for (number, missed) in flood_a_lossy_subscription(&cx).await? {
        check_eq!(missed, number - last - 1, "what was missed between {last} and {number}");
        last = number;
    }
    Ok(())
}

/// Sends 500 messages to a stalled subscription for 5 that drops, then more until one of those
/// comes; returns the numbers that came and how many each said were missed before it.
async fn flood_a_lossy_subscription(cx: &Context) -> Result<Vec<(u64, u64)>, Failure> {
    let topic = cx.topic("ticks")?;
    let of = Subscription::topic(&topic)?.capacity(5, 1 << 20).overflow(Overflow::DropNewest);
    let mut lossy = cx.receiver(of).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=500).await?;
    let mut found = Vec::new();
    let mut sent = 500;
    while found.last().is_none_or(|(number, _)| *number <= 500) {
        sent += 1;
        sender.send(numbered(&topic, sent)).await?;
        let delivery = next(&mut lossy).await?;
        found.push((number_of(&delivery)?, delivery.missed()));
    }
    Ok(found)
}
