//! Cases of law R5 for receivers: a handle that is not being polled never swallows a wake-up.

use std::pin::Pin;

use futures_core::Stream;
use posthaste_core::{BoxReceiver, Delivery, Receiver, ReceiverExt, SenderExt};

use super::receiver::ack_number;
use crate::Context;
use crate::context::{numbered_to, send_numbers};
use crate::failure::{Outcome, check, check_eq};
use crate::poll::Probe;

/// How the first consumer waits before it is given up.
type Wait = fn(&Probe, &mut BoxReceiver) -> bool;

/// The ways to wait and give up. Each says whether the wait was pending.
const GIVEN_UP: [(&str, Wait); 4] = [
    ("a receive", |probe, receiver| probe.poll(&mut receiver.recv()).is_pending()),
    ("a batch", |probe, receiver| {
        probe.poll(&mut receiver.recv_many(&mut Vec::new(), 4)).is_pending()
    }),
    ("a try", |_, receiver| receiver.try_recv().is_ok_and(|got| got.is_none())),
    ("two polls, then a try", |probe, receiver| {
        let twice = probe.poll(&mut receiver.recv()).is_pending()
            && probe.poll(&mut receiver.recv()).is_pending();
        twice && receiver.try_recv().is_ok_and(|got| got.is_none())
    }),
];

pub(crate) async fn r5_who_gave_up_waiting_is_not_woken_for_others(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let (mut idle, mut waiting) = (cx.consumer(&queue).await?, cx.consumer(&queue).await?);
    for (number, (what, wait)) in (1..).zip(GIVEN_UP) {
        check!(wait(&Probe::new(), &mut idle), "an empty queue delivered something to {what}");
        let probe = Probe::new();
        let mut receive = waiting.recv();
        check!(probe.poll(&mut receive).is_pending(), "an empty queue delivered something");
        sender.send(numbered_to(&queue, number)).await?;
        // Only a wake-up polls it again: one that went to the idle handle hangs here.
        let got = probe.finish(&mut receive).await?;
        check_eq!(ack_number(got)?, number, "what came past {what} that was given up");
    }
    Ok(())
}

pub(crate) async fn r5_a_wakeup_that_came_too_late_is_passed_on(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let (mut first, mut second) = (cx.consumer(&queue).await?, cx.consumer(&queue).await?);
    for number in 1..=6 {
        let (one, two) = (Probe::new(), Probe::new());
        let mut batch = Vec::new();
        let mut receive = second.recv();
        if number % 2 == 0 {
            let mut given_up = first.recv();
            check!(one.poll(&mut given_up).is_pending(), "an empty queue delivered something");
            check!(two.poll(&mut receive).is_pending(), "an empty queue delivered something");
            sender.send(numbered_to(&queue, number)).await?;
            // Woken first, then dropped before it could take what it was woken for.
            drop(given_up);
        } else {
            let mut given_up = first.recv_many(&mut batch, 4);
            check!(one.poll(&mut given_up).is_pending(), "an empty queue delivered something");
            check!(two.poll(&mut receive).is_pending(), "an empty queue delivered something");
            sender.send(numbered_to(&queue, number)).await?;
            drop(given_up);
        }
        let got = two.finish(&mut receive).await?;
        check_eq!(ack_number(got)?, number, "what the other consumer got");
    }
    Ok(())
}

pub(crate) async fn r5_a_dropped_handle_gives_its_wakeup_back(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let mut second = cx.consumer(&queue).await?;
    for number in 1..=4 {
        let mut first = cx.consumer(&queue).await?;
        let (one, two) = (Probe::new(), Probe::new());
        // A bare poll, whose registration nobody disarms but the drop of the handle.
        let pending = one.with(|cx| first.poll_recv(cx).is_pending());
        check!(pending, "an empty queue delivered something");
        let mut receive = second.recv();
        check!(two.poll(&mut receive).is_pending(), "an empty queue delivered something");
        sender.send(numbered_to(&queue, number)).await?;
        drop(first);
        let got = two.finish(&mut receive).await?;
        check_eq!(ack_number(got)?, number, "what the other consumer got");
    }
    Ok(())
}

pub(crate) async fn r5_a_forgotten_stream_shares_its_wakeup(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let (mut stream, mut waiting) = (cx.consumer(&queue).await?, cx.consumer(&queue).await?);
    for number in 1..=3 {
        let (one, two) = (Probe::new(), Probe::new());
        let pending = one.with(|cx| Pin::new(&mut *stream).poll_next(cx).is_pending());
        check!(pending, "an empty queue delivered something");
        let mut receive = waiting.recv();
        check!(two.poll(&mut receive).is_pending(), "an empty queue delivered something");
        sender.send(numbered_to(&queue, number)).await?;
        // The stream is never polled again; the one who waits is woken all the same.
        let got = two.finish(&mut receive).await?;
        check_eq!(ack_number(got)?, number, "what came past a stream that nobody polls");
    }
    Ok(())
}

pub(crate) async fn r5_ready_leaves_no_registration(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let (mut first, mut second) = (cx.consumer(&queue).await?, cx.consumer(&queue).await?);
    for number in (1..=20).step_by(4) {
        let (one, two) = (Probe::new(), Probe::new());
        // Pending once, then ready: with one message alone, or as a batch that wanted more.
        check!(one.poll(&mut first.recv()).is_pending(), "an empty queue delivered something");
        let pending = one.with(|cx| first.poll_recv(cx).is_pending());
        check!(pending, "an empty queue delivered something");
        send_numbers(&mut sender, |n| numbered_to(&queue, n), number..=number + 1).await?;
        one.woken().await;
        let mut batch = Vec::new();
        while batch.len() < 2 {
            let count = first.recv_many(&mut batch, 8).await?;
            check!(count > 0, "the consumer has ended");
        }
        batch.drain(..).for_each(Delivery::ack);
        let mut receive = second.recv();
        check!(two.poll(&mut receive).is_pending(), "an empty queue delivered something");
        // The first one is not polled any more, so the second one is woken.
        sender.send(numbered_to(&queue, number + 2)).await?;
        let got = two.finish(&mut receive).await?;
        check_eq!(ack_number(got)?, number + 2, "what the second consumer got");
    }
    Ok(())
}

pub(crate) async fn r5_every_message_finds_a_waiting_consumer(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let mut consumers = Vec::new();
    for _ in 0..5 {
        consumers.push(cx.consumer(&queue).await?);
    }
    let probes: Vec<_> = consumers.iter().map(|_| Probe::new()).collect();
    let mut waits: Vec<_> = consumers.iter_mut().map(|consumer| Some(consumer.recv())).collect();
    for (wait, probe) in waits.iter_mut().zip(&probes) {
        let pending = wait.as_mut().is_some_and(|wait| probe.poll(wait).is_pending());
        check!(pending, "an empty queue delivered something");
    }
    // Three are woken for three messages, then two of the five give up: whoever was woken, three
    // still wait and three messages are there.
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    (waits[1], waits[3]) = (None, None);
    let mut found = Vec::new();
    for nth in [0, 2, 4] {
        if let Some(wait) = &mut waits[nth] {
            found.push(ack_number(probes[nth].finish(wait).await?)?);
        }
    }
    found.sort_unstable();
    check_eq!(found, [1, 2, 3], "what the three that still waited got");
    Ok(())
}
