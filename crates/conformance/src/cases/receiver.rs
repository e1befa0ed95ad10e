//! Cases of the receiver's laws, R1 to R6.

use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use posthaste_core::{
    Ack, BoxReceiver, Capability, Delivery, ErrorKind, Message, ReceiverExt, SenderExt,
    Subscription,
};

use crate::Context;
use crate::context::{expect, next, number_of, numbered, numbered_to, send_numbers, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, Probe, all, both, give_up_after, yield_now};

// ---- R1

pub(crate) async fn r1_a_dropped_receive_loses_nothing(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut consumer = cx.consumer(&queue).await?;
    let mut sender = cx.sender().await?;
    let mut found = Vec::new();
    for (number, polls) in (1..=60).zip([1, 2, 3, 5, 8].into_iter().cycle()) {
        // Given up before, while and after the message comes.
        if let Some(got) = give_up_after(polls, consumer.recv()).await {
            found.push(ack_number(got?)?);
        }
        sender.send(numbered_to(&queue, number)).await?;
        if let Some(got) = give_up_after(polls, consumer.recv()).await {
            found.push(ack_number(got?)?);
        }
    }
    found.extend(take_numbers(&mut consumer, 60_usize.saturating_sub(found.len())).await?);
    check_eq!(found, (1..=60).collect::<Vec<u64>>(), "what arrived");
    Ok(())
}

pub(crate) async fn r1_a_dropped_batch_loses_nothing(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut subscriber = cx.subscriber("news").await?;
    let mut sender = cx.sender().await?;
    let mut batch = Vec::new();
    let mut sent = 0;
    for polls in [1, 2, 3, 5, 8, 1, 2, 3, 5, 8] {
        if let Some(count) = give_up_after(polls, subscriber.recv_many(&mut batch, 4)).await {
            count?;
        }
        send_numbers(&mut sender, |n| numbered(&topic, n), sent + 1..=sent + 7).await?;
        sent += 7;
        if let Some(count) = give_up_after(polls, subscriber.recv_many(&mut batch, 4)).await {
            count?;
        }
    }
    while (batch.len() as u64) < sent {
        let count = subscriber.recv_many(&mut batch, 100).await?;
        check!(count > 0, "the subscription has ended");
    }
    let found: Vec<u64> = batch.iter().map(number_of).collect::<Result<_, _>>()?;
    check_eq!(found, (1..=sent).collect::<Vec<u64>>(), "what arrived");
    Ok(())
}

pub(crate) async fn r1_a_dropped_receiver_loses_nothing_of_its_queue(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=40).await?;
    let mut found = Vec::new();
    for polls in [1, 2, 3, 5, 8, 1, 2, 3] {
        let mut consumer = cx.consumer(&queue).await?;
        if let Some(got) = give_up_after(polls, consumer.recv()).await {
            found.push(ack_number(got?)?);
            consumer.settled().await?;
        }
        drop(consumer);
    }
    let mut consumer = cx.consumer(&queue).await?;
    found.extend(take_numbers(&mut consumer, 40_usize.saturating_sub(found.len())).await?);
    found.sort_unstable();
    check_eq!(found, (1..=40).collect::<Vec<u64>>(), "what arrived, in order of numbers");
    Ok(())
}

// ---- R2

pub(crate) async fn r2_order_per_sender_through_a_queue(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let consumer = cx.consumer(&queue).await?;
    let make = |n| numbered_to(&queue, n);
    check_order_of_four_senders(&cx, consumer, &make).await
}

pub(crate) async fn r2_order_per_sender_through_a_topic(cx: Context) -> Outcome {
    let topic = cx.topic("news.today")?;
    let subscriber = cx.subscriber("news.*").await?;
    let make = |n| numbered(&topic, n);
    check_order_of_four_senders(&cx, subscriber, &make).await
}

/// Four senders at once, each its own numbers; some received one by one, some in batches.
async fn check_order_of_four_senders(
    cx: &Context,
    mut receiver: BoxReceiver,
    make: &(dyn Fn(u64) -> Message + Sync),
) -> Outcome {
    const EACH: u64 = 200;
    const STRIDE: u64 = 1_000_000;
    let mut senders = Vec::new();
    for _ in 0..4 {
        senders.push(cx.sender().await?);
    }
    let sending = all((0..).zip(senders).map(|(nth, mut sender)| {
        let run: LocalFuture<'_, Outcome> = Box::pin(async move {
            for number in 0..EACH {
                sender.feed(make(nth * STRIDE + number)).await?;
                if number % (nth + 2) == 0 {
                    yield_now().await;
                }
            }
            sender.flush().await?;
            Ok(())
        });
        run
    }));
    let receiving = async {
        let mut found = [const { Vec::new() }; 4];
        let mut batch = Vec::new();
        for turn in 0.. {
            if turn % 3 == 0 {
                batch.push(next(&mut receiver).await?);
            } else {
                let count = receiver.recv_many(&mut batch, 7).await?;
                check!(count > 0, "the receiver has ended");
            }
            for delivery in batch.drain(..) {
                let number = number_of(&delivery)?;
                let of = found.get_mut((number / STRIDE) as usize);
                of.ok_or_else(|| Failure::new("a number that nobody sent"))?.push(number % STRIDE);
                delivery.ack();
            }
            if found.iter().map(Vec::len).sum::<usize>() as u64 >= 4 * EACH {
                break;
            }
        }
        for numbers in &found {
            let expected: Vec<u64> = (0..EACH).collect();
            check_eq!(numbers, &expected, "the order of one sender's messages");
        }
        Ok(())
    };
    both(sending, receiving).await?;
    Ok(())
}

// ---- R3

pub(crate) async fn r2_what_is_given_back_goes_to_its_old_place(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=6).await?;
    let mut first = cx.receiver(Subscription::queue(&queue)?.prefetch(4)).await?;
    let mut held = Vec::new();
    for _ in 1..=4 {
        held.push(next(&mut first).await?);
    }
    drop(first);
    for nth in [1, 0, 1, 0] {
        held.remove(nth).release();
    }
    cx.until_queue(&queue, "all are back", |info| info.unsettled == 0).await?;
    let mut second = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut second, 6).await?, [1, 2, 3, 4, 5, 6], "what the next one got");
    Ok(())
}

pub(crate) async fn r3_acked_never_comes_again(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=20).await?;
    let mut consumer = cx.consumer(&queue).await?;
    take_numbers(&mut consumer, 20).await?;
    consumer.settled().await?;
    drop(consumer);
    let mut consumer = cx.consumer(&queue).await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 21..=21).await?;
    expect(&mut consumer, 21, "what comes after 20 acked ones").await
}

pub(crate) async fn r3_a_retried_one_comes_again_one_attempt_higher(cx: Context) -> Outcome {
    check_redelivery(&cx, |delivery| delivery.retry(Duration::ZERO, "once more"), 1).await
}

pub(crate) async fn r3_a_dropped_one_comes_again_one_attempt_higher(cx: Context) -> Outcome {
    check_redelivery(&cx, drop, 1).await
}

pub(crate) async fn r3_a_released_one_comes_again_uncounted(cx: Context) -> Outcome {
    check_redelivery(&cx, Delivery::release, 0).await
}

/// Gives one delivery back five times and watches its attempt; then acks it.
async fn check_redelivery(cx: &Context, give_back: impl Fn(Delivery), step: u32) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    for round in 0..5 {
        let delivery = next(&mut consumer).await?;
        check_eq!(number_of(&delivery)?, 1, "what comes again");
        check_eq!(delivery.attempt(), 1 + round * step, "the attempt in round {round}");
        give_back(delivery);
    }
    next(&mut consumer).await?.ack();
    consumer.settled().await?;
    sender.send(numbered_to(&queue, 2)).await?;
    expect(&mut consumer, 2, "what comes after the ack").await
}

pub(crate) async fn r3_a_rejected_one_never_comes_again(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=2).await?;
    let mut consumer = cx.consumer(&queue).await?;
    next(&mut consumer).await?.reject("no good");
    expect(&mut consumer, 2, "what comes after a rejected one").await?;
    consumer.settled().await?;
    cx.until_queue(&queue, "the rejected one is booked", |info| {
        info.ledger.dropped + info.ledger.dead_lettered == 1 && info.messages == 0
    })
    .await
}

pub(crate) async fn r3_what_was_handed_out_outlives_its_receiver(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=2).await?;
    let mut lost = cx.consumer(&queue).await?;
    let (kept, dropped) = (next(&mut lost).await?, next(&mut lost).await?);
    drop(lost);
    let mut consumer = cx.consumer(&queue).await?;
    // Both are still leased, so nothing but a new message is there.
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 3..=3).await?;
    expect(&mut consumer, 3, "what comes while two are leased").await?;
    drop(dropped);
    let again = next(&mut consumer).await?;
    check_eq!((number_of(&again)?, again.attempt()), (2, 2), "the dropped one and its attempt");
    again.ack();
    kept.ack();
    cx.until_queue(&queue, "all are settled", |info| info.messages == 0).await
}

pub(crate) async fn r3_what_was_never_seen_goes_on_uncounted(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=10).await?;
    let mut first = cx.consumer(&queue).await?;
    let seen = next(&mut first).await?;
    drop(first);
    let mut second = cx.consumer(&queue).await?;
    let mut numbers = Vec::new();
    for _ in 2..=10 {
        let delivery = next(&mut second).await?;
        check_eq!(delivery.attempt(), 1, "the attempt of an unseen message");
        numbers.push(number_of(&delivery)?);
        delivery.ack();
    }
    // Some may have gone to the second one while others were still on their way to the first.
    numbers.sort_unstable();
    check_eq!(numbers, (2..=10).collect::<Vec<u64>>(), "what the first one had not seen");
    seen.ack();
    Ok(())
}

pub(crate) async fn r3_attempts_follow_the_message_to_other_consumers(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    for attempt in 1..=4 {
        let mut consumer = cx.consumer(&queue).await?;
        let delivery = next(&mut consumer).await?;
        check_eq!(delivery.attempt(), attempt, "the attempt at consumer {attempt}");
        drop(consumer);
        drop(delivery);
    }
    Ok(())
}

pub(crate) async fn r3_an_automatic_delivery_is_settled_already(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    let of = Subscription::queue(&queue)?.ack(Ack::Auto);
    let mut consumer = cx.receiver(of).await?;
    for number in 1..=3 {
        let delivery = next(&mut consumer).await?;
        check!(!delivery.is_leased(), "an automatic delivery still owes an outcome");
        check_eq!(number_of(&delivery)?, number, "an automatic delivery");
        drop(delivery);
    }
    cx.until_queue(&queue, "all are booked as done", |info| {
        info.messages == 0 && info.ledger.auto == 3
    })
    .await
}

pub(crate) async fn r3_a_prefetch_bounds_what_is_unsettled(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=6).await?;
    let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(2)).await?;
    let (first, second) = (next(&mut consumer).await?, next(&mut consumer).await?);
    let probe = Probe::new();
    {
        let mut third = consumer.recv();
        for _ in 0..3 {
            cx.quiet().await?;
            check!(probe.poll(&mut third).is_pending(), "a third delivery in spite of prefetch 2");
        }
        // Settling makes room, and says so to the one who waits.
        first.ack();
        let third = probe.finish(&mut third).await?;
        check_eq!(ack_number(third)?, 3, "the delivery after a settlement");
    }
    second.ack();
    check_eq!(take_numbers(&mut consumer, 3).await?, [4, 5, 6], "the rest");
    Ok(())
}

pub(crate) async fn r3_a_delayed_retry_comes_no_earlier(cx: Context) -> Outcome {
    const DELAY: Duration = Duration::from_millis(30);
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let runtime = cx.runtime()?;
    let delivery = next(&mut consumer).await?;
    let before = runtime.now();
    delivery.retry(DELAY, "later");
    let again = next(&mut consumer).await?;
    check_eq!(again.attempt(), 2, "the attempt after a delayed retry");
    let waited = runtime.now() - before;
    check!(waited >= DELAY, "a retry after {DELAY:?} came after {waited:?}");
    again.ack();
    Ok(())
}

pub(crate) async fn r3_settled_waits_for_every_settlement(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=30).await?;
    let mut consumer = cx.consumer(&queue).await?;
    take_numbers(&mut consumer, 30).await?;
    consumer.settled().await?;
    let info = cx.info(&queue).await?;
    check_eq!((info.messages, info.ledger.acked), (0, 30), "messages left, and acked ones");
    Ok(())
}

// ---- R4

pub(crate) async fn r4_a_limit_ends_the_receiver_for_good(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=5).await?;
    let mut consumer = cx.receiver(cx.consuming(&queue)?.limit(3)).await?;
    check_eq!(take_numbers(&mut consumer, 3).await?, [1, 2, 3], "deliveries up to the limit");
    check_ended(&mut consumer).await?;
    // No more than the limit was ever taken from the queue.
    let mut second = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut second, 2).await?, [4, 5], "what the limit left");
    Ok(())
}

pub(crate) async fn r4_a_deleted_queue_ends_its_consumers(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut waiting = cx.consumer(&queue).await?;
    let mut polled = cx.consumer(&queue).await?;
    let probe = Probe::new();
    {
        let mut receive = polled.recv();
        check!(probe.poll(&mut receive).is_pending(), "an empty queue delivered something");
        cx.broker().delete(&queue).await?;
        let end = probe.finish(&mut receive).await?;
        check!(end.is_none(), "a deleted queue delivered {end:?}");
    }
    check_ended(&mut waiting).await?;
    check_ended(&mut polled).await
}

pub(crate) async fn r4_a_closed_receiver_has_ended(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut subscriber = cx.subscriber("news").await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered(&topic, 1)).await?;
    subscriber.close().await?;
    check_ended(&mut subscriber).await?;
    subscriber.close().await?;
    let receipt = sender.send(numbered(&topic, 2)).await?;
    cx.check_matched(receipt.matched, 0, "subscriptions that a message matched after the close")?;
    Ok(())
}

async fn check_ended(receiver: &mut BoxReceiver) -> Outcome {
    for _ in 0..2 {
        let end = receiver.recv().await?;
        check!(end.is_none(), "a delivery after the end: {end:?}");
        let mut batch = Vec::new();
        let count = receiver.recv_many(&mut batch, 8).await?;
        check_eq!((count, batch.len()), (0, 0), "a batch after the end");
        let item = std::future::poll_fn(|cx| Pin::new(&mut **receiver).poll_next(cx)).await;
        check!(item.is_none(), "an item of the stream after the end: {item:?}");
        let kind = receiver.next_delivery().await.err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::Closed), "the end as an error");
    }
    Ok(())
}

// ---- R6

pub(crate) async fn r6_a_batch_is_what_is_there_up_to_its_limit(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=50).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let mut batch = vec![next(&mut consumer).await?];
    while batch.len() < 50 {
        let before = batch.len();
        let count = consumer.recv_many(&mut batch, 8).await?;
        check!((1..=8).contains(&count), "a batch of up to 8 has {count}");
        check_eq!(batch.len(), before + count, "what was appended, of what was counted");
    }
    let found: Vec<u64> = batch.iter().map(number_of).collect::<Result<_, _>>()?;
    check_eq!(found, (1..=50).collect::<Vec<u64>>(), "what the batches had");
    batch.into_iter().for_each(Delivery::ack);
    Ok(())
}

pub(crate) async fn r6_zero_is_the_end_and_nothing_else(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let mut consumer = cx.receiver(cx.consuming(&queue)?.limit(3)).await?;
    let probe = Probe::new();
    let mut batch = Vec::new();
    {
        let mut gather = consumer.recv_many(&mut batch, 8);
        for _ in 0..3 {
            check!(probe.poll(&mut gather).is_pending(), "a batch of nothing from an empty queue");
            cx.quiet().await?;
        }
    }
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=4).await?;
    while batch.len() < 3 {
        let count = consumer.recv_many(&mut batch, 8).await?;
        check!(count > 0, "a batch of 0 before the end, with {} there", batch.len());
    }
    let count = consumer.recv_many(&mut batch, 8).await?;
    check_eq!((count, batch.len()), (0, 3), "the batch at the end");
    batch.into_iter().for_each(Delivery::ack);
    if cx.has(Capability::Inspection) {
        consumer.settled().await?;
        check_eq!(cx.info(&queue).await?.messages, 1, "what the limit left in the queue");
    }
    Ok(())
}

/// Acks what was received, and returns its number.
pub(super) fn ack_number(got: Option<Delivery>) -> Result<u64, Failure> {
    let delivery = got.ok_or_else(|| Failure::new("the receiver has ended"))?;
    let number = number_of(&delivery)?;
    delivery.ack();
    Ok(number)
}
