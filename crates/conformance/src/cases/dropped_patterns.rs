//! Cases that give the futures of a bus up: publishing, subscribing, asking and answering.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::Poll;

use posthaste_core::future::Asking;
use posthaste_core::{
    BoxReceiver, Bus, Error, Message, Receipt, Responder, SendError, SenderExt, Topic,
};

use super::dropped_sends::{AT_RANDOM, check_books};
use crate::Context;
use crate::cancel::{Whim, at_every_poll};
use crate::context::{next, number_of, numbered, numbered_to, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, both, give_up_after, yield_now};

/// A bus that sends a number.
struct Publishing {
    bus: Bus,
    number: u64,
}

/// What a publish that ended has to have said.
fn check_receipt(cx: &Context, receipt: Option<Receipt>) -> Outcome {
    let Some(receipt) = receipt else { return Ok(()) };
    check_eq!(receipt.confirmed, 1, "how many a receipt of one message confirms");
    cx.check_matched(receipt.matched, 1, "receivers of a message to one")
}

/// Gives up a bus's sending at every poll; the same bus, so that what it keeps is used again.
async fn publish_at_every_poll<E: Into<Error>>(
    cx: &Context,
    receiver: &mut BoxReceiver,
    mut act: impl AsyncFnMut(&mut Publishing) -> Result<Receipt, E>,
    last: impl Fn(u64) -> Message,
) -> Outcome {
    let bus = cx.bus();
    let mut number = 0;
    let mut came = BTreeSet::new();
    at_every_poll(
        async || {
            number += 2;
            Ok((Publishing { bus: bus.clone(), number }, ()))
        },
        async |this: &mut Publishing| act(this).await,
        async |()| std::future::pending().await,
        async |this, (), sent| {
            let sent = sent.transpose().map_err(Into::into)?;
            check_receipt(cx, sent)?;
            this.bus.send_message(last(this.number + 1)).await?;
            let mut found = Vec::new();
            while found.last() != Some(&(this.number + 1)) {
                let delivery = next(receiver).await?;
                let number = number_of(&delivery)?;
                check!(came.insert(number), "number {number} came twice");
                // A send that was given up may go its way beside a later one of the same bus, so it
                // may also come after it; what counts is that it comes once at most.
                if number >= this.number {
                    found.push(number);
                }
                delivery.ack();
            }
            if sent.is_some() {
                check_eq!(found, [this.number, this.number + 1], "what came");
            }
            Ok(())
        },
    )
    .await?;
    cx.check_sends()
}

pub(crate) async fn s3_a_publish_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut subscriber = cx.subscriber("news").await?;
    let act = async |this: &mut Publishing| this.bus.publish(&topic, this.number.to_string()).await;
    publish_at_every_poll(&cx, &mut subscriber, act, |n| numbered(&topic, n)).await
}

pub(crate) async fn s3_a_send_to_a_queue_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut consumer = cx.consumer(&queue).await?;
    let act = async |this: &mut Publishing| this.bus.send(&queue, this.number.to_string()).await;
    publish_at_every_poll(&cx, &mut consumer, act, |n| numbered_to(&queue, n)).await?;
    check_books(&cx, &queue).await
}

pub(crate) async fn s3_a_send_of_a_message_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut consumer = cx.consumer(&queue).await?;
    let act = async |this: &mut Publishing| -> Result<Receipt, SendError> {
        this.bus.send_message(numbered_to(&queue, this.number)).await
    };
    publish_at_every_poll(&cx, &mut consumer, act, |n| numbered_to(&queue, n)).await?;
    check_books(&cx, &queue).await
}

pub(crate) async fn b6_subscribing_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let bus = cx.peer_bus();
    let (topic, group) = (cx.topic("news")?, cx.topic("group")?);
    let queue = cx.queue("jobs").await?;
    for way in 0..3 {
        at_every_poll(
            async || Ok(((), ())),
            async |()| match way {
                0 => bus.subscribe(&topic).await,
                1 => bus.subscribe_shared(&topic, &group).await,
                _ => bus.consume(&queue).await,
            },
            async |()| std::future::pending().await,
            async |(), (), opened| {
                drop(opened.transpose()?);
                let mut sender = cx.sender().await?;
                cx.until("nobody is left who listens", async || {
                    Ok(sender.send(numbered(&topic, 1)).await?.matched == 0)
                })
                .await?;
                cx.until_queue(&queue, "no consumer is left", |info| info.consumers == 0).await
            },
        )
        .await?;
    }
    Ok(())
}

// ---- requests

/// One who asks.
struct Asker {
    bus: Bus,
    topic: Topic,
    number: u64,
}

/// Answers with the number asked, for ever. One that was dropped half-way would not answer.
async fn answer(mut responder: Responder) -> Outcome {
    loop {
        let request = responder.recv().await?;
        let request = request.ok_or_else(|| Failure::new("the responder has ended"))?;
        let payload = request.payload().clone();
        request.reply(payload).await?;
    }
}

pub(crate) async fn q1_a_request_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let topic = cx.topic("echo")?;
    // The same bus all along, so that a slot that is not freed is seen; the first time it also
    // opens its inbox.
    let bus = cx.bus();
    let mut number = 0;
    at_every_poll(
        async || {
            number += 2;
            let responder = cx.peer_bus().serve(&topic).open().await?;
            let answering: LocalFuture<'_, Outcome> = Box::pin(answer(responder));
            Ok((Asker { bus: bus.clone(), topic: topic.clone(), number }, answering))
        },
        async |this: &mut Asker| this.bus.request(&this.topic, this.number.to_string()).await,
        async |answering: &mut LocalFuture<'_, Outcome>| answering.await,
        async |this, mut answering, reply| {
            if let Some(reply) = reply.transpose()? {
                check_eq!(reply.payload(), &this.number.to_string(), "the reply");
            }
            // The next one gets its own answer, whatever became of the one before.
            let number = (this.number + 1).to_string();
            let mut asking = Box::pin(bus.request(&topic, number.clone()).into_future());
            let reply = std::future::poll_fn(|cx| {
                if let Poll::Ready(Err(failure)) = answering.as_mut().poll(cx) {
                    return Poll::Ready(Err(failure));
                }
                asking.as_mut().poll(cx).map(|reply| Ok(reply?))
            })
            .await?;
            check_eq!(reply.payload(), &number, "the reply to the next request");
            Ok(())
        },
    )
    .await?;
    let waiting = format!("{bus:?}");
    check!(waiting.contains("waiting_requests: 0"), "slots that are not free: {waiting}");
    Ok(())
}

pub(crate) async fn q1_serving_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let topic = cx.topic("echo")?;
    let bus = cx.bus();
    at_every_poll(
        async || {
            let responder = cx.peer_bus().serve(&topic).open().await?;
            let asking = Box::pin(bus.request(&topic, "one").into_future());
            Ok((responder, asking))
        },
        async |responder: &mut Responder| responder.recv().await,
        async |asking: &mut Pin<Box<Asking>>| {
            asking.await?;
            Ok(())
        },
        async |mut responder, given_up, got| {
            drop((given_up, got.transpose()?));
            let asking = async { Ok(bus.request(&topic, "another").await?) };
            let serving = async {
                loop {
                    let request = responder.recv().await?;
                    let request = request.ok_or_else(|| Failure::new("it has ended"))?;
                    if request.payload() == "another" {
                        return Ok(request.reply("here").await?);
                    }
                }
            };
            let (reply, ()) = both(asking, serving).await?;
            check_eq!(reply.payload(), "here", "the reply");
            Ok(())
        },
    )
    .await
}

pub(crate) async fn q1_requests_given_up_at_random_mix_nothing_up(cx: Context) -> Outcome {
    let topic = cx.topic("echo")?;
    let bus = cx.bus();
    let responder = cx.peer_bus().serve(&topic).concurrency(16).open().await?;
    let asking = async {
        let mut whim = Whim::new(23);
        let mut answered = 0;
        for number in 0_u64.. {
            if whim.given_up() >= AT_RANDOM {
                break;
            }
            // One in a while is waited for, so that all is not given up at once.
            let asking = bus.request(&topic, number.to_string()).into_future();
            let reply = match number % 64 {
                0 => Some(asking.await),
                _ => whim.poll(asking).await,
            };
            if let Some(reply) = reply {
                let reply = reply?;
                check_eq!(reply.payload(), &number.to_string(), "the reply");
                answered += 1;
            }
            if number % 8 == 0 {
                yield_now().await;
            }
        }
        check!(answered > 0, "no request was answered");
        Ok(())
    };
    let mut asking = Box::pin(asking);
    let mut answering = Box::pin(answer(responder));
    std::future::poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
        _ => asking.as_mut().poll(cx),
    })
    .await?;
    let waiting = format!("{bus:?}");
    check!(waiting.contains("waiting_requests: 0"), "slots that are not free: {waiting}");
    Ok(())
}

pub(crate) async fn d1_what_a_bus_drops_leaves_no_one_waiting(cx: Context) -> Outcome {
    let topic = cx.topic("news")?;
    let mut subscriber = cx.subscriber("news").await?;
    {
        let bus = cx.bus();
        let publishing = bus.publish(&topic, "1");
        drop(give_up_after(1, publishing).await);
    }
    let mut sender = cx.sender().await?;
    sender.send(numbered(&topic, 2)).await?;
    loop {
        if take_numbers(&mut subscriber, 1).await? == [2] {
            return Ok(());
        }
    }
}
