//! Cases of the sender's laws S1 to S5.

use bytes::Bytes;
use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::{
    BoxReceiver, BoxSender, Error, ErrorKind, Level, Message, Sender, SenderExt, SenderOptions,
    Seq, Topic,
};

use crate::Context;
use crate::context::{next, number_of, numbered, numbered_to};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{both, give_up_after, yield_now};

pub(crate) async fn s1_pending_leaves_the_slot_full(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(2)).await?;
    let mut sender = cx.narrow_sender().await?;
    // `fill` checks the slot at every pending send.
    let taken = cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    check!(taken >= 2, "a queue for 2 messages took {taken}");
    check!(taken < 100, "a full queue stops nobody");
    Ok(())
}

pub(crate) async fn s1_trying_hands_the_message_back_when_there_is_no_room(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(2)).await?;
    let mut sender = cx.narrow_sender().await?;
    let taken = cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    let message = numbered_to(&queue, taken + 1);
    let Err(failed) = sender.try_send(message.clone()) else {
        return Err(Failure::new("there was no room, and then there was"));
    };
    check_eq!(failed.kind(), ErrorKind::Full, "the reason");
    check_eq!(failed.message(), &message, "the message that was handed back");
    Ok(())
}

pub(crate) async fn s1_an_error_leaves_the_slot_full(cx: Context) -> Outcome {
    let mut sender = cx.sender().await?;
    sender.close().await?;
    let message = numbered(&cx.topic("news")?, 1);
    let mut slot = Some(message.clone());
    let sent = sender.send_from(&mut slot).await;
    check!(sent.is_err(), "a closed sender took a message");
    check_eq!(slot, Some(message), "the slot after an error");
    Ok(())
}

pub(crate) async fn s2_taken_messages_are_numbered_from_one(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut sender = cx.sender().await?;
    for number in 1..=300 {
        let seq = sender.feed(numbered(&topic, number)).await?;
        check_eq!(seq, Seq::new(number), "the number of a sender's message");
    }
    let mut other = cx.sender().await?;
    let seq = other.feed(numbered(&topic, 1)).await?;
    check_eq!(seq, Seq::FIRST, "the number of another sender's first message");
    Ok(())
}

pub(crate) async fn s2_a_taken_message_leaves_the_slot_empty(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut sender = cx.sender().await?;
    let mut slot = Some(numbered(&topic, 1));
    sender.send_from(&mut slot).await?;
    check_eq!(slot, None, "the slot after a send");
    Ok(())
}

pub(crate) async fn s2_an_empty_slot_is_an_invalid_argument(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut sender = cx.sender().await?;
    let mut slot = None;
    let sent = sender.send_from(&mut slot).await;
    let kind = sent.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::InvalidArgument), "sending an empty slot");
    let seq = sender.feed(numbered(&topic, 1)).await?;
    check_eq!(seq, Seq::FIRST, "the number after an empty slot");
    Ok(())
}

pub(crate) async fn s3_a_dropped_wait_leaves_the_message_unsent(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(2)).await?;
    let mut sender = cx.narrow_sender().await?;
    let mut taken = cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    for polls in [1, 2, 3, 7, 20] {
        let message = numbered_to(&queue, taken + 1);
        let mut slot = Some(message.clone());
        match give_up_after(polls, sender.send_from(&mut slot)).await {
            Some(sent) => {
                sent?;
                taken += 1;
            }
            None => check_eq!(slot, Some(message), "the slot after a dropped wait"),
        }
    }
    check_all_arrive(&cx, &queue, sender, taken).await
}

pub(crate) async fn s3_a_dropped_send_is_sent_wholly_or_not_at_all(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(3)).await?;
    let mut sender = cx.narrow_sender().await?;
    let mut confirmed = 0;
    for (number, polls) in (1..).zip([1, 2, 3, 5, 1, 2, 3, 9, 30]) {
        match give_up_after(polls, sender.send(numbered_to(&queue, number))).await {
            Some(sent) => confirmed += sent?.confirmed,
            None => yield_now().await,
        }
    }
    let mut consumer = cx.consumer(&queue).await?;
    let sending = async {
        let marker = sender.feed(numbered_to(&queue, MARKER)).await?;
        confirmed += sender.flush().await?.confirmed;
        Ok::<_, Failure>(marker.get())
    };
    let (taken, found) = both(sending, numbers_up_to_marker(&mut consumer)).await?;
    check_eq!(confirmed, taken, "confirmed messages, of all that were taken");
    check_eq!(found.len() as u64 + 1, taken, "messages that arrived, of all that were taken");
    check!(found.is_sorted_by(|a, b| a < b), "they arrived in another order: {found:?}");
    Ok(())
}

pub(crate) async fn s4_a_flush_accounts_for_every_message(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let mut total = 0;
    for count in [1, 10, 500, 3] {
        let mut last = Seq::new(0);
        for number in 0..count {
            last = sender.feed(numbered_to(&queue, number)).await?;
        }
        total += count;
        let receipt = sender.flush().await?;
        check_eq!(last, Seq::new(total), "the number of the last message");
        check!(receipt.upto >= last, "a flush up to {last} ended at {}", receipt.upto);
        check_eq!(receipt.confirmed, count, "messages confirmed since the last flush");
        check_eq!(receipt.returned, 0, "messages returned");
        cx.check_matched(receipt.matched, count, "queues that the messages went to")?;
    }
    let receipt = sender.flush().await?;
    check_eq!((receipt.confirmed, receipt.returned), (0, 0), "what a second flush accounts for");
    check!(sender.take_returned(Seq::FIRST).is_none(), "a confirmed message came back");
    check_eq!(cx.info(&queue).await?.messages, total, "messages in the queue");
    Ok(())
}

pub(crate) async fn s4_a_dropped_flush_loses_no_outcome(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let (mut sent, mut confirmed) = (0, 0);
    for polls in [1, 1, 2, 3, 8] {
        for number in 0..20 {
            sender.feed(numbered_to(&queue, number)).await?;
            sent += 1;
        }
        if let Some(receipt) = give_up_after(polls, sender.flush()).await {
            confirmed += receipt?.confirmed;
        }
    }
    confirmed += sender.flush().await?.confirmed;
    check_eq!(confirmed, sent, "messages confirmed over all flushes");
    Ok(())
}

pub(crate) async fn s4_a_refused_message_comes_back_with_its_reason(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let message = Message::to_queue(queue.clone(), too_large());
    let Err(failed) = sender.send(message.clone()).await else {
        return Err(Failure::new("a message over the limit was confirmed"));
    };
    check_eq!(failed.kind(), ErrorKind::TooLarge, "the reason: {}", failed.error());
    check_eq!(failed.message(), &message, "the message that came back");
    check!(sender.take_returned(Seq::FIRST).is_none(), "a message came back twice");
    // The sender goes on, and its next outcomes are its next messages' own.
    let receipt = sender.send(numbered_to(&queue, 8)).await?;
    check_eq!((receipt.confirmed, receipt.returned), (1, 0), "the outcome of the next message");
    check_eq!(cx.info(&queue).await?.messages, 1, "messages in the queue");
    Ok(())
}

pub(crate) async fn s4_refused_and_confirmed_messages_are_told_apart(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let large = too_large();
    let mut sender = cx.sender().await?;
    let (mut taken, mut refused) = (0, 0);
    for number in 0..40 {
        let message = if number % 4 == 1 {
            Message::to_queue(queue.clone(), large.clone())
        } else {
            numbered_to(&queue, number)
        };
        match sender.feed(message.clone()).await {
            Ok(_) => taken += 1,
            Err(failed) => {
                check_eq!(failed.message(), &message, "the message that was handed back");
                refused += 1;
            }
        }
    }
    let receipt = sender.flush().await?;
    check_eq!(receipt.confirmed + receipt.returned, taken, "outcomes of {taken} taken messages");
    check_eq!(receipt.confirmed, 30, "messages confirmed");
    check_eq!(receipt.returned + refused, 10, "messages refused at once or returned");
    let mut back = 0;
    let mut last = Seq::new(0);
    while let Some(returned) = sender.take_returned(Seq::FIRST) {
        check_eq!(returned.message.payload(), &large, "the payload of a returned message");
        check_eq!(returned.error.kind(), ErrorKind::TooLarge, "why message {back} came back");
        check!(returned.seq > last, "returned out of order: {} after {last}", returned.seq);
        (back, last) = (back + 1, returned.seq);
    }
    check_eq!(back, receipt.returned, "messages handed back, of those the receipt counts");
    check_eq!(cx.info(&queue).await?.messages, 30, "messages in the queue");
    Ok(())
}

pub(crate) async fn s4_a_receipt_claims_no_more_than_was_reached(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let receipt = sender.send(numbered_to(&queue, 1)).await?;
    check!(receipt.level >= Level::Held, "a queue confirmed at {} only", receipt.level);
    let durable = cx.info(&queue).await?.settings.durable;
    if !durable {
        check_eq!(receipt.level, Level::Held, "the level of a queue that is not durable");
    }
    check!((1..u32::MAX).contains(&receipt.nodes), "{} nodes confirmed", receipt.nodes);
    let receipt = sender.send(numbered(&cx.topic("nobody.listens")?, 1)).await?;
    cx.check_matched(receipt.matched, 0, "receivers of a topic that nobody listens to")?;
    check_eq!(receipt.level, Level::Held, "the level of a message without a queue");
    Ok(())
}

pub(crate) async fn s4_a_level_that_is_not_reached_is_an_error(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let durable = cx.info(&queue).await?.settings.durable;
    let options = SenderOptions::new().confirm(Level::Stored);
    let error: Error = match cx.broker().sender(options).await {
        Err(error) => error,
        Ok(mut sender) => match sender.send(numbered_to(&queue, 1)).await {
            Ok(receipt) => {
                check!(durable, "{} was promised by a queue in memory", receipt.level);
                check_eq!(receipt.level, Level::Stored, "the level asked for");
                return Ok(());
            }
            Err(failed) => failed.into(),
        },
    };
    let kind = error.kind();
    check!(
        matches!(kind, ErrorKind::Unconfirmed | ErrorKind::Unsupported),
        "a level out of reach is Unconfirmed or Unsupported, not {error:?}"
    );
    Ok(())
}

pub(crate) async fn s5_sending_after_a_close_is_closed(cx: Context) -> Outcome {
    let message = numbered(&cx.topic("news")?, 1);
    let mut sender = cx.sender().await?;
    sender.send(message.clone()).await?;
    sender.close().await?;
    for _ in 0..3 {
        let Err(failed) = sender.send(message.clone()).await else {
            return Err(Failure::new("a closed sender sent a message"));
        };
        check_eq!(failed.kind(), ErrorKind::Closed, "the reason");
        check_eq!(failed.message(), &message, "the message that was handed back");
    }
    sender.close().await?;
    Ok(())
}

pub(crate) async fn s5_closing_flushes_what_was_taken(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    for number in 1..=100 {
        sender.feed(numbered_to(&queue, number)).await?;
    }
    sender.close().await?;
    check_eq!(cx.info(&queue).await?.messages, 100, "messages in the queue after the close");
    Ok(())
}

/// A payload of one byte more than there may be.
fn too_large() -> Bytes {
    Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1])
}

/// The number of the message behind all others.
const MARKER: u64 = 1_000_000;

/// Receives and acks up to the marker, and returns the numbers before it.
async fn numbers_up_to_marker(consumer: &mut BoxReceiver) -> Result<Vec<u64>, Failure> {
    let mut numbers = Vec::new();
    loop {
        let delivery = next(consumer).await?;
        let number = number_of(&delivery)?;
        delivery.ack();
        if number == MARKER {
            return Ok(numbers);
        }
        numbers.push(number);
        // One that comes again and again would otherwise keep its executor for ever.
        yield_now().await;
    }
}

/// Receives what was taken, in order and nothing else.
async fn check_all_arrive(cx: &Context, queue: &Topic, sender: BoxSender, taken: u64) -> Outcome {
    let mut sender = sender;
    let mut consumer = cx.consumer(queue).await?;
    let sending = async {
        let seq = sender.feed(numbered_to(queue, MARKER)).await?;
        check_eq!(seq, Seq::new(taken + 1), "the number of the message after all those taken");
        sender.flush().await?;
        Ok(())
    };
    let ((), found) = both(sending, numbers_up_to_marker(&mut consumer)).await?;
    let expected: Vec<u64> = (1..=taken).collect();
    check_eq!(found, expected, "what arrived of what was taken");
    Ok(())
}
