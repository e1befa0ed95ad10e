//! A dropped receive takes nothing, the end is an end, and an unsettled delivery is no ack.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use posthaste_core::task::lock;
use posthaste_core::{
    BoxReceiver, Delivery, Error, ErrorKind, Message, Outcome, Receiver, ReceiverExt, Settle, Topic,
};

use crate::poll_once;

/// Plays a script: `None` in it is the end, and an empty script is pending.
#[derive(Default)]
struct Scripted {
    script: VecDeque<Option<Result<Delivery, ErrorKind>>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    armed: bool,
    disarms: usize,
    shared: usize,
    closed: bool,
    limits: Vec<usize>,
}

impl Receiver for Scripted {
    fn poll_recv(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let Some(next) = self.script.pop_front() else {
            lock(&self.seen).armed = true;
            return Poll::Pending;
        };
        lock(&self.seen).armed = false;
        Poll::Ready(next.map(|next| next.map_err(|kind| Error::new(kind, "scripted"))))
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        lock(&self.seen).limits.push(limit.get());
        self.poll_recv(cx).map(|next| {
            let count = usize::from(next.is_some());
            into.extend(next.transpose()?);
            Ok(count)
        })
    }

    fn poll_settled(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Err(Error::new(ErrorKind::Disconnected, "scripted")))
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        lock(&self.seen).closed = true;
        Poll::Ready(Ok(()))
    }

    fn disarm(&mut self) {
        let mut seen = lock(&self.seen);
        seen.disarms += 1;
        seen.armed = false;
    }

    fn share_wakeup(&mut self) {
        lock(&self.seen).shared += 1;
    }
}

fn scripted<const N: usize>(script: [Option<Result<Delivery, ErrorKind>>; N]) -> Scripted {
    Scripted { script: script.into(), seen: Arc::default() }
}

/// How often it was disarmed, and whether a poll is pending.
fn marks(seen: &Mutex<Seen>) -> (usize, bool) {
    let seen = lock(seen);
    (seen.disarms, seen.armed)
}

fn message() -> Message {
    Message::new(Topic::new("jobs").unwrap(), "work")
}

fn delivery() -> Option<Result<Delivery, ErrorKind>> {
    Some(Ok(Delivery::settled(message(), 1)))
}

#[test]
fn a_dropped_pending_receive_disarms_and_takes_nothing() {
    let mut receiver = Scripted::default();
    let seen = Arc::clone(&receiver.seen);
    let mut recv = receiver.recv();
    assert!(poll_once(&mut recv).is_pending());
    drop(recv);
    assert_eq!(marks(&seen), (1, false));
    let mut batch = Vec::new();
    let mut recv = receiver.recv_many(&mut batch, 8);
    assert!(poll_once(&mut recv).is_pending());
    drop(recv);
    assert_eq!(marks(&seen), (2, false));
    let mut next = Box::pin(receiver.next_delivery());
    assert!(poll_once(&mut next).is_pending());
    drop(next);
    assert_eq!(marks(&seen), (3, false));
    receiver.script.push_back(delivery());
    assert!(pollster::block_on(receiver.recv()).unwrap().is_some());
}

#[test]
fn a_receive_that_was_never_polled_or_has_resolved_disarms_nothing() {
    let mut receiver = scripted([delivery()]);
    drop(receiver.recv());
    let mut recv = receiver.recv();
    assert!(poll_once(&mut recv).is_ready());
    drop(recv);
    assert_eq!(lock(&receiver.seen).disarms, 0);
}

#[test]
fn the_end_and_an_error_are_told_apart() {
    let mut receiver = scripted([Some(Err(ErrorKind::SlowConsumer)), None]);
    let error = pollster::block_on(receiver.recv()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SlowConsumer);
    assert!(pollster::block_on(receiver.recv()).unwrap().is_none());
    receiver.script.push_back(None);
    let ended = pollster::block_on(receiver.next_delivery()).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Closed);
}

#[test]
fn a_batch_of_at_most_nothing_is_a_batch_of_one_and_none_is_the_end() {
    let mut receiver = scripted([delivery(), None]);
    let mut batch = Vec::new();
    assert_eq!(pollster::block_on(receiver.recv_many(&mut batch, 0)).unwrap(), 1);
    assert_eq!(pollster::block_on(receiver.recv_many(&mut batch, 9)).unwrap(), 0);
    assert_eq!((batch.len(), lock(&receiver.seen).limits.clone()), (1, vec![1, 9]));
}

#[test]
fn try_recv_answers_at_once_and_leaves_no_registration() {
    let mut receiver = scripted([delivery()]);
    assert!(receiver.try_recv().unwrap().is_some());
    assert!(receiver.try_recv().unwrap().is_none());
    assert_eq!(marks(&receiver.seen), (1, false));
}

#[test]
fn a_boxed_receiver_is_a_stream_that_shares_the_wake_up_it_cannot_give_back() {
    let receiver = scripted([delivery(), None]);
    let seen = Arc::clone(&receiver.seen);
    let mut boxed: BoxReceiver = Box::new(receiver);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut stream = Pin::new(boxed.as_mut());
    assert!(matches!(stream.as_mut().poll_next(cx), Poll::Ready(Some(Ok(_)))));
    assert!(matches!(stream.as_mut().poll_next(cx), Poll::Ready(None)));
    assert_eq!(lock(&seen).shared, 0);
    assert!(stream.as_mut().poll_next(cx).is_pending());
    assert_eq!(lock(&seen).shared, 1);
    assert_eq!(marks(&seen), (0, true));
}

#[test]
fn settling_and_closing_go_through_a_box() {
    let receiver = Scripted::default();
    let seen = Arc::clone(&receiver.seen);
    let mut boxed: BoxReceiver = Box::new(receiver);
    let error = pollster::block_on(boxed.settled()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    pollster::block_on(boxed.close()).unwrap();
    assert!(lock(&seen).closed);
}

#[derive(Default)]
struct Books(Mutex<Vec<(u64, String)>>);

impl Settle for Books {
    fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        lock(&self.0).push((tag, format!("{outcome:?}")));
    }
}

#[test]
fn a_delivery_has_exactly_one_outcome_and_dropping_it_is_one() {
    let books = Arc::new(Books::default());
    let lend = |tag| Delivery::leased(message(), 2, Arc::clone(&books) as Arc<dyn Settle>, tag);
    assert!(lend(0).is_leased());
    lend(1).ack();
    assert_eq!(lend(2).ack_into_message(), message());
    lend(3).retry(Duration::from_secs(1), "busy");
    lend(4).reject("bad");
    lend(5).release();
    let outcomes: Vec<_> = lock(&books.0).drain(..).collect();
    let expected = [
        (0, "Dropped"),
        (1, "Ack"),
        (2, "Ack"),
        (3, r#"Retry { after: 1s, why: "busy" }"#),
        (4, r#"Reject { why: "bad" }"#),
        (5, "Release"),
    ];
    assert_eq!(outcomes, expected.map(|(tag, text)| (tag, text.to_owned())));
}

#[test]
fn a_panic_in_a_handler_loses_no_delivery() {
    let books = Arc::new(Books::default());
    let delivery = Delivery::leased(message(), 1, Arc::clone(&books) as Arc<dyn Settle>, 7);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        assert!(delivery.payload().is_empty(), "a handler's own panic");
        delivery.ack();
    }));
    assert!(panicked.is_err());
    assert_eq!(*lock(&books.0), [(7, "Dropped".to_owned())]);
}
