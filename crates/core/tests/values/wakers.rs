//! The pieces for hand-written polls wake who waits, once, and lose nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use posthaste_core::task::{OneShot, ReadySet, remember};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn waker() -> (Arc<Self>, Waker) {
        let count = Arc::<Self>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn a_one_shot_hands_its_value_over_once_and_wakes_who_waits() {
    let (count, waker) = Count::waker();
    let cx = &mut Context::from_waker(&waker);
    let cell = OneShot::new();
    assert_eq!(cell.poll_take(cx), Poll::Pending);
    cell.put(1);
    assert_eq!((count.wakes(), cell.poll_take(cx)), (1, Poll::Ready(1)));
    assert_eq!(cell.poll_take(cx), Poll::Pending);
    cell.put(2);
    cell.put(3);
    assert_eq!((count.wakes(), cell.poll_take(cx)), (2, Poll::Ready(3)));
}

#[test]
fn a_ready_set_lists_the_woken_children_once_in_order_and_wakes_its_parent_once() {
    let (count, waker) = Count::waker();
    let set = ReadySet::new();
    let children = [set.add(0), set.add(1), set.add(2)];
    set.register(&Context::from_waker(&waker));
    let wakers = children.each_ref().map(|child| child.polling().clone());
    for index in [2, 0, 2, 2] {
        wakers[index].wake_by_ref();
    }
    assert_eq!(count.wakes(), 1);
    let mut ready = Vec::new();
    set.take_ready(&mut ready);
    assert_eq!(ready, [2, 0]);
    // Woken again before it is polled again: still on nobody's list, until it is polled.
    wakers[2].wake_by_ref();
    set.take_ready(&mut ready);
    assert_eq!(ready, [2, 0]);
    children[2].polling().wake_by_ref();
    set.mark(1);
    ready.clear();
    set.take_ready(&mut ready);
    assert_eq!(ready, [2, 1]);
}

#[test]
fn a_child_woken_after_its_set_is_gone_wakes_nobody() {
    let set = ReadySet::new();
    let waker = set.add(0).polling().clone();
    drop(set);
    waker.wake();
}

#[test]
fn a_waker_is_remembered_anew_only_when_it_is_another_tasks() {
    let (_, first) = Count::waker();
    let (_, second) = Count::waker();
    let mut slot = None;
    remember(&mut slot, &Context::from_waker(&first));
    remember(&mut slot, &Context::from_waker(&first));
    assert!(slot.as_ref().is_some_and(|kept| kept.will_wake(&first)));
    remember(&mut slot, &Context::from_waker(&second));
    assert!(slot.is_some_and(|kept| kept.will_wake(&second)));
}
