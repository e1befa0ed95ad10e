//! Cases of the broker's laws, B1 to B4 and B6: who gets a message, and from when on.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_core::{
    BoxReceiver, Broker, Capability, ErrorKind, Level, Message, Queue, ReceiverExt, Retention,
    SenderExt, SenderOptions, Start, Subscription,
};

use crate::Context;
use crate::context::{expect, next, number_of, numbered, numbered_to, send_numbers, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, all, both, give_up_after, yield_now};

// ---- B1

pub(crate) async fn b1_what_is_lacking_is_unsupported_at_the_call(cx: Context) -> Outcome {
    let broker = cx.broker();
    let lacking = |capability| !cx.has(capability);
    let mut answers: Vec<(Capability, Option<ErrorKind>)> = Vec::new();
    let mut say = |capability, kind| answers.push((capability, kind));
    if lacking(Capability::Topics) {
        let of = Subscription::topic(cx.pattern("news")?)?;
        say(Capability::Topics, kind_of(broker.receiver(of).await));
    }
    if lacking(Capability::Groups) {
        let of = Subscription::shared(cx.pattern("news")?, cx.topic("group")?)?;
        say(Capability::Groups, kind_of(broker.receiver(of).await));
    }
    if lacking(Capability::Queues) {
        let of = Subscription::queue(cx.topic("jobs")?)?;
        say(Capability::Queues, kind_of(broker.receiver(of).await));
    }
    if lacking(Capability::ManualAck) && !lacking(Capability::Queues) {
        let of = Subscription::queue(cx.topic("jobs")?)?;
        say(Capability::ManualAck, kind_of(broker.receiver(of).await));
    }
    if lacking(Capability::Inboxes) {
        say(Capability::Inboxes, kind_of(broker.inbox().await));
    }
    if lacking(Capability::Bindings) && !lacking(Capability::Queues) {
        let queue = Queue::new(cx.queue_name("bound")?).bind(cx.pattern("news")?);
        say(Capability::Bindings, kind_of(broker.declare(queue).await));
    }
    if lacking(Capability::Replay) && !lacking(Capability::Queues) {
        let queue = Queue::new(cx.queue_name("history")?).retain(Retention::new());
        say(Capability::Replay, kind_of(broker.declare(queue).await));
        let of = Subscription::queue(cx.topic("history")?)?.start(Start::Beginning);
        say(Capability::Replay, kind_of(broker.receiver(of).await));
    }
    if lacking(Capability::Drain) {
        say(Capability::Drain, kind_of(broker.drain(Duration::ZERO).await));
    }
    if lacking(Capability::Inspection) {
        say(Capability::Inspection, kind_of(broker.stats().await));
    }
    if lacking(Capability::Durability) {
        say(Capability::Durability, durability(&cx).await?);
    }
    // What is settled already cannot be retried at all.
    let can_retry = !lacking(Capability::Queues) && !lacking(Capability::ManualAck);
    if lacking(Capability::RetryDelay) && can_retry {
        say(Capability::RetryDelay, retry_delay(&cx).await?);
    }
    // A deadline can only be made with a clock; without one nobody can ask for it.
    if lacking(Capability::Deadlines) && cx.runtime().is_ok() {
        say(Capability::Deadlines, deadline(&cx).await?);
    }
    for (capability, kind) in answers {
        let unsupported = kind == Some(ErrorKind::Unsupported);
        let unconfirmed = kind == Some(ErrorKind::Unconfirmed);
        let honest = unsupported || (capability == Capability::Durability && unconfirmed);
        check!(honest, "using {capability}, which is lacking, was answered {kind:?}");
    }
    Ok(())
}

fn kind_of<T>(answer: Result<T, posthaste_core::Error>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

async fn durability(cx: &Context) -> Result<Option<ErrorKind>, Failure> {
    let options = SenderOptions::new().confirm(Level::Stored);
    match cx.broker().sender(options).await {
        Err(error) => Ok(Some(error.kind())),
        Ok(mut sender) => {
            let sent = sender.send(numbered(&cx.topic("news")?, 1)).await;
            Ok(sent.err().map(|failed| failed.kind()))
        }
    }
}

async fn retry_delay(cx: &Context) -> Result<Option<ErrorKind>, Failure> {
    let queue = cx.queue("delayed").await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    next(&mut consumer).await?.retry(Duration::from_secs(3_600), "later");
    let settled = consumer.settled().await;
    // Not delayed, but not lost either.
    let again = next(&mut consumer).await?;
    check_eq!(again.attempt(), 2, "the attempt after a retry that could not be delayed");
    again.ack();
    Ok(settled.err().map(|error| error.kind()))
}

async fn deadline(cx: &Context) -> Result<Option<ErrorKind>, Failure> {
    let message = Message::builder(cx.topic("news")?)
        .deadline(cx.runtime()?.now() + Duration::from_secs(600))
        .build()?;
    let mut sender = cx.sender().await?;
    let Err(failed) = sender.send(message.clone()).await else {
        return Ok(None);
    };
    check_eq!(failed.message(), &message, "the message that was handed back");
    Ok(Some(failed.kind()))
}

// ---- B2

pub(crate) async fn b2_a_subscription_is_live_once_it_resolves(cx: Context) -> Outcome {
    let mut sender = cx.sender().await?;
    for round in 0..30 {
        let tail = format!("news.{round}");
        let topic = cx.topic(&tail)?;
        sender.feed(numbered(&topic, 0)).await?;
        let mut subscriber = cx.subscriber(&tail).await?;
        let receipt = sender.flush().await?;
        check!(receipt.matched <= 1, "{} subscriptions matched", receipt.matched);
        let receipt = sender.send(numbered(&topic, 1)).await?;
        cx.check_matched(
            receipt.matched,
            1,
            &format!("subscriptions that are live in round {round}"),
        )?;
        // The one before may have been seen or not; this one is.
        let delivery = next(&mut subscriber).await?;
        if number_of(&delivery)? == 0 {
            expect(&mut subscriber, 1, "what was published to a live subscription").await?;
        }
    }
    Ok(())
}

pub(crate) async fn b2_a_group_member_is_live_once_it_resolves(cx: Context) -> Outcome {
    let (topic, group) = (cx.topic("work")?, cx.topic("workers")?);
    let mut sender = cx.sender().await?;
    for round in 0..10 {
        let of = Subscription::shared(&topic, &group)?;
        let mut member = cx.receiver(of).await?;
        let receipt = sender.send(numbered(&topic, round)).await?;
        cx.check_matched(receipt.matched, 1, &format!("groups that are live in round {round}"))?;
        expect(&mut member, round, "what was published to a live group").await?;
        member.close().await?;
        drop(member);
        if !cx.has(Capability::Unroutable) {
            continue;
        }
        cx.until("the group is gone", async || {
            Ok(sender.send(numbered(&topic, 77)).await?.matched == 0)
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn b2_a_subscription_sees_nothing_from_before(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut sender = cx.sender().await?;
    let receipt = sender.send(numbered(&topic, 1)).await?;
    cx.check_matched(receipt.matched, 0, "subscriptions before there is one")?;
    let mut subscriber = cx.subscriber("news").await?;
    sender.send(numbered(&topic, 2)).await?;
    let mut first = number_of(&next(&mut subscriber).await?)?;
    // What no broker has confirmed may still have been on its way.
    if first == 1 && receipt.level == Level::Sent {
        first = number_of(&next(&mut subscriber).await?)?;
    }
    check_eq!(first, 2, "the first message of a new subscription");
    Ok(())
}

pub(crate) async fn b2_a_queue_holds_while_nobody_listens(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=25).await?;
    drop(sender);
    check_eq!(cx.info(&queue).await?.messages, 25, "messages held");
    let mut consumer = cx.consumer(&queue).await?;
    let found = take_numbers(&mut consumer, 25).await?;
    check_eq!(found, (1..=25).collect::<Vec<u64>>(), "what was held");
    Ok(())
}

pub(crate) async fn b2_opening_a_handle_declares_its_queue(cx: Context) -> Outcome {
    let (one, other) = (cx.queue_name("one")?, cx.queue_name("other")?);
    let options = SenderOptions::new().queue(one.clone());
    let mut sender = cx.broker().sender(options).await?;
    let receipt = sender.send(numbered_to(&one, 1)).await?;
    cx.check_matched(receipt.matched, 1, "queues that a sender had declared")?;
    let mut consumer = cx.consumer(&other).await?;
    sender.send(numbered_to(&other, 2)).await?;
    expect(&mut consumer, 2, "what came through a queue that its consumer had declared").await?;
    check_eq!(cx.info(&one).await?.messages, 1, "messages in the sender's queue");
    Ok(())
}

// ---- B3

pub(crate) async fn b3_competing_consumers_get_each_message_once(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(cx.receiver(Subscription::queue(&queue)?.prefetch(5)).await?);
    }
    let make = |n| numbered_to(&queue, n);
    check_shared_out(&cx, consumers, &make).await?;
    cx.until_queue(&queue, "all are acked", |info| {
        info.messages == 0 && info.ledger.acked == SHARED_OUT
    })
    .await
}

pub(crate) async fn b3_a_group_gets_each_message_once(cx: Context) -> Outcome {
    let (topic, group) = (cx.topic("work")?, cx.topic("workers")?);
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(cx.receiver(Subscription::shared(&topic, &group)?).await?);
    }
    let make = |n| numbered(&topic, n);
    check_shared_out(&cx, members, &make).await
}

pub(crate) async fn b3_what_a_lost_member_had_not_seen_goes_to_the_others(cx: Context) -> Outcome {
    let (topic, group) = (cx.topic("work")?, cx.topic("workers")?);
    let lost = cx.receiver(Subscription::shared(&topic, &group)?).await?;
    let mut left = cx.receiver(Subscription::shared(&topic, &group)?).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered(&topic, n), 1..=20).await?;
    cx.quiet().await?;
    drop(lost);
    let mut found = take_numbers(&mut left, 20).await?;
    found.sort_unstable();
    check_eq!(found, (1..=20).collect::<Vec<u64>>(), "what came to the member that is left");
    Ok(())
}

const SHARED_OUT: u64 = 400;

/// Sends numbers to receivers that compete and checks that each came to exactly one of them. The
/// last thing that happens is that the senders' numbers have all been seen once.
async fn check_shared_out(
    cx: &Context,
    receivers: Vec<BoxReceiver>,
    make: &(dyn Fn(u64) -> Message + Sync),
) -> Outcome {
    let mut sender = cx.sender().await?;
    let seen = std::sync::Mutex::new(BTreeMap::<u64, u32>::new());
    let done = Done::default();
    let sending = async {
        send_numbers(&mut sender, make, 1..=SHARED_OUT).await?;
        Ok(())
    };
    let receiving = all(receivers.into_iter().map(|mut receiver| {
        let (seen, done) = (&seen, &done);
        let run: LocalFuture<'_, Outcome> = Box::pin(async move {
            while let Some(delivery) = done.unless(receiver.recv()).await {
                let delivery = delivery?.ok_or_else(|| Failure::new("a receiver has ended"))?;
                let number = number_of(&delivery)?;
                delivery.ack();
                // One that comes again and again would otherwise keep its executor for ever.
                yield_now().await;
                let mut seen = posthaste_core::task::lock(seen);
                *seen.entry(number).or_default() += 1;
                if seen.len() as u64 == SHARED_OUT {
                    done.set();
                }
            }
            receiver.settled().await?;
            Ok(())
        });
        run
    }));
    both(sending, receiving).await?;
    let seen = posthaste_core::task::lock(&seen);
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    check!(doubled.is_empty(), "numbers that came to several, and how often: {doubled:?}");
    Ok(())
}

/// A flag that several wait for.
#[derive(Default)]
struct Done(std::sync::Mutex<(bool, Vec<std::task::Waker>)>);

impl Done {
    fn set(&self) {
        let wakers = {
            let mut state = posthaste_core::task::lock(&self.0);
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    /// The future's output, or `None` once the flag is set.
    async fn unless<F: Future + Unpin>(&self, mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            let mut state = posthaste_core::task::lock(&self.0);
            if state.0 {
                return std::task::Poll::Ready(None);
            }
            if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.1.push(cx.waker().clone());
            }
            drop(state);
            std::pin::Pin::new(&mut future).poll(cx).map(Some)
        })
        .await
    }
}

// ---- B6

pub(crate) async fn b6_a_dropped_pending_receiver_leaves_nothing_behind(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let queue = cx.queue("jobs").await?;
    for polls in [1, 1, 2, 2, 3, 4, 6, 9, 14] {
        for of in [
            Subscription::topic(&topic)?,
            Subscription::shared(&topic, cx.topic("group")?)?,
            Subscription::queue(&queue)?,
        ] {
            drop(give_up_after(polls, cx.broker().receiver(of)).await);
        }
        drop(give_up_after(polls, cx.broker().inbox()).await);
        drop(give_up_after(polls, cx.broker().sender(SenderOptions::new())).await);
    }
    cx.until_queue(&queue, "no consumer is left", |info| info.consumers == 0).await?;
    let mut sender = cx.sender().await?;
    cx.until("no subscription is left", async || {
        Ok(sender.send(numbered(&topic, 1)).await?.matched == 0)
    })
    .await?;
    // What a lost consumer had been sent ahead is there for the next one.
    sender.send(numbered_to(&queue, 7)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    expect(&mut consumer, 7, "what the queue had").await
}

pub(crate) async fn b6_a_dropped_declare_declared_or_did_not(cx: Context) -> Outcome {
    for (nth, polls) in [1, 2, 3, 5, 9].into_iter().enumerate() {
        let name = cx.queue_name(&format!("jobs.{nth}"))?;
        let declared =
            give_up_after(polls, cx.broker().declare(Queue::new(name.clone()).capacity(5))).await;
        cx.quiet().await?;
        match cx.broker().queue(&name).await {
            Ok(info) => {
                check_eq!(info.settings.capacity_messages, 5, "the capacity that was declared");
            }
            Err(error) => {
                check!(declared.is_none(), "a declared queue is not there: {error}");
                check_eq!(error.kind(), ErrorKind::NotFound, "a queue that was not declared");
            }
        }
    }
    yield_now().await;
    Ok(())
}
