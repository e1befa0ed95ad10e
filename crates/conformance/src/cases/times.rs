//! Cases of what needs a clock: law B9, what is too late; law B10, what is delayed; and law R7,
//! consumers that take too long.

use std::time::Duration;

use posthaste_core::{
    BoxReceiver, Delivery, Message, MessageBuilder, ReceiverExt, SenderExt, Topic,
};

use crate::Context;
use crate::context::{expect, next, number_of, numbered, numbered_to, send_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::Probe;

/// Soon enough for a test, and late enough to be told from at once.
const SOON: Duration = Duration::from_millis(30);
/// Later than any case ends.
const NEVER: Duration = Duration::from_secs(3_600);

fn draft(queue: &Topic, number: u64) -> MessageBuilder {
    Message::builder(queue.clone()).to_queue().payload(number.to_string())
}

// ---- B9

pub(crate) async fn b9_what_outlives_its_queues_time_goes_without_a_consumer(
    cx: Context,
) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.ttl(SOON)).await?;
    let mut sender = cx.sender().await?;
    let runtime = cx.runtime()?;
    let before = runtime.now();
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    cx.until_queue(&queue, "all have expired", |info| {
        info.ledger.expired == 3 && info.messages == 0
    })
    .await?;
    let lived = runtime.now() - before;
    check!(lived >= SOON, "messages that live {SOON:?} were gone after {lived:?}");
    // A time of zero switches it off.
    cx.broker().declare(posthaste_core::Queue::new(queue.clone()).ttl(Duration::ZERO)).await?;
    sender.send(numbered_to(&queue, 4)).await?;
    expect(&mut cx.consumer(&queue).await?, 4, "what comes after what expired").await
}

pub(crate) async fn b9_the_earlier_of_deadline_and_time_to_live_counts(cx: Context) -> Outcome {
    let short = cx.queue_with("short", |queue| queue.ttl(SOON)).await?;
    let long = cx.queue_with("long", |queue| queue.ttl(NEVER)).await?;
    let plain = cx.queue("plain").await?;
    let mut sender = cx.sender().await?;
    for (queue, deadline) in [(&short, NEVER), (&long, SOON), (&plain, SOON)] {
        let deadline = cx.runtime()?.now() + deadline;
        let sent = sender.send(draft(queue, 1).deadline(deadline).build()?).await;
        // A slow machine may refuse what is too late already.
        if let Err(failed) = sent {
            check_eq!(failed.kind(), posthaste_core::ErrorKind::Expired, "why it was refused");
        }
    }
    for queue in [&short, &long, &plain] {
        cx.until_queue(queue, "it has expired", |info| info.messages == 0).await?;
        let ledger = cx.info(queue).await?.ledger;
        check_eq!(ledger.expired, ledger.accepted, "copies expired in {queue}, of those accepted");
    }
    Ok(())
}

pub(crate) async fn b9_what_expires_makes_room(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(1).ttl(SOON)).await?;
    let mut sender = cx.sender().await?;
    // Each waits for room until the one before has expired: nobody else makes any.
    for number in 1..=3 {
        sender.send(numbered_to(&queue, number)).await?;
    }
    cx.until_queue(&queue, "all have expired", |info| info.ledger.expired == 3).await
}

pub(crate) async fn b9_what_was_handed_out_in_time_can_be_settled(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.ttl(Duration::from_millis(400))).await?;
    let mut sender = cx.sender().await?;
    let mut consumer = cx.consumer(&queue).await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let delivery = next(&mut consumer).await?;
    sender.send(numbered_to(&queue, 2)).await?;
    drop(consumer);
    cx.until_queue(&queue, "the other one has expired", |info| info.ledger.expired >= 1).await?;
    delivery.ack();
    cx.until_queue(&queue, "the first one is acked", |info| {
        info.ledger.acked == 1 && info.messages == 0
    })
    .await
}

// ---- B10

pub(crate) async fn b10_a_delayed_message_waits_its_time_in_a_queue(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let runtime = cx.runtime()?;
    let mut sender = cx.sender().await?;
    let before = runtime.now();
    let receipt = sender.send(draft(&queue, 1).delay(SOON * 3).build()?).await?;
    check_eq!(receipt.confirmed, 1, "the receipt of a delayed message");
    cx.check_matched(receipt.matched, 1, "the receipt of a delayed message")?;
    sender.send(numbered_to(&queue, 2)).await?;
    check_eq!(cx.info(&queue).await?.messages, 2, "messages, the delayed one included");
    let mut consumer = cx.consumer(&queue).await?;
    let (first, second) = (next(&mut consumer).await?, next(&mut consumer).await?);
    let waited = runtime.now() - before;
    check_eq!((number_of(&first)?, number_of(&second)?), (2, 1), "what came first and second");
    check!(waited >= SOON * 3, "a delay of {:?} came after {waited:?}", SOON * 3);
    check_eq!(second.attempt(), 1, "the attempt of a delayed message");
    first.ack();
    second.ack();
    Ok(())
}

pub(crate) async fn b10_a_delayed_message_waits_its_time_on_a_topic(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let runtime = cx.runtime()?;
    let mut subscriber = cx.subscriber("news").await?;
    let mut sender = cx.sender().await?;
    let before = runtime.now();
    let delayed = Message::builder(topic.clone()).payload("1").delay(SOON * 3).build()?;
    sender.send(delayed).await?;
    sender.send(numbered(&topic, 2)).await?;
    expect(&mut subscriber, 2, "what was not delayed").await?;
    expect(&mut subscriber, 1, "what was delayed").await?;
    let waited = runtime.now() - before;
    check!(waited >= SOON * 3, "a delay of {:?} came after {waited:?}", SOON * 3);
    Ok(())
}

pub(crate) async fn b10_delayed_messages_come_when_they_are_due(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    // Far enough apart for a slow machine: the one sent first is due last.
    for (number, delay) in [(1, 21), (2, 14), (3, 7)] {
        sender.feed(draft(&queue, number).delay(SOON * delay).build()?).await?;
    }
    sender.flush().await?;
    let mut consumer = cx.consumer(&queue).await?;
    for number in [3, 2, 1] {
        expect(&mut consumer, number, "what is due next").await?;
    }
    Ok(())
}

pub(crate) async fn b10_backoff_doubles_with_every_attempt(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.backoff(SOON / 2)).await?;
    let runtime = cx.runtime()?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let mut before = runtime.now();
    let mut waits = [Duration::ZERO, SOON / 2, SOON, SOON * 2].into_iter();
    for attempt in 1..=4 {
        let delivery = next(&mut consumer).await?;
        let (waited, wait) = (runtime.now() - before, waits.next().unwrap_or_default());
        check_eq!(delivery.attempt(), attempt, "the attempt");
        check!(waited >= wait, "attempt {attempt} came after {waited:?}, not {wait:?}");
        before = runtime.now();
        if attempt % 2 == 0 {
            delivery.retry(Duration::ZERO, "again");
        } else {
            drop(delivery);
        }
    }
    Ok(())
}

pub(crate) async fn b10_what_is_in_backoff_holds_up_no_other(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.backoff(NEVER)).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=4).await?;
    let mut consumer = cx.consumer(&queue).await?;
    next(&mut consumer).await?.retry(Duration::ZERO, "by the queue's backoff");
    // A consumer's own word goes before the queue's, and what is released never waits.
    let second = next(&mut consumer).await?;
    check_eq!(number_of(&second)?, 2, "what comes past one that waits");
    second.retry(Duration::from_millis(1), "soon");
    let third = next(&mut consumer).await?;
    let mut found = vec![(number_of(&third)?, third.attempt())];
    third.release();
    for _ in 0..3 {
        let delivery = next(&mut consumer).await?;
        found.push((number_of(&delivery)?, delivery.attempt()));
        delivery.ack();
    }
    found.sort_unstable();
    // Which of the two comes third is a matter of time; the released one comes again, uncounted.
    let released = [(2, 2), (3, 1), (3, 1), (4, 1)];
    let retried = [(2, 2), (2, 2), (3, 1), (4, 1)];
    check!(found == released || found == retried, "what came past one in backoff: {found:?}");
    consumer.settled().await?;
    check_eq!(cx.info(&queue).await?.messages, 1, "messages in backoff");
    Ok(())
}

// ---- R7

pub(crate) async fn r7_what_takes_too_long_goes_to_another(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.consumer_timeout(SOON)).await?;
    let mut sender = cx.sender().await?;
    let mut slow = cx.consumer(&queue).await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let kept = next(&mut slow).await?;
    let mut other = cx.consumer(&queue).await?;
    let mut found = Vec::new();
    // Whoever gets it next keeps it as well, so it goes on and on.
    let mut deliveries = vec![kept];
    while found.len() < 2 {
        let delivery = either(&mut slow, &mut other).await?;
        check_eq!(number_of(&delivery)?, 1, "what was taken back");
        found.push(delivery.attempt());
        deliveries.push(delivery);
    }
    check_eq!(found, [2, 3], "the attempts of what was taken back");
    // Too late: these settle nothing.
    let last = deliveries.pop();
    deliveries.into_iter().for_each(Delivery::ack);
    cx.quiet().await?;
    check_eq!(cx.info(&queue).await?.ledger.acked, 0, "copies acked by those who took too long");
    // The last may be too late as well on a slow machine; then whoever has it acks it.
    drop(last);
    cx.until("it is acked in time once", async || {
        for consumer in [&mut slow, &mut other] {
            if let Some(delivery) = consumer.try_recv()? {
                delivery.ack();
            }
        }
        Ok(cx.info(&queue).await?.ledger.acked == 1)
    })
    .await
}

pub(crate) async fn r7_what_is_extended_stays_with_its_consumer(cx: Context) -> Outcome {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let queue = cx.queue_with("jobs", |queue| queue.consumer_timeout(TIMEOUT)).await?;
    let runtime = cx.runtime()?;
    let mut sender = cx.sender().await?;
    let mut consumer = cx.consumer(&queue).await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut other = cx.consumer(&queue).await?;
    let mut delivery = either(&mut consumer, &mut other).await?;
    let mut since = runtime.now();
    let mut before = since;
    while runtime.now() - since < TIMEOUT * 2 {
        cx.wait(TIMEOUT / 10).await?;
        delivery.extend();
        let now = runtime.now();
        // A machine that stood still for so long took the delivery's time itself.
        let stood_still = now - before > TIMEOUT / 2;
        before = now;
        for consumer in [&mut consumer, &mut other] {
            if let Some(taken_back) = consumer.try_recv()? {
                check!(stood_still, "a delivery that was extended went to another");
                delivery = taken_back;
            }
        }
        if stood_still {
            since = now;
        }
    }
    delivery.ack();
    cx.until_queue(&queue, "it is acked", |info| info.ledger.acked == 1).await
}

/// The next delivery of either.
async fn either(one: &mut BoxReceiver, other: &mut BoxReceiver) -> Result<Delivery, Failure> {
    let (mut first, mut second) = (one.recv(), other.recv());
    let got = std::future::poll_fn(|cx| {
        use std::pin::Pin;
        match Pin::new(&mut first).poll(cx) {
            std::task::Poll::Pending => Pin::new(&mut second).poll(cx),
            ready => ready,
        }
    })
    .await?;
    got.ok_or_else(|| Failure::new("a consumer has ended"))
}

// ---- queues that go by themselves

pub(crate) async fn b7_a_queue_that_nobody_uses_goes_at_its_expiry(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.expiry(SOON)).await?;
    let gone = async || {
        let kind = cx.broker().queue(&queue).await.err().map(|error| error.kind());
        Ok(kind == Some(posthaste_core::ErrorKind::NotFound))
    };
    cx.until("the queue is gone", gone).await?;
    // One that is consumed stays.
    cx.broker().declare(posthaste_core::Queue::new(queue.clone()).expiry(SOON)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    cx.wait(SOON * 4).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let probe = Probe::new();
    let mut receive = consumer.recv();
    let got = match probe.poll(&mut receive) {
        std::task::Poll::Ready(got) => got?,
        std::task::Poll::Pending => probe.finish(&mut receive).await?,
    };
    super::receiver::ack_number(got).map(drop)
}
