//! Waiting: who is woken when there is room or a message, and what wakers may do meanwhile.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use posthaste_core::{
    Broker, Delivery, Message, Queue, Receiver, ReceiverExt, Sender, SenderExt, Subscription,
};
use posthaste_memory::MemorySender;

use super::{Memory, event, job, ledger, now, payload, receiver, sender, topic, with_clock};

/// A waker that remembers that it was woken.
#[derive(Debug, Default)]
pub(super) struct Woken(AtomicBool);

impl Woken {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Whether it was woken since the last call.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A sender with a message that may have to wait, polled only when it is woken.
struct Pending {
    sender: MemorySender,
    slot: Option<Message>,
    woken: Arc<Woken>,
}

impl Pending {
    fn new(memory: &Memory, message: Message) -> Self {
        let mut this = Self { sender: sender(memory), slot: Some(message), woken: Woken::new() };
        this.poll();
        this
    }

    fn poll(&mut self) {
        let waker = self.woken.waker();
        let polled = self.sender.poll_send(&mut Context::from_waker(&waker), &mut self.slot);
        assert_eq!(polled.is_pending(), self.slot.is_some());
    }

    fn is_sent(&self) -> bool {
        self.slot.is_none()
    }
}

/// Polls who was woken until nobody is, as an executor would, and says how many polls it took.
fn run(senders: &mut [Pending]) -> usize {
    let mut polls = 0;
    while let Some(woken) = senders.iter_mut().find(|this| this.woken.take()) {
        woken.poll();
        polls += 1;
        assert!(polls < 1_000, "they wake each other for ever");
    }
    polls
}

fn full_queue(capacity: Queue, fill: &'static str) -> Memory {
    let memory = Memory::new();
    pollster::block_on(memory.declare(capacity)).unwrap();
    sender(&memory).try_send(job("q", fill)).unwrap();
    memory
}

#[test]
fn senders_that_find_no_room_after_all_do_not_wake_each_other() {
    let memory = full_queue(Queue::new(topic("q")).capacity(1), "1");
    let mut waiting = ["2", "3", "4"].map(|text| Pending::new(&memory, job("q", text)));
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    now(&mut consumer, Delivery::ack);
    sender(&memory).try_send(job("q", "was faster")).unwrap();
    assert_eq!(run(&mut waiting), 1, "one was woken, in vain");
    now(&mut consumer, Delivery::ack);
    assert_eq!(run(&mut waiting), 1);
    assert_eq!(waiting.iter().filter(|this| this.is_sent()).count(), 1);
}

#[test]
fn room_in_bytes_for_several_lets_several_go() {
    let memory = full_queue(
        Queue::new(topic("q")).capacity_bytes(100),
        "ninety bytes ninety bytes ninety bytes ninety bytes ninety bytes ninety bytes ninety bytes",
    );
    let mut waiting =
        ["2", "3", "4"].map(|_| Pending::new(&memory, job("q", "twenty bytes and more")));
    assert!(waiting.iter().all(|this| !this.is_sent()));
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    now(&mut consumer, Delivery::ack);
    run(&mut waiting);
    assert!(waiting.iter().all(Pending::is_sent));
}

#[test]
fn a_large_message_that_does_not_fit_yet_holds_up_no_small_one() {
    let memory = full_queue(Queue::new(topic("q")).capacity_bytes(100), "a small one");
    let mut filling = sender(&memory);
    filling
        .try_send(job("q", "sixty bytes sixty bytes sixty bytes sixty bytes sixty bytes"))
        .unwrap();
    let large = "eighty bytes eighty bytes eighty bytes eighty bytes eighty bytes eighty bytes";
    let mut waiting = [
        Pending::new(&memory, job("q", large)),
        Pending::new(&memory, job("q", "a small one, but a little larger")),
    ];
    assert!(waiting.iter().all(|this| !this.is_sent()));
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    now(&mut consumer, Delivery::ack);
    run(&mut waiting);
    assert_eq!(waiting.each_ref().map(Pending::is_sent), [false, true]);
}

#[test]
fn a_sender_that_waits_elsewhere_now_leaves_its_room_to_the_next() {
    let memory = Memory::new();
    let small = |pattern| {
        let one = Subscription::topic(pattern).unwrap().capacity(1, 1 << 20);
        receiver(&memory, &one)
    };
    let (mut first, _second) = (small("*"), small("b"));
    let mut filling = sender(&memory);
    filling.try_send(event("a", "fills the first")).unwrap();
    let mut waiting = [
        Pending::new(&memory, event("b", "to both")),
        Pending::new(&memory, event("a", "to the first")),
    ];
    // The second fills up in a way that the first does not see.
    drop(_second);
    let mut third = small("b");
    now(&mut first, payload);
    filling.try_send(event("b", "fills both")).unwrap();
    run(&mut waiting);
    assert!(waiting.iter().all(|this| !this.is_sent()));
    now(&mut first, payload);
    run(&mut waiting);
    assert_eq!(waiting.each_ref().map(Pending::is_sent), [false, true]);
    now(&mut third, payload);
    now(&mut first, payload);
    run(&mut waiting);
    assert!(waiting.iter().all(Pending::is_sent));
}

#[test]
fn a_wake_up_that_came_before_it_was_shared_is_shared_too() {
    let memory = Memory::new();
    let of = Subscription::queue("q").unwrap();
    let (mut stream, mut other) = (receiver(&memory, &of), receiver(&memory, &of));
    let woken = Woken::new();
    let waker = woken.waker();
    let noop = &mut Context::from_waker(Waker::noop());
    assert!(stream.poll_recv(noop).is_pending());
    assert!(other.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    sender(&memory).try_send(job("q", "between the two calls of a stream's poll")).unwrap();
    stream.share_wakeup();
    assert!(woken.take(), "the stream may never be polled again");
}

/// A waker that uses the broker when it is woken, and when it is dropped.
struct Meddler(Memory);

impl Meddler {
    fn meddle(&self) {
        ledger(&self.0);
        for of in [Subscription::queue("q"), Subscription::topic("a")] {
            drop(self.0.open_receiver(&of.unwrap()));
        }
        let drains = pollster::block_on(self.0.declare(Queue::new(topic("probe")))).is_err();
        if drains {
            pollster::block_on(self.0.drain(Duration::ZERO)).unwrap();
        }
    }
}

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        self.meddle();
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.meddle();
    }
}

fn meddler(memory: &Memory) -> Waker {
    Waker::from(Arc::new(Meddler((**memory).clone().into())))
}

#[test]
fn a_waker_may_use_the_broker_when_it_is_woken_and_when_it_is_dropped() {
    let (_, memory) = with_clock();
    pollster::block_on(memory.declare(Queue::new(topic("q")).capacity(1))).unwrap();
    let of = Subscription::queue("q").unwrap().prefetch(1);
    let mut sending = sender(&memory);
    let mut consumer = receiver(&memory, &of);
    let mut other = receiver(&memory, &of);
    // A consumer's waker: replaced, woken, and dropped with the handle.
    for _ in 0..2 {
        assert!(consumer.poll_recv(&mut Context::from_waker(&meddler(&memory))).is_pending());
    }
    sending.try_send(job("q", "1")).unwrap();
    let delivery = consumer.try_recv().unwrap().unwrap();
    // One that waits for a settlement of its own: replaced and given up.
    for _ in 0..2 {
        assert!(consumer.poll_recv(&mut Context::from_waker(&meddler(&memory))).is_pending());
    }
    consumer.disarm();
    // A sender's waker: replaced, given up, and woken by room that was made.
    let mut slot = Some(job("q", "2"));
    for _ in 0..2 {
        let waker = meddler(&memory);
        assert!(sending.poll_send(&mut Context::from_waker(&waker), &mut slot).is_pending());
    }
    sending.disarm();
    let waker = meddler(&memory);
    assert!(sending.poll_send(&mut Context::from_waker(&waker), &mut slot).is_pending());
    pollster::block_on(memory.declare(Queue::new(topic("q")).capacity(2))).unwrap();
    // A consumer that leaves passes its wake-up on.
    assert!(consumer.poll_recv(&mut Context::from_waker(&meddler(&memory))).is_pending());
    delivery.ack();
    assert!(consumer.poll_recv(&mut Context::from_waker(&meddler(&memory))).is_pending());
    assert!(other.poll_recv(&mut Context::from_waker(&meddler(&memory))).is_pending());
    sending.try_send(job("q", "3")).unwrap();
    drop(consumer);
    let delivery = other.try_recv().unwrap().unwrap();
    // A drain's waker.
    let mut drain = Box::pin(memory.drain(Duration::from_secs(30)));
    for _ in 0..2 {
        assert!(drain.as_mut().poll(&mut Context::from_waker(&meddler(&memory))).is_pending());
    }
    delivery.ack();
    assert!(drain.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}
