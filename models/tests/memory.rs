//! Models of the in-process broker: handles of one mailbox in the hands of several threads.
#![cfg(loom)]

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use posthaste_core::{
    Broker, Delivery, Ledger, Message, Queue, Receiver, ReceiverExt, Sender, SenderExt,
    SenderOptions, Subscription, Topic,
};
use posthaste_memory::{Memory, MemoryReceiver, MemorySender};
use posthaste_models::{Bell, Still, block_on, explore, join, join_all, spawn};

fn jobs() -> Topic {
    Topic::new("jobs").unwrap()
}

fn job(text: &'static str) -> Message {
    Message::to_queue(jobs(), text)
}

fn news(text: &'static str) -> Message {
    Message::new(Topic::new("news").unwrap(), text)
}

fn sender(memory: &Memory) -> MemorySender {
    memory.open_sender(SenderOptions::new()).unwrap()
}

fn consumer(memory: &Memory) -> MemoryReceiver {
    memory.open_receiver(&Subscription::queue("jobs").unwrap()).unwrap()
}

fn subscriber(memory: &Memory) -> MemoryReceiver {
    memory.open_receiver(&Subscription::topic("news").unwrap()).unwrap()
}

fn declare(memory: &Memory, queue: Queue) {
    block_on(memory.declare(queue)).unwrap();
}

fn recv(receiver: &mut MemoryReceiver) -> Option<Delivery> {
    block_on(receiver.recv()).unwrap()
}

/// Receives one delivery and acknowledges it.
fn take(receiver: &mut MemoryReceiver) -> String {
    let delivery = recv(receiver).expect("the queue goes on");
    let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
    delivery.ack();
    text
}

fn send(sender: &mut MemorySender, message: Message) {
    block_on(sender.send(message)).unwrap();
}

/// Polls `receiver` once, which has nothing to give, and stays on its list.
fn wait_for(receiver: &mut MemoryReceiver) -> Arc<Bell> {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    bell
}

fn ledger(memory: &Memory) -> Ledger {
    let ledger = block_on(memory.stats()).unwrap().ledger;
    let gone = ledger.acked + ledger.auto + ledger.dead_lettered + ledger.expired + ledger.dropped;
    assert_eq!(ledger.accepted, gone + ledger.held, "{ledger:?}");
    ledger
}

// ---- sending and receiving

#[test]
fn what_is_sent_wakes_whoever_waits_for_it() {
    explore(3, || {
        let memory = Memory::new();
        let (mut sender, mut receiver) = (sender(&memory), consumer(&memory));
        let sending = spawn(move || send(&mut sender, job("a")));
        assert_eq!(take(&mut receiver), "a");
        join(sending);
        assert_eq!(ledger(&memory).acked, 1);
    });
}

#[test]
fn what_two_send_one_receives_once_each() {
    explore(3, || {
        let memory = Memory::new();
        let mut receiver = consumer(&memory);
        let threads = ["a", "b"].map(|text| {
            let mut sender = sender(&memory);
            spawn(move || send(&mut sender, job(text)))
        });
        let mut taken = [take(&mut receiver), take(&mut receiver)];
        taken.sort();
        assert_eq!(taken, ["a", "b"]);
        join_all(threads);
        assert_eq!(ledger(&memory).held, 0);
    });
}

#[test]
fn competing_consumers_take_each_message_once_and_neither_sleeps_on() {
    explore(3, || {
        let memory = Memory::new();
        let threads = [(); 2].map(|()| {
            let mut receiver = consumer(&memory);
            spawn(move || take(&mut receiver))
        });
        let mut sender = sender(&memory);
        send(&mut sender, job("a"));
        send(&mut sender, job("b"));
        let mut taken = join_all(threads);
        taken.sort();
        assert_eq!(taken, ["a", "b"]);
        assert_eq!(ledger(&memory).acked, 2);
    });
}

#[test]
fn a_swapped_batch_and_a_message_that_comes_meanwhile_keep_their_order() {
    explore(3, || {
        let memory = Memory::new();
        let (mut sender, mut receiver) = (sender(&memory), subscriber(&memory));
        send(&mut sender, news("a"));
        let sending = spawn(move || send(&mut sender, news("b")));
        let taken: Vec<_> =
            (0..2).map(|_| recv(&mut receiver).unwrap().payload().to_vec()).collect();
        assert_eq!(taken, [b"a", b"b"]);
        join(sending);
        assert_eq!(ledger(&memory).auto, 2);
    });
}

// ---- giving up

#[derive(Clone, Copy)]
enum GivesUp {
    Disarms,
    Drops,
    Shares,
}

/// One consumer waits first and gives up while a message comes; the other gets the message.
fn one_gives_up(how: GivesUp) {
    explore(3, move || {
        let memory = Memory::new();
        let mut quitter = consumer(&memory);
        wait_for(&mut quitter);
        let mut other = consumer(&memory);
        let mut sender = sender(&memory);
        let sending = spawn(move || send(&mut sender, job("a")));
        let quitting = spawn(move || {
            match how {
                GivesUp::Disarms => quitter.disarm(),
                GivesUp::Drops => return None,
                GivesUp::Shares => quitter.share_wakeup(),
            }
            Some(quitter)
        });
        assert_eq!(take(&mut other), "a");
        join(sending);
        join(quitting);
    });
}

#[test]
fn a_receiver_that_disarms_passes_its_wake_up_on() {
    one_gives_up(GivesUp::Disarms);
}

#[test]
fn a_receiver_that_is_dropped_passes_its_wake_up_on() {
    one_gives_up(GivesUp::Drops);
}

#[test]
fn a_receiver_that_shares_wakes_the_next_as_well() {
    one_gives_up(GivesUp::Shares);
}

#[test]
fn a_sender_that_gives_up_passes_the_room_on() {
    explore(3, || {
        let memory = Memory::new();
        declare(&memory, Queue::new(jobs()).capacity(1));
        let mut receiver = consumer(&memory);
        let mut quitter = sender(&memory);
        send(&mut quitter, job("a"));
        let held = recv(&mut receiver).unwrap();
        // It waits for room before the other does, and gives up while there comes some.
        let mut slot = Some(job("never sent"));
        let waker = Waker::from(Arc::new(Bell::default()));
        let waits = quitter.poll_send(&mut Context::from_waker(&waker), &mut slot);
        assert!(waits.is_pending());
        let mut other = sender(&memory);
        let waiting = spawn(move || send(&mut other, job("b")));
        let settling = spawn(move || held.ack());
        quitter.disarm();
        assert_eq!(take(&mut receiver), "b");
        join_all([waiting, settling]);
    });
}

// ---- room

#[test]
fn a_sender_that_waits_for_room_gets_what_a_settlement_frees() {
    explore(3, || {
        let memory = Memory::new();
        declare(&memory, Queue::new(jobs()).capacity(1));
        let (mut sender, mut receiver) = (sender(&memory), consumer(&memory));
        send(&mut sender, job("a"));
        let held = recv(&mut receiver).unwrap();
        let settling = spawn(move || held.ack());
        send(&mut sender, job("b"));
        join(settling);
        assert_eq!(take(&mut receiver), "b");
    });
}

#[test]
fn two_senders_and_a_consumer_pass_a_single_place_along() {
    explore(3, || {
        let memory = Memory::new();
        declare(&memory, Queue::new(jobs()).capacity(1));
        let mut receiver = consumer(&memory);
        let threads = ["a", "b"].map(|text| {
            let mut sender = sender(&memory);
            spawn(move || send(&mut sender, job(text)))
        });
        let mut taken = [take(&mut receiver), take(&mut receiver)];
        taken.sort();
        assert_eq!(taken, ["a", "b"]);
        join_all(threads);
    });
}

// ---- settling

#[test]
fn a_settlement_in_another_thread_lets_a_receiver_at_its_prefetch_go_on() {
    explore(3, || {
        let memory = Memory::new();
        let one = Subscription::queue("jobs").unwrap().prefetch(1);
        let mut receiver = memory.open_receiver(&one).unwrap();
        let mut sender = sender(&memory);
        send(&mut sender, job("a"));
        send(&mut sender, job("b"));
        let held = recv(&mut receiver).unwrap();
        let settling = spawn(move || held.ack());
        assert_eq!(take(&mut receiver), "b");
        join(settling);
        assert_eq!(ledger(&memory).acked, 2);
    });
}

#[test]
fn what_is_dropped_unsettled_in_another_thread_comes_again() {
    explore(3, || {
        let memory = Memory::new();
        let (mut sender, mut receiver) = (sender(&memory), consumer(&memory));
        send(&mut sender, job("a"));
        let held = recv(&mut receiver).unwrap();
        let dropping = spawn(move || drop(held));
        let again = recv(&mut receiver).unwrap();
        assert_eq!(again.attempt(), 2);
        again.ack();
        join(dropping);
        let ledger = ledger(&memory);
        assert_eq!((ledger.acked, ledger.held), (1, 0));
    });
}

// ---- ending

#[test]
fn fan_out_and_a_subscriber_that_leaves_keep_the_books() {
    explore(3, || {
        let memory = Memory::new();
        let (mut stays, leaves) = (subscriber(&memory), subscriber(&memory));
        let mut sender = sender(&memory);
        let leaving = spawn(move || drop(leaves));
        let matched = block_on(sender.send(news("a"))).unwrap().matched;
        join(leaving);
        assert_eq!(recv(&mut stays).unwrap().payload(), "a");
        let ledger = ledger(&memory);
        assert_eq!(ledger.accepted, matched);
        assert_eq!((ledger.auto, ledger.dropped), (1, matched - 1));
    });
}

#[test]
fn closing_a_queue_ends_whoever_waits_for_a_message() {
    explore(3, || {
        let memory = Memory::new();
        let mut receiver = consumer(&memory);
        let deleting = spawn({
            let memory = memory.clone();
            move || block_on(memory.delete(&jobs())).unwrap()
        });
        assert!(recv(&mut receiver).is_none());
        join(deleting);
    });
}

#[test]
fn closing_a_queue_ends_a_stalled_receiver_and_moves_a_sender_on() {
    explore(3, || {
        let memory = Memory::new();
        declare(&memory, Queue::new(jobs()).capacity(1));
        let one = Subscription::queue("jobs").unwrap().prefetch(1);
        let mut receiver = memory.open_receiver(&one).unwrap();
        let mut sender = sender(&memory);
        send(&mut sender, job("a"));
        let held = recv(&mut receiver).unwrap();
        // It finds its queue full, then gone, and declares it anew.
        let sending = spawn(move || send(&mut sender, job("b")));
        let deleting = spawn({
            let memory = memory.clone();
            move || block_on(memory.delete(&jobs())).unwrap()
        });
        assert!(recv(&mut receiver).is_none());
        join_all([sending, deleting]);
        held.ack();
        ledger(&memory);
    });
}

// ---- draining

#[test]
fn a_drain_hears_of_the_last_settlement() {
    explore(3, || {
        let memory = Memory::with_runtime(Arc::new(Still::default()));
        let (mut sender, mut receiver) = (sender(&memory), consumer(&memory));
        send(&mut sender, job("a"));
        let held = recv(&mut receiver).unwrap();
        let settling = spawn(move || held.ack());
        let report = block_on(memory.drain(Duration::MAX)).unwrap();
        join(settling);
        assert_eq!(report.abandoned, 0);
        assert!(recv(&mut receiver).is_none());
        assert_eq!(ledger(&memory).acked, 1);
    });
}

#[test]
fn a_drain_hears_of_the_last_of_a_swapped_batch() {
    explore(3, || {
        let memory = Memory::with_runtime(Arc::new(Still::default()));
        let (mut sender, mut receiver) = (sender(&memory), subscriber(&memory));
        send(&mut sender, news("a"));
        send(&mut sender, news("b"));
        drop(recv(&mut receiver).unwrap());
        // The last one is in the receiver's own batch, and taking it locks nothing.
        let taking = spawn(move || {
            drop(recv(&mut receiver).unwrap());
            recv(&mut receiver).is_none()
        });
        let report = block_on(memory.drain(Duration::MAX)).unwrap();
        assert!(join(taking));
        assert_eq!((report.held, ledger(&memory).auto), (0, 2));
    });
}

#[test]
fn a_drain_wakes_a_sender_that_waits_for_room() {
    explore(3, || {
        let memory = Memory::with_runtime(Arc::new(Still::default()));
        declare(&memory, Queue::new(jobs()).capacity(1));
        let mut sender = sender(&memory);
        send(&mut sender, job("a"));
        let draining = spawn({
            let memory = memory.clone();
            move || block_on(memory.drain(Duration::MAX)).unwrap()
        });
        assert!(block_on(sender.send(job("b"))).is_err());
        assert_eq!(join(draining).held, 1);
    });
}
