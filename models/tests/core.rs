//! Models of the core's small pieces: the one-shot cell and the set of ready children.
#![cfg(loom)]

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use posthaste_core::sync::atomic::{AtomicBool, Ordering};
use posthaste_core::task::{OneShot, ReadySet};
use posthaste_models::{block_on, explore, join, join_all, spawn};

#[test]
fn what_is_put_wakes_whoever_waits_for_it() {
    explore(3, || {
        let cell = Arc::new(OneShot::new());
        let putting = spawn({
            let cell = Arc::clone(&cell);
            move || cell.put(7)
        });
        assert_eq!(block_on(poll_fn(|cx| cell.poll_take(cx))), 7);
        join(putting);
    });
}

#[test]
fn a_child_that_is_woken_while_it_is_polled_is_listed_again() {
    explore(3, || {
        let set = ReadySet::new();
        let child = set.add(1);
        // What the child waits for: a value, and a waker to be woken when there is one.
        let cell = Arc::new(OneShot::new());
        let putting = spawn({
            let cell = Arc::clone(&cell);
            move || cell.put(7)
        });
        set.mark(1);
        let mut ready = Vec::new();
        let value = block_on(poll_fn(|cx| {
            loop {
                set.register(cx);
                set.take_ready(&mut ready);
                if ready.is_empty() {
                    return Poll::Pending;
                }
                assert!(ready.drain(..).all(|listed| listed == 1));
                let mut child_cx = Context::from_waker(child.polling());
                if let Poll::Ready(value) = cell.poll_take(&mut child_cx) {
                    return Poll::Ready(value);
                }
            }
        }));
        assert_eq!(value, 7);
        join(putting);
    });
}

#[test]
fn children_woken_from_two_threads_are_all_listed() {
    explore(3, || {
        let set = ReadySet::new();
        let children = [set.add(0), set.add(1)];
        let wakers: [Waker; 2] = children.each_ref().map(|child| child.polling().clone());
        let threads = wakers.map(|waker| spawn(move || waker.wake()));
        let mut seen = [false; 2];
        let mut ready = Vec::new();
        block_on(poll_fn(|cx| {
            set.register(cx);
            set.take_ready(&mut ready);
            ready.drain(..).for_each(|child| seen[child] = true);
            if seen == [true; 2] { Poll::Ready(()) } else { Poll::Pending }
        }));
        join_all(threads);
    });
}

#[test]
fn what_was_done_before_a_wake_up_is_seen_by_the_poll_after_it() {
    explore(3, || {
        let set = ReadySet::new();
        let child = set.add(1);
        let waker = child.polling().clone();
        // It is listed already, so the other wake-up lists nothing.
        waker.wake_by_ref();
        // Nothing but the wake-up orders this.
        let done = Arc::new(AtomicBool::new(false));
        let doing = spawn({
            let done = Arc::clone(&done);
            move || {
                done.store(true, Ordering::Relaxed);
                waker.wake();
            }
        });
        let mut ready = Vec::new();
        block_on(poll_fn(|cx| {
            set.register(cx);
            set.take_ready(&mut ready);
            while ready.pop().is_some() {
                child.polling();
                if done.load(Ordering::Relaxed) {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        }));
        join(doing);
    });
}
