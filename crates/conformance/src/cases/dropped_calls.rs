//! Cases that give the futures of a broker up at every poll: opening, declaring, asking, draining.

use std::time::Duration;

use posthaste_core::{
    BoxFuture, BoxReceiver, Broker, Error, ErrorKind, Queue, QueueInfo, SenderExt, SenderOptions,
    Subscription, Topic,
};

use super::dropped_sends::check_books;
use crate::Context;
use crate::cancel::at_every_poll;
use crate::context::{expect, next, numbered, numbered_to, send_numbers, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};

/// Gives up a call at every poll, each time about a queue that `open` makes for it.
async fn call_at_every_poll<T>(
    cx: &Context,
    mut open: impl AsyncFnMut(u32) -> Result<Topic, Failure>,
    mut act: impl AsyncFnMut(&Topic) -> Result<T, Error>,
    mut check: impl AsyncFnMut(Topic, Option<T>) -> Outcome,
) -> Outcome {
    let mut world = 0;
    at_every_poll(
        async || {
            world += 1;
            Ok((open(world).await?, ()))
        },
        async |queue: &mut Topic| act(queue).await,
        async |()| std::future::pending().await,
        async |queue, (), done| {
            check(queue.clone(), done.transpose()?).await?;
            match cx.broker().queue(&queue).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                _ => check_books(cx, &queue).await,
            }
        },
    )
    .await
}

/// A queue that holds the numbers from 1 to `messages`.
async fn filled(cx: &Context, world: u32, messages: u64) -> Result<Topic, Failure> {
    let queue = cx.queue(&format!("jobs.{world}")).await?;
    send_numbers(&mut cx.sender().await?, |n| numbered_to(&queue, n), 1..=messages).await?;
    Ok(queue)
}

// ---- B6, opening

pub(crate) async fn b6_opening_a_sender_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    call_at_every_poll(
        &cx,
        async |world| cx.queue_name(&format!("jobs.{world}")),
        async |queue| cx.broker().sender(SenderOptions::new().queue(queue.clone())).await,
        async |queue, opened| {
            drop(opened);
            let options = SenderOptions::new().queue(queue.clone());
            let receipt = cx.broker().sender(options).await?.send(numbered_to(&queue, 1)).await?;
            check_eq!(receipt.confirmed, 1, "the next sender's receipt");
            cx.check_matched(receipt.matched, 1, "the next sender's receipt")?;
            Ok(())
        },
    )
    .await
}

/// A way to open a receiver.
type Opening = for<'a> fn(&'a Context, &'a Topic) -> Result<Subscription, Failure>;

pub(crate) async fn b6_opening_a_receiver_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let ways: [(&str, Opening); 2] = [
        ("topic", |_, at| Ok(Subscription::topic(at)?)),
        ("group", |cx, at| Ok(Subscription::shared(at, cx.topic("members")?)?)),
    ];
    for (what, way) in ways {
        call_at_every_poll(
            &cx,
            async |world| cx.topic(&format!("{what}.{world}")),
            async |topic| match way(&cx, topic) {
                Ok(of) => cx.peer().receiver(of).await,
                Err(failure) => Err(Error::new(ErrorKind::Internal, failure.to_string())),
            },
            async |topic, opened: Option<BoxReceiver>| {
                let mut sender = cx.sender().await?;
                if let Some(mut receiver) = opened {
                    sender.send(numbered(&topic, 1)).await?;
                    expect(&mut receiver, 1, "what came to a receiver that was opened").await?;
                }
                cx.until("nobody is left who listens", async || {
                    Ok(sender.send(numbered(&topic, 2)).await?.matched == 0)
                })
                .await
            },
        )
        .await?;
    }
    Ok(())
}

pub(crate) async fn b6_opening_a_consumer_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    call_at_every_poll(
        &cx,
        async |world| filled(&cx, world, 3).await,
        async |queue| match Subscription::queue(queue) {
            Ok(of) => cx.peer().receiver(of).await,
            Err(error) => Err(error),
        },
        async |queue, opened| {
            drop(opened);
            cx.until_queue(&queue, "no consumer is left", |info| {
                (info.consumers, info.unsettled) == (0, 0)
            })
            .await?;
            let mut consumer = cx.consumer(&queue).await?;
            for number in 1..=3 {
                let delivery = next(&mut consumer).await?;
                check_eq!(delivery.attempt(), 1, "the attempt of number {number}, never seen");
                delivery.ack();
            }
            Ok(())
        },
    )
    .await
}

pub(crate) async fn b6_opening_an_inbox_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    at_every_poll(
        async || Ok(((), ())),
        async |()| cx.broker().inbox().await,
        async |()| std::future::pending().await,
        async |(), (), opened| {
            if let Some((address, mut inbox)) = opened.transpose()? {
                cx.sender().await?.send(numbered(&address, 1)).await?;
                expect(&mut inbox, 1, "what came to an inbox that was opened").await?;
            }
            Ok(())
        },
    )
    .await?;
    cx.until("no inbox is left", async || Ok(cx.stats().await?.subscriptions == 0)).await
}

// ---- B6 and B7, declaring and deleting

pub(crate) async fn b6_a_declaration_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    call_at_every_poll(
        &cx,
        async |world| cx.queue_name(&format!("jobs.{world}")),
        async |queue| cx.broker().declare(Queue::new(queue.clone()).capacity(5)).await,
        async |queue, declared| {
            cx.quiet().await?;
            match cx.broker().queue(&queue).await {
                Ok(info) => check_eq!(info.settings.capacity_messages, 5, "the capacity"),
                Err(error) => {
                    check_eq!(error.kind(), ErrorKind::NotFound, "asking after it: {error}");
                    check!(declared.is_none(), "a queue that was declared is not there");
                }
            }
            Ok(cx.broker().declare(Queue::new(queue.clone())).await?)
        },
    )
    .await
}

pub(crate) async fn b6_deleting_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    call_at_every_poll(
        &cx,
        async |world| filled(&cx, world, 3).await,
        async |queue| cx.broker().delete(queue).await,
        async |queue, deleted| {
            cx.quiet().await?;
            match cx.broker().queue(&queue).await {
                Ok(info) => {
                    check!(deleted.is_none(), "a queue that was deleted is there");
                    check_eq!(info.messages, 3, "messages in a queue that was not deleted");
                }
                Err(error) => check_eq!(error.kind(), ErrorKind::NotFound, "asking: {error}"),
            }
            Ok(())
        },
    )
    .await
}

// ---- B17, an operator's calls

pub(crate) async fn b17_looking_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let queue = filled(&cx, 0, 4).await?;
    type Look = for<'a> fn(&'a Context, &'a Topic) -> BoxFuture<'a, Result<u64, Error>>;
    let messages_of = |info: &QueueInfo| info.messages;
    check_eq!(messages_of(&cx.info(&queue).await?), 4, "messages before");
    let looks: [(&str, Look); 3] = [
        ("information", |cx, queue| {
            Box::pin(async { Ok(cx.broker().queue(queue).await?.messages) })
        }),
        ("browsing", |cx, queue| {
            Box::pin(async { Ok(cx.broker().browse(queue, None, 9).await?.len() as u64) })
        }),
        ("stats", |cx, queue| {
            Box::pin(async {
                let stats = cx.broker().stats().await?;
                let info = stats.queues.into_iter().find(|info| info.name == *queue);
                Ok(info.map_or(0, |info| info.messages))
            })
        }),
    ];
    for (what, look) in looks {
        call_at_every_poll(
            &cx,
            async |_| Ok(queue.clone()),
            async |queue| look(&cx, queue).await,
            async |queue, seen| {
                check!(seen.is_none_or(|seen| seen == 4), "{what} saw {seen:?} messages of 4");
                check_eq!(look(&cx, &queue).await?, 4, "messages that {what} sees then");
                Ok(())
            },
        )
        .await?;
    }
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, 4).await?, [1, 2, 3, 4], "what is still there");
    Ok(())
}

pub(crate) async fn b17_purging_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    call_at_every_poll(
        &cx,
        async |world| filled(&cx, world, 5).await,
        async |queue| cx.broker().purge(queue).await,
        async |queue, purged| {
            check!(purged.is_none_or(|purged| purged == 5), "{purged:?} of 5 were purged");
            let more = cx.broker().purge(&queue).await?;
            check!([0, 5].contains(&more), "{more} of 5 were purged after that");
            let info = cx.info(&queue).await?;
            check_eq!((info.messages, info.ledger.dropped), (0, 5), "messages left, and dropped");
            Ok(())
        },
    )
    .await
}

pub(crate) async fn b17_replaying_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    call_at_every_poll(
        &cx,
        async |world| {
            let dead = cx.queue(&format!("dead.{world}")).await?;
            let with = |queue: Queue| queue.dead_letter(dead.clone());
            let queue = cx.queue_with(&format!("jobs.{world}"), with).await?;
            send_numbers(&mut cx.sender().await?, |n| numbered_to(&queue, n), 1..=4).await?;
            let mut consumer = cx.consumer(&queue).await?;
            for _ in 1..=4 {
                next(&mut consumer).await?.reject("no good");
            }
            cx.until_queue(&dead, "all have died", |info| info.messages == 4).await?;
            drop(consumer);
            Ok(queue)
        },
        async |queue| {
            let dead = Topic::new(queue.as_str().replace("jobs.", "dead."))?;
            cx.broker().replay(&dead, 10).await
        },
        async |queue, replayed| {
            let moved = replayed.map(|replayed| replayed.moved);
            check!(moved.is_none_or(|moved| moved == 4), "{moved:?} of 4 were replayed");
            let dead = Topic::new(queue.as_str().replace("jobs.", "dead."))?;
            cx.broker().replay(&dead, 10).await?;
            check_eq!(cx.info(&dead).await?.messages, 0, "letters left");
            let mut found = take_numbers(&mut cx.consumer(&queue).await?, 4).await?;
            found.sort_unstable();
            check_eq!(found, [1, 2, 3, 4], "what was replayed");
            check_books(&cx, &dead).await
        },
    )
    .await
}

pub(crate) async fn b5_a_drain_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let queue = filled(&cx, 0, 3).await?;
    let mut sender = cx.broker().sender(SenderOptions::new()).await?;
    let of = Subscription::queue(&queue)?.prefetch(1);
    let mut consumer = cx.broker().receiver(of).await?;
    let mut held = Some(next(&mut consumer).await?);
    at_every_poll(
        async || Ok(((), ())),
        async |()| cx.broker().drain(Duration::from_secs(20)).await,
        async |()| {
            // What it waits for is settled as soon as it waits.
            if let Some(held) = held.take() {
                held.ack();
            }
            std::future::pending().await
        },
        async |(), (), drained| {
            let abandoned = drained.transpose()?.map_or(0, |report| report.abandoned);
            check_eq!(abandoned, 0, "deliveries abandoned");
            Ok(())
        },
    )
    .await?;
    let kind = sender.send(numbered_to(&queue, 9)).await.err().map(|failed| failed.kind());
    check_eq!(kind, Some(ErrorKind::Closed), "sending after a drain");
    Ok(())
}
