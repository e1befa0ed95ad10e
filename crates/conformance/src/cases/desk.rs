//! Cases of law B17: what an operator does with a queue, that is browse, purge and replay.

use posthaste_core::{
    Broker, Browsed, ErrorKind, Message, Queue, ReceiverExt, SenderExt, Subscription, Topic,
};

use crate::Context;
use crate::context::{
    check_balance, expect, next, number_of, numbered_to, send_numbers, take_numbers,
};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::Probe;

/// Everything that a queue shows, read in pages.
async fn browse_all(cx: &Context, queue: &Topic, page: usize) -> Result<Vec<Browsed>, Failure> {
    let mut found: Vec<Browsed> = Vec::new();
    loop {
        let after = found.last().map(|last| last.position);
        let shown = cx.broker().browse(queue, after, page).await?;
        check!(shown.len() <= page, "a page of {page} has {}", shown.len());
        if shown.is_empty() {
            return Ok(found);
        }
        found.extend(shown);
    }
}

fn number_in(message: &Message) -> Option<u64> {
    std::str::from_utf8(message.payload()).ok()?.parse().ok()
}

pub(crate) async fn b17_browsing_shows_what_is_held_and_leaves_it_there(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=9).await?;
    let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(1)).await?;
    let taken = next(&mut consumer).await?;
    for page in [1, 2, 100] {
        let shown = browse_all(&cx, &queue, page).await?;
        let numbers: Vec<_> = shown.iter().filter_map(|this| number_in(&this.message)).collect();
        check_eq!(numbers, (1..=9).collect::<Vec<u64>>(), "what pages of {page} show");
        let ascending = shown.is_sorted_by(|one, other| one.position < other.position);
        check!(ascending, "positions that do not ascend: {shown:?}");
        let leased: Vec<_> = shown.iter().map(|this| (this.unsettled, this.attempts)).collect();
        check_eq!(leased[0], (true, 1), "whether the first is handed out, and its attempts");
        let rest = leased[1..].iter().all(|this| *this == (false, 0));
        check!(rest, "whether the others are handed out, and their attempts: {leased:?}");
    }
    check_eq!(cx.info(&queue).await?.messages, 9, "messages after browsing");
    taken.ack();
    for number in 2..=9 {
        let delivery = next(&mut consumer).await?;
        let found = (number_of(&delivery)?, delivery.attempt());
        check_eq!(found, (number, 1), "what was browsed, and its attempt");
        delivery.ack();
    }
    consumer.settled().await?;
    check_eq!(browse_all(&cx, &queue, 5).await?.len(), 0, "messages in the empty queue");
    Ok(())
}

pub(crate) async fn b17_browsing_cuts_what_is_large(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let large = vec![b'x'; 3 * Browsed::BROWSED_BYTES];
    sender.send(Message::to_queue(queue.clone(), large.clone())).await?;
    let shown = browse_all(&cx, &queue, 8).await?;
    check_eq!(shown.len(), 1, "messages in the queue");
    check_eq!(shown[0].payload_bytes, large.len() as u64, "the bytes that its payload has");
    let seen = shown[0].message.payload();
    check!(seen.len() <= Browsed::BROWSED_BYTES, "{} bytes of it are shown", seen.len());
    check!(large.starts_with(seen) && !seen.is_empty(), "other bytes than its own are shown");
    Ok(())
}

pub(crate) async fn b17_purging_drops_what_is_not_handed_out(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=6).await?;
    let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(1)).await?;
    let taken = next(&mut consumer).await?;
    check_eq!(cx.broker().purge(&queue).await?, 5, "messages that were purged");
    let info = cx.info(&queue).await?;
    check_eq!((info.messages, info.ledger.dropped), (1, 5), "messages left, and copies dropped");
    check_balance(&info.ledger, "the queue")?;
    taken.ack();
    sender.send(numbered_to(&queue, 7)).await?;
    expect(&mut consumer, 7, "what comes after a purge").await?;
    consumer.settled().await?;
    check_eq!(cx.info(&queue).await?.ledger.acked, 2, "copies acked");
    check_eq!(cx.broker().purge(&queue).await?, 0, "messages purged from an empty queue");
    Ok(())
}

pub(crate) async fn b17_purging_lets_waiting_senders_go_on(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(1)).await?;
    let mut sender = cx.narrow_sender().await?;
    let taken = cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    let probe = Probe::new();
    let mut slot = Some(numbered_to(&queue, taken + 1));
    let mut sending = sender.send_from(&mut slot);
    check!(probe.poll(&mut sending).is_pending(), "a full queue took one more");
    cx.broker().purge(&queue).await?;
    probe.finish(&mut sending).await?;
    Ok(())
}

pub(crate) async fn b17_replaying_puts_dead_letters_back(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let queue = cx.queue_with("jobs", |queue| queue.dead_letter(dead.clone())).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    let mut consumer = cx.consumer(&queue).await?;
    for _ in 1..=3 {
        next(&mut consumer).await?.reject("no good");
    }
    cx.until_queue(&dead, "all have died", |info| info.messages == 3).await?;
    for (limit, moved) in [(2, 2), (10, 1), (10, 0)] {
        let replayed = cx.broker().replay(&dead, limit).await?;
        check_eq!((replayed.moved, replayed.kept), (moved, 0), "letters moved and kept");
    }
    for number in 1..=3 {
        let delivery = next(&mut consumer).await?;
        let found = (number_of(&delivery)?, delivery.attempt());
        check_eq!(found, (number, 1), "what was replayed, and its attempt");
        let died: Vec<_> = delivery.message().deaths().map(|death| death.queue).collect();
        check_eq!(died, std::slice::from_ref(&queue), "its history");
        delivery.ack();
    }
    consumer.settled().await?;
    for name in [&queue, &dead] {
        let info = cx.info(name).await?;
        check_eq!(info.messages, 0, "messages left in {name}");
        check_balance(&info.ledger, "the queue")?;
    }
    Ok(())
}

pub(crate) async fn b17_what_cannot_be_replayed_stays_and_says_why(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let queue = cx.queue_with("jobs", |queue| queue.dead_letter(dead.clone())).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    next(&mut cx.consumer(&queue).await?).await?.reject("no good");
    cx.until_queue(&dead, "it has died", |info| info.messages == 1).await?;
    // One that is no dead letter, and one whose queue is gone.
    sender.send(numbered_to(&dead, 2)).await?;
    cx.broker().delete(&queue).await?;
    let replayed = cx.broker().replay(&dead, 10).await?;
    check_eq!((replayed.moved, replayed.kept), (0, 2), "letters moved and kept");
    let why = replayed.why.unwrap_or_default();
    check!(!why.is_empty(), "nothing says why they stay");
    let mut letters = cx.consumer(&dead).await?;
    check_eq!(take_numbers(&mut letters, 2).await?, [1, 2], "what stayed");
    Ok(())
}

pub(crate) async fn b17_a_full_queue_takes_no_more_letters_than_it_may(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let with = |queue: Queue| queue.capacity(2).dead_letter(dead.clone());
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.sender().await?;
    let mut consumer = cx.consumer(&queue).await?;
    for number in 1..=4 {
        sender.send(numbered_to(&queue, number)).await?;
        next(&mut consumer).await?.reject("no good");
    }
    drop(consumer);
    cx.until_queue(&dead, "all have died", |info| info.messages == 4).await?;
    cx.until_queue(&queue, "the consumer is gone", |info| info.consumers == 0).await?;
    let replayed = cx.broker().replay(&dead, 10).await?;
    check_eq!(replayed.moved, 2, "letters that a queue for two took back");
    let (held, left) = (cx.info(&queue).await?.messages, cx.info(&dead).await?.messages);
    check_eq!((held, left), (2, 2), "messages in the queue, and letters that stay");
    Ok(())
}

pub(crate) async fn b17_a_queue_that_is_not_there_is_not_found(cx: Context) -> Outcome {
    let nowhere = cx.topic("nowhere")?;
    let broker = cx.broker();
    for (what, kind) in [
        ("purging", broker.purge(&nowhere).await.err().map(|error| error.kind())),
        ("browsing", broker.browse(&nowhere, None, 5).await.err().map(|error| error.kind())),
        ("replaying", broker.replay(&nowhere, 5).await.err().map(|error| error.kind())),
    ] {
        check_eq!(kind, Some(ErrorKind::NotFound), "{what} a queue that is not there");
    }
    Ok(())
}
