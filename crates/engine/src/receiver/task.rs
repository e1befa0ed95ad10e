//! The task of a receiver: takes arrivals in while there is room, and tells what became of them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures::channel::oneshot;
use futures::poll;
use posthaste_core::Error;
use posthaste_core::task::{lock, remember};

use super::Shared;
use super::mailbox::{Duty, Mailbox, Room};
use crate::{Arrival, Consume};

/// Runs until the receiver is gone and everything that it handed out is settled.
/// `leave` is told once nothing more is taken in.
pub(super) async fn run<C: Consume>(
    shared: Arc<Shared<C::Token>>,
    mut consumer: C,
    leave: oneshot::Sender<()>,
) {
    let mut leave = Some(leave);
    let ending = Ending(shared);
    let shared = &ending.0;
    let mut taken = Vec::new();
    loop {
        match shared.with(Mailbox::duty) {
            Duty::Tell(verdicts, answers) => {
                let failed = match verdicts.is_empty() {
                    true => None,
                    false => consumer.settle(verdicts).await.err(),
                };
                for answer in answers {
                    consumer.answer(answer).await;
                }
                shared.with(|mailbox| mailbox.told(failed));
            }
            Duty::Confirm => {
                let failed = consumer.confirm().await.err();
                shared.with(|mailbox| mailbox.told(failed));
            }
            Duty::Stop => {
                consumer.stop().await;
                shared.with(Mailbox::stop);
                // Whoever waits hears of it by this going.
                leave = None;
            }
            Duty::Take(room) => {
                let Some(next) = unless_due(shared, consumer.next()).await else { continue };
                let end = gather(&mut consumer, next, room, &mut taken).await;
                shared.with(|mailbox| {
                    taken.drain(..).for_each(|arrival| mailbox.put(arrival));
                    match end {
                        None => {}
                        Some(Ok(())) => mailbox.end(),
                        Some(Err(error)) => mailbox.fail(error),
                    }
                });
            }
            Duty::Wait => {
                let keeping = async {
                    consumer.keep().await;
                    std::future::pending::<()>().await;
                };
                let _due = unless_due(shared, keeping).await;
            }
            Duty::End => break,
        }
    }
    drop(leave);
}

/// Takes `next` and what else is at hand, as far as there is room; what came of it is the end, if
/// anything.
async fn gather<C: Consume>(
    consumer: &mut C,
    mut next: Result<Option<Arrival<C::Token>>, Error>,
    mut room: Room,
    into: &mut Vec<Arrival<C::Token>>,
) -> Option<Result<(), Error>> {
    loop {
        match next {
            Ok(Some(arrival)) => {
                room.bytes = room.bytes.saturating_sub(arrival.message.size());
                room.messages -= 1;
                into.push(arrival);
            }
            Ok(None) => return Some(Ok(())),
            Err(error) => return Some(Err(error)),
        }
        if room.messages == 0 || room.bytes == 0 {
            return None;
        }
        next = match poll!(pin!(consumer.next())) {
            Poll::Ready(next) => next,
            Poll::Pending => return None,
        };
    }
}

/// Awaits `future`, unless something else is due before it is ready.
async fn unless_due<T, F: Future>(shared: &Shared<T>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        // What is there is taken first: a settlement can wait, an arrival may be lost.
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let mut mailbox = lock(&shared.mailbox);
        if mailbox.is_due() {
            return Poll::Ready(None);
        }
        remember(&mut mailbox.task, cx);
        Poll::Pending
    })
    .await
}

/// A task that ends, in its time or because its runtime does, leaves nobody waiting.
struct Ending<T>(Arc<Shared<T>>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.with(Mailbox::abandon);
    }
}
