//! Cases of law D1: dropping any handle, in any order, anywhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use posthaste_core::{
    Broker, Capability, ErrorKind, ReceiverExt, SenderExt, SenderOptions, Subscription,
};

use crate::Context;
use crate::context::{expect, next, numbered, numbered_to, send_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{Probe, give_up_after, yield_now};
use crate::random::Xorshift;

/// How long a drop may take on a thread of its own before it counts as blocked.
const DROP_TIME_MAX: Duration = Duration::from_secs(20);

/// Everything that can be dropped.
type Handle = Box<dyn std::any::Any + Send>;

async fn one_of_each(cx: &Context) -> Result<Vec<Handle>, Failure> {
    let topic = cx.topic("news")?;
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.narrow_sender().await?;
    let mut subscriber = cx.subscriber("news").await?;
    let member = cx.receiver(Subscription::shared(&topic, cx.topic("group")?)?).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let inbox = cx.peer().inbox().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=3).await?;
    let delivery = next(&mut consumer).await?;
    let automatic = next(&mut subscriber).await?;
    // A handle with a message whose outcome nobody waits for, and one with a registration.
    let mut fed = cx.sender().await?;
    fed.feed(numbered(&topic, 4)).await?;
    let mut waiting = cx.consumer(&cx.queue("empty").await?).await?;
    let pending = Probe::new().with(|cx| waiting.poll_recv(cx).is_pending());
    check!(pending, "an empty queue delivered something");
    Ok(vec![
        Box::new(sender),
        Box::new(subscriber),
        Box::new(member),
        Box::new(consumer),
        Box::new(inbox),
        Box::new(delivery),
        Box::new(automatic),
        Box::new(fed),
        Box::new(waiting),
    ])
}

pub(crate) async fn d1_handles_may_be_dropped_in_any_order(cx: Context) -> Outcome {
    let mut random = Xorshift::new(11);
    for _ in 0..8 {
        let mut handles = one_of_each(&cx).await?;
        while !handles.is_empty() {
            drop(handles.swap_remove(random.below(handles.len())));
        }
        // The broker is none the worse for it. The one that was handed out comes again where it was
        // not settled by that.
        let left = if cx.has(Capability::ManualAck) { 3 } else { 2 };
        let mut consumer = cx.consumer(&cx.topic("jobs")?).await?;
        for _ in 0..left {
            next(&mut consumer).await?.ack();
        }
        consumer.settled().await?;
    }
    Ok(())
}

pub(crate) async fn d1_handles_may_be_dropped_outside_any_runtime(cx: Context) -> Outcome {
    let handles = one_of_each(&cx).await?;
    on_a_thread_of_its_own(move || drop(handles))?;
    let queue = cx.topic("jobs")?;
    let mut consumer = cx.consumer(&queue).await?;
    for _ in 1..=3 {
        next(&mut consumer).await?.ack();
    }
    consumer.settled().await?;
    cx.until_queue(&queue, "the other consumers are gone", |info| info.consumers == 1).await
}

pub(crate) async fn d1_pending_futures_may_be_dropped_outside_any_runtime(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(1)).await?;
    let (broker, peer) = (cx.broker().clone(), cx.peer().clone());
    let mut consumer = cx.consumer(&cx.queue("empty").await?).await?;
    let mut sender = cx.narrow_sender().await?;
    let taken = cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    let of = Subscription::queue(&queue)?;
    on_a_thread_of_its_own(move || {
        let probe = Probe::new();
        let mut slot = Some(numbered_to(&queue, taken + 1));
        let (_, _) = (probe.poll(&mut consumer.recv()), probe.poll(&mut sender.flush()));
        let _ = probe.poll(&mut sender.send_from(&mut slot));
        let mut opening = peer.receiver(of);
        let _ = probe.poll(&mut opening);
        let mut declaring = broker.declare(posthaste_core::Queue::new(queue.clone()));
        let _ = probe.poll(&mut declaring);
    })?;
    Ok(())
}

pub(crate) async fn d1_deliveries_may_be_settled_outside_any_runtime(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=4).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let mut deliveries = Vec::new();
    for _ in 1..=4 {
        deliveries.push(next(&mut consumer).await?);
    }
    let [first, second, third, fourth] =
        deliveries.try_into().map_err(|_| Failure::new("four deliveries were received"))?;
    on_a_thread_of_its_own(move || {
        first.ack();
        second.reject("no good");
        third.release();
        drop(fourth);
    })?;
    let mut found = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut consumer).await?;
        found.push((crate::context::number_of(&delivery)?, delivery.attempt()));
        delivery.ack();
    }
    found.sort_unstable();
    check_eq!(found, [(3, 1), (4, 2)], "what came again, and its attempts");
    Ok(())
}

pub(crate) async fn d1_handles_outlive_the_broker_value(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let queue = cx.queue("jobs").await?;
    let broker = cx.peer().clone();
    let mut sender = broker.sender(SenderOptions::new()).await?;
    let mut consumer = broker.receiver(cx.consuming(&queue)?).await?;
    let mut subscriber = broker.receiver(Subscription::topic(&topic)?).await?;
    drop(broker);
    sender.send(numbered_to(&queue, 1)).await?;
    sender.send(numbered(&topic, 2)).await?;
    expect(&mut consumer, 1, "what came through the queue").await?;
    expect(&mut subscriber, 2, "what came to the topic").await
}

pub(crate) async fn d1_a_closed_handle_may_be_used_and_closed_again(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let mut consumer = cx.consumer(&queue).await?;
    for _ in 0..2 {
        sender.close().await?;
        consumer.close().await?;
        let kind = sender.send(numbered_to(&queue, 1)).await.err().map(|failed| failed.kind());
        check_eq!(kind, Some(ErrorKind::Closed), "sending with a closed sender");
        if let Err(error) = sender.flush().await {
            check_eq!(error.kind(), ErrorKind::Closed, "flushing a closed sender");
        }
        check!(consumer.recv().await?.is_none(), "a closed consumer received something");
        consumer.settled().await?;
    }
    Ok(())
}

pub(crate) async fn d1_futures_may_be_dropped_at_any_poll(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut number = 0;
    for polls in 0..12 {
        let mut sender = cx.sender().await?;
        let mut consumer = cx.consumer(&queue).await?;
        number += 1;
        drop(give_up_after(polls, sender.send(numbered_to(&queue, number))).await);
        drop(give_up_after(polls, sender.flush()).await);
        drop(give_up_after(polls, consumer.recv()).await);
        drop(give_up_after(polls, consumer.settled()).await);
        drop(give_up_after(polls, consumer.close()).await);
        drop(give_up_after(polls, sender.close()).await);
        drop(give_up_after(polls, cx.broker().stats()).await);
    }
    cx.until_queue(&queue, "no consumer is left", |info| info.consumers == 0).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1_000)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    loop {
        let delivery = next(&mut consumer).await?;
        let last = crate::context::number_of(&delivery)? == 1_000;
        delivery.ack();
        if last {
            return Ok(());
        }
        // One that comes again and again would otherwise keep its executor for ever.
        yield_now().await;
    }
}

/// Runs `work` on a thread that belongs to no executor, and waits for it, but not for ever.
pub(super) fn on_a_thread_of_its_own(work: impl FnOnce() + Send + 'static) -> Outcome {
    let (done, ended) = sync_channel(1);
    let thread = std::thread::Builder::new().spawn(move || {
        let panicked = catch_unwind(AssertUnwindSafe(work)).is_err();
        // The one who waits may have given up.
        let _ = done.send(panicked);
    });
    thread?;
    match ended.recv_timeout(DROP_TIME_MAX) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::new("it panicked on a thread outside any runtime")),
        Err(RecvTimeoutError::Timeout) => {
            Err(Failure::new("it blocks on a thread outside any runtime"))
        }
        Err(RecvTimeoutError::Disconnected) => Err(Failure::new("its thread went away")),
    }
}
