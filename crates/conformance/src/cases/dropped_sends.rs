//! Cases that give the futures of a sender up: at every poll, and at random.

use posthaste_core::{
    BoxReceiver, BoxSender, ErrorKind, Message, Receipt, ReceiverExt, SenderExt, Seq, Topic,
};

use crate::Context;
use crate::cancel::{Whim, at_every_poll};
use crate::context::{check_balance, next, number_of, numbered_to, send_numbers, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{both, yield_now};

/// The number that comes behind all others.
const LAST: u64 = 1_000_000;

/// A sender that has filled its queue, and what it sends next.
struct Sending {
    sender: BoxSender,
    queue: Topic,
    sent: u64,
    slot: Option<Message>,
}

/// The one who makes room in it, and what that one got.
struct Taking {
    consumer: BoxReceiver,
    numbers: Vec<u64>,
}

/// Opens a queue of one, fills it and everything on the way to it.
async fn full_queue(cx: &Context, world: &mut u32) -> Result<(Sending, Taking), Failure> {
    *world += 1;
    let queue = cx.queue_with(&format!("jobs.{world}"), |queue| queue.capacity(1)).await?;
    let mut sender = cx.narrow_sender().await?;
    let sent = cx.fill(&mut sender, |n| numbered_to(&queue, n), 100).await?;
    let slot = Some(numbered_to(&queue, sent + 1));
    let consumer = cx.consumer(&queue).await?;
    Ok((Sending { sender, queue, sent, slot }, Taking { consumer, numbers: Vec::new() }))
}

impl Taking {
    /// Takes whatever comes.
    async fn take(&mut self) -> Outcome {
        loop {
            let delivery = next(&mut self.consumer).await?;
            self.numbers.push(number_of(&delivery)?);
            delivery.ack();
        }
    }

    async fn take_until_last(&mut self) -> Outcome {
        while self.numbers.last() != Some(&LAST) {
            let delivery = next(&mut self.consumer).await?;
            self.numbers.push(number_of(&delivery)?);
            delivery.ack();
        }
        Ok(self.consumer.settled().await?)
    }
}

/// Sends one more message with the same sender, and returns whether the one that was given up had
/// been taken. Everything else has to be there, once and in its order.
async fn was_taken(
    cx: &Context,
    sending: &mut Sending,
    taking: &mut Taking,
) -> Result<bool, Failure> {
    let last = numbered_to(&sending.queue, LAST);
    let finishing = async {
        sending.sender.send(last).await?;
        Ok(())
    };
    both(finishing, taking.take_until_last()).await?;
    taking.numbers.pop();
    let mut expected: Vec<_> = (1..=sending.sent).collect();
    let taken = taking.numbers.len() as u64 > sending.sent;
    if taken {
        expected.push(sending.sent + 1);
    }
    check_eq!(taking.numbers, expected, "what came of a sender whose future was given up");
    check_books(cx, &sending.queue).await?;
    Ok(taken)
}

/// That a queue and both clients have their books in order.
pub(super) async fn check_books(cx: &Context, queue: &Topic) -> Outcome {
    cx.check_sends()?;
    if cx.has(posthaste_core::Capability::Inspection) {
        check_balance(&cx.info(queue).await?.ledger, "the queue")?;
    }
    Ok(())
}

pub(crate) async fn s3_a_send_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let mut world = 0;
    at_every_poll(
        async || full_queue(&cx, &mut world).await,
        async |this: &mut Sending| {
            let message = this.slot.take().unwrap_or_else(|| numbered_to(&this.queue, 0));
            this.sender.send(message).await
        },
        Taking::take,
        async |mut sending, mut taking, sent| {
            let taken = was_taken(&cx, &mut sending, &mut taking).await?;
            let Some(sent) = sent else { return Ok(()) };
            check!(taken && sent?.confirmed >= 1, "a send that ended did not send");
            Ok(())
        },
    )
    .await
}

pub(crate) async fn s3_a_feed_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    let mut world = 0;
    at_every_poll(
        async || full_queue(&cx, &mut world).await,
        async |this: &mut Sending| {
            let message = this.slot.take().unwrap_or_else(|| numbered_to(&this.queue, 0));
            this.sender.feed(message).await
        },
        Taking::take,
        async |mut sending, mut taking, fed| {
            let expected = fed.transpose()?.map(Seq::get);
            let taken = was_taken(&cx, &mut sending, &mut taking).await?;
            check_eq!(taken, expected.is_some(), "whether it was sent, and whether it said so");
            let number = expected.unwrap_or(sending.sent + 1);
            check_eq!(number, sending.sent + 1, "its number");
            Ok(())
        },
    )
    .await
}

pub(crate) async fn s3_a_slot_is_full_until_its_message_is_taken(cx: Context) -> Outcome {
    let mut world = 0;
    at_every_poll(
        async || full_queue(&cx, &mut world).await,
        async |this: &mut Sending| this.sender.send_from(&mut this.slot).await,
        Taking::take,
        async |mut sending, mut taking, sent| {
            let sent = sent.transpose()?.is_some();
            check_eq!(sending.slot.is_none(), sent, "whether the slot is empty, and it said so");
            let taken = was_taken(&cx, &mut sending, &mut taking).await?;
            check_eq!(taken, sent, "whether it was sent, and whether it said so");
            Ok(())
        },
    )
    .await
}

pub(crate) async fn s4_a_flush_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    const MESSAGES: u64 = 6;
    let mut world = 0;
    at_every_poll(
        async || {
            world += 1;
            let queue = cx.queue_with(&format!("jobs.{world}"), |queue| queue.capacity(20)).await?;
            let mut sender = cx.sender().await?;
            for number in 1..=MESSAGES {
                sender.feed(numbered_to(&queue, number)).await?;
            }
            Ok(((sender, queue), ()))
        },
        async |(sender, _): &mut (BoxSender, Topic)| sender.flush().await,
        async |()| std::future::pending().await,
        async |(mut sender, queue), (), flushed| {
            let first = flushed.transpose()?.unwrap_or(Receipt::empty(Seq::new(0)));
            let second = sender.flush().await?;
            let confirmed = first.confirmed + second.confirmed;
            check_eq!(confirmed, MESSAGES, "messages that both receipts tell of");
            check_eq!(second.upto.get().max(first.upto.get()), MESSAGES, "the last one told of");
            check_books(&cx, &queue).await
        },
    )
    .await
}

pub(crate) async fn s5_a_close_may_be_given_up_at_every_poll(cx: Context) -> Outcome {
    const MESSAGES: u64 = 6;
    let mut world = 0;
    at_every_poll(
        async || {
            world += 1;
            let queue = cx.queue(&format!("jobs.{world}")).await?;
            let mut sender = cx.sender().await?;
            for number in 1..=MESSAGES {
                sender.feed(numbered_to(&queue, number)).await?;
            }
            Ok(((sender, queue), ()))
        },
        async |(sender, _): &mut (BoxSender, Topic)| sender.close().await,
        async |()| std::future::pending().await,
        async |(mut sender, queue), (), closed| {
            closed.transpose()?;
            sender.close().await?;
            let kind = sender.send(numbered_to(&queue, 9)).await.err().map(|failed| failed.kind());
            check_eq!(kind, Some(ErrorKind::Closed), "sending after a close that was given up");
            let mut consumer = cx.consumer(&queue).await?;
            let found = take_numbers(&mut consumer, MESSAGES as usize).await?;
            check_eq!(found, (1..=MESSAGES).collect::<Vec<u64>>(), "what the close flushed");
            check_books(&cx, &queue).await
        },
    )
    .await
}

// ---- at random

/// As many futures of each kind are given up.
pub(super) const AT_RANDOM: usize = 10_000;

pub(crate) async fn s3_sends_given_up_at_random_lose_and_double_nothing(cx: Context) -> Outcome {
    let queue = cx.queue_with("jobs", |queue| queue.capacity(3)).await?;
    let mut sender = cx.narrow_sender().await?;
    let mut consumer = cx.consumer(&queue).await?;
    let sending = async {
        let (mut sends, mut flushes) = (Whim::new(3), Whim::new(5));
        let (mut number, mut confirmed) = (0, 0);
        let mut slot = None;
        while sends.given_up() < AT_RANDOM || flushes.given_up() < AT_RANDOM {
            if slot.is_none() {
                number += 1;
                slot = Some(numbered_to(&queue, number));
            }
            if let Some(sent) = sends.poll(sender.send_from(&mut slot)).await {
                check_eq!(sent?.get(), number, "the number of a message that was taken");
            }
            if let Some(receipt) = flushes.poll(sender.flush()).await {
                confirmed += receipt?.confirmed;
            }
            if number % 8 == 0 {
                yield_now().await;
            }
        }
        let taken = number - u64::from(slot.is_some());
        confirmed += sender.flush().await?.confirmed;
        check_eq!(confirmed, taken, "messages confirmed, of those taken");
        send_numbers(&mut sender, |n| numbered_to(&queue, n), [LAST]).await?;
        Ok(taken)
    };
    let receiving = async {
        let mut before = 0;
        loop {
            let delivery = next(&mut consumer).await?;
            let number = number_of(&delivery)?;
            delivery.ack();
            if number == LAST {
                return Ok(before);
            }
            check_eq!(number, before + 1, "what came");
            before = number;
        }
    };
    let (sent, received) = both(sending, receiving).await?;
    check_eq!(received, sent, "messages received, of those sent");
    check_books(&cx, &queue).await
}
