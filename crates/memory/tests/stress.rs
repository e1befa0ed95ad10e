//! Many threads at once: every message exactly once, nobody hangs, and the books balance.
//!
//! Nothing waits for time. Whoever gives up does so at a poll that a seed chose, so that wake-ups
//! meet futures that were dropped; a lost wake-up shows as a test that does not end.

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use posthaste_core::{
    Ack, Broker, Delivery, ErrorKind, Message, Pattern, Queue, ReceiverExt, SenderExt,
    SenderOptions, Subscription, Topic,
};
use posthaste_memory::{MemoryReceiver, MemorySender};
use posthaste_smol::Smol;

use common::Memory;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// When a wait is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// At the first poll that is pending.
    None,
    /// When it is woken, without another poll: the wake-up has to go to somebody else.
    UntilWoken,
    /// Never.
    Endless,
}

impl Patience {
    fn random(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::None,
            1 => Self::UntilWoken,
            _ => Self::Endless,
        }
    }
}

/// Resolves to `None` when the wait is given up.
struct GivesUp<F> {
    future: F,
    patience: Patience,
    polled: bool,
}

fn wait<F: Future + Unpin>(future: F, patience: Patience) -> Option<F::Output> {
    pollster::block_on(GivesUp { future, patience, polled: false })
}

impl<F: Future + Unpin> Future for GivesUp<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.patience == Patience::UntilWoken && std::mem::replace(&mut self.polled, true) {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.patience == Patience::None => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn sender(memory: &Memory) -> MemorySender {
    memory.open_sender(SenderOptions::new()).unwrap()
}

fn consumer(memory: &Memory, queue: &str) -> MemoryReceiver {
    memory.open_receiver(&Subscription::queue(queue).unwrap().prefetch(2)).unwrap()
}

fn declare(memory: &Memory, queue: Queue) {
    pollster::block_on(memory.declare(queue)).unwrap();
}

fn assert_empty(memory: &Memory) {
    let ledger = pollster::block_on(memory.stats()).unwrap().ledger;
    assert!(ledger.is_balanced() && ledger.held == 0, "{ledger}");
}

/// Sends `numbers`, giving up waits and starting over as the seed says.
fn send_all(mut sender: MemorySender, seed: u64, make: impl Fn(u64) -> Message, each: u64) {
    let mut random = Random::new(seed);
    for number in seed * each..(seed + 1) * each {
        let mut slot = Some(make(number));
        while slot.is_some() {
            if let Some(sent) = wait(sender.send_from(&mut slot), Patience::random(&mut random)) {
                sent.unwrap();
            }
        }
    }
}

/// Receives until the end, giving up waits and giving messages back as the seed says, and returns
/// what it acked. Whoever acks the last of `total` deletes the queue, which ends everybody.
fn receive_all(memory: &Memory, queue: &str, seed: u64, acked: &AtomicU64, total: u64) -> Vec<u64> {
    let mut random = Random::new(seed + 1_000);
    let mut consumer = consumer(memory, queue);
    let mut mine = Vec::new();
    let mut got: Vec<Delivery> = Vec::new();
    loop {
        let patience = Patience::random(&mut random);
        let limit = 1 + usize::from(random.one_in(2));
        match wait(consumer.recv_many(&mut got, limit), patience) {
            Some(Ok(0)) => return mine,
            Some(received) => assert_eq!(received.unwrap(), got.len()),
            None => continue,
        }
        for delivery in got.drain(..) {
            match random.below(8) {
                0 => delivery.release(),
                1 => delivery.retry(Duration::ZERO, "again"),
                2 => drop(delivery),
                _ => {
                    let message = delivery.ack_into_message();
                    mine.push(u64::from_be_bytes(message.payload().as_ref().try_into().unwrap()));
                    if acked.fetch_add(1, Ordering::SeqCst) + 1 == total {
                        let _deleted_by_another = pollster::block_on(memory.delete(&topic(queue)));
                    }
                }
            }
        }
        if random.one_in(16) {
            consumer = self::consumer(memory, queue);
            if acked.load(Ordering::SeqCst) == total {
                // It declared the queue once more, or is about to be ended as all others.
                let _deleted_by_another = pollster::block_on(memory.delete(&topic(queue)));
            }
        }
    }
}

#[test]
fn competing_consumers_that_give_up_now_and_then_get_every_message_once() {
    const SENDERS: u64 = 3;
    const CONSUMERS: u64 = 3;
    const EACH: u64 = 400;
    for round in 0..4 {
        let memory = Memory::new();
        declare(&memory, Queue::new(topic("q")).capacity(2));
        let acked = AtomicU64::new(0);
        let got: Vec<u64> = std::thread::scope(|scope| {
            for sender_number in 0..SENDERS {
                let sending = sender(&memory);
                let job =
                    |number: u64| Message::to_queue(topic("q"), number.to_be_bytes().to_vec());
                scope.spawn(move || send_all(sending, sender_number, job, EACH));
            }
            let consumers: Vec<_> = (0..CONSUMERS)
                .map(|at| {
                    let (memory, acked) = (&memory, &acked);
                    let seed = round * CONSUMERS + at;
                    scope.spawn(move || receive_all(memory, "q", seed, acked, SENDERS * EACH))
                })
                .collect();
            consumers.into_iter().flat_map(|this| this.join().unwrap()).collect()
        });
        assert_eq!(got.len() as u64, SENDERS * EACH, "none twice");
        let distinct: BTreeSet<u64> = got.into_iter().collect();
        assert_eq!(distinct.len() as u64, SENDERS * EACH, "each once");
        assert_empty(&memory);
    }
}

#[test]
fn senders_to_two_full_queues_that_give_up_now_and_then_fill_both_alike() {
    const SENDERS: u64 = 3;
    const EACH: u64 = 300;
    let memory = Memory::new();
    for (queue, capacity) in [("one", 1), ("two", 3)] {
        let queue = Queue::new(topic(queue)).bind(Pattern::new("both.*").unwrap());
        declare(&memory, queue.capacity(capacity));
    }
    let acked = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        for at in 0..SENDERS {
            let sending = sender(&memory);
            let event =
                |number: u64| Message::new(topic("both.ways"), number.to_be_bytes().to_vec());
            scope.spawn(move || send_all(sending, at, event, EACH));
        }
        let consumers: Vec<_> = ["one", "two", "one", "two"]
            .into_iter()
            .zip(0_u64..)
            .map(|(queue, seed)| {
                let (memory, acked) = (&memory, &acked[usize::from(queue == "two")]);
                let work = move || receive_all(memory, queue, seed, acked, SENDERS * EACH);
                (queue, scope.spawn(work))
            })
            .collect();
        let mut got = [BTreeSet::new(), BTreeSet::new()];
        for (queue, consumer) in consumers {
            for number in consumer.join().unwrap() {
                assert!(got[usize::from(queue == "two")].insert(number), "once in {queue}");
            }
        }
        assert_eq!(got.each_ref().map(BTreeSet::len), [(SENDERS * EACH) as usize; 2]);
    });
    assert_empty(&memory);
}

/// A handle that waits once, gives up, and then stays where it is until the round is over.
fn fickle(random: &mut Random) -> Patience {
    if random.one_in(2) { Patience::None } else { Patience::UntilWoken }
}

#[test]
fn a_wake_up_of_a_consumer_that_gave_up_goes_to_one_that_still_waits() {
    let mut random = Random::new(7);
    for _ in 0..400 {
        let memory = Memory::new();
        let over = Barrier::new(4);
        let start = Barrier::new(4);
        let patiences = [Patience::Endless, fickle(&mut random), fickle(&mut random)];
        let got = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for patience in patiences {
                let mut consumer = consumer(&memory, "q");
                let (got, memory, start, over) = (&got, &memory, &start, &over);
                scope.spawn(move || {
                    start.wait();
                    while let Some(Some(delivery)) =
                        wait(consumer.recv(), patience).map(Result::unwrap)
                    {
                        delivery.ack();
                        if got.fetch_add(1, Ordering::SeqCst) + 1 == 3 {
                            pollster::block_on(memory.delete(&topic("q"))).unwrap();
                        }
                        if patience != Patience::Endless {
                            break;
                        }
                    }
                    over.wait();
                });
            }
            let mut sending = sender(&memory);
            start.wait();
            for _ in 0..3 {
                sending.try_send(Message::to_queue(topic("q"), "x")).unwrap();
            }
            over.wait();
        });
        assert_eq!(got.into_inner(), 3);
        assert_empty(&memory);
    }
}

#[test]
fn room_for_a_sender_that_gave_up_goes_to_one_that_still_waits() {
    let mut random = Random::new(11);
    for _ in 0..400 {
        let memory = Memory::new();
        declare(&memory, Queue::new(topic("q")).capacity(1));
        let mut consumer = consumer(&memory, "q");
        sender(&memory).try_send(Message::to_queue(topic("q"), "fills it")).unwrap();
        let (start, over) = (Barrier::new(4), Barrier::new(4));
        let patiences = [Patience::Endless, fickle(&mut random), fickle(&mut random)];
        std::thread::scope(|scope| {
            for patience in patiences {
                let mut sending = sender(&memory);
                let (start, over) = (&start, &over);
                scope.spawn(move || {
                    let mut slot = Some(Message::to_queue(topic("q"), "x"));
                    start.wait();
                    drop(wait(sending.send_from(&mut slot), patience));
                    assert!(slot.is_none() || patience != Patience::Endless);
                    over.wait();
                });
            }
            start.wait();
            let freeing = scope.spawn(move || {
                // Whoever else sent, the patient one finds room behind it.
                while let Some(delivery) = pollster::block_on(consumer.recv()).unwrap() {
                    delivery.ack();
                }
            });
            over.wait();
            pollster::block_on(memory.delete(&topic("q"))).unwrap();
            freeing.join().unwrap();
        });
        assert_empty(&memory);
    }
}

#[test]
fn room_that_is_kept_for_a_message_that_cannot_go_keeps_nobody_waiting() {
    const EACH: u64 = 20_000;
    let memory = Memory::new();
    for (queue, pattern) in [("one", "*"), ("two", "both")] {
        let queue = Queue::new(topic(queue)).bind(Pattern::new(pattern).unwrap());
        declare(&memory, queue.capacity(1));
    }
    sender(&memory).try_send(Message::to_queue(topic("two"), "fills it for good")).unwrap();
    let (tries, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stuck = sender(&memory);
            while !done.load(Ordering::SeqCst) {
                tries.fetch_add(1, Ordering::SeqCst);
                let refused = stuck.try_send(Message::new(topic("both"), "x"));
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::Full);
            }
        });
        let (mut sending, mut consumer) = (sender(&memory), consumer(&memory, "one"));
        let mut sent = 0;
        while sent < EACH || tries.load(Ordering::SeqCst) < EACH {
            sent += 1;
            pollster::block_on(sending.send(Message::new(topic("one"), "x"))).unwrap();
            pollster::block_on(consumer.next_delivery()).unwrap().ack();
        }
        done.store(true, Ordering::SeqCst);
    });
    pollster::block_on(memory.delete(&topic("two"))).unwrap();
    assert_empty(&memory);
}

#[test]
fn what_is_sent_to_a_queue_that_is_deleted_meanwhile_goes_into_it_or_the_next_of_its_name() {
    const EACH: u64 = 20_000;
    let memory = Memory::new();
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        let senders = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut sending = sender(&memory);
                start.wait();
                for _ in 0..EACH {
                    let sent = sending.send(Message::to_queue(topic("q"), "kept or deleted"));
                    assert_eq!(pollster::block_on(sent).unwrap().matched, 1);
                }
            })
        });
        start.wait();
        while !senders.iter().all(ScopedJoinHandle::is_finished) {
            let _not_there_again_yet = pollster::block_on(memory.delete(&topic("q")));
            let ledger = pollster::block_on(memory.stats()).unwrap().ledger;
            assert!(ledger.is_balanced(), "at every moment: {ledger}");
        }
    });
    let _not_there_again = pollster::block_on(memory.delete(&topic("q")));
    assert_empty(&memory);
    let ledger = pollster::block_on(memory.stats()).unwrap().ledger;
    assert_eq!((ledger.accepted, ledger.unmatched), (2 * EACH, 0));
}

#[test]
fn the_books_balance_at_every_moment() {
    const EACH: u64 = 3_000;
    let memory = Memory::new();
    let manual = Subscription::topic("a").unwrap().ack(Ack::Manual);
    let open = |of: &Subscription| memory.open_receiver(of).unwrap();
    let receivers = [
        open(&Subscription::topic("a").unwrap().capacity(8, 1 << 20)),
        open(&manual.capacity(4, 1 << 20)),
        open(&Subscription::shared("*", "g").unwrap()),
    ];
    std::thread::scope(|scope| {
        let all = receivers.map(|mut receiver| {
            scope.spawn(move || {
                for _ in 0..EACH {
                    pollster::block_on(receiver.next_delivery()).unwrap().ack();
                }
            })
        });
        scope.spawn(|| {
            let mut sending = sender(&memory);
            for _ in 0..EACH {
                let sent = sending.send(Message::new(topic("a"), "x"));
                assert_eq!(pollster::block_on(sent).unwrap().matched, 3);
            }
        });
        while !all.iter().all(ScopedJoinHandle::is_finished) {
            let ledger = pollster::block_on(memory.stats()).unwrap().ledger;
            assert!(ledger.is_balanced(), "{ledger}");
        }
    });
    assert_empty(&memory);
}

#[test]
fn whatever_was_confirmed_before_a_drain_is_received_and_everybody_ends() {
    for _ in 0..200 {
        let memory = Memory::with_runtime(Arc::new(Smol::global()));
        let start = Barrier::new(5);
        let of = || Subscription::topic("a").unwrap();
        let subscribers =
            [of(), of().ack(Ack::Manual)].map(|of| memory.open_receiver(&of).unwrap());
        let opened = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let got = subscribers.map(|subscriber| scope.spawn(|| count_to_the_end(subscriber)));
            let sent = [(); 3].map(|()| {
                scope.spawn(|| {
                    let mut sending = sender(&memory);
                    start.wait();
                    let mut copies = 0;
                    loop {
                        let sent = sending.send(Message::new(topic("a"), "x"));
                        match pollster::block_on(sent) {
                            Ok(receipt) => copies += receipt.matched,
                            Err(refused) => {
                                assert_eq!(refused.kind(), ErrorKind::Closed);
                                return copies;
                            }
                        }
                    }
                })
            });
            let late = scope.spawn(|| {
                start.wait();
                let mut got = 0;
                // What is opened while the broker begins to drain ends as well.
                while let Ok(late) = memory.open_receiver(&of().limit(2)) {
                    opened.fetch_add(1, Ordering::SeqCst);
                    got += count_to_the_end(late);
                }
                got
            });
            start.wait();
            let report = pollster::block_on(memory.drain(Duration::from_secs(60))).unwrap();
            assert_eq!((report.abandoned, report.held), (0, 0), "{report}");
            let sent: u64 = sent.into_iter().map(|this| this.join().unwrap()).sum();
            let got: u64 = got.into_iter().map(|this| this.join().unwrap()).sum();
            let late = late.join().unwrap();
            let ledger = pollster::block_on(memory.stats()).unwrap().ledger;
            assert_eq!(sent, got + late + ledger.dropped);
            // Only those that took their two before the drain left anything behind.
            assert!(ledger.dropped == 0 || opened.load(Ordering::SeqCst) > 0);
        });
        assert_empty(&memory);
    }
}

fn count_to_the_end(mut receiver: MemoryReceiver) -> u64 {
    let mut count = 0;
    while let Some(delivery) = pollster::block_on(receiver.recv()).unwrap() {
        delivery.ack();
        count += 1;
    }
    count
}
