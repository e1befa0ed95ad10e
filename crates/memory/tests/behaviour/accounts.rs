//! Accounts that are put off: what was handed out is held until somebody says what became of it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use posthaste_core::{
    Ack, Broker, Cancel, Delivery, Event, Message, Outcome, Parts, Receiver, ReceiverExt, Sender,
    SenderExt, Subscription,
};
use posthaste_memory::MemoryReceiver;

use super::common::Memory;
use super::waiting::Woken;
use super::{event, job, ledger, receiver, sender, topic, with_clock};

/// A subscriber whose accounts are put off, and so many messages for it.
fn deferring(memory: &Memory, count: usize) -> MemoryReceiver {
    let mut subscriber = receiver(memory, &Subscription::topic("a").unwrap());
    assert!(subscriber.defer_accounts());
    put(memory, count);
    subscriber
}

fn put(memory: &Memory, count: usize) {
    let mut sending = sender(memory);
    for _ in 0..count {
        sending.try_send(event("a", "x")).unwrap();
    }
}

/// Takes so many, which have to be there.
fn take(receiver: &mut MemoryReceiver, count: usize) {
    let mut got = Vec::new();
    while got.len() < count {
        let more = pollster::block_on(receiver.recv_many(&mut got, count)).unwrap();
        assert!(more > 0, "not the end");
    }
    assert_eq!(got.len(), count);
    got.into_iter().for_each(Delivery::ack);
}

/// So many came to where they were passed on to, and so many are lost.
fn account(receiver: &mut impl Receiver, taken: u64, lost: u64) {
    receiver.account(taken);
    for _ in 0..lost {
        receiver.write_off(event("a", "x"), Outcome::Lost);
    }
}

/// What is held, taken, and dropped.
fn books(memory: &Memory) -> (u64, u64, u64) {
    let ledger = ledger(memory);
    (ledger.held, ledger.auto, ledger.dropped)
}

#[test]
fn what_was_handed_out_is_held_until_it_is_accounted_for() {
    let memory = Memory::new();
    let mut subscriber = deferring(&memory, 5);
    take(&mut subscriber, 3);
    assert_eq!(books(&memory), (5, 0, 0), "an ack says nothing: it is settled already");
    account(&mut subscriber, 2, 0);
    assert_eq!(books(&memory), (3, 2, 0));
    account(&mut subscriber, 0, 1);
    assert_eq!(books(&memory), (2, 2, 1));
    assert_eq!(ledger(&memory).dropped_by["connection_lost"], 1);
    take(&mut subscriber, 2);
    account(&mut subscriber, 1, 1);
    assert_eq!(books(&memory), (0, 3, 2));
    assert_eq!(ledger(&memory).dropped_by["connection_lost"], 2);
}

#[test]
fn deliveries_that_come_one_by_one_are_put_off_as_well() {
    let memory = Memory::new();
    let mut subscriber = deferring(&memory, 2);
    for held in [2, 2] {
        drop(subscriber.try_recv().unwrap().expect("a message is there"));
        assert_eq!(books(&memory), (held, 0, 0));
    }
    account(&mut subscriber, 1, 1);
    assert_eq!(books(&memory), (0, 1, 1));
}

#[test]
fn more_than_was_handed_out_is_not_counted() {
    let memory = Memory::new();
    let mut subscriber = deferring(&memory, 5);
    account(&mut subscriber, 5, 5);
    assert_eq!(books(&memory), (5, 0, 0), "nothing was handed out");
    take(&mut subscriber, 3);
    account(&mut subscriber, 2, 9);
    assert_eq!(books(&memory), (2, 2, 1));
    take(&mut subscriber, 2);
    account(&mut subscriber, u64::MAX, 7);
    assert_eq!(books(&memory), (0, 4, 1));
    account(&mut subscriber, u64::MAX, 9);
    assert_eq!(books(&memory), (0, 4, 1));
}

#[test]
fn a_receiver_that_is_dropped_leaves_the_rest_as_lost() {
    let memory = Memory::new();
    let mut subscriber = deferring(&memory, 5);
    take(&mut subscriber, 3);
    account(&mut subscriber, 1, 0);
    drop(subscriber);
    let ledger = ledger(&memory);
    assert_eq!((ledger.held, ledger.auto, ledger.dropped), (0, 1, 4));
    assert_eq!(ledger.dropped_by["connection_lost"], 2);
    assert_eq!(ledger.dropped_by["unsubscribed"], 2, "these were never handed out");
}

#[test]
fn a_receiver_that_is_closed_can_still_say_what_became_of_the_rest() {
    let memory = Memory::new();
    let mut subscriber = deferring(&memory, 6);
    take(&mut subscriber, 5);
    pollster::block_on(subscriber.close()).unwrap();
    assert_eq!(books(&memory), (5, 0, 1), "nobody has said anything yet");
    account(&mut subscriber, 2, 1);
    subscriber.write_off(event("a", "x"), Outcome::Release);
    assert_eq!(books(&memory), (1, 2, 3));
    account(&mut subscriber, 9, 9);
    assert_eq!(books(&memory), (0, 3, 3));
    drop(subscriber);
    let ledger = ledger(&memory);
    assert_eq!((ledger.held, ledger.auto, ledger.dropped), (0, 3, 3));
    assert_eq!(ledger.dropped_by["connection_lost"], 1);
    assert_eq!(ledger.dropped_by["unsubscribed"], 2, "given back, and never handed out");
}

#[test]
fn what_is_written_off_is_dropped_for_its_reason_and_told_of() {
    let memory = Memory::new();
    let mut events = receiver(&memory, &Subscription::topic(Event::PATTERN).unwrap());
    let mut subscriber = deferring(&memory, 3);
    sender(&memory).try_send_run(&mut Some(run(2))).expect("it is taken as a whole");
    take(&mut subscriber, 4);
    subscriber.write_off(event("a", "x"), Outcome::Release);
    subscriber.write_off(event("a", "x"), Outcome::Reject { why: "too large" });
    subscriber.write_off(event("a", "x"), Outcome::Lost);
    subscriber.write_off(run(2), Outcome::Lost);
    assert_eq!(books(&memory).2, 5);
    for reason in
        ["unsubscribed", "rejected", "connection_lost", "connection_lost", "connection_lost"]
    {
        let told = events.try_recv().unwrap().expect("every drop is told");
        let dropped =
            Event::Dropped { subscriber: "a".into(), topic: topic("a"), reason: reason.into() };
        assert_eq!(Event::from_message(told.message()), Some(dropped));
        told.ack();
    }
    assert!(events.try_recv().unwrap().is_none());
}

/// A request to `a`, and who waits for the answer.
fn request(memory: &Memory) -> (Message, Box<dyn Receiver + Send>) {
    let (address, inbox) = pollster::block_on(memory.inbox()).unwrap();
    let request = Message::builder(topic("a")).reply_to(address, 1).build().unwrap();
    (request, inbox)
}

#[test]
fn a_request_is_leased_among_what_is_accounted_for() {
    let memory = Memory::new();
    let mut subscriber = deferring(&memory, 1);
    let (request, _inbox) = request(&memory);
    sender(&memory).try_send(request.clone()).unwrap();
    put(&memory, 1);
    let mut got = Vec::new();
    assert_eq!(pollster::block_on(subscriber.recv_many(&mut got, 9)).unwrap(), 3);
    assert_eq!(got.iter().map(Delivery::is_leased).collect::<Vec<_>>(), [false, true, false]);
    let leased = got.remove(1);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(leased.poll_cancelled(&mut cx).is_pending());
    memory.cancel(&Cancel::of(&request).unwrap());
    assert!(leased.poll_cancelled(&mut cx).is_ready());
    assert_eq!(books(&memory), (3, 0, 0));
    account(&mut subscriber, 9, 9);
    assert_eq!(books(&memory), (1, 2, 0));
    leased.into_parts().lease.unwrap().settle(Outcome::Taken);
    assert_eq!(books(&memory), (0, 3, 0));
}

#[test]
fn who_asks_is_told_when_a_request_is_lost_with_its_link_or_given_back() {
    for outcome in [Outcome::Lost, Outcome::Release] {
        let memory = Memory::new();
        let mut subscriber = deferring(&memory, 0);
        let (request, mut inbox) = request(&memory);
        sender(&memory).try_send(request).unwrap();
        let delivery = subscriber.try_recv().unwrap().expect("it is there");
        drop(subscriber);
        assert!(inbox.try_recv().unwrap().is_none(), "nobody knows yet");
        delivery.into_parts().lease.unwrap().settle(outcome);
        let answer = inbox.try_recv().unwrap().expect("it is told");
        assert!(answer.message().status().is_some());
    }
}

#[test]
fn accounts_are_put_off_from_the_beginning_or_not_at_all() {
    let memory = Memory::new();
    let mut subscriber = deferring(&memory, 2);
    take(&mut subscriber, 1);
    assert!(subscriber.defer_accounts(), "asking again changes nothing");
    take(&mut subscriber, 1);
    assert_eq!(books(&memory), (2, 0, 0));
    drop(subscriber);
    let mut late = receiver(&memory, &Subscription::topic("a").unwrap());
    put(&memory, 2);
    take(&mut late, 1);
    assert!(!late.defer_accounts(), "something was handed out and counted");
    take(&mut late, 1);
    account(&mut late, 0, 1);
    assert_eq!(books(&memory), (0, 2, 2));
}

#[test]
fn accounts_reach_the_books_through_a_box() {
    let memory = Memory::new();
    let subscription = Subscription::topic("a").unwrap();
    let mut boxed = pollster::block_on(memory.receiver(subscription)).unwrap();
    assert!(boxed.defer_accounts());
    put(&memory, 2);
    let mut got = Vec::new();
    assert_eq!(pollster::block_on(boxed.recv_many(&mut got, 2)).unwrap(), 2);
    account(&mut boxed, 1, 1);
    assert_eq!(books(&memory), (0, 1, 1));
}

#[test]
fn only_who_is_alone_and_automatic_can_put_accounts_off() {
    let memory = Memory::new();
    let queue = Subscription::queue("q").unwrap();
    let group = Subscription::shared("a", "g").unwrap();
    let alone = Subscription::topic("a").unwrap();
    for subscription in [
        queue.clone().ack(Ack::Auto),
        queue.ack(Ack::Manual),
        group.clone().ack(Ack::Auto),
        group.ack(Ack::Manual),
        alone.clone().ack(Ack::Manual),
        // The broker has no use for it after its last delivery.
        alone.clone().limit(2),
    ] {
        assert!(!receiver(&memory, &subscription).defer_accounts(), "{subscription:?}");
    }
    let mut alone = receiver(&memory, &alone.ack(Ack::Auto));
    assert!(alone.defer_accounts());
}

#[test]
fn who_cannot_put_accounts_off_counts_as_it_hands_out() {
    let memory = Memory::new();
    let queue = Subscription::queue("q").unwrap().ack(Ack::Auto);
    let mut consumer = receiver(&memory, &queue);
    sender(&memory).try_send(job("q", "x")).unwrap();
    assert!(!consumer.defer_accounts());
    take(&mut consumer, 1);
    assert_eq!(books(&memory), (0, 1, 0));
    account(&mut consumer, 1, 1);
    assert_eq!(books(&memory), (0, 1, 0));
    // And so does one that could, and was not asked.
    let mut subscriber = receiver(&memory, &Subscription::topic("a").unwrap());
    put(&memory, 1);
    take(&mut subscriber, 1);
    account(&mut subscriber, 1, 1);
    assert_eq!(books(&memory), (0, 2, 0));
}

#[test]
fn what_expires_before_it_is_handed_out_is_no_matter_of_accounts() {
    let (runtime, memory) = with_clock();
    let mut subscriber = receiver(&memory, &Subscription::topic("a").unwrap());
    assert!(subscriber.defer_accounts());
    let mut sending = sender(&memory);
    let late = Message::builder(topic("a")).deadline(runtime.now()).build().unwrap();
    for message in [event("a", "1"), late, event("a", "2")] {
        sending.try_send(message).unwrap();
    }
    take(&mut subscriber, 2);
    assert_eq!((books(&memory), ledger(&memory).expired), ((2, 0, 0), 1));
    account(&mut subscriber, 2, 1);
    assert_eq!((books(&memory), ledger(&memory).expired), ((0, 2, 0), 1));
}

#[test]
fn a_drain_waits_until_all_is_accounted_for() {
    let (_, memory) = with_clock();
    let mut subscriber = deferring(&memory, 3);
    let woken = Woken::new();
    let waker = woken.waker();
    let mut cx = Context::from_waker(&waker);
    let mut drain = pin!(memory.drain(Duration::from_secs(30)));
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    take(&mut subscriber, 3);
    assert!(pollster::block_on(subscriber.recv()).unwrap().is_none(), "that was the end");
    woken.take();
    assert!(drain.as_mut().poll(&mut cx).is_pending(), "three are on their way");
    account(&mut subscriber, 1, 0);
    assert!(woken.take(), "it has to look again");
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    account(&mut subscriber, 1, 1);
    assert!(woken.take());
    let Poll::Ready(Ok(report)) = drain.as_mut().poll(&mut cx) else { panic!("all is said") };
    assert_eq!((report.abandoned, report.held), (0, 0));
    assert_eq!(books(&memory), (0, 2, 1));
}

#[test]
fn a_drain_is_told_by_a_subscriber_that_goes_without_accounts() {
    let (_, memory) = with_clock();
    let mut subscriber = deferring(&memory, 2);
    take(&mut subscriber, 2);
    let woken = Woken::new();
    let waker = woken.waker();
    let mut cx = Context::from_waker(&waker);
    let mut drain = pin!(memory.drain(Duration::from_secs(30)));
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    drop(subscriber);
    assert!(woken.take(), "nobody says any more what became of them");
    assert!(drain.as_mut().poll(&mut cx).is_ready());
    assert_eq!(books(&memory), (0, 0, 2));
}

#[test]
fn a_drain_ends_in_time_although_accounts_are_outstanding() {
    let (_, memory) = with_clock();
    let mut subscriber = deferring(&memory, 2);
    take(&mut subscriber, 2);
    let report = pollster::block_on(memory.drain(Duration::ZERO)).unwrap();
    assert_eq!((report.finished, report.held), (0, 2));
    account(&mut subscriber, 1, 1);
    assert_eq!(books(&memory), (0, 1, 1), "what is said after it counts all the same");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(subscriber.recv()).poll(&mut cx).is_ready());
}

/// So many empty messages to `a`, as they come over a link.
fn run(count: u32) -> Message {
    let payload = vec![0; Message::RUN_PREFIX * usize::try_from(count).unwrap()].into();
    let (head, attributes, correlation, deadline) = (Bytes::from_static(b"\x01\0a"), 0, 0, None);
    Message::from_parts(Parts {
        head: head.into(),
        payload,
        attributes,
        correlation,
        deadline,
        count,
    })
    .unwrap()
}

#[test]
fn a_run_is_accounted_for_message_by_message() {
    let memory = Memory::new();
    let mut subscriber = deferring(&memory, 1);
    let mut slot = Some(run(5));
    let seq = sender(&memory).try_send_run(&mut slot).expect("it is taken as a whole");
    assert_eq!((seq.get(), slot), (5, None));
    assert_eq!((ledger(&memory).accepted, books(&memory)), (6, (6, 0, 0)));
    let mut got = Vec::new();
    assert_eq!(pollster::block_on(subscriber.recv_many(&mut got, 2)).unwrap(), 6);
    assert_eq!(got.iter().map(|it| it.message().count()).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(books(&memory), (6, 0, 0));
    account(&mut subscriber, 2, 1);
    assert_eq!(books(&memory), (3, 2, 1));
    account(&mut subscriber, 1, 9);
    assert_eq!(books(&memory), (0, 3, 3));
}

#[test]
fn who_does_not_put_accounts_off_gets_the_messages_of_a_run_one_by_one() {
    let memory = Memory::new();
    let mut sending = sender(&memory);
    let mut whole = deferring(&memory, 0);
    let mut each = receiver(&memory, &Subscription::topic("*").unwrap());
    let newest = Subscription::topic("a").unwrap().capacity(2, 1 << 20);
    let mut lossy = receiver(&memory, &newest.overflow(posthaste_core::Overflow::DropNewest));
    let seq = sending.try_send_run(&mut Some(run(3))).expect("there is room");
    assert_eq!(seq.get(), 3);
    assert_eq!(pollster::block_on(sending.flush()).unwrap().matched, 9);
    let counts = |receiver: &mut MemoryReceiver, limit| {
        let mut got = Vec::new();
        pollster::block_on(receiver.recv_many(&mut got, limit)).unwrap();
        got.iter().map(|it| it.message().count()).collect::<Vec<_>>()
    };
    assert_eq!(counts(&mut whole, 1), [3]);
    assert_eq!(counts(&mut each, 9), [1, 1, 1]);
    assert_eq!(counts(&mut lossy, 9), [1, 1], "the newest had no room");
    account(&mut whole, 3, 0);
    assert_eq!(books(&memory), (0, 8, 1));
}

#[test]
fn a_run_stays_in_the_slot_where_one_that_may_not_lose_any_has_no_room_for_all() {
    let memory = Memory::new();
    let mut sending = sender(&memory);
    let _whole = deferring(&memory, 0);
    let narrow = Subscription::topic("a").unwrap().capacity(2, 1 << 20);
    let _narrow = receiver(&memory, &narrow);
    let mut slot = Some(run(3));
    assert_eq!(sending.try_send_run(&mut slot), None);
    assert_eq!((slot, books(&memory)), (Some(run(3)), (0, 0, 0)));
    assert!(sending.try_send_run(&mut Some(run(2))).is_some(), "no room is kept for the first");
    assert_eq!(books(&memory), (4, 0, 0));
}

#[test]
fn a_run_comes_in_whole_or_not_at_all() {
    let memory = Memory::new();
    let mut sending = sender(&memory);
    let mut narrow = receiver(&memory, &Subscription::topic("a").unwrap().capacity(4, 1 << 20));
    assert!(narrow.defer_accounts());
    assert_eq!(sending.try_send_run(&mut Some(run(5))), None, "there is room for four");
    assert!(sending.try_send_run(&mut Some(run(4))).is_some());
    assert_eq!(sending.try_send_run(&mut Some(run(2))), None, "there is no room");
    assert_eq!(books(&memory), (4, 0, 0));
    drop(narrow);
    let ledger = ledger(&memory);
    assert_eq!((ledger.held, ledger.auto, ledger.dropped), (0, 0, 4));
    assert_eq!(ledger.dropped_by["unsubscribed"], 4);
}
