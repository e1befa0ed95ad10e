//! Models of the bus: requests of several threads that take turns at polling one inbox.
#![cfg(loom)]

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use posthaste_core::future::Asking;
use posthaste_core::{Bus, Delivery, ReceiverExt, SenderExt, SenderOptions, Subscription};
use posthaste_memory::{Memory, MemoryReceiver, MemorySender};
use posthaste_models::{Bell, block_on, explore, join, join_all, spawn};

/// A bus, and somebody who answers what is asked on it.
struct World {
    bus: Bus,
    requests: MemoryReceiver,
    replies: MemorySender,
}

impl World {
    fn new() -> Self {
        let memory = Memory::new();
        let subscription = Subscription::shared("echo", "echoes").unwrap();
        let requests = memory.open_receiver(&subscription).unwrap();
        let replies = memory.open_sender(SenderOptions::new()).unwrap();
        Self { bus: Bus::new(memory), requests, replies }
    }

    /// A request that was sent and waits, and what came of it.
    fn ask(&mut self, text: &'static str) -> (Asking, Delivery) {
        let mut asking = self.bus.request("echo", text).into_future();
        let waker = Waker::from(Arc::new(Bell::default()));
        let polled = Pin::new(&mut asking).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        (asking, self.requests.try_recv().unwrap().unwrap())
    }

    fn request(&mut self) -> Delivery {
        block_on(self.requests.recv()).unwrap().unwrap()
    }

    fn answer(&mut self, request: Delivery) {
        let request = request.ack_into_message();
        let reply = request.reply(request.payload().clone()).unwrap();
        block_on(self.replies.send(reply)).unwrap();
    }
}

fn text(asking: Asking) -> Vec<u8> {
    block_on(asking).unwrap().payload().to_vec()
}

#[test]
fn a_reply_wakes_whoever_asked() {
    explore(3, || {
        let mut world = World::new();
        let (asking, request) = world.ask("a");
        let waiting = spawn(move || text(asking));
        world.answer(request);
        assert_eq!(join(waiting), b"a");
    });
}

#[test]
fn two_requests_get_their_own_replies_whichever_of_them_polls() {
    explore(2, || {
        let mut world = World::new();
        let (first, request_a) = world.ask("a");
        let (second, request_b) = world.ask("b");
        let threads = [first, second].map(|asking| spawn(move || text(asking)));
        world.answer(request_b);
        world.answer(request_a);
        assert_eq!(join_all(threads), [b"a", b"b"]);
        assert_eq!(world.bus.late_replies(), 0);
    });
}

#[test]
fn a_request_that_is_dropped_hands_its_turn_on() {
    explore(3, || {
        let mut world = World::new();
        let (quitter, _unanswered) = world.ask("a");
        let (other, request) = world.ask("b");
        let quitting = spawn(move || drop(quitter));
        let waiting = spawn(move || text(other));
        world.answer(request);
        assert_eq!(join(waiting), b"b");
        join(quitting);
    });
}

#[test]
fn a_reply_comes_to_its_request_or_is_late() {
    explore(3, || {
        let mut world = World::new();
        let (mut asking, request) = world.ask("a");
        let quitting = spawn(move || {
            let waker = Waker::from(Arc::new(Bell::default()));
            let polled = Pin::new(&mut asking).poll(&mut Context::from_waker(&waker));
            matches!(polled, Poll::Ready(Ok(reply)) if reply.payload() == "a")
        });
        world.answer(request);
        let came = join(quitting);
        assert_eq!(world.bus.late_replies(), u64::from(!came));
    });
}

#[test]
fn requests_that_open_the_inbox_at_once_share_it() {
    explore(2, || {
        let mut world = World::new();
        let threads = ["a", "b"].map(|payload| {
            let bus = world.bus.clone();
            spawn(move || text(bus.request("echo", payload).into_future()))
        });
        for _ in 0..2 {
            let request = world.request();
            world.answer(request);
        }
        assert_eq!(join_all(threads), [b"a", b"b"]);
    });
}
