//! Cases of which message is next, and which is not taken at all: law B11, priorities; law B12,
//! duplicates; and law B13, the order of keys.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_core::{
    Delivery, ErrorKind, Message, Overflow, Pattern, Queue, ReceiverExt, SenderExt, Subscription,
    Topic,
};

use crate::Context;
use crate::context::{
    check_sentence, expect, next, number_of, numbered, send_numbers, take_numbers,
};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::both;
use crate::random::Xorshift;

/// Later than any case ends.
const NEVER: Duration = Duration::from_secs(3_600);

// ---- B11

fn urgent(queue: &Topic, number: u64, priority: u8) -> Result<Message, Failure> {
    let draft = Message::builder(queue.clone()).to_queue().payload(number.to_string());
    Ok(draft.priority(priority).build()?)
}

pub(crate) async fn b11_the_highest_priority_goes_first(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let mut expected = Vec::new();
    for number in 0..24 {
        let priority = [1, 0, 3, 2, 0, 3][number as usize % 6];
        sender.feed(urgent(&queue, number, priority)?).await?;
        expected.push((priority, number));
    }
    sender.flush().await?;
    expected.sort_by_key(|(priority, number)| (3 - priority, *number));
    let mut consumer = cx.consumer(&queue).await?;
    let found = take_numbers(&mut consumer, 24).await?;
    let expected: Vec<_> = expected.into_iter().map(|(_, number)| number).collect();
    check_eq!(found, expected, "what came, the highest priority first and each in its order");
    Ok(())
}

pub(crate) async fn b11_what_comes_again_keeps_its_priority_and_place(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    for (number, priority) in [(1, 0), (2, 0), (3, 2), (4, 2), (5, 1)] {
        sender.send(urgent(&queue, number, priority)?).await?;
    }
    let mut first = cx.receiver(Subscription::queue(&queue)?.prefetch(5)).await?;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(next(&mut first).await?);
    }
    // Given back in another order than they came.
    drop(first);
    for nth in [2, 1, 2, 0, 0] {
        held.remove(nth).release();
    }
    cx.until_queue(&queue, "all are back", |info| info.unsettled == 0).await?;
    let mut second = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut second, 5).await?, [3, 4, 5, 1, 2], "what came again");
    Ok(())
}

pub(crate) async fn b11_keyed_queues_know_no_priorities(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", Queue::keyed).await?;
    let mut sender = cx.sender().await?;
    let Err(failed) = sender.send(urgent(&queue, 1, 2)?).await else {
        return Err(Failure::new("a keyed queue took a message with a priority"));
    };
    check_eq!(failed.kind(), ErrorKind::InvalidArgument, "why: {}", failed.error());
    check_sentence(failed.error(), "a priority where there are none")?;
    sender.send(urgent(&queue, 2, 0)?).await?;
    expect(&mut cx.consumer(&queue).await?, 2, "what the queue took").await
}

// ---- B12

fn named(queue: &Topic, number: u64, id: &str) -> Result<Message, Failure> {
    let draft = Message::builder(queue.clone()).to_queue().payload(number.to_string());
    Ok(draft.id(id).build()?)
}

pub(crate) async fn b12_a_known_id_is_confirmed_and_not_taken(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.dedup_window(NEVER)).await?;
    let (mut sender, mut other) = (cx.sender().await?, cx.sender().await?);
    for (number, id) in [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "b")] {
        // Whoever sends it: an id is the message's.
        let sender = if number == 5 { &mut other } else { &mut sender };
        let receipt = sender.send(named(&queue, number, id)?).await?;
        check_eq!(receipt.confirmed, 1, "the receipt of number {number}");
        cx.check_matched(receipt.matched, 1, &format!("the receipt of number {number}"))?;
    }
    let info = cx.info(&queue).await?;
    check_eq!((info.ledger.accepted, info.ledger.duplicates), (3, 2), "copies and duplicates");
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, 3).await?, [1, 2, 4], "what was taken");
    consumer.settled().await?;
    // It is known for the whole window, not only while it is there.
    sender.send(named(&queue, 6, "a")?).await?;
    sender.send(named(&queue, 7, "d")?).await?;
    expect(&mut consumer, 7, "what comes past a message that was done before").await
}

pub(crate) async fn b12_without_an_id_nothing_is_a_duplicate(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.dedup_window(NEVER)).await?;
    let mut sender = cx.sender().await?;
    let same = Message::to_queue(queue.clone(), "7");
    for _ in 0..3 {
        sender.send(same.clone()).await?;
    }
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, 3).await?, [7, 7, 7], "what was taken");
    check_eq!(cx.info(&queue).await?.ledger.duplicates, 0, "duplicates");
    Ok(())
}

pub(crate) async fn b12_each_queue_remembers_for_itself(cx: Context) -> Outcome {
    let topic = cx.topic("orders")?;
    let bound = cx.pattern("orders")?;
    let with = |queue: Queue| queue.bind(bound.clone());
    let strict = cx.queue_with("strict", |queue| with(queue).dedup_window(NEVER)).await?;
    let lax = cx.queue_with("lax", with).await?;
    let mut sender = cx.sender().await?;
    for number in [1, 2] {
        let message = Message::builder(topic.clone()).payload(number.to_string()).id("same");
        sender.send(message.build()?).await?;
    }
    check_eq!(cx.info(&strict).await?.messages, 1, "messages where the id is known");
    check_eq!(cx.info(&lax).await?.messages, 2, "messages where nobody looks at ids");
    Ok(())
}

pub(crate) async fn b12_an_id_is_forgotten_after_its_window(cx: Context) -> Outcome {
    let queue =
        cx.queue_with("jobs", |queue| queue.dedup_window(Duration::from_millis(20))).await?;
    let mut sender = cx.sender().await?;
    sender.send(named(&queue, 1, "a")?).await?;
    cx.until("the same id is taken again", async || {
        sender.send(named(&queue, 2, "a")?).await?;
        Ok(cx.info(&queue).await?.ledger.accepted >= 2)
    })
    .await
}

pub(crate) async fn b12_a_full_queue_confirms_what_it_knows(cx: Context) -> Outcome {
    let with = |queue: Queue| queue.dedup_window(NEVER).capacity(1);
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.sender().await?;
    sender.send(named(&queue, 1, "a")?).await?;
    let mut consumer = cx.consumer(&queue).await?;
    // It may wait for room, but it is a duplicate before and after.
    let again = named(&queue, 2, "a")?;
    let sending = async { Ok(sender.send(again).await?) };
    let taking = async {
        expect(&mut consumer, 1, "what fills the queue").await?;
        Ok(())
    };
    let (receipt, ()) = both(sending, taking).await?;
    check_eq!((receipt.confirmed, receipt.returned), (1, 0), "the receipt of a duplicate");
    cx.until_queue(&queue, "it was taken once", |info| info.messages == 0).await?;
    check_eq!(cx.info(&queue).await?.ledger.accepted, 1, "copies");
    Ok(())
}

pub(crate) async fn b12_full_queues_that_reject_confirm_what_all_of_them_know(
    cx: Context,
) -> Outcome {
    let topic = cx.topic("orders")?;
    let binding = Pattern::from(&topic);
    let with = |queue: Queue| {
        let bound = queue.dedup_window(NEVER).capacity(1).bind(binding.clone());
        bound.overflow(Overflow::Reject)
    };
    let queues = [cx.queue_with("one", with).await?, cx.queue_with("two", with).await?];
    let mut sender = cx.sender().await?;
    let message = |id: &str| Message::builder(topic.clone()).id(id).payload("order").build();
    for _ in 0..3 {
        let receipt = sender.send(message("a")?).await?;
        check_eq!((receipt.confirmed, receipt.returned), (1, 0), "the receipt of a duplicate");
    }
    let refused = sender.send(message("b")?).await;
    check_eq!(refused.map_err(|failed| failed.kind()).err(), Some(ErrorKind::Full), "the other");
    for queue in &queues {
        let ledger = cx.info(queue).await?.ledger;
        check_eq!((ledger.accepted, ledger.duplicates), (1, 2), "copies, and duplicates");
    }
    Ok(())
}

// ---- B13

fn keyed(queue: &Topic, number: u64, key: &str) -> Result<Message, Failure> {
    let draft = Message::builder(queue.clone()).to_queue().payload(number.to_string());
    Ok(draft.key(key).build()?)
}

fn key_of(delivery: &Delivery) -> Result<String, Failure> {
    let key = delivery.message().key().map(str::to_owned);
    key.ok_or_else(|| Failure::new("a key that got lost"))
}

pub(crate) async fn b13_each_key_comes_in_order_and_one_at_a_time(cx: Context) -> Outcome {
    const KEYS: u64 = 5;
    const EACH: u64 = 12;
    let queue = cx.queue_with("jobs", Queue::keyed).await?;
    let mut sender = cx.sender().await?;
    for number in 0..KEYS * EACH {
        sender.feed(keyed(&queue, number / KEYS, &format!("key {}", number % KEYS))?).await?;
    }
    sender.flush().await?;
    let mut consumers = Vec::new();
    for _ in 0..3 {
        consumers.push(cx.receiver(Subscription::queue(&queue)?.prefetch(8)).await?);
    }
    let mut random = Xorshift::new(0x6E7);
    let mut done = BTreeMap::<String, u64>::new();
    let mut held: Vec<Delivery> = Vec::new();
    cx.until("all keys are done", async || {
        for consumer in &mut consumers {
            while let Some(delivery) = consumer.try_recv()? {
                let key = key_of(&delivery)?;
                let next = done.get(&key).copied().unwrap_or_default();
                check_eq!(number_of(&delivery)?, next, "the next message of {key}");
                let twice = held.iter().any(|other| other.message().key() == Some(&key));
                check!(!twice, "two messages of {key} are handed out at a time");
                held.push(delivery);
            }
        }
        // Settled in another order than they came, some of them only at a second attempt.
        if !held.is_empty() {
            let delivery = held.swap_remove(random.below(held.len()));
            match random.below(8) {
                0 => delivery.retry(Duration::ZERO, "once more"),
                1 => drop(delivery),
                2 => delivery.release(),
                _ => {
                    *done.entry(key_of(&delivery)?).or_default() += 1;
                    delivery.ack();
                }
            }
        }
        Ok(done.values().sum::<u64>() == KEYS * EACH)
    })
    .await?;
    for consumer in &mut consumers {
        consumer.settled().await?;
    }
    cx.until_queue(&queue, "nothing is left", |info| info.messages == 0).await
}

pub(crate) async fn b13_a_key_that_waits_holds_up_no_other(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", Queue::keyed).await?;
    let mut sender = cx.sender().await?;
    for (number, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "a"), (6, "c")] {
        sender.feed(keyed(&queue, number, key)?).await?;
    }
    sender.flush().await?;
    let mut consumer = cx.consumer(&queue).await?;
    let first = next(&mut consumer).await?;
    check_eq!(number_of(&first)?, 1, "what comes first");
    first.retry(NEVER, "much later");
    let mut found = take_numbers(&mut consumer, 3).await?;
    found.sort_unstable();
    check_eq!(found, [3, 4, 6], "what comes past a key in backoff");
    cx.quiet().await?;
    let early = consumer.try_recv()?;
    check!(early.is_none(), "a key's next message while the one before waits: {early:?}");
    check_eq!(cx.info(&queue).await?.messages, 3, "messages that wait");
    Ok(())
}

pub(crate) async fn b13_a_dead_letter_lets_its_key_go_on(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let with = |queue: Queue| queue.keyed().dead_letter(dead.clone());
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.sender().await?;
    for number in 1..=3 {
        sender.send(keyed(&queue, number, "a")?).await?;
    }
    let mut consumer = cx.consumer(&queue).await?;
    next(&mut consumer).await?.reject("no good");
    expect(&mut consumer, 2, "what comes after a dead letter of its key").await?;
    expect(&mut consumer, 3, "what comes then").await?;
    expect(&mut cx.consumer(&dead).await?, 1, "the dead letter").await
}

pub(crate) async fn b13_a_lost_consumer_gives_its_keys_to_the_others(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", Queue::keyed).await?;
    let mut sender = cx.sender().await?;
    let mut lost = cx.consumer(&queue).await?;
    for number in 1..=6 {
        sender.send(keyed(&queue, number, if number % 2 == 0 { "even" } else { "odd" })?).await?;
    }
    let (one, two) = (next(&mut lost).await?, next(&mut lost).await?);
    drop((lost, one, two));
    let mut consumer = cx.consumer(&queue).await?;
    let mut found = BTreeMap::<String, Vec<u64>>::new();
    for _ in 1..=6 {
        let delivery = next(&mut consumer).await?;
        found.entry(key_of(&delivery)?).or_default().push(number_of(&delivery)?);
        delivery.ack();
    }
    check_eq!(found["odd"], [1, 3, 5], "what came of the one key");
    check_eq!(found["even"], [2, 4, 6], "what came of the other key");
    Ok(())
}

pub(crate) async fn b13_what_has_no_key_waits_for_nothing(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", Queue::keyed).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| Message::to_queue(queue.clone(), n.to_string()), 1..=4).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let mut held = Vec::new();
    for number in 1..=4 {
        let delivery = next(&mut consumer).await?;
        check_eq!(number_of(&delivery)?, number, "what has no key, in its order");
        held.push(delivery);
    }
    held.into_iter().for_each(Delivery::ack);
    Ok(())
}

pub(crate) async fn b13_an_expired_head_lets_its_key_go_on(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", Queue::keyed).await?;
    let runtime = cx.runtime()?;
    let mut sender = cx.sender().await?;
    let late = Message::builder(queue.clone())
        .to_queue()
        .payload("1")
        .key("a")
        .deadline(runtime.now() + Duration::from_millis(10))
        .build()?;
    // A slow machine may refuse what is too late already.
    let refused = u64::from(sender.send(late).await.is_err());
    sender.send(keyed(&queue, 2, "a")?).await?;
    cx.until_queue(&queue, "the first one has expired", |info| info.ledger.expired + refused == 1)
        .await?;
    expect(&mut cx.consumer(&queue).await?, 2, "what comes after an expired one of its key").await
}

pub(crate) async fn b13_a_topics_messages_keep_their_keys_order_too(cx: Context) -> Outcome {
    let topic = cx.topic("orders")?;
    let bound = cx.pattern("orders")?;
    let queue = cx.queue_with("jobs", |queue| queue.keyed().bind(bound)).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered(&topic, 9)).await?;
    for number in 1..=2 {
        let message = Message::builder(topic.clone()).payload(number.to_string()).key("a");
        sender.send(message.build()?).await?;
    }
    let mut consumer = cx.consumer(&queue).await?;
    expect(&mut consumer, 9, "what has no key").await?;
    let first = next(&mut consumer).await?;
    check_eq!(number_of(&first)?, 1, "the key's first message");
    cx.quiet().await?;
    check!(consumer.try_recv()?.is_none(), "the key's second message before its first is settled");
    first.ack();
    expect(&mut consumer, 2, "the key's second message").await
}
