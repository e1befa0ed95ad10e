//! Cases of the sender's laws, and of law B4, for messages that are sent many at a time.

use std::collections::VecDeque;

use bytes::Bytes;
use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::{BoxSender, ErrorKind, Message, Pattern, Sender, SenderExt, Seq, Topic};

use crate::Context;
use crate::context::{numbered, numbered_to, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{Probe, both, give_up_after};

pub(crate) async fn s1_a_batch_waits_at_the_first_that_finds_no_room(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(2)).await?;
    let mut sender = cx.narrow_sender().await?;
    let mut batch = batch_to(&queue, 1, 100);
    let taken = poll_until_full(&cx, &mut sender, &mut batch).await?;
    check!((2..100).contains(&taken), "a full queue for 2 messages took {taken} of a batch");
    check_left(&batch, &queue, taken + 1)?;
    sender.disarm();
    let mut consumer = cx.consumer(&queue).await?;
    let (_, found) =
        both(feed_all(&mut sender, &mut batch), take_numbers(&mut consumer, 100)).await?;
    check_eq!(found, (1..=100).collect::<Vec<_>>(), "what arrived of the batch");
    Ok(())
}

pub(crate) async fn s2_a_batch_is_numbered_as_single_messages_are(cx: Context) -> Outcome {
    let (jobs, topic) = (cx.queue("jobs").await?, cx.topic("news")?);
    let mut sender = cx.sender().await?;
    check_eq!(sender.feed(numbered_to(&jobs, 1)).await?, Seq::FIRST, "the first number");
    let mut batch = batch_to(&jobs, 2, 50);
    batch.extend((51..=60).map(|number| numbered(&topic, number)));
    batch.extend(batch_to(&jobs, 61, 70));
    sender.feed_many(&mut batch).await?;
    check!(batch.is_empty(), "{} messages are left of a batch that was sent", batch.len());
    sender.feed_many(&mut batch).await?;
    let seq = sender.feed(numbered_to(&jobs, 71)).await?;
    check_eq!(seq, Seq::new(71), "the number of the message after 70");
    let mut consumer = cx.consumer(&jobs).await?;
    let expected: Vec<u64> = (1..=50).chain(61..=71).collect();
    let flushing = async { Ok::<_, Failure>(sender.flush().await?) };
    let (_, found) = both(flushing, take_numbers(&mut consumer, 61)).await?;
    check_eq!(found, expected, "the order in which a batch and its neighbours arrived");
    Ok(())
}

pub(crate) async fn s3_a_dropped_batch_is_sent_up_to_where_it_was_taken(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(3)).await?;
    let mut sender = cx.narrow_sender().await?;
    let mut batch = batch_to(&queue, 1, 200);
    for polls in [1, 2, 3, 7, 20] {
        let before = batch.len();
        if let Some(sent) = give_up_after(polls, sender.feed_many(&mut batch)).await {
            sent?;
        }
        check!(batch.len() <= before, "a batch of {before} has grown to {}", batch.len());
        check_left(&batch, &queue, 201 - batch.len() as u64)?;
    }
    let taken = 200 - batch.len() as u64;
    let mut consumer = cx.consumer(&queue).await?;
    let feeding = async {
        let seq = sender.feed(numbered_to(&queue, 0)).await?;
        check_eq!(seq, Seq::new(taken + 1), "the number of the message after the dropped batch");
        Ok::<_, Failure>(sender.flush().await?)
    };
    let count = usize::try_from(taken + 1).unwrap_or(usize::MAX);
    let (receipt, found) = both(feeding, take_numbers(&mut consumer, count)).await?;
    let expected: Vec<u64> = (1..=taken).chain([0]).collect();
    check_eq!(found, expected, "what arrived of a dropped batch, and the message after it");
    check_eq!((receipt.confirmed, receipt.returned), (taken + 1, 0), "outcomes");
    Ok(())
}

pub(crate) async fn s4_a_batch_stops_at_the_one_that_is_refused(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let large = Message::to_queue(queue.clone(), Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]));
    let mut batch = batch_to(&queue, 1, 3);
    batch.push_back(large.clone());
    batch.extend(batch_to(&queue, 4, 6));
    let refused = match sender.feed_many(&mut batch).await {
        Ok(()) => 0,
        Err(error) => {
            check_eq!(error.kind(), ErrorKind::TooLarge, "why the batch stopped: {error}");
            check_eq!(batch.pop_front(), Some(large), "the message that the batch stopped at");
            check_left(&batch, &queue, 4)?;
            sender.feed_many(&mut batch).await?;
            1
        }
    };
    check!(batch.is_empty(), "{} messages are left of a batch that was sent", batch.len());
    let receipt = sender.flush().await?;
    check_eq!(receipt.confirmed, 6, "messages confirmed");
    check_eq!(receipt.returned + refused, 1, "messages refused at once or returned");
    while sender.take_returned(Seq::FIRST).is_some() {}
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(
        take_numbers(&mut consumer, 6).await?,
        [1, 2, 3, 4, 5, 6],
        "what arrived of the batch"
    );
    Ok(())
}

pub(crate) async fn s4_a_flush_accounts_for_every_message_of_a_batch(cx: Context) -> Outcome {
    let bound = cx.pattern("news.>")?;
    let jobs = cx.queue("jobs").await?;
    let archive = cx.queue_with("archive", |queue| queue.bind(bound)).await?;
    let mut subscriber = cx.subscriber("news.*").await?;
    let (eu, nobody) = (cx.topic("news.eu")?, cx.topic("nobody.listens")?);
    let mut batch = batch_to(&jobs, 1, 20);
    batch.extend((21..=50).map(|number| numbered(&eu, number)));
    batch.extend((51..=60).map(|number| numbered(&nobody, number)));
    batch.extend(batch_to(&jobs, 61, 64));
    let mut sender = cx.sender().await?;
    sender.feed_many(&mut batch).await?;
    let receipt = sender.flush().await?;
    check_eq!((receipt.confirmed, receipt.returned), (64, 0), "outcomes of a batch of 64");
    cx.check_matched(receipt.matched, 20 + 2 * 30 + 4, "places that the messages went to")?;
    let found = take_numbers(&mut subscriber, 30).await?;
    check_eq!(found, (21..=50).collect::<Vec<u64>>(), "the subscription's copies");
    for (queue, messages) in [(&jobs, 24), (&archive, 30)] {
        check_eq!(cx.info(queue).await?.messages, messages, "copies in {queue}");
    }
    Ok(())
}

pub(crate) async fn s5_a_closed_sender_takes_nothing_of_a_batch(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut sender = cx.sender().await?;
    sender.close().await?;
    let whole: VecDeque<Message> = (1..=3).map(|number| numbered(&topic, number)).collect();
    let mut batch = whole.clone();
    let kind = sender.feed_many(&mut batch).await.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::Closed), "a batch after the close");
    check_eq!(batch, whole, "the batch after the close");
    Ok(())
}

pub(crate) async fn s6_a_batch_that_waits_goes_on_when_there_is_room(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(2)).await?;
    let mut sender = cx.narrow_sender().await?;
    let mut batch = batch_to(&queue, 1, 100);
    poll_until_full(&cx, &mut sender, &mut batch).await?;
    let probe = Probe::new();
    let mut feeding = sender.feed_many(&mut batch);
    check!(probe.poll(&mut feeding).is_pending(), "a full queue took the rest of a batch");
    let mut consumer = cx.consumer(&queue).await?;
    // Polled after a wake-up only: one that is lost hangs.
    let rest = async { Ok::<_, Failure>(probe.finish(&mut feeding).await?) };
    let ((), found) = both(rest, take_numbers(&mut consumer, 100)).await?;
    check_eq!(found, (1..=100).collect::<Vec<_>>(), "what arrived of the batch");
    Ok(())
}

pub(crate) async fn b4_a_batch_is_published_to_all_or_to_nobody(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let bound = || Pattern::from(&topic);
    let wide = cx.queue_with("wide", |queue| queue.bind(bound())).await?;
    let narrow = cx.queue_with("narrow", |queue| queue.bind(bound()).capacity(3)).await?;
    let mut sender = cx.narrow_sender().await?;
    let mut batch: VecDeque<_> = (1..=40).map(|number| numbered(&topic, number)).collect();
    poll_until_full(&cx, &mut sender, &mut batch).await?;
    for queue in [&wide, &narrow] {
        cx.until_queue(queue, "three copies are there", |info| info.messages >= 3).await?;
        cx.quiet().await?;
        check_eq!(cx.info(queue).await?.messages, 3, "copies in {queue}, where one has no room");
    }
    let mut consumers = (cx.consumer(&wide).await?, cx.consumer(&narrow).await?);
    let taking = both(take_numbers(&mut consumers.0, 40), take_numbers(&mut consumers.1, 40));
    let ((), (one, other)) = both(feed_all(&mut sender, &mut batch), taking).await?;
    check_eq!(one, (1..=40).collect::<Vec<_>>(), "what the wide queue got");
    check_eq!(other, one, "what the narrow queue got");
    Ok(())
}

fn batch_to(queue: &Topic, first: u64, last: u64) -> VecDeque<Message> {
    (first..=last).map(|number| numbered_to(queue, number)).collect()
}

/// Checks that what is left of a batch is whole, from number `first` on.
fn check_left(batch: &VecDeque<Message>, queue: &Topic, first: u64) -> Outcome {
    for (number, message) in (first..).zip(batch) {
        check_eq!(message, &numbered_to(queue, number), "what is left of a batch");
    }
    Ok(())
}

/// Polls until there is no room any more, and says how many were taken.
async fn poll_until_full(
    cx: &Context,
    sender: &mut BoxSender,
    batch: &mut VecDeque<Message>,
) -> Result<u64, Failure> {
    let probe = Probe::new();
    let whole = batch.len();
    let mut before = usize::MAX;
    // A link may take more once it has heard from the other side.
    while batch.len() < before {
        before = batch.len();
        let polled = probe.with(|cx| sender.poll_send_many(cx, batch))?;
        check!(polled.is_ready() == batch.is_empty(), "{} are left, and {polled:?}", batch.len());
        cx.quiet().await?;
    }
    Ok((whole - batch.len()) as u64)
}

async fn feed_all(sender: &mut BoxSender, batch: &mut VecDeque<Message>) -> Outcome {
    sender.feed_many(batch).await?;
    check!(batch.is_empty(), "{} messages are left of a batch that was sent", batch.len());
    sender.flush().await?;
    Ok(())
}
