//! Draining: what is waited for, what still passes, and who is told.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use posthaste_core::{Ack, Broker, ErrorKind, Kind, ReceiverExt, SenderExt, Subscription};

use super::waiting::Woken;
use super::{event, job, ledger, now, payload, receiver, request, sender, topic, with_clock};

#[test]
fn a_drain_waits_for_what_was_handed_out_and_lets_nothing_in() {
    let (_, memory) = with_clock();
    let mut sending = sender(&memory);
    sending.try_send(job("q", "handed out")).unwrap();
    sending.try_send(job("q", "stays")).unwrap();
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    let delivery = consumer.try_recv().unwrap().unwrap();
    let mut drain = pin!(memory.drain(Duration::from_secs(30)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    assert_eq!(sending.try_send(job("q", "late")).unwrap_err().kind(), ErrorKind::Closed);
    assert!(pollster::block_on(consumer.recv()).unwrap().is_none(), "a drained queue has ended");
    delivery.ack();
    let Poll::Ready(Ok(report)) = drain.as_mut().poll(&mut cx) else { panic!("all is settled") };
    assert_eq!((report.finished, report.abandoned, report.held), (1, 0, 1));
    assert_eq!(ledger(&memory).held, 1);
}

#[test]
fn a_drain_ends_in_time_and_says_what_it_left() {
    let (_, memory) = with_clock();
    sender(&memory).try_send(job("q", "kept")).unwrap();
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    let delivery = consumer.try_recv().unwrap().unwrap();
    let report = pollster::block_on(memory.drain(Duration::ZERO)).unwrap();
    assert_eq!((report.finished, report.abandoned), (0, 1));
    drop(delivery);
}

#[test]
fn live_subscribers_get_what_they_hold_while_the_broker_drains() {
    let (_, memory) = with_clock();
    let mut subscriber = receiver(&memory, &Subscription::topic("a").unwrap());
    sender(&memory).try_send(event("a", "1")).unwrap();
    let mut drain = pin!(memory.drain(Duration::from_secs(30)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    assert_eq!(now(&mut subscriber, payload), "1");
    assert!(pollster::block_on(subscriber.recv()).unwrap().is_none());
    assert!(drain.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn drains_at_the_same_time_are_all_told() {
    let (_, memory) = with_clock();
    sender(&memory).try_send(job("q", "1")).unwrap();
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    let delivery = consumer.try_recv().unwrap().unwrap();
    let mut drains =
        [pin!(memory.drain(Duration::from_secs(30))), pin!(memory.drain(Duration::from_secs(30)))];
    let woken = [Woken::new(), Woken::new()];
    for (drain, woken) in drains.iter_mut().zip(&woken) {
        let waker = woken.waker();
        assert!(drain.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    delivery.ack();
    assert_eq!(woken.map(|woken| woken.take()), [true, true]);
}

#[test]
fn a_drain_may_take_as_long_as_there_is() {
    let (_, memory) = with_clock();
    sender(&memory).try_send(job("q", "1")).unwrap();
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    let delivery = consumer.try_recv().unwrap().unwrap();
    let mut drain = pin!(memory.drain(Duration::MAX));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    delivery.ack();
    assert!(drain.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn a_request_that_is_under_way_is_answered_while_the_broker_drains() {
    let (_, memory) = with_clock();
    let service = Subscription::shared("work", "g").unwrap().ack(Ack::Manual);
    let mut responder = receiver(&memory, &service);
    let (mut inbox, request) = request(&memory, "work");
    sender(&memory).try_send(request).unwrap();
    let delivery = responder.try_recv().unwrap().unwrap();
    let mut drain = pin!(memory.drain(Duration::from_secs(30)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    assert!(inbox.try_recv().unwrap().is_none());
    assert!(super::is_pending(inbox.recv()), "the answer is still to come");

    let reply = delivery.message().reply("done").unwrap();
    assert_eq!(reply.kind(), Kind::Reply);
    sender(&memory).try_send(reply).unwrap();
    delivery.ack();
    assert!(drain.as_mut().poll(&mut cx).is_pending(), "it is not delivered yet");
    let answer = inbox.try_recv().unwrap().unwrap().ack_into_message();
    assert_eq!(answer.payload(), "done");
    assert!(drain.as_mut().poll(&mut cx).is_ready());
    assert!(pollster::block_on(inbox.recv()).unwrap().is_none(), "drained");
}

#[test]
fn nothing_is_opened_on_a_broker_that_drains() {
    let (_, memory) = with_clock();
    pollster::block_on(memory.drain(Duration::ZERO)).unwrap();
    let of = Subscription::topic("a").unwrap();
    let refused = memory.open_receiver(&of).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    let queue = posthaste_core::Queue::new(topic("q"));
    let refused = pollster::block_on(memory.declare(queue)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(ledger(&memory).held, 0);
}
