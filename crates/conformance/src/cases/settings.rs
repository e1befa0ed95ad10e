//! Cases of law B7, that queues are as declared; law D3, errors; law D4, numbers without sense; and
//! law S7, a client's books.

use std::time::Duration;

use posthaste_core::limits::TOPIC_BYTES_MAX;
use posthaste_core::{
    Broker, Capability, Error, ErrorKind, Level, Message, Overflow, Pattern, Queue, ReceiverExt,
    SenderExt, SenderOptions, Sends, Subscription, Topic,
};

use crate::Context;
use crate::context::{
    check_sentence, expect, next, numbered, numbered_to, send_numbers, take_numbers,
};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{both, give_up_after};

/// A setting that a queue may name, with what it takes to have it.
type Setting = (Capability, fn(Queue) -> Queue);

const MINUTES: Duration = Duration::from_secs(240);

/// Declares a queue with every setting that the broker has, so that it can be asked for each.
pub(super) fn with_everything(cx: &Context, queue: Queue, dead: &Topic) -> Queue {
    let settings: [Setting; 7] = [
        (Capability::DeadLetters, |queue| queue.max_attempts(5)),
        (Capability::RetryDelay, |queue| queue.backoff(Duration::from_millis(250))),
        (Capability::Deadlines, |queue| queue.ttl(MINUTES)),
        (Capability::Deduplication, |queue| queue.dedup_window(MINUTES)),
        (Capability::ConsumerTimeout, |queue| queue.consumer_timeout(MINUTES)),
        (Capability::Overflow, |queue| queue.overflow(Overflow::Reject)),
        (Capability::Durability, |queue| queue.durable(true)),
    ];
    let queue =
        if cx.has(Capability::DeadLetters) { queue.dead_letter(dead.clone()) } else { queue };
    let there = settings.into_iter().filter(|(capability, _)| cx.has(*capability));
    there.fold(queue.capacity(50).capacity_bytes(60_000), |queue, (_, with)| with(queue))
}

pub(crate) async fn b7_a_queue_tells_every_setting(cx: Context) -> Outcome {
    let dead = cx.queue("dead").await?;
    let name = cx.queue_name("jobs")?;
    let declared = with_everything(&cx, Queue::new(name.clone()), &dead);
    cx.broker().declare(declared.clone()).await?;
    let expected = posthaste_core::QueueSettings::of(&declared)?;
    check_eq!(cx.info(&name).await?.settings, expected, "the settings that were declared");
    // Again, the same, and with nothing named: neither changes anything.
    for again in [declared, Queue::new(name.clone())] {
        cx.broker().declare(again).await?;
        check_eq!(cx.info(&name).await?.settings, expected, "the settings, declared again");
    }
    let mut changed = expected;
    let change = Queue::new(name.clone()).capacity(70);
    changed.update(&change)?;
    cx.broker().declare(change).await?;
    check_eq!(cx.info(&name).await?.settings, changed, "the settings after one was changed");
    let listed = cx.stats().await?.queues.into_iter().find(|info| info.name == name);
    check_eq!(listed.map(|info| info.settings), Some(changed), "the settings in the list");
    Ok(())
}

pub(crate) async fn b7_a_time_of_zero_switches_its_setting_off(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.ttl(MINUTES)).await?;
    cx.broker().declare(Queue::new(queue.clone()).ttl(Duration::ZERO)).await?;
    check_eq!(cx.info(&queue).await?.settings.ttl, Duration::ZERO, "the time to live");
    Ok(())
}

pub(crate) async fn b7_a_conflict_names_the_field_and_changes_nothing(cx: Context) -> Outcome {
    let keyed = cx.queue_with("keyed", Queue::keyed).await?;
    let plain = cx.queue("plain").await?;
    // An undeclared order is the one that the queue has.
    cx.broker().declare(Queue::new(keyed.clone()).capacity(5)).await?;
    let before = cx.info(&plain).await?.settings;
    let contradiction = Queue::new(plain.clone()).keyed().capacity(7);
    let Err(error) = cx.broker().declare(contradiction).await else {
        return Err(Failure::new("a queue became keyed"));
    };
    check_eq!(error.kind(), ErrorKind::Conflict, "declaring another order: {error}");
    check!(error.text().contains("keyed"), "the field is not named: {error}");
    check_sentence(&error, "a conflict")?;
    check_eq!(cx.info(&plain).await?.settings, before, "the settings after a conflict");
    Ok(())
}

pub(crate) async fn b7_a_declaration_that_makes_no_sense_is_refused(cx: Context) -> Outcome {
    let own = cx.queue_name("own")?;
    let queue = Queue::new(own.clone()).dead_letter(own.clone());
    let kind = cx.broker().declare(queue).await.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::InvalidArgument), "a queue that is its own dead-letter queue");
    let kind = cx.broker().queue(&own).await.err().map(|error| error.kind());
    check_eq!(kind, Some(ErrorKind::NotFound), "a queue whose declaration was refused");
    Ok(())
}

pub(crate) async fn b1_what_needs_a_clock_says_so_without_one(cx: Context) -> Outcome {
    let settings: [Setting; 4] = [
        (Capability::Deadlines, |queue| queue.ttl(MINUTES)),
        (Capability::Deduplication, |queue| queue.dedup_window(MINUTES)),
        (Capability::ConsumerTimeout, |queue| queue.consumer_timeout(MINUTES)),
        (Capability::RetryDelay, |queue| queue.backoff(MINUTES)),
    ];
    for (capability, with) in settings {
        if cx.has(capability) {
            continue;
        }
        let queue = with(Queue::new(cx.queue_name("jobs")?));
        let kind = cx.broker().declare(queue).await.err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::Unsupported), "a setting of a queue without {capability}");
    }
    if !cx.has(Capability::Delay) && cx.has(Capability::Topics) {
        let delayed = Message::builder(cx.topic("news")?).delay(MINUTES).build()?;
        let sent = cx.sender().await?.send(delayed).await;
        let kind = sent.err().map(|failed| failed.kind());
        check_eq!(kind, Some(ErrorKind::Unsupported), "a delay where there is none");
    }
    Ok(())
}

// ---- D3

/// The errors of calls that cannot be right on any broker of queues, by what was done.
async fn errors(cx: &Context) -> Result<Vec<(&'static str, Error)>, Failure> {
    let broker = cx.broker();
    let queue = cx.queue_with("jobs", |queue| queue.capacity(1)).await?;
    let mut sender = cx.narrow_sender().await?;
    let mut found: Vec<(&'static str, Option<Error>)> = vec![
        ("an empty word", Topic::new("orders..created").err()),
        ("a wildcard in a topic", Topic::new("orders.*").err()),
        ("a pattern with words behind its end", Pattern::new("orders.>.eu").err()),
        ("a topic too long", Topic::new("x".repeat(TOPIC_BYTES_MAX + 1)).err()),
        ("a policy that is none", "sometimes".parse::<Overflow>().err()),
        ("a level that is none", "engraved".parse::<Level>().err()),
        ("a queue that is not there", broker.queue(&cx.topic("nowhere")?).await.err()),
        ("deleting what is not there", broker.delete(&cx.topic("nowhere")?).await.err()),
        ("a priority too high", Message::builder(queue.clone()).priority(9).build().err()),
    ];
    let large = vec![0; posthaste_core::limits::PAYLOAD_BYTES_MAX + 1];
    let large = sender.send(Message::to_queue(queue.clone(), large)).await;
    found.push(("a payload too large", large.err().map(Error::from)));
    cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    let full = sender.try_send(numbered_to(&queue, 0));
    found.push(("sending without waiting for room", full.err().map(Error::from)));
    let stored = cx.broker().sender(SenderOptions::new().confirm(Level::Stored)).await;
    match stored {
        Err(error) => found.push(("asking for a level", Some(error))),
        Ok(mut stored) if !cx.has(Capability::Durability) => {
            let sent = stored.send(numbered(&cx.topic("news")?, 1)).await;
            found.push(("asking for a level", sent.err().map(Error::from)));
        }
        Ok(_) => {}
    }
    drop(sender);
    let mut closed = cx.sender().await?;
    closed.close().await?;
    let sent = closed.try_send(numbered_to(&queue, 1));
    found.push(("sending after a close", sent.err().map(Error::from)));
    if cx.has(Capability::NoResponders) && cx.has(Capability::Inboxes) {
        let asking = cx.bus().request(&cx.topic("nobody")?, "anyone?").into_future();
        let asked = give_up_after(2_000, asking).await;
        found.push(("asking nobody", asked.and_then(Result::err)));
    }
    // What is no error where it should be one breaks another law.
    Ok(found.into_iter().filter_map(|(what, error)| Some((what, error?))).collect())
}

pub(crate) async fn d3_an_error_is_one_sentence(cx: Context) -> Outcome {
    for (what, error) in errors(&cx).await? {
        check_sentence(&error, what)?;
    }
    Ok(())
}

// ---- S7

pub(crate) async fn s7_what_was_taken_is_confirmed_returned_or_pending(cx: Context) -> Outcome {
    let Some(before) = cx.broker().sends() else {
        return Ok(());
    };
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=20).await?;
    let mut taken = 20;
    for number in 21..=40 {
        sender.feed(numbered_to(&queue, number)).await?;
        taken += 1;
        check_balanced(&cx, before, taken)?;
    }
    sender.flush().await?;
    let sends = check_balanced(&cx, before, taken)?;
    check_eq!(sends.pending, before.pending, "messages that are pending after a flush");
    check_eq!(sends.confirmed - before.confirmed, taken, "messages confirmed");
    // Dropped with something under way, a sender's messages stay in the books.
    let mut dropped = cx.sender().await?;
    for number in 41..=45 {
        dropped.feed(numbered_to(&queue, number)).await?;
        taken += 1;
    }
    drop(dropped);
    check_balanced(&cx, before, taken)?;
    Ok(())
}

pub(crate) async fn s7_what_was_refused_is_not_confirmed(cx: Context) -> Outcome {
    let Some(before) = cx.broker().sends() else {
        return Ok(());
    };
    let with = |queue: Queue| queue.capacity(2).overflow(Overflow::Reject);
    let queue = cx.queue_with("jobs", with).await?;
    let mut sender = cx.sender().await?;
    let mut confirmed = 0;
    for number in 1..=6 {
        confirmed += u64::from(sender.send(numbered_to(&queue, number)).await.is_ok());
    }
    check_eq!(confirmed, 2, "messages that a queue for two took");
    let sends = cx.broker().sends().unwrap_or_default();
    check!(sends.is_balanced(), "the client's books: {sends:?}");
    check_eq!(sends.confirmed - before.confirmed, 2, "messages that its books call confirmed");
    Ok(())
}

fn check_balanced(cx: &Context, before: Sends, taken: u64) -> Result<Sends, Failure> {
    let sends = cx.broker().sends().unwrap_or_default();
    check!(sends.is_balanced(), "the client's books: {sends:?}");
    check_eq!(sends.taken - before.taken, taken, "messages taken");
    Ok(sends)
}

// ---- D4

pub(crate) async fn d4_numbers_beyond_all_sense_are_limits(cx: Context) -> Outcome {
    let name = cx.queue_name("jobs")?;
    let mut huge = Queue::new(name.clone()).capacity(usize::MAX).capacity_bytes(usize::MAX);
    if cx.has(Capability::DeadLetters) {
        huge = huge.max_attempts(u32::MAX);
    }
    if cx.has(Capability::RetryDelay) {
        huge = huge.backoff(Duration::MAX);
    }
    if cx.has(Capability::Deadlines) {
        huge = huge.ttl(Duration::MAX);
    }
    if cx.has(Capability::Deduplication) {
        huge = huge.dedup_window(Duration::MAX);
    }
    if cx.has(Capability::ConsumerTimeout) {
        huge = huge.consumer_timeout(Duration::MAX).expiry(Duration::MAX);
    }
    cx.broker().declare(huge).await?;
    let options = SenderOptions::new().window(usize::MAX, usize::MAX);
    let mut sender = cx.broker().sender(options).await?;
    send_numbers(&mut sender, |n| numbered_to(&name, n), 1..=3).await?;
    let of = Subscription::queue(&name)?.prefetch(usize::MAX).limit(u64::MAX);
    let mut consumer = cx.receiver(of.capacity(usize::MAX, usize::MAX)).await?;
    let delivery = next(&mut consumer).await?;
    delivery.extend();
    let (after, left) = match cx.has(Capability::RetryDelay) {
        true => (Duration::MAX, 2..=3),
        false => (Duration::ZERO, 1..=3),
    };
    delivery.retry(after, &"why ".repeat(100_000));
    let mut found = take_numbers(&mut consumer, left.clone().count()).await?;
    found.sort_unstable();
    check_eq!(found, left.collect::<Vec<u64>>(), "what comes after a retry in ages");
    if cx.has(Capability::Delay) {
        let topic = cx.topic("news")?;
        let delayed = Message::builder(topic).delay(Duration::MAX).payload("x").build()?;
        sender.send(delayed).await?;
        let later = Message::builder(name.clone()).to_queue().delay(Duration::MAX).build()?;
        sender.send(later).await?;
    }
    Ok(())
}

pub(crate) async fn d4_times_beyond_all_sense_are_limits(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let of = Subscription::topic(cx.pattern("news")?)?.capacity(1, 1).stall_limit(Duration::MAX);
    let mut subscriber = cx.receiver(of).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered(&cx.topic("news")?, 1)).await?;
    expect(&mut subscriber, 1, "what came to one who may stall for ages").await?;
    let bus = cx.bus();
    let mut responder = cx.peer_bus().serve(&topic).open().await?;
    let asking = async { Ok(bus.request(&topic, "please").within(Duration::MAX).await?) };
    let serving = async {
        let request = responder.recv().await?;
        let request = request.ok_or_else(|| Failure::new("the responder has ended"))?;
        Ok(request.reply("here").await?)
    };
    let (reply, ()) = both(asking, serving).await?;
    check_eq!(reply.payload(), "here", "the reply to one who waits for ages");
    drop((responder, subscriber, sender));
    let report = cx.broker().drain(Duration::MAX).await?;
    check_eq!(report.abandoned, 0, "deliveries abandoned: {report}");
    Ok(())
}

pub(crate) async fn d4_an_opened_limit_of_zero_has_ended(cx: Context) -> Outcome {
    use ReceiverExt;
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut none = cx.receiver(cx.consuming(&queue)?.limit(0)).await?;
    check!(none.recv().await?.is_none(), "a limit of zero delivered something");
    drop(none);
    expect(&mut cx.consumer(&queue).await?, 1, "what is left").await
}

pub(crate) async fn d4_an_operators_numbers_are_limits_too(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    let broker = cx.broker();
    check_eq!(broker.browse(&queue, None, usize::MAX).await?.len(), 3, "all that is shown");
    check_eq!(broker.browse(&queue, Some(u64::MAX), 5).await?.len(), 0, "behind the last position");
    let replayed = broker.replay(&queue, u64::MAX).await?;
    check_eq!(replayed.moved, 0, "messages replayed that are no dead letters");
    Ok(())
}
