//! Cases of law B8: how a message dies, where it goes, and what its history says.

use std::time::Duration;

use posthaste_core::{
    BoxReceiver, Broker, Death, Delivery, Message, Queue, ReceiverExt, SenderExt, Topic,
};

use crate::Context;
use crate::context::{
    check_balance, expect, next, number_of, numbered, numbered_to, send_numbers, take_numbers,
};
use crate::failure::{Failure, Outcome, check, check_eq};

/// Declares a queue whose dead letters go to `dead`.
async fn mortal(
    cx: &Context,
    tail: &str,
    dead: &Topic,
    with: impl FnOnce(Queue) -> Queue,
) -> Result<Topic, Failure> {
    cx.queue_with(tail, |queue| with(queue.dead_letter(dead.clone()))).await
}

/// The one death of a dead letter.
fn only_death(letter: &Delivery) -> Result<Death, Failure> {
    let mut deaths: Vec<_> = letter.message().deaths().collect();
    check_eq!(deaths.len(), 1, "deaths of a letter that died once, {deaths:?}");
    deaths.pop().ok_or_else(|| Failure::new("no death"))
}

pub(crate) async fn b8_what_was_tried_too_often_dies_with_its_history(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let queue = mortal(&cx, "jobs", &dead, |queue| queue.max_attempts(3)).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    for attempt in 1..=3 {
        let delivery = next(&mut consumer).await?;
        check_eq!((number_of(&delivery)?, delivery.attempt()), (1, attempt), "what comes again");
        delivery.retry(Duration::ZERO, &format!("failure {attempt}"));
    }
    let mut letters = cx.consumer(&dead).await?;
    let letter = next(&mut letters).await?;
    check_eq!((number_of(&letter)?, letter.attempt()), (1, 1), "the dead letter and its attempt");
    let death = only_death(&letter)?;
    check_eq!((&death.queue, death.attempts), (&queue, 3), "where it died, and its attempts there");
    check_eq!(death.reasons, ["failure 1", "failure 2", "failure 3"], "why its attempts failed");
    check!(death.at > Duration::ZERO || cx.runtime().is_err(), "a death without a time");
    letter.ack();
    letters.settled().await?;
    cx.until_queue(&queue, "the death is booked at its queue", |info| {
        info.ledger.dead_lettered == 1 && info.messages == 0
    })
    .await?;
    cx.until_queue(&dead, "the letter is booked where it went", |info| {
        info.ledger.accepted == 1 && info.ledger.acked == 1
    })
    .await
}

pub(crate) async fn b8_what_was_rejected_dies_at_once(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let queue = mortal(&cx, "jobs", &dead, |queue| queue).await?;
    let mut sender = cx.sender().await?;
    let message = Message::builder(queue.clone())
        .to_queue()
        .payload("7")
        .key("customer 7")
        .header("trace", "abc")
        .build()?;
    sender.send(message).await?;
    let mut consumer = cx.consumer(&queue).await?;
    next(&mut consumer).await?.reject("no such customer");
    let letter = next(&mut cx.consumer(&dead).await?).await?;
    let death = only_death(&letter)?;
    check_eq!((&death.queue, death.attempts), (&queue, 1), "where it died, and its attempts there");
    check_eq!(death.reasons, ["no such customer"], "why it was rejected");
    let found = (number_of(&letter)?, letter.message().key(), letter.message().header("trace"));
    check_eq!(found, (7, Some("customer 7"), Some("abc")), "what the letter still is");
    letter.ack();
    Ok(())
}

pub(crate) async fn b8_a_dropped_delivery_says_so_in_the_history(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let queue = mortal(&cx, "jobs", &dead, |queue| queue.max_attempts(1)).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    drop(next(&mut cx.consumer(&queue).await?).await?);
    let letter = next(&mut cx.consumer(&dead).await?).await?;
    let death = only_death(&letter)?;
    let told = death.reasons.len() == 1 && !death.reasons[0].is_empty();
    check!(told, "the reasons of a delivery that was dropped: {:?}", death.reasons);
    letter.ack();
    Ok(())
}

pub(crate) async fn b8_without_a_dead_letter_queue_it_is_dropped_and_counted(
    cx: Context,
) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.max_attempts(2)).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=2).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let mut handed_out = 0;
    while handed_out < 4 {
        next(&mut consumer).await?.retry(Duration::ZERO, "again");
        handed_out += 1;
    }
    consumer.settled().await?;
    cx.until_queue(&queue, "both are booked as dropped", |info| {
        info.ledger.dropped == 2 && info.messages == 0
    })
    .await?;
    let ledger = cx.info(&queue).await?.ledger;
    check_balance(&ledger, "the queue")?;
    sender.send(numbered_to(&queue, 3)).await?;
    expect(&mut consumer, 3, "what comes after what died").await
}

pub(crate) async fn b8_a_dead_letter_queue_that_is_not_there_is_declared(cx: Context) -> Outcome {
    let dead = cx.queue_name("dead")?;
    let queue = mortal(&cx, "jobs", &dead, |queue| queue).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    next(&mut cx.consumer(&queue).await?).await?.reject("no good");
    cx.until_queue(&queue, "it has gone", |info| info.messages == 0).await?;
    expect(&mut cx.consumer(&dead).await?, 1, "the dead letter").await
}

pub(crate) async fn b8_a_history_grows_with_every_death(cx: Context) -> Outcome {
    let last = cx.queue("last").await?;
    let second = mortal(&cx, "second", &last, |queue| queue).await?;
    let first = mortal(&cx, "first", &second, |queue| queue).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&first, 1)).await?;
    for queue in [&first, &second] {
        next(&mut cx.consumer(queue).await?).await?.reject("no good");
    }
    let letter = next(&mut cx.consumer(&last).await?).await?;
    let died: Vec<_> = letter.message().deaths().map(|death| death.queue).collect();
    check_eq!(died, [first, second], "where it died, in order");
    letter.ack();
    Ok(())
}

pub(crate) async fn b8_a_letter_never_goes_where_it_died_before(cx: Context) -> Outcome {
    let (here, there) = (cx.queue_name("here")?, cx.queue_name("there")?);
    for (queue, dead) in [(&here, &there), (&there, &here)] {
        cx.peer().declare(Queue::new(queue.clone()).dead_letter(dead.clone())).await?;
    }
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&here, 1)).await?;
    for queue in [&here, &there] {
        next(&mut cx.consumer(queue).await?).await?.reject("no good");
    }
    cx.until_queue(&there, "it is dropped where the circle closes", |info| {
        info.ledger.dropped == 1 && info.messages == 0
    })
    .await?;
    check_eq!(cx.info(&here).await?.messages, 0, "letters that came back to where they died");
    Ok(())
}

pub(crate) async fn b8_a_full_dead_letter_queue_holds_letters_at_their_source(
    cx: Context,
) -> Outcome {
    let dead = cx.queue_with("dead", |queue| queue.capacity(1)).await?;
    let queue = mortal(&cx, "jobs", &dead, |queue| queue.max_attempts(1)).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    let mut consumer = cx.consumer(&queue).await?;
    for _ in 1..=3 {
        next(&mut consumer).await?.reject("no good");
    }
    consumer.settled().await?;
    cx.until_queue(&dead, "one letter has arrived", |info| info.messages == 1).await?;
    check_eq!(cx.info(&queue).await?.messages, 2, "letters that wait for room at their source");
    // They are on their way, so nobody gets them here any more.
    sender.send(numbered_to(&queue, 4)).await?;
    expect(&mut consumer, 4, "what comes past the letters that wait").await?;
    let mut letters = cx.consumer(&dead).await?;
    for number in 1..=3 {
        expect(&mut letters, number, "the letters, in the order of their deaths").await?;
    }
    cx.until_queue(&queue, "all are booked", |info| {
        info.ledger.dead_lettered == 3 && info.messages == 0
    })
    .await
}

pub(crate) async fn b8_a_topics_copy_dies_alone(cx: Context) -> Outcome {
    let topic = cx.topic("orders.eu")?;
    let bound = cx.pattern("orders.*")?;
    let dead = cx.queue("dead").await?;
    let queue = mortal(&cx, "jobs", &dead, |queue| queue.bind(bound.clone())).await?;
    let other = cx.queue_with("audit", |queue| queue.bind(bound)).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered(&topic, 1)).await?;
    next(&mut cx.consumer(&queue).await?).await?.reject("no good");
    let letter = next(&mut cx.consumer(&dead).await?).await?;
    check_eq!(letter.message().topic(), topic, "the topic of the letter");
    check_eq!(only_death(&letter)?.queue, queue, "where it died");
    letter.ack();
    let copy = next(&mut cx.consumer(&other).await?).await?;
    check_eq!(copy.message().deaths().count(), 0, "deaths of the other queue's copy");
    copy.ack();
    Ok(())
}

pub(crate) async fn b8_a_poisoned_message_holds_up_no_other(cx: Context) -> Outcome {
    const MESSAGES: u64 = 60;
    let dead = cx.queue("dead").await?;
    let queue = mortal(&cx, "jobs", &dead, |queue| queue.max_attempts(4)).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=MESSAGES).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let (mut good, mut tries) = (0, 0);
    while good < MESSAGES - MESSAGES / 10 || tries < 4 * (MESSAGES / 10) {
        let delivery = next(&mut consumer).await?;
        if number_of(&delivery)?.is_multiple_of(10) {
            tries += 1;
            delivery.retry(Duration::ZERO, "poison");
        } else {
            good += 1;
            delivery.ack();
        }
    }
    consumer.settled().await?;
    let mut letters = cx.consumer(&dead).await?;
    let found = sorted(&mut letters, (MESSAGES / 10) as usize).await?;
    let poison: Vec<_> = (1..=MESSAGES / 10).map(|nth| 10 * nth).collect();
    check_eq!(found, poison, "the dead letters");
    cx.until_queue(&queue, "nothing is left", |info| info.messages == 0).await
}

/// The numbers of the next `count` deliveries, which are acked, in ascending order.
async fn sorted(receiver: &mut BoxReceiver, count: usize) -> Result<Vec<u64>, Failure> {
    let mut numbers = take_numbers(receiver, count).await?;
    numbers.sort_unstable();
    Ok(numbers)
}
