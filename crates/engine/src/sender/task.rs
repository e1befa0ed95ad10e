//! The task of a sender: hands messages to the client in order, and notes what is said of them.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{FuturesUnordered, StreamExt};
use posthaste_core::task::{lock, remember};
use posthaste_core::{BoxFuture, Error, ErrorKind};

use super::Shared;
use crate::{Confirmation, Confirmed, Publish};

type Outcome = Result<Confirmed, Error>;

/// Runs until the sender is gone and everything has its outcome.
pub(super) async fn run(shared: Arc<Shared>, mut publisher: impl Publish) {
    let ending = Ending(shared);
    let shared = &ending.0;
    let mut awaited = Awaited(FuturesUnordered::new());
    let (mut batch, mut now) = (Vec::new(), Vec::new());
    loop {
        let mut seq = awaited.beside(shared, next_batch(shared, &mut batch)).await;
        if batch.is_empty() {
            break;
        }
        for message in batch.drain(..) {
            match awaited.beside(shared, publisher.publish(&message)).await {
                Ok(Confirmation::Now(confirmed)) => now.push((seq, confirmed)),
                Ok(Confirmation::Later(confirmed)) => awaited.push(seq, confirmed),
                Err(error) => decide(shared, [(seq, Err(error))]),
            }
            seq += 1;
        }
        let flushed = awaited.beside(shared, publisher.flush()).await;
        decide(
            shared,
            now.drain(..).map(|(seq, confirmed)| {
                (seq, flushed.as_ref().map(|()| confirmed).map_err(Clone::clone))
            }),
        );
    }
    awaited.all(shared).await;
    publisher.close().await;
}

/// The number of the first of the messages to be handed on; none of them at the end.
async fn next_batch(shared: &Shared, into: &mut Vec<posthaste_core::Message>) -> u64 {
    poll_fn(|cx| {
        let mut window = lock(&shared.window);
        if !window.is_due() {
            remember(&mut window.task, cx);
            return Poll::Pending;
        }
        window.task = None;
        Poll::Ready(window.next_batch(into))
    })
    .await
}

/// Notes outcomes, in the window and in the books.
fn decide(shared: &Shared, outcomes: impl IntoIterator<Item = (u64, Outcome)>) {
    shared.with(|window| {
        let (mut confirmed, mut returned) = (0, 0);
        for (seq, outcome) in outcomes {
            let ended = window.decide(seq, outcome);
            confirmed += ended.0;
            returned += ended.1;
        }
        if confirmed + returned > 0 {
            shared.books.ended(confirmed, returned);
        }
    });
}

/// The messages whose confirmations are awaited.
struct Awaited(FuturesUnordered<Confirming>);

/// The confirmation of one message.
struct Confirming {
    seq: u64,
    outcome: BoxFuture<'static, Outcome>,
}

impl Future for Confirming {
    type Output = (u64, Outcome);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let seq = self.seq;
        self.outcome.as_mut().poll(cx).map(|outcome| (seq, outcome))
    }
}

impl Awaited {
    fn push(&self, seq: u64, confirmed: BoxFuture<'static, Outcome>) {
        self.0.push(Confirming { seq, outcome: confirmed });
    }

    /// Takes in what has been confirmed; whether nothing is awaited any more.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> bool {
        let mut outcomes = Vec::new();
        let none_left = loop {
            match self.0.poll_next_unpin(cx) {
                Poll::Ready(Some(outcome)) => outcomes.push(outcome),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        if !outcomes.is_empty() {
            decide(shared, outcomes);
        }
        none_left
    }

    /// Awaits `future`, and takes in what is confirmed meanwhile.
    async fn beside<F: Future>(&mut self, shared: &Shared, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll(cx, shared);
            future.as_mut().poll(cx)
        })
        .await
    }

    async fn all(&mut self, shared: &Shared) {
        poll_fn(|cx| match self.poll(cx, shared) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

/// A task that ends, in its time or because its runtime does, leaves nothing without an outcome.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let error = Error::new(ErrorKind::Closed, "what sends these messages has ended");
        self.0.with(|window| {
            let (confirmed, returned) = window.fail(&error);
            self.0.books.ended(confirmed, returned);
        });
    }
}
