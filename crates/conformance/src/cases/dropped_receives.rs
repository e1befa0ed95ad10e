//! Cases that give the futures of a receiver up: at every poll, and at random.

use posthaste_core::{BoxReceiver, BoxSender, Delivery, Error, ReceiverExt, SenderExt, Topic};

use super::dropped_sends::{AT_RANDOM, check_books};
use crate::Context;
use crate::cancel::{Whim, at_every_poll};
use crate::context::{next, number_of, numbered, numbered_to, send_numbers, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{both, yield_now};

/// A receiver of a queue or a topic of its own, and the batch that it gathers.
struct Receiving {
    receiver: BoxReceiver,
    batch: Vec<Delivery>,
}

/// The one who sends to it, and how many that one has sent.
struct Feeding {
    sender: BoxSender,
    to: Topic,
    is_queue: bool,
    sent: u64,
}

impl Feeding {
    async fn send(&mut self) -> Outcome {
        self.sent += 1;
        let message = match self.is_queue {
            true => numbered_to(&self.to, self.sent),
            false => numbered(&self.to, self.sent),
        };
        self.sender.send(message).await?;
        Ok(())
    }

    /// Sends one, unless that was done before, then nothing more.
    async fn send_one(&mut self) -> Outcome {
        if self.sent == 0 {
            self.send().await?;
        }
        Ok(())
    }
}

async fn empty(
    cx: &Context,
    world: &mut u32,
    is_queue: bool,
) -> Result<(Receiving, Feeding), Failure> {
    *world += 1;
    let tail = format!("here.{world}");
    let (to, receiver) = if is_queue {
        let queue = cx.queue(&tail).await?;
        (queue.clone(), cx.consumer(&queue).await?)
    } else {
        (cx.topic(&tail)?, cx.subscriber(&tail).await?)
    };
    let sender = cx.sender().await?;
    let receiving = Receiving { receiver, batch: Vec::new() };
    Ok((receiving, Feeding { sender, to, is_queue, sent: 0 }))
}

/// Whatever a given-up receive did not return comes now, once, at its first attempt and in order.
async fn check_rest(
    cx: &Context,
    mut receiving: Receiving,
    mut feeding: Feeding,
    got: Vec<Delivery>,
) -> Outcome {
    feeding.send().await?;
    let mut got = got;
    while (got.len() as u64) < feeding.sent {
        got.push(next(&mut receiving.receiver).await?);
    }
    let mut found = Vec::new();
    for delivery in got {
        found.push((number_of(&delivery)?, delivery.attempt()));
        delivery.ack();
    }
    let expected: Vec<_> = (1..=feeding.sent).map(|number| (number, 1)).collect();
    check_eq!(found, expected, "what came, and its attempts");
    receiving.receiver.settled().await?;
    let more = receiving.receiver.try_recv()?;
    check!(more.is_none(), "one more than were sent: {more:?}");
    if feeding.is_queue { check_books(cx, &feeding.to).await } else { Ok(()) }
}

/// What a receive that ended returned.
fn returned(got: Option<Result<Option<Delivery>, Error>>) -> Result<Vec<Delivery>, Failure> {
    Ok(got.transpose()?.flatten().into_iter().collect())
}

pub(crate) async fn r1_a_receive_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    receive_at_every_poll(&cx, true).await
}

pub(crate) async fn r1_a_subscribers_receive_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    receive_at_every_poll(&cx, false).await
}

async fn receive_at_every_poll(cx: &Context, is_queue: bool) -> Outcome {
    let mut world = 0;
    at_every_poll(
        async || empty(cx, &mut world, is_queue).await,
        async |this: &mut Receiving| this.receiver.recv().await,
        Feeding::send_one,
        async |receiving, feeding, got| check_rest(cx, receiving, feeding, returned(got)?).await,
    )
    .await
}

pub(crate) async fn r1_a_wait_for_the_next_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let mut world = 0;
    at_every_poll(
        async || empty(&cx, &mut world, true).await,
        async |this: &mut Receiving| this.receiver.next_delivery().await,
        Feeding::send_one,
        async |receiving, feeding, got| {
            let got = returned(got.map(|got| got.map(Some)))?;
            check_rest(&cx, receiving, feeding, got).await
        },
    )
    .await
}

pub(crate) async fn r1_a_batch_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let mut world = 0;
    at_every_poll(
        async || empty(&cx, &mut world, true).await,
        async |this: &mut Receiving| this.receiver.recv_many(&mut this.batch, 4).await,
        Feeding::send_one,
        async |mut receiving, feeding, got| {
            let count = got.transpose()?.unwrap_or_default();
            let batch = std::mem::take(&mut receiving.batch);
            check_eq!(batch.len(), count, "what is in the batch, and what was counted");
            check_rest(&cx, receiving, feeding, batch).await
        },
    )
    .await
}

pub(crate) async fn r3_settled_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    at_every_poll_with_unsettled(
        &cx,
        async |consumer| consumer.settled().await,
        async |mut consumer, queue| {
            consumer.settled().await?;
            let info = cx.info(&queue).await?;
            check_eq!((info.ledger.acked, info.messages), (3, 3), "acked, and messages left");
            check_eq!(take_numbers(&mut consumer, 2).await?, [5, 6], "what comes then");
            Ok(())
        },
    )
    .await
}

pub(crate) async fn r4_a_close_of_a_receiver_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    at_every_poll_with_unsettled(
        &cx,
        async |consumer| consumer.close().await,
        async |mut consumer, queue| {
            consumer.close().await?;
            check!(consumer.recv().await?.is_none(), "a closed consumer received something");
            // What it had not handed out is there for the next one.
            let mut next_one = cx.consumer(&queue).await?;
            check_eq!(take_numbers(&mut next_one, 2).await?, [5, 6], "what it left");
            cx.until_queue(&queue, "what it acked is booked", |info| info.ledger.acked >= 3).await
        },
    )
    .await
}

/// Gives a future of a consumer up that has acked three of six messages and holds a fourth.
async fn at_every_poll_with_unsettled<T>(
    cx: &Context,
    mut act: impl AsyncFnMut(&mut BoxReceiver) -> Result<T, Error>,
    mut check: impl AsyncFnMut(BoxReceiver, Topic) -> Outcome,
) -> Outcome {
    let mut world = 0;
    at_every_poll(
        async || {
            world += 1;
            let queue = cx.queue(&format!("jobs.{world}")).await?;
            let mut sender = cx.sender().await?;
            send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=6).await?;
            let mut consumer = cx.consumer(&queue).await?;
            take_numbers(&mut consumer, 3).await?;
            let held = next(&mut consumer).await?;
            Ok((consumer, (queue, held)))
        },
        async |consumer: &mut BoxReceiver| act(consumer).await,
        async |_| std::future::pending().await,
        async |consumer, (queue, held), done| {
            done.transpose()?;
            check(consumer, queue.clone()).await?;
            held.ack();
            check_books(cx, &queue).await
        },
    )
    .await
}

// ---- at random

pub(crate) async fn r1_receives_given_up_at_random_lose_nothing(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.narrow_sender().await?;
    let mut consumer = cx.consumer(&queue).await?;
    let over = std::cell::Cell::new(false);
    let feeding = async {
        let mut sent = 0;
        while !over.get() {
            sent += 1;
            sender.feed(numbered_to(&queue, sent)).await?;
            if sent % 4 == 0 {
                yield_now().await;
            }
        }
        sender.flush().await?;
        Ok(sent)
    };
    let receiving = async {
        let (mut one, mut many, mut done) = (Whim::new(7), Whim::new(11), Whim::new(13));
        let mut batch = Vec::new();
        let mut seen = 0;
        while one.given_up() < AT_RANDOM || many.given_up() < AT_RANDOM {
            if let Some(got) = one.poll(consumer.recv()).await {
                batch.extend(got?);
            }
            if let Some(count) = many.poll(consumer.recv_many(&mut batch, 3)).await {
                check!(count? > 0, "the consumer has ended");
            }
            for delivery in batch.drain(..) {
                seen += 1;
                check_eq!((number_of(&delivery)?, delivery.attempt()), (seen, 1), "what came");
                delivery.ack();
            }
            if let Some(settled) = done.poll(consumer.settled()).await {
                settled?;
            }
            if one.below(8) == 0 {
                yield_now().await;
            }
        }
        over.set(true);
        Ok(seen)
    };
    let (sent, seen) = both(feeding, receiving).await?;
    let rest = take_numbers(&mut consumer, (sent - seen) as usize).await?;
    check_eq!(rest, (seen + 1..=sent).collect::<Vec<u64>>(), "what came after that");
    consumer.settled().await?;
    check_books(&cx, &queue).await
}

pub(crate) async fn r1_a_subscribers_receives_given_up_at_random_lose_nothing(
    cx: Context,
) -> Outcome {
    let topic = cx.topic("news")?;
    let mut sender = cx.narrow_sender().await?;
    let mut subscriber = cx.subscriber("news").await?;
    let mut whim = Whim::new(17);
    let (mut sent, mut seen) = (0, 0);
    while whim.given_up() < AT_RANDOM {
        if whim.below(4) == 0 {
            sent += 1;
            sender.feed(numbered(&topic, sent)).await?;
        }
        let receiving = whim.poll(subscriber.recv()).await;
        if let Some(delivery) = receiving.transpose()?.flatten() {
            seen += 1;
            check_eq!(number_of(&delivery)?, seen, "what came");
        }
        if whim.below(8) == 0 {
            yield_now().await;
        }
    }
    sender.flush().await?;
    let rest = take_numbers(&mut subscriber, (sent - seen) as usize).await?;
    check_eq!(rest, (seen + 1..=sent).collect::<Vec<u64>>(), "what came after that");
    Ok(())
}
