//! What the in-process broker does beyond the laws that the conformance kit holds it to.

mod accounts;
#[path = "../common/mod.rs"]
mod common;
mod draining;
mod parking;
mod repeating;
mod runs;
mod waiting;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use posthaste_core::{
    Ack, Broker, Delivery, ErrorKind, Kind, Ledger, Message, Overflow, Pattern, Queue, Receiver,
    ReceiverExt, Sender, SenderExt, SenderOptions, SharedRuntime, Status, Subscription, Topic,
};
use posthaste_memory::{MemoryReceiver, MemorySender};
use posthaste_smol::Smol;

use common::Memory;

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn event(to: &str, payload: &'static str) -> Message {
    Message::new(topic(to), payload)
}

fn job(queue: &str, payload: &'static str) -> Message {
    Message::to_queue(topic(queue), payload)
}

fn sender(memory: &Memory) -> MemorySender {
    memory.open_sender(SenderOptions::new()).unwrap()
}

fn receiver(memory: &Memory, subscription: &Subscription) -> MemoryReceiver {
    memory.open_receiver(subscription).unwrap()
}

fn now<T>(receiver: &mut MemoryReceiver, map: impl FnOnce(Delivery) -> T) -> T {
    map(receiver.try_recv().unwrap().expect("a message is there"))
}

fn payload(delivery: Delivery) -> String {
    String::from_utf8(delivery.ack_into_message().payload().to_vec()).unwrap()
}

fn ledger(memory: &Memory) -> Ledger {
    let ledger = pollster::block_on(memory.stats()).unwrap().ledger;
    assert!(ledger.is_balanced(), "{ledger}");
    ledger
}

fn is_pending(future: impl Future) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

fn with_clock() -> (SharedRuntime, Memory) {
    let runtime: SharedRuntime = Arc::new(Smol::global());
    (Arc::clone(&runtime), Memory::with_runtime(runtime))
}

/// An inbox and a request to `to` that asks for an answer there.
fn request(memory: &Memory, to: &str) -> (posthaste_core::BoxReceiver, Message) {
    let (address, inbox) = pollster::block_on(memory.inbox()).unwrap();
    let request = Message::builder(topic(to)).reply_to(address, 7).build().unwrap();
    (inbox, request)
}

#[test]
fn a_copy_goes_to_each_subscription_each_group_and_each_bound_queue_once() {
    let memory = Memory::new();
    let queue = Queue::new(topic("audit"))
        .bind(Pattern::new("orders.>").unwrap())
        .bind(Pattern::new("orders.eu.*").unwrap());
    pollster::block_on(memory.declare(queue)).unwrap();
    let mut one = receiver(&memory, &Subscription::topic("orders.*.new").unwrap());
    let mut group = receiver(&memory, &Subscription::shared("orders.>", "billing").unwrap());
    let mut other = receiver(&memory, &Subscription::shared("orders.>", "billing").unwrap());
    let receipt = pollster::block_on(sender(&memory).send(event("orders.eu.new", "7"))).unwrap();
    assert_eq!(receipt.matched, 3);
    assert_eq!(now(&mut one, payload), "7");
    let members = [group.try_recv().unwrap(), other.try_recv().unwrap()];
    assert_eq!(members.iter().flatten().count(), 1);
    let mut audit = receiver(&memory, &Subscription::queue("audit").unwrap());
    assert_eq!(now(&mut audit, payload), "7");
    assert!(audit.try_recv().unwrap().is_none());
    assert_eq!(ledger(&memory).accepted, 3);
}

#[test]
fn what_is_urgent_overtakes_at_each_of_several_subscriptions() {
    let memory = Memory::new();
    let subscription = Subscription::topic("a").unwrap();
    let mut subscribers = [(); 3].map(|()| receiver(&memory, &subscription));
    let mut sending = sender(&memory);
    let urgent = Message::builder(topic("a")).priority(3).payload("urgent").build().unwrap();
    for message in [event("a", "1"), event("a", "2"), urgent, event("a", "3")] {
        sending.try_send(message).unwrap();
    }
    for subscriber in &mut subscribers {
        for expected in ["urgent", "1", "2", "3"] {
            assert_eq!(now(subscriber, payload), expected);
        }
    }
}

#[test]
fn one_full_subscription_keeps_the_message_from_all_and_its_room_lets_it_go_to_all() {
    let memory = Memory::new();
    let mut small = receiver(&memory, &Subscription::topic("a").unwrap().capacity(1, 1 << 20));
    let mut large = receiver(&memory, &Subscription::topic("a").unwrap());
    let mut sending = sender(&memory);
    sending.try_send(event("a", "1")).unwrap();
    let mut slot = Some(event("a", "2"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sending.poll_send(&mut cx, &mut slot).is_pending());
    assert_eq!(now(&mut large, payload), "1");
    assert!(large.try_recv().unwrap().is_none(), "nobody has a copy before all have room");
    assert_eq!(now(&mut small, payload), "1");
    assert!(sending.poll_send(&mut cx, &mut slot).is_ready());
    assert_eq!(now(&mut large, payload), "2");
    assert_eq!(now(&mut small, payload), "2");
}

#[test]
fn room_kept_for_a_message_that_cannot_go_is_given_to_the_next_sender() {
    let memory = Memory::new();
    let open = receiver(&memory, &Subscription::topic("a").unwrap().capacity(1, 1 << 20));
    let _full = receiver(&memory, &Subscription::topic("*").unwrap().capacity(1, 1 << 20));
    let mut first = sender(&memory);
    first.try_send(event("b", "fills the second")).unwrap();
    assert_eq!(first.try_send(event("a", "waits")).unwrap_err().kind(), ErrorKind::Full);
    drop(_full);
    let mut second = sender(&memory);
    second.try_send(event("a", "has the room")).unwrap();
    drop(open);
    assert_eq!(ledger(&memory).held, 0);
}

#[test]
fn a_released_copy_goes_back_to_its_old_place_without_counting() {
    let memory = Memory::new();
    let mut sending = sender(&memory);
    for payload in ["1", "2", "3"] {
        sending.try_send(job("q", payload)).unwrap();
    }
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    let first = consumer.try_recv().unwrap().unwrap();
    let second = consumer.try_recv().unwrap().unwrap();
    second.retry(Duration::ZERO, "not yet");
    first.release();
    let again = consumer.try_recv().unwrap().unwrap();
    assert_eq!((again.payload().as_ref(), again.attempt()), (&b"1"[..], 1));
    let retried = consumer.try_recv().unwrap().unwrap();
    assert_eq!((retried.payload().as_ref(), retried.attempt()), (&b"2"[..], 2));
}

#[test]
fn a_late_settlement_does_not_touch_another_copy_in_the_same_slot() {
    let memory = Memory::new();
    let mut sending = sender(&memory);
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    sending.try_send(job("q", "1")).unwrap();
    now(&mut consumer, Delivery::ack);
    sending.try_send(job("q", "2")).unwrap();
    let second = consumer.try_recv().unwrap().unwrap();
    assert_eq!(ledger(&memory).held, 1);
    second.ack();
    assert_eq!((ledger(&memory).acked, ledger(&memory).held), (2, 0));
}

#[test]
fn a_consumer_whose_prefetch_is_used_up_goes_on_when_it_settles() {
    let memory = Memory::new();
    let mut sending = sender(&memory);
    sending.try_send(job("q", "1")).unwrap();
    sending.try_send(job("q", "2")).unwrap();
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap().prefetch(1));
    let first = consumer.try_recv().unwrap().unwrap();
    assert!(is_pending(consumer.recv()));
    first.ack();
    assert_eq!(now(&mut consumer, payload), "2");
}

#[test]
fn a_limit_ends_the_receiver_and_takes_no_more_than_that() {
    let memory = Memory::new();
    let mut sending = sender(&memory);
    for payload in ["1", "2", "3"] {
        sending.try_send(job("q", payload)).unwrap();
    }
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap().limit(2));
    let mut got = Vec::new();
    assert_eq!(pollster::block_on(consumer.recv_many(&mut got, 10)).unwrap(), 2);
    assert!(pollster::block_on(consumer.recv()).unwrap().is_none());
    got.into_iter().for_each(Delivery::ack);
    let info = pollster::block_on(memory.queue(&topic("q"))).unwrap();
    assert_eq!((info.messages, info.consumers), (1, 0));
}

#[test]
fn a_request_that_nobody_takes_is_answered_at_once() {
    let memory = Memory::new();
    let (mut inbox, request) = request(&memory, "nobody.here");
    sender(&memory).try_send(request).unwrap();
    let answer = inbox.try_recv().unwrap().unwrap().ack_into_message();
    assert_eq!(answer.status(), Some(Status::NoResponders));
    assert_eq!(answer.correlation(), 7);
}

#[test]
fn a_request_does_not_wait_in_a_queue_that_nobody_reads_unless_it_says_so() {
    let memory = Memory::new();
    let (address, mut inbox) = pollster::block_on(memory.inbox()).unwrap();
    let build = || Message::builder(topic("work")).to_queue().reply_to(address.clone(), 1);
    let mut sending = sender(&memory);
    sending.try_send(build().build().unwrap()).unwrap();
    let answer = inbox.try_recv().unwrap().unwrap().ack_into_message();
    assert_eq!(answer.status(), Some(Status::NoResponders));
    sending.try_send(build().waits().build().unwrap()).unwrap();
    assert!(inbox.try_recv().unwrap().is_none());
    let info = pollster::block_on(memory.queue(&topic("work"))).unwrap();
    assert_eq!(info.messages, 1);
}

#[test]
fn a_dropped_request_is_answered_and_not_run_again() {
    let memory = Memory::new();
    let service = Subscription::shared("work", "g").unwrap().ack(Ack::Manual);
    let mut responder = receiver(&memory, &service);
    let (mut inbox, request) = request(&memory, "work");
    sender(&memory).try_send(request).unwrap();
    drop(responder.try_recv().unwrap().unwrap());
    let answer = inbox.try_recv().unwrap().unwrap().ack_into_message();
    assert_eq!((answer.kind(), answer.status()), (Kind::Status, Some(Status::NoResponders)));
    assert!(responder.try_recv().unwrap().is_none());
    assert_eq!(ledger(&memory).dropped_by["responder_lost"], 1);
}

#[test]
fn requests_that_wait_for_a_group_are_answered_when_its_last_member_goes() {
    let memory = Memory::new();
    let service = Subscription::shared("work", "g").unwrap();
    let (first, second) = (receiver(&memory, &service), receiver(&memory, &service));
    let (mut inbox, request) = request(&memory, "work");
    sender(&memory).try_send(request).unwrap();
    drop(first);
    assert!(inbox.try_recv().unwrap().is_none(), "another member may still take it");
    drop(second);
    let answer = inbox.try_recv().unwrap().unwrap().ack_into_message();
    assert_eq!(answer.status(), Some(Status::NoResponders));
}

#[test]
fn a_full_inbox_drops_the_newest_and_counts_it() {
    let memory = Memory::new();
    let lossy = Subscription::topic("a").unwrap().capacity(2, 1 << 20);
    let mut inbox = receiver(&memory, &lossy.overflow(Overflow::DropNewest));
    let mut sending = sender(&memory);
    for payload in ["1", "2", "3"] {
        sending.try_send(event("a", payload)).unwrap();
    }
    assert_eq!((now(&mut inbox, payload), now(&mut inbox, payload)), ("1".into(), "2".into()));
    assert_eq!(ledger(&memory).dropped_by["full"], 1);
}

#[test]
fn what_a_subscription_had_not_handed_out_is_dropped_with_it_and_counted() {
    let memory = Memory::new();
    let mut subscriber = receiver(&memory, &Subscription::topic("a").unwrap());
    let mut sending = sender(&memory);
    for payload in ["1", "2", "3"] {
        sending.try_send(event("a", payload)).unwrap();
    }
    assert_eq!(now(&mut subscriber, payload), "1");
    assert_eq!((ledger(&memory).auto, ledger(&memory).held), (1, 2));
    drop(subscriber);
    let ledger = ledger(&memory);
    assert_eq!((ledger.auto, ledger.held, ledger.dropped_by["unsubscribed"]), (1, 0, 2));
}

#[test]
fn a_lease_that_outlives_its_subscription_stays_in_the_books_until_it_ends() {
    let memory = Memory::new();
    let manual = Subscription::topic("a").unwrap().ack(Ack::Manual);
    let mut subscriber = receiver(&memory, &manual);
    sender(&memory).try_send(event("a", "1")).unwrap();
    let delivery = subscriber.try_recv().unwrap().unwrap();
    drop(subscriber);
    assert_eq!(ledger(&memory).held, 1);
    delivery.ack();
    assert_eq!((ledger(&memory).held, ledger(&memory).acked), (0, 1));
}

#[test]
fn what_needs_a_clock_says_so_without_one() {
    let (runtime, _) = with_clock();
    let memory = Memory::new();
    let late = Message::builder(topic("a")).deadline(runtime.now()).build().unwrap();
    let refused = sender(&memory).try_send(late).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let drained = pollster::block_on(memory.drain(Duration::ZERO)).unwrap_err();
    assert_eq!(drained.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_message_past_its_deadline_is_counted_and_not_handed_out() {
    let (runtime, memory) = with_clock();
    let mut live = receiver(&memory, &Subscription::topic("a").unwrap());
    let mut queue = receiver(&memory, &Subscription::queue("a").unwrap());
    let mut sending = sender(&memory);
    let late =
        |builder: posthaste_core::MessageBuilder| builder.deadline(runtime.now()).build().unwrap();
    sending.try_send(late(Message::builder(topic("a")))).unwrap();
    sending.try_send(late(Message::builder(topic("a")).to_queue())).unwrap();
    assert!(live.try_recv().unwrap().is_none() && queue.try_recv().unwrap().is_none());
    assert_eq!((ledger(&memory).expired, ledger(&memory).held), (2, 0));
}

#[test]
fn deleting_a_queue_ends_its_consumers_and_drops_what_it_held() {
    let memory = Memory::new();
    sender(&memory).try_send(job("q", "1")).unwrap();
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    pollster::block_on(memory.delete(&topic("q"))).unwrap();
    assert!(consumer.poll_recv(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(ledger(&memory).dropped_by["queue_deleted"], 1);
    let missing = pollster::block_on(memory.delete(&topic("q"))).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn emptying_a_queue_drops_also_what_its_consumer_has_taken_in_advance() {
    let memory = Memory::new();
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap().ack(Ack::Auto));
    let mut sending = sender(&memory);
    for _ in 0..20 {
        sending.try_send(job("q", "old")).unwrap();
    }
    // One after the other, so that it takes more and more in advance.
    (0..4).for_each(|_| assert_eq!(now(&mut consumer, payload), "old"));
    assert_eq!(pollster::block_on(memory.purge(&topic("q"))).unwrap(), 16);
    sending.try_send(job("q", "new")).unwrap();
    assert_eq!(now(&mut consumer, payload), "new");
    assert!(consumer.try_recv().unwrap().is_none());
    let ledger = ledger(&memory);
    assert_eq!((ledger.auto, ledger.held, ledger.dropped_by["purged"]), (5, 0, 16));
    // What comes after that is taken in advance as before, and put back where it was.
    for _ in 0..9 {
        sending.try_send(job("q", "later")).unwrap();
    }
    assert_eq!(now(&mut consumer, payload), "later");
    drop(consumer);
    let held = pollster::block_on(memory.stats()).unwrap().ledger.held;
    assert_eq!(held, 8);
}

#[test]
fn what_a_consumer_has_taken_in_advance_is_there_for_another_that_comes() {
    let memory = Memory::new();
    let consumer = Subscription::queue("q").unwrap().ack(Ack::Auto);
    let mut first = receiver(&memory, &consumer);
    let mut sending = sender(&memory);
    for nth in 0..7 {
        sending.try_send(Message::to_queue(topic("q"), vec![nth])).unwrap();
    }
    let number = |delivery: Delivery| delivery.payload()[0];
    (0..4).for_each(|nth| assert_eq!(now(&mut first, number), nth));
    let mut second = receiver(&memory, &consumer);
    // The first one puts the rest back when it asks next, and takes one at a time from now on.
    assert_eq!(now(&mut first, number), 4);
    assert_eq!(now(&mut second, number), 5);
    drop(first);
    assert_eq!(now(&mut second, number), 6);
    assert_eq!((ledger(&memory).auto, ledger(&memory).held), (7, 0));
}

#[test]
fn a_lowered_capacity_holds_from_then_on_and_a_raised_one_lets_senders_go_on() {
    let memory = Memory::new();
    let declare = |capacity| {
        pollster::block_on(memory.declare(Queue::new(topic("q")).capacity(capacity))).unwrap();
    };
    declare(1);
    let mut sending = sender(&memory);
    sending.try_send(job("q", "1")).unwrap();
    let mut slot = Some(job("q", "2"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sending.poll_send(&mut cx, &mut slot).is_pending());
    declare(2);
    assert!(sending.poll_send(&mut cx, &mut slot).is_ready());
    declare(1);
    assert_eq!(sending.try_send(job("q", "3")).unwrap_err().kind(), ErrorKind::Full);
}

#[test]
fn queues_are_listed_in_the_order_of_their_names() {
    let memory = Memory::new();
    for name in ["b", "aaa", "c.d", "ab"] {
        pollster::block_on(memory.declare(Queue::new(topic(name)))).unwrap();
    }
    let stats = pollster::block_on(memory.stats()).unwrap();
    let names: Vec<_> = stats.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["aaa", "ab", "b", "c.d"]);
}

#[test]
fn a_limit_lets_go_of_the_source_with_the_last_delivery() {
    let memory = Memory::new();
    let one = Subscription::topic("a").unwrap().limit(1).capacity(1, 1 << 20);
    let mut subscriber = receiver(&memory, &one);
    let mut sending = sender(&memory);
    sending.try_send(event("a", "1")).unwrap();
    assert_eq!(now(&mut subscriber, payload), "1");
    sending.try_send(event("a", "2")).unwrap();
    sending.try_send(event("a", "nobody is held up")).unwrap();
    assert_eq!((ledger(&memory).accepted, ledger(&memory).unmatched), (1, 2));
}

#[test]
fn a_group_keeps_its_members_whatever_it_is_called() {
    let memory = Memory::new();
    let member = Subscription::shared("a", "_ph.subscription").unwrap();
    let mut first = receiver(&memory, &member);
    drop(receiver(&memory, &Subscription::topic("a").unwrap()));
    let mut second = receiver(&memory, &member);
    sender(&memory).try_send(event("a", "once")).unwrap();
    let got = [first.try_recv().unwrap(), second.try_recv().unwrap()];
    assert_eq!(got.iter().flatten().count(), 1);
}

#[test]
fn what_was_missed_before_an_expired_message_is_told_with_the_next() {
    let (runtime, memory) = with_clock();
    for ack in [Ack::Auto, Ack::Manual] {
        let lossy = Subscription::topic("a").unwrap().ack(ack).capacity(1, 1 << 20);
        let mut inbox = receiver(&memory, &lossy.overflow(Overflow::DropNewest));
        let mut sending = sender(&memory);
        sending.try_send(event("a", "1")).unwrap();
        sending.try_send(event("a", "missed")).unwrap();
        assert_eq!(now(&mut inbox, payload), "1");
        let late = Message::builder(topic("a")).deadline(runtime.now()).build().unwrap();
        sending.try_send(late).unwrap();
        assert!(inbox.try_recv().unwrap().is_none(), "it has expired");
        sending.try_send(event("a", "3")).unwrap();
        assert_eq!(now(&mut inbox, |third| third.missed()), 1, "{ack:?}");
    }
}

#[test]
fn requests_that_wait_in_a_queue_are_answered_when_its_last_consumer_goes() {
    let memory = Memory::new();
    let (address, mut inbox) = pollster::block_on(memory.inbox()).unwrap();
    let build =
        |number| Message::builder(topic("work")).to_queue().reply_to(address.clone(), number);
    let worker = Subscription::queue("work").unwrap();
    let (first, second) = (receiver(&memory, &worker), receiver(&memory, &worker));
    let mut sending = sender(&memory);
    sending.try_send(build(1).build().unwrap()).unwrap();
    sending.try_send(build(2).waits().build().unwrap()).unwrap();
    drop(first);
    assert!(inbox.try_recv().unwrap().is_none(), "another may take it");
    drop(second);
    let answer = inbox.try_recv().unwrap().unwrap().ack_into_message();
    assert_eq!((answer.status(), answer.correlation()), (Some(Status::NoResponders), 1));
    assert!(inbox.try_recv().unwrap().is_none(), "the other says that it waits");
    assert_eq!(ledger(&memory).held, 1);
}

#[test]
fn a_request_that_is_given_back_to_a_queue_that_nobody_reads_is_answered() {
    let memory = Memory::new();
    let (address, mut inbox) = pollster::block_on(memory.inbox()).unwrap();
    let request = Message::builder(topic("work")).to_queue().reply_to(address, 1);
    let mut worker = receiver(&memory, &Subscription::queue("work").unwrap());
    sender(&memory).try_send(request.build().unwrap()).unwrap();
    let delivery = worker.try_recv().unwrap().unwrap();
    drop(worker);
    delivery.release();
    let answer = inbox.try_recv().unwrap().unwrap().ack_into_message();
    assert_eq!(answer.status(), Some(Status::NoResponders));
    assert_eq!(ledger(&memory).held, 0);
}

#[test]
fn a_bound_of_nothing_is_a_bound_of_one() {
    let memory = Memory::new();
    let mut none = Subscription::topic("a").unwrap();
    (none.capacity_messages, none.capacity_bytes) = (0, 0);
    let mut subscriber = receiver(&memory, &none);
    let mut queue = Queue::new(topic("q"));
    (queue.capacity_messages, queue.capacity_bytes) = (Some(0), Some(0));
    pollster::block_on(memory.declare(queue)).unwrap();
    let mut sending = sender(&memory);
    sending.try_send(event("a", "1")).unwrap();
    sending.try_send(job("q", "1")).unwrap();
    assert_eq!(now(&mut subscriber, payload), "1");
}
