//! A first-in-first-out list of waiting tasks that loses no wake-up when a waiter gives up.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use posthaste_core::task::remember;

/// Tasks that wait for the same thing, oldest first.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Tickets in the order of arrival; one whose slot is gone or another's is passed over.
    order: VecDeque<Ticket>,
    next_serial: u64,
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    waker: Option<Waker>,
    notified: bool,
    shared: bool,
}

/// A place in a [`WaitList`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: usize,
    serial: u64,
}

/// Wakers to be woken once no lock is held.
#[derive(Debug, Default)]
#[must_use = "the wakers have to be woken after the lock is released"]
pub(crate) struct Wakes {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakes {
    pub(crate) fn push(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.push(waker);
        }
    }

    pub(crate) fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
        }
        for waker in self.rest {
            waker.wake();
        }
    }
}

impl WaitList {
    /// Puts a task at the end of the list.
    pub(crate) fn wait(&mut self, cx: &Context<'_>) -> Ticket {
        let serial = self.next_serial;
        self.next_serial += 1;
        let mut waker = None;
        remember(&mut waker, cx);
        let slot = Some(Slot {
            serial,
            waker,
            notified: false,
            shared: false,
        });
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        let ticket = Ticket { index, serial };
        self.order.push_back(ticket);
        ticket
    }

    /// Takes a task off the list; true if it was woken and has not used that wake-up yet.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(slot) = self.slots.get_mut(ticket.index) else {
            return false;
        };
        if slot
            .as_ref()
            .is_none_or(|slot| slot.serial != ticket.serial)
        {
            return false;
        }
        let notified = slot.take().is_some_and(|slot| slot.notified);
        self.free.push(ticket.index);
        if !notified {
            self.forget(ticket);
        }
        notified
    }

    /// A wake-up that goes to this task goes to the next one as well, because it may never be
    /// polled again.
    pub(crate) fn share(&mut self, ticket: Ticket) {
        if let Some(Some(slot)) = self.slots.get_mut(ticket.index)
            && slot.serial == ticket.serial
        {
            slot.shared = true;
        }
    }

    /// Wakes the task that has waited longest (and behind one that shares, the next).
    pub(crate) fn notify_one(&mut self, wakes: &mut Wakes) {
        while let Some(ticket) = self.order.pop_front() {
            let Some(Some(slot)) = self.slots.get_mut(ticket.index) else {
                continue;
            };
            if slot.serial != ticket.serial {
                continue;
            }
            slot.notified = true;
            if let Some(waker) = slot.waker.take() {
                wakes.push(waker);
            }
            if !slot.shared {
                return;
            }
        }
    }

    /// Wakes every task.
    pub(crate) fn notify_all(&mut self, wakes: &mut Wakes) {
        while !self.order.is_empty() {
            self.notify_one(wakes);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Drops the ticket from the order: at once where that is cheap, else when it comes up.
    fn forget(&mut self, ticket: Ticket) {
        if self.order.back() == Some(&ticket) {
            self.order.pop_back();
        } else if self.order.front() == Some(&ticket) {
            self.order.pop_front();
        } else if self.order.len() > 2 * (self.slots.len() - self.free.len()) + 8 {
            let slots = &self.slots;
            self.order.retain(|ticket| {
                slots
                    .get(ticket.index)
                    .and_then(Option::as_ref)
                    .is_some_and(|slot| slot.serial == ticket.serial)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waiter(list: &mut WaitList) -> (Arc<Count>, Ticket) {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let ticket = list.wait(&Context::from_waker(&waker));
        (count, ticket)
    }

    fn notify(list: &mut WaitList) {
        let mut wakes = Wakes::default();
        list.notify_one(&mut wakes);
        wakes.wake();
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    #[test]
    fn the_one_that_waited_longest_is_woken() {
        let mut list = WaitList::default();
        let (first, _) = waiter(&mut list);
        let (second, _) = waiter(&mut list);
        notify(&mut list);
        assert_eq!((woken(&first), woken(&second)), (1, 0));
    }

    #[test]
    fn one_that_left_is_passed_over_and_its_slot_is_used_again() {
        let mut list = WaitList::default();
        let (first, ticket) = waiter(&mut list);
        let (second, _) = waiter(&mut list);
        assert!(!list.leave(ticket));
        let (third, _) = waiter(&mut list);
        notify(&mut list);
        notify(&mut list);
        notify(&mut list);
        assert_eq!((woken(&first), woken(&second), woken(&third)), (0, 1, 1));
    }

    #[test]
    fn leaving_after_a_wake_up_says_so_once() {
        let mut list = WaitList::default();
        let (_, ticket) = waiter(&mut list);
        notify(&mut list);
        assert!(list.leave(ticket));
        assert!(!list.leave(ticket));
    }

    #[test]
    fn one_that_shares_passes_the_wake_up_on_as_well() {
        let mut list = WaitList::default();
        let (first, ticket) = waiter(&mut list);
        let (second, _) = waiter(&mut list);
        let (third, _) = waiter(&mut list);
        list.share(ticket);
        notify(&mut list);
        assert_eq!((woken(&first), woken(&second), woken(&third)), (1, 1, 0));
    }

    #[test]
    fn waiting_and_leaving_for_ever_takes_no_more_memory() {
        let mut list = WaitList::default();
        let (_, stays) = waiter(&mut list);
        let (_, also) = waiter(&mut list);
        for _ in 0..10_000 {
            let (_, ticket) = waiter(&mut list);
            let (_, last) = waiter(&mut list);
            list.leave(ticket);
            list.leave(last);
        }
        assert!(list.order.len() < 64 && list.slots.len() < 64);
        assert!(!list.leave(stays) && !list.leave(also));
    }
}
