//! Cases of law S6, bounds that stop a sender, and of the sender's side of law R5.

use posthaste_core::{Message, SenderExt, Subscription};

use crate::Context;
use crate::context::{NARROW, next, numbered, numbered_to};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{Probe, both};

pub(crate) async fn s6_a_stalled_consumer_stops_the_sender(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(10)).await?;
    let _stalled = cx.receiver(Subscription::queue(&queue)?.prefetch(3)).await?;
    let mut sender = cx.narrow_sender().await?;
    let taken = cx.fill(&mut sender, |n| numbered_to(&queue, n), 1_000).await?;
    // What is prefetched still counts as held by the queue.
    let bound = 10 + NARROW as u64;
    check!((10..=bound).contains(&taken), "a queue for 10 took {taken}, not 10 to {bound}");
    check!(cx.info(&queue).await?.messages <= 10, "the queue holds more than it may");
    Ok(())
}

pub(crate) async fn s6_a_stalled_subscriber_stops_the_sender(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let of = Subscription::topic(cx.pattern("news")?)?.capacity(10, 1 << 20).prefetch(3);
    let _stalled = cx.receiver(of).await?;
    let mut sender = cx.narrow_sender().await?;
    let taken = cx.fill(&mut sender, |n| numbered(&topic, n), 1_000).await?;
    // Twice, because one capacity's worth may be on its way out as a batch.
    let bound = 2 * 10 + 3 + NARROW as u64;
    check!((10..=bound).contains(&taken), "a subscription for 10 took {taken}, not 10 to {bound}");
    Ok(())
}

pub(crate) async fn s6_bounds_in_bytes_stop_the_sender_too(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity_bytes(10_000)).await?;
    let mut sender = cx.narrow_sender().await?;
    let make = |_| Message::to_queue(queue.clone(), vec![b'x'; 1_000]);
    let taken = cx.fill(&mut sender, make, 1_000).await?;
    let bound = 10 + NARROW as u64;
    check!((9..=bound).contains(&taken), "10,000 bytes took {taken} messages of 1,000");
    check!(cx.info(&queue).await?.bytes <= 10_000, "the queue holds more bytes than it may");
    Ok(())
}

pub(crate) async fn s6_a_subscriptions_bounds_in_bytes_stop_the_sender_too(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let of = Subscription::topic(&topic)?.capacity(1_000, 10_000).prefetch(3);
    let _stalled = cx.receiver(of).await?;
    let mut sender = cx.narrow_sender().await?;
    let make = |_| Message::new(topic.clone(), vec![b'x'; 1_000]);
    let taken = cx.fill(&mut sender, make, 1_000).await?;
    // Three times, because as many bytes may be on their way as a batch, and across a link.
    let bound = 3 * 11 + 3 + NARROW as u64;
    check!((9..=bound).contains(&taken), "10,000 bytes took {taken} messages of 1,000");
    Ok(())
}

pub(crate) async fn s6_an_empty_queue_admits_one_larger_message(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity_bytes(100)).await?;
    let mut sender = cx.sender().await?;
    let large = Message::to_queue(queue.clone(), vec![b'x'; 5_000]);
    sender.send(large.clone()).await?;
    let mut narrow = cx.narrow_sender().await?;
    let taken = cx.fill(&mut narrow, |_| large.clone(), 100).await?;
    check!(taken <= NARROW as u64, "an overfull queue took {taken} more");
    check_eq!(cx.info(&queue).await?.messages, 1, "messages in the overfull queue");
    let mut consumer = cx.consumer(&queue).await?;
    let delivery = next(&mut consumer).await?;
    check_eq!(delivery.payload().len(), 5_000, "the larger message's length");
    delivery.ack();
    Ok(())
}

pub(crate) async fn s6_room_wakes_the_waiting_sender(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(1)).await?;
    let mut sender = cx.narrow_sender().await?;
    let taken = cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    let probe = Probe::new();
    let mut consumer = cx.consumer(&queue).await?;
    for number in taken + 1..taken + 20 {
        let mut slot = Some(numbered_to(&queue, number));
        let mut sending = sender.send_from(&mut slot);
        if probe.poll(&mut sending).is_pending() {
            let oldest = next(&mut consumer).await?;
            oldest.ack();
            // Only a wake-up polls again: one that is lost hangs here.
            probe.finish(&mut sending).await?;
        }
    }
    Ok(())
}

pub(crate) async fn r5_a_dropped_waiting_sender_passes_its_wakeup_on(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(1)).await?;
    let (mut first, mut second) = (cx.narrow_sender().await?, cx.narrow_sender().await?);
    let mut sent = cx.fill(&mut first, |n| numbered_to(&queue, n), 100).await?;
    sent += cx.fill(&mut second, |n| numbered_to(&queue, n), 100).await?;
    let (one, two) = (Probe::new(), Probe::new());
    let (mut mine, mut yours) = (Some(numbered_to(&queue, 0)), Some(numbered_to(&queue, 0)));
    {
        let mut yielding = first.send_from(&mut mine);
        let mut waiting = second.send_from(&mut yours);
        let (a, b) = (one.poll(&mut yielding), two.poll(&mut waiting));
        check!(a.is_pending() && b.is_pending(), "a full queue took one more message");
        let mut consumer = cx.consumer(&queue).await?;
        // One place gets free; whoever is woken for it, only the second one still wants it.
        next(&mut consumer).await?.ack();
        drop(yielding);
        let draining = async {
            for _ in 1..sent {
                next(&mut consumer).await?.ack();
            }
            Ok::<_, Failure>(())
        };
        if cx.is_pulled() {
            two.finish(&mut waiting).await?;
        } else {
            // Windows stand between room in the queue and a sender, so others may go first.
            let waiting = async { Ok(two.finish(&mut waiting).await?) };
            both(draining, waiting).await?;
        }
    }
    check!(mine.is_some(), "the dropped wait took its message out of the slot");
    check_eq!(yours, None, "the slot of the sender that waited on");
    Ok(())
}
