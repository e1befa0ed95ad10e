//! Cases of law B19: what receipts say of durable queues, and what is in them when their broker is
//! opened again.

use std::time::Duration;

use posthaste_core::{
    BoxReceiver, Broker, Capability, ErrorKind, Level, Message, MessageBuilder, Queue, Receiver,
    ReceiverExt, Retention, SenderExt, SenderOptions, Start, Subscription, Topic,
};

use super::messages::check_same;
use super::settings::with_everything;
use crate::Context;
use crate::context::{
    check_balance, check_sentence, expect, next, number_of, numbered, numbered_to, send_numbers,
    take_numbers,
};
use crate::failure::{Failure, Outcome, check, check_eq};

/// Soon enough for a test, and mostly late enough for a broker to be opened again before.
const SOON: Duration = Duration::from_millis(300);

/// Later than any case ends.
const NEVER: Duration = Duration::from_secs(3_600);

fn draft(queue: &Topic, number: u64) -> MessageBuilder {
    Message::builder(queue.clone()).to_queue().payload(number.to_string())
}

/// Declares a queue that is not durable; `None` where every queue is, which is said at the call.
async fn volatile(
    cx: &Context,
    tail: &str,
    with: impl FnOnce(Queue) -> Queue,
) -> Result<Option<Topic>, Failure> {
    let name = cx.queue_name(tail)?;
    match cx.peer().declare(with(Queue::new(name.clone())).durable(false)).await {
        Ok(()) => Ok(Some(name)),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends one message with a sender that asks for a level, or for none, and says which one was
/// reached; `None` if it was not enough.
async fn reached(
    cx: &Context,
    message: Message,
    level: Option<Level>,
) -> Result<Option<Level>, Failure> {
    let mut options = SenderOptions::new();
    if let Some(level) = level {
        options = options.confirm(level);
    }
    let error = match cx.broker().sender(options).await {
        Err(error) => error,
        Ok(mut sender) => match sender.send(message).await {
            Ok(receipt) => return Ok(Some(receipt.level)),
            Err(failed) => failed.into(),
        },
    };
    let is_honest = matches!(error.kind(), ErrorKind::Unconfirmed | ErrorKind::Unsupported);
    check!(is_honest && level.is_some(), "asking for {level:?}: {error:?}");
    Ok(None)
}

/// Checks that nothing is in the queue any more once what was received is settled.
async fn check_empty(cx: &Context, queue: &Topic, receiver: &mut BoxReceiver) -> Outcome {
    receiver.settled().await?;
    let info = cx.info(queue).await?;
    check_eq!(info.messages, 0, "messages beyond those that were to come from {queue}");
    check_balance(&info.ledger, queue.as_str())
}

// ---- what is said

pub(crate) async fn b19_a_receipt_says_how_safe_a_message_is(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let durable = cx.info(&queue).await?.settings.durable;
    check!(durable, "a queue is not durable although nothing of that was said");
    let strictest = reached(&cx, numbered_to(&queue, 1), Some(Level::Stored)).await?;
    let usual = reached(&cx, numbered_to(&queue, 2), None).await?;
    if strictest.is_some() {
        check_eq!(strictest, Some(Level::Stored), "the level, where `Stored` was asked for");
        check_eq!(usual, strictest, "the level, where none was asked for and `Stored` can be had");
    }
    for level in [Level::Sent, Level::Held, Level::Written] {
        let reached = reached(&cx, numbered_to(&queue, 3), Some(level)).await?;
        let can_be_had = level <= Level::Held || strictest.is_some();
        check!(reached.is_some() || !can_be_had, "{level} cannot be had");
        check!(reached.is_none_or(|this| this >= level), "{reached:?} where {level} was asked for");
    }
    Ok(())
}

pub(crate) async fn b19_the_least_safe_copy_counts(cx: Context) -> Outcome {
    let (topic, pattern) = (cx.topic("news")?, cx.pattern("news")?);
    let (one, other) = (pattern.clone(), pattern);
    let durable = cx.queue_with("durable", |queue| queue.bind(one)).await?;
    let alone = reached(&cx, numbered(&topic, 1), None).await?;
    let Some(volatile) = volatile(&cx, "volatile", |queue| queue.bind(other)).await? else {
        return Ok(());
    };
    let settings = cx.info(&volatile).await?.settings;
    check!(!settings.durable, "a queue says that it is durable, which was not wanted");
    let both = reached(&cx, numbered(&topic, 2), None).await?;
    check!(alone >= both, "with a copy that is not safe {both:?}, and {alone:?} without it");
    check_eq!(both, Some(Level::Held), "the level of a copy that is not durable");
    let refused = reached(&cx, numbered(&topic, 3), Some(Level::Written)).await?;
    check_eq!(refused, None, "the level, where one copy cannot reach what was asked for");
    for queue in [&durable, &volatile] {
        let expected = if queue == &durable { vec![1, 2] } else { vec![2] };
        let mut consumer = cx.consumer(queue).await?;
        let found = take_numbers(&mut consumer, expected.len()).await?;
        check_eq!(found, expected, "what came to {queue}");
    }
    Ok(())
}

pub(crate) async fn b19_another_durability_is_a_conflict(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.durable(true)).await?;
    let Some(volatile) = volatile(&cx, "volatile", |queue| queue).await? else {
        return Ok(());
    };
    for (queue, durable) in [(&queue, true), (&volatile, false)] {
        let before = cx.info(queue).await?.settings;
        check_eq!(before.durable, durable, "whether {queue} is durable");
        let other = Queue::new(queue.clone()).durable(!durable).capacity(7);
        let Err(error) = cx.broker().declare(other).await else {
            return Err(Failure::new(format!("{queue} is durable or not, as who asks likes it")));
        };
        check_eq!(error.kind(), ErrorKind::Conflict, "declaring another durability: {error}");
        check!(error.text().contains("durable"), "the field is not named: {error}");
        check_sentence(&error, "a conflict")?;
        cx.broker().declare(Queue::new(queue.clone()).durable(durable)).await?;
        check_eq!(cx.info(queue).await?.settings, before, "the settings after a conflict");
    }
    Ok(())
}

// ---- messages

pub(crate) async fn b19_what_was_confirmed_is_there_again_in_order(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=30).await?;
    let cx = cx.reopen().await?;
    let info = cx.info(&queue).await?;
    check_eq!((info.messages, info.unsettled), (30, 0), "messages, and those unsettled");
    check_balance(&info.ledger, "a queue that is there again")?;
    // What comes then is behind it, and there the next time, too.
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 31..=40).await?;
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, 10).await?, (1..=10).collect::<Vec<_>>(), "what came");
    consumer.settled().await?;
    consumer.close().await?;
    let cx = cx.reopen().await?;
    let mut consumer = cx.consumer(&queue).await?;
    for number in 11..=40 {
        let delivery = next(&mut consumer).await?;
        let found = (number_of(&delivery)?, delivery.attempt());
        check_eq!(found, (number, 1), "what came, and its attempt");
        delivery.ack();
    }
    check_empty(&cx, &queue, &mut consumer).await
}

pub(crate) async fn b19_what_was_written_is_there_again(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut expected = Vec::new();
    for (number, level) in (1..).zip([Level::Written, Level::Stored]) {
        let reached = reached(&cx, numbered_to(&queue, number), Some(level)).await?;
        expected.extend(reached.map(|_| number));
    }
    check!(!expected.is_empty(), "what is durable reaches neither `Stored` nor `Written`");
    let cx = cx.reopen().await?;
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, expected.len()).await?, expected, "what came");
    check_empty(&cx, &queue, &mut consumer).await
}

pub(crate) async fn b19_a_message_is_there_again_as_it_was_sent(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let to_queue = || Message::builder(queue.clone()).to_queue();
    let sent = [
        to_queue().build()?,
        to_queue()
            .header("content-type", "text/plain")
            .header("empty", "")
            .header("twice", "one")
            .header("twice", "two")
            .header("utf-8", "größer → 大")
            .key("customer-7")
            .id("id-1")
            .payload(vec![0, 0xff, 0xfe, b'\n', 0])
            .build()?,
        to_queue().key("").payload(vec![7; 300_000]).build()?,
        to_queue().header("content-type", "text/plain").id("id-2").payload("hello").build()?,
    ];
    let mut sender = cx.sender().await?;
    for message in &sent {
        sender.send(message.clone()).await?;
    }
    let cx = cx.reopen().await?;
    let mut consumer = cx.consumer(&queue).await?;
    for message in &sent {
        let delivery = next(&mut consumer).await?;
        check_same(delivery.message(), message)?;
        delivery.ack();
    }
    check_empty(&cx, &queue, &mut consumer).await
}

pub(crate) async fn b19_what_was_settled_does_not_come_again(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=7).await?;
    let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(6)).await?;
    let mut deliveries = Vec::new();
    for _ in 0..6 {
        deliveries.push(next(&mut consumer).await?);
    }
    for (nth, delivery) in (1..).zip(deliveries) {
        match nth {
            2 => delivery.reject("no good"),
            // As if it had never been handed out.
            6 => delivery.release(),
            _ => delivery.ack(),
        }
    }
    consumer.settled().await?;
    consumer.close().await?;
    let cx = cx.reopen().await?;
    let mut consumer = cx.consumer(&queue).await?;
    for number in [6, 7] {
        let delivery = next(&mut consumer).await?;
        let found = (number_of(&delivery)?, delivery.attempt());
        check_eq!(found, (number, 1), "what came, and its attempt");
        delivery.ack();
    }
    check_empty(&cx, &queue, &mut consumer).await
}

pub(crate) async fn b19_what_was_handed_out_comes_again_one_attempt_higher(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=4).await?;
    let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(3)).await?;
    next(&mut consumer).await?.retry(Duration::ZERO, "again");
    let mut held = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut consumer).await?;
        held.push((number_of(&delivery)?, delivery.attempt(), delivery));
    }
    held.sort_unstable_by_key(|(number, ..)| *number);
    let found: Vec<_> = held.iter().map(|(number, attempt, _)| (*number, *attempt)).collect();
    check_eq!(found, [(1, 2), (2, 1), (3, 1)], "what came, and its attempt");
    consumer.settled().await?;
    // A broker that ends in a worse way may forget a hand-out behind which nothing was stored.
    sender.send(numbered_to(&queue, 5)).await?;
    let before = cx.clone();
    let cx = cx.reopen().await?;
    // Too late: these are of a broker that has ended, and settle nothing.
    for (number, _, delivery) in held {
        match number {
            1 => delivery.ack(),
            2 => delivery.reject("too late"),
            _ => drop(delivery),
        }
    }
    drop((consumer, before));
    cx.quiet().await?;
    let mut consumer = cx.consumer(&queue).await?;
    for expected in [(1, 3), (2, 2), (3, 2), (4, 1), (5, 1)] {
        let delivery = next(&mut consumer).await?;
        check_eq!((number_of(&delivery)?, delivery.attempt()), expected, "what came, its attempt");
        delivery.ack();
    }
    check_empty(&cx, &queue, &mut consumer).await
}

// ---- queues

pub(crate) async fn b19_queues_are_there_again_as_they_were_declared(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let name = cx.queue_name("jobs")?;
    cx.broker().declare(with_everything(&cx, Queue::new(name.clone()), &dead)).await?;
    cx.broker().declare(Queue::new(name.clone()).capacity(70)).await?;
    let mut queues = vec![dead, name, cx.queue("plain").await?];
    if cx.has(Capability::KeyedOrder) {
        queues.push(cx.queue_with("keyed", Queue::keyed).await?);
    }
    if cx.has(Capability::Replay) {
        let retain = Retention::new().messages(70).bytes(7_000).last_per_key();
        queues.push(cx.queue_with("history", |queue| queue.retain(retain)).await?);
    }
    let mut before = Vec::new();
    for queue in &queues {
        before.push(cx.info(queue).await?.settings);
    }
    let cx = cx.reopen().await?;
    for (queue, before) in queues.iter().zip(&before) {
        check_eq!(&cx.info(queue).await?.settings, before, "the settings of {queue}");
    }
    // They are queues as any other: declared again they keep what is not named.
    for (queue, before) in queues.iter().zip(&before) {
        cx.broker().declare(Queue::new(queue.clone())).await?;
        check_eq!(&cx.info(queue).await?.settings, before, "the settings of {queue} after that");
    }
    let listed: Vec<_> = cx.stats().await?.queues.into_iter().map(|info| info.name).collect();
    let missing = queues.iter().find(|queue| !listed.contains(queue));
    check!(missing.is_none(), "{missing:?} is not in the list of queues: {listed:?}");
    Ok(())
}

pub(crate) async fn b19_what_was_deleted_or_purged_stays_away(cx: Context) -> Outcome {
    let (gone, purged) = (cx.queue("gone").await?, cx.queue("purged").await?);
    let mut sender = cx.sender().await?;
    for queue in [&gone, &purged] {
        send_numbers(&mut sender, |n| numbered_to(queue, n), 1..=5).await?;
    }
    cx.broker().delete(&gone).await?;
    check_eq!(cx.broker().purge(&purged).await?, 5, "messages that were purged");
    sender.send(numbered_to(&purged, 6)).await?;
    let cx = cx.reopen().await?;
    let kind = cx.broker().queue(&gone).await.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::NotFound), "a queue that was deleted");
    let mut consumer = cx.consumer(&purged).await?;
    expect(&mut consumer, 6, "what came after purging").await?;
    check_empty(&cx, &purged, &mut consumer).await?;
    // The name is free for another one.
    let again = cx.queue("gone").await?;
    check_eq!(cx.info(&again).await?.messages, 0, "messages in a queue of that name");
    Ok(())
}

pub(crate) async fn b19_bindings_are_there_again(cx: Context) -> Outcome {
    let (first, second) = (cx.pattern("orders.*")?, cx.pattern("refunds.>")?);
    let queue = cx.queue_with("jobs", |queue| queue.bind(first.clone())).await?;
    cx.broker().declare(Queue::new(queue.clone()).bind(second.clone())).await?;
    let mut before = cx.info(&queue).await?.bindings;
    let cx = cx.reopen().await?;
    let mut after = cx.info(&queue).await?.bindings;
    before.sort_unstable();
    after.sort_unstable();
    check_eq!(after, before, "the bindings");
    let mut sender = cx.sender().await?;
    let tails = ["orders.eu", "orders.eu.late", "refunds.eu.late", "orders.us"];
    for (number, tail) in (1..).zip(tails) {
        sender.send(numbered(&cx.topic(tail)?, number)).await?;
    }
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, 3).await?, [1, 3, 4], "what came by the bindings");
    check_empty(&cx, &queue, &mut consumer).await
}

pub(crate) async fn b19_what_is_not_durable_is_gone(cx: Context) -> Outcome {
    let Some(queue) = volatile(&cx, "volatile", |queue| queue).await? else {
        return Ok(());
    };
    let durable = cx.queue("durable").await?;
    let mut sender = cx.sender().await?;
    for queue in [&queue, &durable] {
        sender.send(numbered_to(queue, 1)).await?;
    }
    let cx = cx.reopen().await?;
    let kind = cx.broker().queue(&queue).await.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::NotFound), "a queue that is not durable");
    // Its name is free for one that is.
    cx.broker().declare(Queue::new(queue.clone()).durable(true)).await?;
    check_eq!(cx.info(&queue).await?.messages, 0, "messages in a queue of that name");
    let mut consumer = cx.consumer(&durable).await?;
    expect(&mut consumer, 1, "what came from the durable one").await?;
    check_empty(&cx, &durable, &mut consumer).await
}

// ---- what there is to a message beside itself

pub(crate) async fn b19_dead_letters_are_there_again_with_their_history(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let name = dead.clone();
    let queue = cx.queue_with("jobs", |queue| queue.dead_letter(name).max_attempts(2)).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=2).await?;
    let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(1)).await?;
    next(&mut consumer).await?.reject("no good");
    next(&mut consumer).await?.retry(Duration::ZERO, "failure 1");
    consumer.settled().await?;
    consumer.close().await?;
    cx.until_queue(&dead, "the first one is dead", |info| info.messages == 1).await?;
    let deaths = async |cx: &Context| {
        let shown = cx.broker().browse(&dead, None, 10).await?;
        Ok::<Vec<Vec<_>>, Failure>(
            shown.iter().map(|this| this.message.deaths().collect()).collect(),
        )
    };
    let before = deaths(&cx).await?;
    let cx = cx.reopen().await?;
    check_eq!(deaths(&cx).await?, before, "the history of the letter");
    // An attempt before counts, with its reason.
    let mut consumer = cx.consumer(&queue).await?;
    let delivery = next(&mut consumer).await?;
    check_eq!((number_of(&delivery)?, delivery.attempt()), (2, 2), "what came, and its attempt");
    delivery.retry(Duration::ZERO, "failure 2");
    cx.until_queue(&dead, "both are dead", |info| info.messages == 2).await?;
    check_empty(&cx, &queue, &mut consumer).await?;
    let expected = [(1, 1, vec!["no good"]), (2, 2, vec!["failure 1", "failure 2"])];
    let mut letters = cx.consumer(&dead).await?;
    for (number, attempts, reasons) in expected {
        let letter = next(&mut letters).await?;
        check_eq!(number_of(&letter)?, number, "the dead letter");
        let found: Vec<_> = letter.message().deaths().collect();
        check_eq!(found.len(), 1, "deaths of letter {number}");
        let died = (&found[0].queue, found[0].attempts);
        check_eq!(died, (&queue, attempts), "where letter {number} died, and its attempts there");
        check_eq!(found[0].reasons, reasons, "why the attempts of letter {number} failed");
        letter.ack();
    }
    check_empty(&cx, &dead, &mut letters).await
}

pub(crate) async fn b19_a_known_id_is_known_again(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.dedup_window(NEVER)).await?;
    let with_id = |number: u64| draft(&queue, number).id(format!("id-{number}")).build();
    let mut sender = cx.sender().await?;
    for number in [1, 2] {
        sender.send(with_id(number)?).await?;
    }
    let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(1)).await?;
    expect(&mut consumer, 1, "what is settled").await?;
    consumer.settled().await?;
    consumer.close().await?;
    let cx = cx.reopen().await?;
    let before = cx.info(&queue).await?.ledger.duplicates;
    let mut sender = cx.sender().await?;
    for number in [1, 2, 3] {
        let receipt = sender.send(with_id(number)?).await?;
        check_eq!(receipt.confirmed, 1, "the receipt of message {number}");
    }
    let info = cx.info(&queue).await?;
    check_eq!(info.ledger.duplicates - before, 2, "duplicates of what came before");
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, 2).await?, [2, 3], "what came");
    check_empty(&cx, &queue, &mut consumer).await
}

pub(crate) async fn b19_what_is_delayed_comes_at_its_time(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let runtime = cx.runtime()?.clone();
    let mut sender = cx.sender().await?;
    let before = runtime.now();
    for (number, delay) in [(1, NEVER), (2, SOON), (3, Duration::ZERO)] {
        sender.send(draft(&queue, number).delay(delay).build()?).await?;
    }
    let cx = cx.reopen().await?;
    check_eq!(cx.info(&queue).await?.messages, 3, "messages, the delayed ones included");
    let mut consumer = cx.consumer(&queue).await?;
    let mut found = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut consumer).await?;
        let number = number_of(&delivery)?;
        let waited = runtime.now() - before;
        check!(number != 2 || waited >= SOON, "a delay of {SOON:?} came after {waited:?}");
        check_eq!(delivery.attempt(), 1, "the attempt of message {number}");
        found.push(number);
        delivery.ack();
    }
    // On a slow machine the second is due before it is looked for.
    found.sort_unstable();
    check_eq!(found, [2, 3], "what came in time");
    consumer.settled().await?;
    check_nothing_else(&cx, &queue, &mut consumer, "is delayed").await
}

pub(crate) async fn b19_what_is_in_backoff_waits_on(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=2).await?;
    let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(1)).await?;
    next(&mut consumer).await?.retry(NEVER, "later");
    consumer.settled().await?;
    consumer.close().await?;
    let cx = cx.reopen().await?;
    let mut consumer = cx.consumer(&queue).await?;
    expect(&mut consumer, 2, "what came past one in backoff").await?;
    consumer.settled().await?;
    check_nothing_else(&cx, &queue, &mut consumer, "is in backoff").await
}

/// Checks that one message is left, which is not handed out.
async fn check_nothing_else(
    cx: &Context,
    queue: &Topic,
    consumer: &mut BoxReceiver,
    why: &str,
) -> Outcome {
    cx.quiet().await?;
    let more = consumer.try_recv()?;
    check!(more.is_none(), "what {why} came: {more:?}");
    check_eq!(cx.info(queue).await?.messages, 1, "messages left, of which one {why}");
    Ok(())
}

pub(crate) async fn b19_a_time_to_live_goes_on(cx: Context) -> Outcome {
    let short = cx.queue_with("short", |queue| queue.ttl(SOON)).await?;
    let long = cx.queue_with("long", |queue| queue.ttl(NEVER)).await?;
    let runtime = cx.runtime()?.clone();
    let mut sender = cx.sender().await?;
    let before = runtime.now();
    for queue in [&short, &long] {
        sender.send(numbered_to(queue, 1)).await?;
    }
    let cx = cx.reopen().await?;
    // Nobody has to look for it to go.
    cx.until_queue(&short, "what is too late has gone", |info| info.messages == 0).await?;
    let lived = runtime.now() - before;
    check!(lived >= SOON, "a message that lives {SOON:?} was gone after {lived:?}");
    check_balance(&cx.info(&short).await?.ledger, "the queue of what is too late")?;
    let mut consumer = cx.consumer(&long).await?;
    expect(&mut consumer, 1, "what lives for long").await?;
    check_empty(&cx, &long, &mut consumer).await
}

pub(crate) async fn b19_priorities_are_there_again(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    for (number, priority) in [(1, 0), (2, 3), (3, 1), (4, 3), (5, 0), (6, 2)] {
        sender.send(draft(&queue, number).priority(priority).build()?).await?;
    }
    let cx = cx.reopen().await?;
    let mut sender = cx.sender().await?;
    sender.send(draft(&queue, 7).priority(2).build()?).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let found = take_numbers(&mut consumer, 7).await?;
    check_eq!(found, [2, 4, 6, 7, 3, 1, 5], "what came, the highest priority first");
    check_empty(&cx, &queue, &mut consumer).await
}

pub(crate) async fn b19_a_key_comes_in_order_again(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", Queue::keyed).await?;
    let mut sender = cx.sender().await?;
    for (number, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        sender.send(draft(&queue, number).key(key).build()?).await?;
    }
    let cx = cx.reopen().await?;
    let mut consumer = cx.consumer(&queue).await?;
    let (one, other) = (next(&mut consumer).await?, next(&mut consumer).await?);
    check_eq!((number_of(&one)?, number_of(&other)?), (1, 3), "the first of each key");
    cx.quiet().await?;
    let more = consumer.try_recv()?;
    check!(more.is_none(), "a key's next came before the one before was settled: {more:?}");
    other.ack();
    one.ack();
    check_eq!(take_numbers(&mut consumer, 2).await?, [2, 4], "what came of the key then");
    check_empty(&cx, &queue, &mut consumer).await
}

// ---- histories

/// The offsets and numbers of the next so many.
async fn read(
    reader: &mut (impl Receiver + ?Sized),
    count: usize,
) -> Result<Vec<(u64, u64)>, Failure> {
    let mut found = Vec::new();
    for _ in 0..count {
        let delivery = next(reader).await?;
        let offset = delivery.offset();
        let offset = offset.ok_or_else(|| Failure::new("a message that is read has no offset"))?;
        check_eq!(delivery.missed(), 0, "messages missing before the one at {offset}");
        found.push((offset, number_of(&delivery)?));
    }
    Ok(found)
}

pub(crate) async fn b19_offsets_go_on(cx: Context) -> Outcome {
    let queue = cx.queue_with("history", |queue| queue.retain(Retention::new())).await?;
    let read_from = async |cx: &Context, start: Start, count: usize| {
        let mut reader = cx.receiver(Subscription::queue(&queue)?.start(start)).await?;
        read(&mut reader, count).await
    };
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=20).await?;
    let before = read_from(&cx, Start::Beginning, 20).await?;
    let cx = cx.reopen().await?;
    check_eq!(read_from(&cx, Start::Beginning, 20).await?, before, "what is there again");
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 21)).await?;
    let behind = before[19].0 + 1;
    let found = read_from(&cx, Start::Offset(before[14].0), 7).await?;
    check_eq!(found[..6], before[14..], "what is there from an offset on");
    check_eq!(found[6], (behind, 21), "what comes then, and where");
    // An offset is never given twice, and that nothing is left makes no difference.
    check_eq!(cx.broker().purge(&queue).await?, 21, "messages that were purged");
    let cx = cx.reopen().await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 22)).await?;
    let mut reader = cx.receiver(Subscription::queue(&queue)?.start(Start::Beginning)).await?;
    check_eq!(read(&mut reader, 1).await?, [(behind + 1, 22)], "what comes after purging");
    let info = cx.info(&queue).await?;
    check_eq!(info.messages, 1, "messages that are retained");
    check_balance(&info.ledger, "a queue that retains")
}
