//! Receivers whose connection is gone and may come back: they keep what is theirs, and nobody
//! counts on them.

use posthaste_core::{
    Ack, BoxReceiver, Broker, ErrorKind, Message, Queue, Receiver, ReceiverExt, SenderExt, Status,
    Subscription,
};

use super::{Memory, event, job, ledger, now, payload, receiver, request, sender, topic};

fn is_answered_by_nobody(inbox: &mut BoxReceiver) -> bool {
    let answer = inbox.try_recv().unwrap();
    answer.is_some_and(|this| this.message().status() == Some(Status::NoResponders))
}

/// One of each kind of responder, and a request that reaches only it.
fn responders() -> [(Subscription, &'static str); 3] {
    [
        (Subscription::topic("math.add").unwrap().ack(Ack::Manual), "math.add"),
        (Subscription::shared("math.>", "adders").unwrap(), "math.add"),
        (Subscription::queue("sums").unwrap(), "sums"),
    ]
}

fn ask(memory: &Memory, to: &str) -> (BoxReceiver, u64) {
    let (address, inbox) = pollster::block_on(memory.inbox()).unwrap();
    let mut draft = Message::builder(topic(to)).reply_to(address, 7);
    if to == "sums" {
        draft = draft.to_queue();
    }
    let sent = pollster::block_on(sender(memory).send(draft.build().unwrap())).unwrap();
    (inbox, sent.matched)
}

#[test]
fn a_parked_receiver_is_no_responder_until_it_is_back() {
    for (subscription, to) in responders() {
        let memory = Memory::new();
        let mut responder = receiver(&memory, &subscription);
        responder.park(true);
        let (mut inbox, matched) = ask(&memory, to);
        assert_eq!(matched, 0, "{to}");
        assert!(is_answered_by_nobody(&mut inbox), "{to}");
        responder.park(false);
        assert_eq!(ask(&memory, to).1, 1, "{to}");
        assert!(responder.try_recv().unwrap().is_some(), "{to}");
        assert!(ledger(&memory).is_balanced());
    }
}

#[test]
fn a_live_responder_answers_for_one_that_is_parked() {
    let memory = Memory::new();
    let shared = Subscription::shared("math.>", "adders").unwrap();
    let (mut parked, mut live) = (receiver(&memory, &shared), receiver(&memory, &shared));
    parked.park(true);
    assert_eq!(ask(&memory, "math.add").1, 1);
    assert!(live.try_recv().unwrap().is_some());
    drop(live);
    let (mut inbox, matched) = ask(&memory, "math.add");
    assert_eq!(matched, 0);
    assert!(is_answered_by_nobody(&mut inbox));
}

#[test]
fn a_parked_subscriber_misses_no_request_that_others_answer() {
    let memory = Memory::new();
    let mut tap = receiver(&memory, &Subscription::topic("math.>").unwrap());
    let mut live = receiver(&memory, &Subscription::shared("math.>", "adders").unwrap());
    tap.park(true);
    assert_eq!(ask(&memory, "math.add").1, 2);
    assert!(live.try_recv().unwrap().is_some());
    tap.park(false);
    assert!(tap.try_recv().unwrap().is_some());
}

#[test]
fn a_parked_subscriber_gets_its_copies_of_events() {
    let memory = Memory::new();
    let mut subscriber = receiver(&memory, &Subscription::topic("a").unwrap());
    subscriber.park(true);
    let mut sending = sender(&memory);
    let receipt = pollster::block_on(sending.send(event("a", "1"))).unwrap();
    assert_eq!(receipt.matched, 1);
    subscriber.park(false);
    assert_eq!(now(&mut subscriber, payload), "1");
}

#[test]
fn what_comes_while_all_are_parked_stays_within_the_bounds() {
    let memory = Memory::new();
    let mut subscriber = receiver(&memory, &Subscription::topic("a").unwrap().capacity(1, 99));
    subscriber.park(true);
    let mut sending = sender(&memory);
    sending.try_send(event("a", "1")).unwrap();
    assert_eq!(sending.try_send(event("a", "2")).unwrap_err().kind(), ErrorKind::Full);
}

#[test]
fn a_parked_consumer_keeps_its_leases_and_counts_no_more() {
    let memory = Memory::new();
    let mut consumer = receiver(&memory, &Subscription::queue("jobs").unwrap());
    let mut sending = sender(&memory);
    sending.try_send(job("jobs", "1")).unwrap();
    sending.try_send(job("jobs", "2")).unwrap();
    let delivery = consumer.try_recv().unwrap().unwrap();
    let info = || pollster::block_on(memory.queue(&topic("jobs"))).unwrap();
    assert_eq!((info().consumers, info().unsettled), (1, 1));
    consumer.park(true);
    assert_eq!((info().consumers, info().unsettled, info().messages), (0, 1, 2));
    delivery.ack();
    consumer.park(false);
    assert_eq!((info().consumers, info().unsettled), (1, 0));
    assert_eq!(now(&mut consumer, |this| this.attempt()), 1);
}

#[test]
fn a_wake_up_of_one_that_is_parked_goes_to_another() {
    use std::task::Context;
    let memory = Memory::new();
    let jobs = Subscription::queue("jobs").unwrap();
    let (mut first, mut second) = (receiver(&memory, &jobs), receiver(&memory, &jobs));
    let woken = [super::waiting::Woken::new(), super::waiting::Woken::new()];
    for (this, woken) in [&mut first, &mut second].into_iter().zip(&woken) {
        assert!(this.poll_recv(&mut Context::from_waker(&woken.waker())).is_pending());
    }
    sender(&memory).try_send(job("jobs", "1")).unwrap();
    assert!(woken[0].take() && !woken[1].take());
    first.park(true);
    assert!(woken[1].take());
    assert_eq!(now(&mut second, payload), "1");
}

#[test]
fn a_request_that_waits_for_room_hears_at_once_that_nobody_answers_any_more() {
    use std::task::{Context, Poll};

    use posthaste_core::Sender;
    let memory = Memory::new();
    let queue = Queue::new(topic("sums")).capacity(1);
    pollster::block_on(memory.declare(queue)).unwrap();
    let mut responder = receiver(&memory, &Subscription::queue("sums").unwrap());
    let mut sending = sender(&memory);
    sending.try_send(job("sums", "fills it")).unwrap();
    let (address, mut inbox) = pollster::block_on(memory.inbox()).unwrap();
    let request = Message::builder(topic("sums")).to_queue().reply_to(address, 7).build().unwrap();
    let (woken, mut slot) = (super::waiting::Woken::new(), Some(request));
    let waker = woken.waker();
    let mut cx = Context::from_waker(&waker);
    assert!(sending.poll_send(&mut cx, &mut slot).is_pending());
    responder.park(true);
    assert!(woken.take());
    assert!(matches!(sending.poll_send(&mut cx, &mut slot), Poll::Ready(Ok(_))));
    assert!(is_answered_by_nobody(&mut inbox));
}

#[test]
fn a_request_that_a_parked_one_holds_is_answered_when_it_goes() {
    let memory = Memory::new();
    let mut responder = receiver(&memory, &Subscription::shared("math.>", "adders").unwrap());
    let (mut inbox, asking) = request(&memory, "math.add");
    sender(&memory).try_send(asking).unwrap();
    responder.park(true);
    assert!(inbox.try_recv().unwrap().is_none());
    drop(responder);
    assert!(is_answered_by_nobody(&mut inbox));
}
