//! Cases of law Q3, requests that nobody waits for any more, and of many answers to one request.

use std::task::Poll;

use posthaste_core::{Broker, Cancel, Kind, Message, ReceiverExt, SenderExt, Subscription, Topic};

use crate::Context;
use crate::context::{expect, next, number_of, numbered_to};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, Probe, all, both};

/// A request whose answer goes to `inbox`, and what cancels it.
fn request(to: &Topic, inbox: &Topic, correlation: u64) -> Result<(Message, Cancel), Failure> {
    let draft = Message::builder(to.clone()).payload(correlation.to_string());
    cancelled_by(draft.reply_to(inbox.clone(), correlation).build()?)
}

/// One that goes into a queue and waits there.
fn request_to(
    queue: &Topic,
    inbox: &Topic,
    correlation: u64,
) -> Result<(Message, Cancel), Failure> {
    let draft = Message::builder(queue.clone()).to_queue().waits().payload(correlation.to_string());
    cancelled_by(draft.reply_to(inbox.clone(), correlation).build()?)
}

fn cancelled_by(message: Message) -> Result<(Message, Cancel), Failure> {
    let cancel = Cancel::of(&message);
    let cancel = cancel.ok_or_else(|| Failure::new("a request that cannot be cancelled"))?;
    Ok((message, cancel))
}

pub(crate) async fn q3_what_waits_in_a_queue_is_removed(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let (inbox, _answers) = cx.broker().inbox().await?;
    let mut sender = cx.sender().await?;
    let mut cancels = Vec::new();
    for correlation in 1..=4 {
        let (message, cancel) = request_to(&queue, &inbox, correlation)?;
        sender.send(message).await?;
        cancels.push(cancel);
    }
    for cancel in [&cancels[0], &cancels[2], &cancels[2]] {
        cx.broker().cancel(cancel);
    }
    cx.until_queue(&queue, "two are removed", |info| {
        info.messages == 2 && info.ledger.dropped == 2
    })
    .await?;
    let mut consumer = cx.consumer(&queue).await?;
    for correlation in [2, 4] {
        expect(&mut consumer, correlation, "what nobody cancelled").await?;
    }
    consumer.settled().await?;
    let ledger = cx.info(&queue).await?.ledger;
    check_eq!(ledger.acked, 2, "copies acked");
    Ok(())
}

pub(crate) async fn q3_who_works_on_it_is_told(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let topic = cx.topic("service")?;
    let (inbox, _answers) = cx.broker().inbox().await?;
    let mut consumer = cx.consumer(&queue).await?;
    let group = Subscription::shared(&topic, cx.topic("group")?)?;
    let mut member = cx.receiver(group.ack(posthaste_core::Ack::Manual)).await?;
    let mut sender = cx.sender().await?;
    let requests = [request_to(&queue, &inbox, 1)?, request(&topic, &inbox, 2)?];
    for ((message, cancel), receiver) in requests.into_iter().zip([&mut consumer, &mut member]) {
        sender.send(message).await?;
        let delivery = next(receiver).await?;
        let probe = Probe::new();
        let pending = probe.with(|cx| delivery.poll_cancelled(cx).is_pending());
        check!(pending, "a request was cancelled that nobody gave up");
        cx.quiet().await?;
        check!(!probe.is_woken(), "somebody was told of nothing");
        cx.broker().cancel(&cancel);
        // Only a wake-up polls it again.
        while {
            probe.woken().await;
            probe.with(|cx| delivery.poll_cancelled(cx)) == Poll::Pending
        } {}
        // Told once, it stays so; and dropping it hands it to nobody else.
        check!(probe.with(|cx| delivery.poll_cancelled(cx)).is_ready(), "it is called off again");
        drop(delivery);
    }
    cx.until_queue(&queue, "the cancelled one is gone", |info| info.messages == 0).await?;
    sender.send(numbered_to(&queue, 9)).await?;
    expect(&mut consumer, 9, "what comes after a cancelled request").await
}

pub(crate) async fn q3_cancelling_one_leaves_the_others_alone(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let (inbox, mut answers) = cx.broker().inbox().await?;
    let (other, _others) = cx.broker().inbox().await?;
    let mut consumer = cx.consumer(&queue).await?;
    let mut sender = cx.sender().await?;
    sender.send(request_to(&queue, &inbox, 1)?.0).await?;
    let delivery = next(&mut consumer).await?;
    let probe = Probe::new();
    check!(probe.with(|cx| delivery.poll_cancelled(cx)).is_pending(), "nobody gave it up");
    for (_, cancel) in [request_to(&queue, &inbox, 2)?, request_to(&queue, &other, 1)?] {
        cx.broker().cancel(&cancel);
    }
    cx.quiet().await?;
    check!(probe.with(|cx| delivery.poll_cancelled(cx)).is_pending(), "another one was cancelled");
    let reply = delivery.message().reply("done");
    delivery.ack();
    let reply = reply.ok_or_else(|| Failure::new("a request without a reply"))?;
    cx.peer().sender(posthaste_core::SenderOptions::new()).await?.send(reply).await?;
    let answer = next(&mut answers).await?;
    check_eq!(answer.message().correlation(), 1, "whose answer came");
    // Cancelling what is done already does nothing.
    cx.broker().cancel(&request_to(&queue, &inbox, 1)?.1);
    sender.send(numbered_to(&queue, 9)).await?;
    expect(&mut consumer, 9, "what comes after that").await
}

pub(crate) async fn q3_a_request_that_is_dropped_is_cancelled(cx: Context) -> Outcome {
    let topic = cx.topic("service")?;
    let bus = cx.bus();
    let of = Subscription::shared(&topic, cx.topic("group")?)?.ack(posthaste_core::Ack::Manual);
    let mut member = cx.receiver(of).await?;
    for round in 0..3 {
        let mut asking = Box::pin(bus.request(&topic, round.to_string()).into_future());
        let delivery = {
            let mut receive = Box::pin(next(&mut member));
            std::future::poll_fn(|cx| {
                if asking.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Failure::new("an unanswered request ended")));
                }
                receive.as_mut().poll(cx)
            })
            .await?
        };
        drop(asking);
        delivery.cancelled().await;
        delivery.ack();
    }
    Ok(())
}

pub(crate) async fn q1_many_answers_come_to_one_inbox(cx: Context) -> Outcome {
    const RESPONDERS: u64 = 8;
    let topic = cx.topic("poll")?;
    let (inbox, mut answers) = cx.broker().inbox().await?;
    let mut responders = Vec::new();
    for _ in 0..RESPONDERS {
        responders.push(cx.subscriber("poll").await?);
    }
    let mut sender = cx.sender().await?;
    let asking = async {
        let receipt = sender.send(request(&topic, &inbox, 5)?.0).await?;
        cx.check_matched(receipt.matched, RESPONDERS, "who was asked")?;
        let mut numbers = Vec::new();
        for _ in 0..RESPONDERS {
            let answer = next(&mut answers).await?;
            let found = (answer.message().kind(), answer.message().correlation());
            check_eq!(found, (Kind::Reply, 5), "what came, and whose answer it is");
            numbers.push(number_of(&answer)?);
        }
        numbers.sort_unstable();
        check_eq!(numbers, (0..RESPONDERS).collect::<Vec<u64>>(), "who has answered");
        Ok(())
    };
    let answering = all((0..).zip(responders).map(|(number, mut responder)| {
        let cx = &cx;
        let run: LocalFuture<'_, Outcome> = Box::pin(async move {
            let asked = next(&mut responder).await?;
            let reply = asked.message().reply(u64::to_string(&number));
            let reply = reply.ok_or_else(|| Failure::new("a request without a reply"))?;
            let mut sender = cx.peer().sender(posthaste_core::SenderOptions::new()).await?;
            sender.send(reply).await?;
            Ok(())
        });
        run
    }));
    both(asking, answering).await?;
    Ok(())
}
