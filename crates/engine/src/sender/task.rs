//! The task of a sender: hands messages to the client in order, and notes what is said of them.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{FuturesUnordered, StreamExt};
use posthaste_core::task::{lock, remember};
use posthaste_core::{BoxFuture, Error, ErrorKind, Message};

use super::Shared;
use crate::{Confirmation, Confirmed, Publish};

type Outcome = Result<Confirmed, Error>;

/// Runs until the sender is gone and everything has its outcome.
pub(super) async fn run(shared: Arc<Shared>, mut publisher: impl Publish) {
    let ending = Ending(shared);
    let shared = &ending.0;
    let mut awaited = Awaited::default();
    let mut batch = Vec::new();
    loop {
        let next = awaited.next_batch(shared, &mut batch).await;
        if let Some(mut seq) = next {
            for message in batch.drain(..) {
                match awaited.beside(shared, publisher.publish(&message)).await {
                    Ok(Confirmation::Now(confirmed)) => awaited.now.push((seq, confirmed)),
                    Ok(Confirmation::Later(confirmed)) => awaited.push(seq, confirmed),
                    Err(error) => decide(shared, [(seq, Err(error))]),
                }
                seq += 1;
            }
        }
        if awaited.wants_flush() {
            awaited.flush(publisher.flush());
        } else if next.is_none() {
            break;
        }
    }
    awaited.all(shared).await;
    publisher.close().await;
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
#[derive(Default)]
struct Awaited {
    later: FuturesUnordered<Confirming>,
    /// Those that are confirmed by the next flush, and those that the flush under way confirms.
    now: Vec<(u64, Confirmed)>,
    flushing: Option<Flushing>,
}

/// A flush under way.
struct Flushing {
    confirms: Vec<(u64, Confirmed)>,
    done: BoxFuture<'static, Result<(), Error>>,
}

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
        self.later.push(Confirming { seq, outcome: confirmed });
    }

    /// Whether messages wait for a flush, and none is under way.
    fn wants_flush(&self) -> bool {
        !self.now.is_empty() && self.flushing.is_none()
    }

    fn flush(&mut self, done: BoxFuture<'static, Result<(), Error>>) {
        self.flushing = Some(Flushing { confirms: std::mem::take(&mut self.now), done });
    }

    /// Takes in what has been confirmed; whether nothing is awaited any more.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> bool {
        let mut outcomes = Vec::new();
        if let Some(Flushing { confirms, done }) = &mut self.flushing
            && let Poll::Ready(flushed) = done.as_mut().poll(cx)
        {
            let outcome = |confirmed| flushed.as_ref().map(|()| confirmed).map_err(Clone::clone);
            outcomes.extend(confirms.drain(..).map(|(seq, this)| (seq, outcome(this))));
            self.flushing = None;
        }
        let none_later = loop {
            match self.later.poll_next_unpin(cx) {
                Poll::Ready(Some(outcome)) => outcomes.push(outcome),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        if !outcomes.is_empty() {
            decide(shared, outcomes);
        }
        none_later && self.flushing.is_none()
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

    /// Waits for messages to be handed on, of which this is the number of the first; `None` at the
    /// end, or if a flush has to begin before.
    async fn next_batch(&mut self, shared: &Shared, into: &mut Vec<Message>) -> Option<u64> {
        poll_fn(|cx| {
            self.poll(cx, shared);
            let mut window = lock(&shared.window);
            let first = window.next_batch(into);
            if !into.is_empty() {
                window.task = None;
                return Poll::Ready(Some(first));
            }
            if self.wants_flush() || (window.closed && self.now.is_empty()) {
                return Poll::Ready(None);
            }
            remember(&mut window.task, cx);
            Poll::Pending
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
