//! A first-in-first-out list of waiting tasks that loses no wake-up when a waiter gives up.

use std::collections::VecDeque;
use std::task::Waker;

use crate::aftermath::Aftermath;
use crate::room::Room;

/// Tasks that wait for the same thing, oldest first.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Tickets in the order of arrival; one whose slot is gone or another's is passed over.
    order: VecDeque<Ticket>,
    next_serial: u64,
    /// How many were woken and have not come yet, and the bytes that these need.
    notified: usize,
    notified_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    waker: Option<Waker>,
    /// The bytes that it waits for.
    bytes: usize,
    notified: bool,
    shared: bool,
}

/// A place in a [`WaitList`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: usize,
    serial: u64,
}

impl WaitList {
    /// Puts a task at the end of the list; `bytes` is what it waits for, if for room.
    pub(crate) fn wait(&mut self, waker: &Waker, bytes: usize) -> Ticket {
        let serial = self.next_serial;
        self.next_serial += 1;
        let slot = Some(Slot {
            serial,
            waker: Some(waker.clone()),
            bytes,
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
    pub(crate) fn leave(&mut self, ticket: Ticket, after: &mut Aftermath) -> bool {
        if self.slot(ticket).is_none() {
            return false;
        }
        let Some(slot) = self.slots[ticket.index].take() else {
            return false;
        };
        self.free.push(ticket.index);
        after.discard(slot.waker);
        if slot.notified {
            self.notified -= 1;
            self.notified_bytes -= slot.bytes;
        } else {
            self.forget(ticket);
        }
        slot.notified
    }

    /// A wake-up that goes to this task goes to the next one as well, because it may never be
    /// polled again. True if it has one already, which then is to be passed on now.
    pub(crate) fn share(&mut self, ticket: Ticket) -> bool {
        self.slot(ticket).is_some_and(|slot| {
            slot.shared = true;
            slot.notified
        })
    }

    /// Wakes the task that has waited longest (and behind one that shares, the next).
    pub(crate) fn notify_one(&mut self, after: &mut Aftermath) {
        while let Some(ticket) = self.order.pop_front() {
            if let Some(shared) = self.notify(ticket, after)
                && !shared
            {
                return;
            }
        }
    }

    /// Wakes every task that `room` is enough for, the one that has waited longest first; what
    /// those need who were woken before and have not come yet is theirs.
    pub(crate) fn notify_fitting(&mut self, mut room: Room, after: &mut Aftermath) {
        room.take(self.notified, self.notified_bytes);
        let mut at = 0;
        while !room.is_full()
            && let Some(&ticket) = self.order.get(at)
        {
            match self.slot(ticket).map(|slot| slot.bytes) {
                Some(bytes) if !room.fits(bytes) => at += 1,
                Some(bytes) => {
                    self.order.remove(at);
                    self.notify(ticket, after);
                    room.take(1, bytes);
                }
                None => {
                    self.order.remove(at);
                }
            }
        }
    }

    /// Wakes every task.
    pub(crate) fn notify_all(&mut self, after: &mut Aftermath) {
        while let Some(ticket) = self.order.pop_front() {
            self.notify(ticket, after);
        }
    }

    /// How many wait and were not woken.
    pub(crate) fn waiters(&self) -> usize {
        self.slots.len() - self.free.len() - self.notified
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Wakes a task that is off the order, if it is still there, and says whether it shares.
    fn notify(&mut self, ticket: Ticket, after: &mut Aftermath) -> Option<bool> {
        let slot = self.slot(ticket)?;
        slot.notified = true;
        if let Some(waker) = slot.waker.take() {
            after.wake(waker);
        }
        let (bytes, shared) = (slot.bytes, slot.shared);
        self.notified += 1;
        self.notified_bytes += bytes;
        Some(shared)
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        self.slots.get_mut(ticket.index)?.as_mut().filter(|slot| slot.serial == ticket.serial)
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
        let ticket = list.wait(&waker, 0);
        (count, ticket)
    }

    fn notify(list: &mut WaitList) {
        let mut after = Aftermath::default();
        list.notify_one(&mut after);
        after.run();
    }

    fn leave(list: &mut WaitList, ticket: Ticket) -> bool {
        list.leave(ticket, &mut Aftermath::default())
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
        assert!(!leave(&mut list, ticket));
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
        assert!(leave(&mut list, ticket));
        assert!(!leave(&mut list, ticket));
    }

    #[test]
    fn one_that_shares_passes_the_wake_up_on_as_well() {
        let mut list = WaitList::default();
        let (first, ticket) = waiter(&mut list);
        let (second, _) = waiter(&mut list);
        let (third, _) = waiter(&mut list);
        assert!(!list.share(ticket));
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
            leave(&mut list, ticket);
            leave(&mut list, last);
        }
        assert!(list.order.len() < 64 && list.slots.len() < 64);
        assert!(!leave(&mut list, stays) && !leave(&mut list, also));
    }

    #[test]
    fn room_wakes_those_whom_it_is_enough_for_and_is_promised_once() {
        let mut list = WaitList::default();
        let mut wait = |bytes| {
            let count = Arc::new(Count::default());
            let waker = Waker::from(Arc::clone(&count));
            (count, list.wait(&waker, bytes))
        };
        let waiting = [wait(80), wait(30), wait(20), wait(30)];
        let room = Room { messages: 1, bytes: 40, capacity_messages: 9, capacity_bytes: 100 };
        let mut after = Aftermath::default();
        list.notify_fitting(room, &mut after);
        list.notify_fitting(room, &mut after);
        after.run();
        let counts = waiting.each_ref().map(|(count, _)| woken(count));
        assert_eq!(counts, [0, 1, 1, 0]);
        let mut after = Aftermath::default();
        assert!(list.leave(waiting[1].1, &mut after));
        list.notify_fitting(room, &mut after);
        after.run();
        let counts = waiting.each_ref().map(|(count, _)| woken(count));
        assert_eq!(counts, [0, 1, 1, 1]);
    }
}
