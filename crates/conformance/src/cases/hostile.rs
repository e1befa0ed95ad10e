//! Cases of users who do what nobody expects: law D1 in great numbers and in a panic, law B6 under
//! load, and law D4.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Context as TaskContext, Wake, Waker};

use posthaste_core::{Broker, ErrorKind, Queue, Receiver, ReceiverExt, SenderExt, Subscription};

use crate::Context;
use crate::context::{check_balance, expect, next, number_of, numbered, numbered_to};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, all, both, yield_now};
use crate::random::Xorshift;

pub(crate) async fn d1_ten_thousand_subscriptions_leave_nothing(cx: Context) -> Outcome {
    const SUBSCRIPTIONS: usize = 10_000;
    /// As many at a time, so that they are also dropped out of order.
    const AT_A_TIME: usize = 500;
    let mut random = Xorshift::new(0x10_000);
    let mut open = Vec::new();
    for first in (0..SUBSCRIPTIONS).step_by(AT_A_TIME / 2) {
        let opening = (first..first + AT_A_TIME / 2).map(|nth| {
            let cx = &cx;
            let opening: LocalFuture<'_, _> =
                Box::pin(async move { cx.subscriber(&format!("news.{}", nth % 97)).await });
            opening
        });
        open.extend(all(opening).await?);
        while open.len() > AT_A_TIME / 2 {
            drop(open.swap_remove(random.below(open.len())));
        }
    }
    drop(open);
    cx.until("no subscription is left", async || Ok(cx.stats().await?.subscriptions == 0)).await?;
    let receipt = cx.sender().await?.send(numbered(&cx.topic("news.7")?, 1)).await?;
    cx.check_matched(receipt.matched, 0, "subscriptions that a message matched")?;
    Ok(())
}

/// A waker whose every use is a bug of its task.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        // Without a word to the hook: nobody need hear of it.
        resume_unwind(Box::new("a waker that panics"));
    }
}

pub(crate) async fn d1_a_waker_that_panics_harms_nobody_else(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let waker = Waker::from(Arc::new(Panics));
    let mut sender = cx.sender().await?;
    for number in 1..=3 {
        let mut broken = cx.consumer(&queue).await?;
        let mut sound = cx.consumer(&queue).await?;
        let pending = broken.poll_recv(&mut TaskContext::from_waker(&waker)).is_pending();
        check!(pending, "an empty queue delivered something");
        // Whether the panic comes to the one who sends or is caught on the way, the message was
        // taken once or is still in the slot.
        let mut slot = Some(numbered_to(&queue, number));
        let sent = catch_unwind(AssertUnwindSafe(|| {
            sender.poll_send(&mut TaskContext::from_waker(Waker::noop()), &mut slot)
        }));
        drop(sent);
        if let Some(message) = slot {
            sender.send(message).await?;
        }
        sender.flush().await?;
        drop(catch_unwind(AssertUnwindSafe(|| drop(broken))));
        expect(&mut sound, number, "what came past a waker that panics").await?;
        sound.settled().await?;
    }
    check_eq!(cx.info(&queue).await?.messages, 0, "messages left");
    Ok(())
}

pub(crate) async fn b6_a_queue_may_come_and_go_under_load(cx: Context) -> Outcome {
    const ROUNDS: u64 = 150;
    let queue = cx.queue("jobs").await?;
    let stop = std::cell::Cell::new(false);
    let sending = async {
        let mut sender = cx.sender().await?;
        let mut number = 0;
        while !stop.get() {
            number += 1;
            match sender.send(numbered_to(&queue, number)).await {
                Ok(_) => {}
                Err(failed) => {
                    check_eq!(failed.kind(), ErrorKind::NotFound, "why: {}", failed.error());
                }
            }
            yield_now().await;
        }
        Ok(())
    };
    let consuming = async {
        let mut nth = 0;
        while !stop.get() {
            let mut consumer = cx.consumer(&queue).await?;
            nth += 1;
            let mut last = 0;
            while let Some(delivery) = consumer.try_recv()? {
                let number = number_of(&delivery)?;
                check!(number > last, "number {number} came after {last}");
                last = number;
                match nth % 3 {
                    0 => delivery.ack(),
                    1 => delivery.release(),
                    _ => drop(delivery),
                }
                if nth % 3 > 0 {
                    break;
                }
            }
            yield_now().await;
        }
        Ok(())
    };
    let managing = async {
        for round in 0..ROUNDS {
            match cx.broker().delete(&queue).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            if round % 3 == 0 {
                yield_now().await;
            }
            cx.peer().declare(Queue::new(queue.clone()).capacity(8 + round as usize)).await?;
            let ledger = cx.stats().await?.ledger;
            check_balance(&ledger, "the queue")?;
        }
        // Whoever waits for room in it goes on, so that all come to their end.
        stop.set(true);
        cx.broker().delete(&queue).await?;
        Ok(())
    };
    let using = async {
        both(sending, consuming).await?;
        Ok(())
    };
    both(using, managing).await?;
    Ok(())
}

pub(crate) async fn d1_what_a_dropped_batch_holds_comes_again(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    for number in 1..=40 {
        sender.feed(numbered_to(&queue, number)).await?;
    }
    sender.flush().await?;
    let mut seen = 0;
    {
        let mut consumer = cx.receiver(Subscription::queue(&queue)?.prefetch(16)).await?;
        let mut batch = Vec::new();
        while seen < 10 {
            seen += consumer.recv_many(&mut batch, 8).await?;
        }
        // Consumer first, deliveries after it, all of them unsettled.
        drop(consumer);
    }
    let mut consumer = cx.consumer(&queue).await?;
    let (mut found, mut again) = (Vec::new(), 0);
    for _ in 1..=40 {
        let delivery = next(&mut consumer).await?;
        found.push(number_of(&delivery)?);
        again += usize::from(delivery.attempt() == 2);
        delivery.ack();
    }
    found.sort_unstable();
    check_eq!(found, (1..=40).collect::<Vec<u64>>(), "what came again, and what was never seen");
    check_eq!(again, seen, "messages at their second attempt, of those that were seen");
    Ok(())
}

pub(crate) async fn b6_a_bound_queue_may_be_published_to_while_it_goes(cx: Context) -> Outcome {
    let topic = cx.topic("orders")?;
    let bound = cx.pattern("orders")?;
    let name = cx.queue_name("jobs")?;
    let mut sender = cx.sender().await?;
    let mut subscriber = cx.subscriber("orders").await?;
    for round in 0..40 {
        let declared = Queue::new(name.clone()).bind(bound.clone()).capacity(1);
        cx.peer().declare(declared).await?;
        let sending = async {
            // The second waits for room in the queue until that is gone.
            for nth in 0..2 {
                sender.feed(numbered(&topic, 2 * round + nth)).await?;
            }
            Ok(sender.flush().await?)
        };
        let deleting = async {
            yield_now().await;
            Ok(cx.broker().delete(&name).await?)
        };
        let (receipt, ()) = both(sending, deleting).await?;
        check_eq!((receipt.confirmed, receipt.returned), (2, 0), "the outcomes in round {round}");
        for nth in 0..2 {
            expect(&mut subscriber, 2 * round + nth, "what the subscriber got").await?;
        }
    }
    Ok::<(), Failure>(())
}
