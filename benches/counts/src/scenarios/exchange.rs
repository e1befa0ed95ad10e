//! The two ends of every scenario: who sends, who takes, who asks and who answers.

use std::pin::pin;

use bytes::Bytes;
use futures::future::select;
use futures::{StreamExt, stream};
use posthaste::{Bus, Error, ErrorKind, Message, Receiver, ReceiverExt, Sender, SenderExt, Topic};

use super::executor::Task;

/// How many deliveries a batch has at most.
const BATCH: usize = 256;

/// How a receiver takes its deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    /// One at a time.
    OneByOne,
    /// All that are there, up to [`BATCH`].
    Batches,
    /// All that are there, each acknowledged.
    Acknowledged,
}

/// Sends `count` times the same message, waiting for room alone, and then for all outcomes.
pub(super) async fn feed<S: Sender>(
    mut sender: S,
    message: Message,
    count: u64,
) -> Result<(), Error> {
    for _ in 0..count {
        sender.feed(message.clone()).await?;
    }
    let receipt = sender.flush().await?;
    if receipt.returned > 0 {
        return Err(Error::new(ErrorKind::Full, format!("messages came back: {receipt:?}")));
    }
    Ok(())
}

/// Takes `count` deliveries.
pub(super) async fn take<R: Receiver>(
    mut receiver: R,
    count: u64,
    taking: Taking,
) -> Result<(), Error> {
    let mut left = count;
    let mut batch = Vec::with_capacity(BATCH);
    while left > 0 {
        if taking == Taking::OneByOne {
            receiver.next_delivery().await?.ack();
            left -= 1;
            continue;
        }
        let taken = receiver.recv_many(&mut batch, BATCH).await? as u64;
        left = match taken {
            0 => return Err(Error::closed("the receiver")),
            taken => left.saturating_sub(taken),
        };
        for delivery in batch.drain(..) {
            if taking == Taking::Acknowledged {
                delivery.ack();
            }
        }
    }
    receiver.settled().await
}

/// Asks `count` questions, `in_flight` at a time, of an echo that `answering` serves.
pub(super) async fn ask(
    asking: Bus,
    answering: &Bus,
    count: u64,
    in_flight: usize,
) -> Result<Vec<Task>, Error> {
    let echo = answering.serve("echo").open().await?;
    let (asked_all, over) = futures::channel::oneshot::channel::<()>();
    let answers = async move {
        let answers = echo.run(async |request: Message| Ok::<_, Error>(request.into_payload()));
        select(pin!(answers), over).await;
        Ok(())
    };
    let questions = async move {
        let topic = Topic::new("echo")?;
        let payload = Bytes::from_static(&[7; 64]);
        let mut answers = stream::iter(0..count)
            .map(|_| asking.request(&topic, payload.clone()).into_future())
            .buffer_unordered(in_flight);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        drop(asked_all);
        Ok(())
    };
    Ok(vec![Box::pin(answers), Box::pin(questions)])
}

pub(super) fn lost(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Disconnected, error.to_string()).caused_by(error)
}
