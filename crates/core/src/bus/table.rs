//! Who waits for which reply: slots, deadlines, and whose turn it is to poll the inbox.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use super::planted::Planted;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::task::lock;
use crate::{Error, ErrorKind, Message, Topic};

/// The most requests that wait at a time.
pub(super) const WAITING_MAX: usize = 1 << SLOT_BITS;
/// The bits of a correlation that name the slot; the rest is the slot's generation.
const SLOT_BITS: u32 = 16;

/// The requests that wait for their replies.
///
/// No task is spawned for the inbox: the waiting requests poll it themselves. It is polled with
/// one waker, this table's. When that is woken, the table notes that the inbox *is due* and wakes
/// one waiting request; whichever request is polled first takes the turn, hands every reply to
/// its slot and wakes the owners. What keeps this from losing a wake-up is one invariant:
///
/// > While the inbox is due, nobody is polling it and somebody waits, one of the waiting has been
/// > woken and has not been polled since.
///
/// It holds because whoever gives up waiting looks whether the inbox is due and wakes the next,
/// because only who has the turn ends the waiting of others, and because whoever has the turn looks
/// again before it lets go. A request that was told something does not wait: one that takes many
/// replies waits anew when it is polled and has nothing left to read. So a consumer that takes its
/// time between two replies gets no wake-up that belongs to others.
#[derive(Default)]
pub(super) struct Table {
    state: Mutex<State>,
    planted: Planted,
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// The slots that wait, in no order: each knows its place here.
    waiting: Vec<usize>,
    /// The deadlines of the slots, and some that slots no longer have: most requests are answered,
    /// and nobody looks for theirs.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    /// What the timer is armed for.
    armed: Option<Instant>,
    /// Where replies go while the inbox is open.
    address: Option<Address>,
    due: bool,
    polling: bool,
    /// The request that has the turn, which looks itself what it was told.
    looking: u64,
    /// Rotates, so that one request that is never polled does not get every wake-up.
    turn: usize,
    generation: u64,
    late: u64,
}

/// The open inbox.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) topic: Topic,
    /// Whether the broker understands deadlines.
    pub(super) deadlines: bool,
}

#[derive(Default)]
struct Slot {
    /// 0 while the slot is free.
    correlation: u64,
    takes: Takes,
    /// Its place among the waiting, if it waits.
    place: Option<usize>,
    deadline: Option<Instant>,
    waker: Option<Waker>,
    /// What it was told and has not read. Kept with the slot, so that a warm table allocates
    /// nothing.
    heard: VecDeque<Heard>,
    /// Nothing more comes.
    ended: bool,
}

/// How many replies a request takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Takes {
    /// One.
    #[default]
    One,
    /// Any number, of which so many may be unread; more are as good as late.
    Many(usize),
}

/// What a request is told.
#[derive(Debug)]
pub(super) enum Heard {
    /// A reply came, or a status.
    Reply(Message),
    /// The session was lost and begun anew: what was on its way may never come.
    Lapsed(Error),
    /// The deadline passed.
    Expired,
    /// The inbox was lost.
    Lost(Error),
}

/// What a request finds.
pub(super) enum Look {
    /// It was told this; if nothing more can come its slot is free again.
    Heard(Heard),
    /// It waits, and the inbox is due.
    Due,
    /// It waits.
    Waiting,
}

/// The most that a slot keeps room for while it is free.
const HEARD_KEPT: usize = 8;

/// The deadlines that may be left over before they are looked through.
const DEADLINES_KEPT: usize = 64;

/// A turn at polling the inbox.
pub(super) struct Turn {
    /// Whether anybody waits.
    pub(super) wanted: bool,
    /// What to arm the timer for, if it has to be armed anew.
    pub(super) arm: Option<Instant>,
}

impl Table {
    pub(super) fn new(planted: Planted) -> Self {
        Self { state: Mutex::default(), planted }
    }

    /// Takes a slot; the answer is its correlation.
    pub(super) fn register(
        &self,
        takes: Takes,
        deadline: Option<Instant>,
        waker: &Waker,
    ) -> Result<u64, Error> {
        let deadline = deadline.filter(|_| !self.planted.ignores_deadlines);
        let mut state = lock(&self.state);
        let state = &mut *state;
        let index = match state.free.pop() {
            Some(index) => index,
            None if state.slots.len() < WAITING_MAX => {
                state.slots.push(Slot::default());
                state.slots.len() - 1
            }
            None => {
                let text = format!("at most {WAITING_MAX} requests of a bus wait at a time");
                return Err(Error::new(ErrorKind::Limit, text));
            }
        };
        // Counted over all slots, so no correlation comes twice; from 1, so none is 0.
        state.generation = (state.generation % (u64::MAX >> SLOT_BITS)) + 1;
        if self.planted.forgets_generations {
            state.generation = 1;
        }
        let correlation = state.generation << SLOT_BITS | index as u64;
        let slot = &mut state.slots[index];
        (slot.correlation, slot.takes, slot.deadline) = (correlation, takes, deadline);
        slot.waker = Some(waker.clone());
        slot.ended = false;
        state.wait(index);
        if let Some(at) = deadline {
            state.drop_old_deadlines();
            state.deadlines.push(Reverse((at, index)));
            state.due |= state.armed.is_none_or(|armed| at < armed);
        }
        state.due |= state.address.is_none();
        Ok(correlation)
    }

    /// Looks for what the request was told, and leaves `waker` to be woken when there is something.
    pub(super) fn look(&self, correlation: u64, waker: &Waker) -> Look {
        // Declared before the lock, so dropped after it: a waker's drop is the executor's code.
        let _replaced;
        let mut state = lock(&self.state);
        let Some(index) = state.find(correlation) else {
            return Look::Heard(Heard::Lost(Error::closed("the request")));
        };
        let slot = &mut state.slots[index];
        if let Some(heard) = slot.heard.pop_front() {
            if slot.ended && slot.heard.is_empty() {
                _replaced = state.free(index);
            }
            return Look::Heard(heard);
        }
        if !slot.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            _replaced = slot.waker.replace(waker.clone());
        }
        state.wait(index);
        if state.due && !state.polling { Look::Due } else { Look::Waiting }
    }

    /// Frees the slot of a request that is given up; a reply that still comes is late. Whether the
    /// request could have been told more.
    pub(super) fn leave(&self, correlation: u64) -> bool {
        let _dropped: (VecDeque<Heard>, Option<Waker>);
        let mut state = lock(&self.state);
        let Some(index) = state.find(correlation) else {
            return false;
        };
        state.stop_waiting(index);
        let slot = &mut state.slots[index];
        slot.deadline = None;
        let (open, heard) = (!slot.ended, mem::take(&mut slot.heard));
        // Answered, and nobody looked: the answer is as late as one that comes from now on.
        let unread = heard.iter().filter(|this| matches!(this, Heard::Reply(_))).count();
        state.late += unread as u64;
        _dropped = (heard, state.free(index));
        let next = state.next_if_due();
        drop(state);
        next.into_iter().for_each(Waker::wake);
        open
    }

    /// The request is not being polled for now: it waits for nothing until it looks again, and
    /// somebody is woken for the turn if the inbox is due.
    pub(super) fn rest(&self, correlation: u64) {
        let next = {
            let mut state = lock(&self.state);
            if let Some(index) = state.find(correlation) {
                state.stop_waiting(index);
            }
            state.next_if_due()
        };
        next.into_iter().for_each(Waker::wake);
    }

    /// Takes the turn at polling the inbox if it is due and nobody else does; the request `looking`
    /// is not woken in it.
    pub(super) fn begin(&self, looking: u64) -> Option<Turn> {
        let mut state = lock(&self.state);
        if !state.due || state.polling {
            return None;
        }
        (state.due, state.polling, state.looking) = (false, true, looking);
        let earliest = state.deadlines.peek().map(|Reverse((at, _))| *at);
        let arm = earliest.filter(|at| state.armed.is_none_or(|armed| *at < armed));
        state.armed = arm.or(state.armed);
        Some(Turn { wanted: !state.waiting.is_empty(), arm })
    }

    /// Ends the turn. The caller looks again whether the inbox is due, or passes on.
    pub(super) fn end(&self, due: bool) {
        let mut state = lock(&self.state);
        state.polling = false;
        state.due |= due;
    }

    /// The inbox's waker was woken, or there is reason to poll the inbox again.
    pub(super) fn mark_due(&self) {
        let next = {
            let mut state = lock(&self.state);
            state.due = true;
            state.next_if_due()
        };
        next.into_iter().for_each(Waker::wake);
    }

    /// Where replies go, once the inbox is open.
    pub(super) fn address(&self) -> Option<Address> {
        lock(&self.state).address.clone()
    }

    /// The inbox is open: everybody can send.
    pub(super) fn opened(&self, address: Address, wakers: &mut Vec<Waker>) {
        let mut state = lock(&self.state);
        state.address = Some(address);
        let State { slots, waiting, .. } = &mut *state;
        wakers.extend(waiting.iter().filter_map(|index| slots[*index].waker.clone()));
    }

    /// The inbox is lost, and with it everything that waits for a reply.
    pub(super) fn lost(&self, error: &Error, wakers: &mut Vec<Waker>) {
        let mut state = lock(&self.state);
        state.address = None;
        state.tell_all(true, || Heard::Lost(error.clone()), wakers);
    }

    /// The session is another: every request decides for itself what that means.
    pub(super) fn lapsed(&self, error: &Error, wakers: &mut Vec<Waker>) {
        lock(&self.state).tell_all(false, || Heard::Lapsed(error.clone()), wakers);
    }

    /// Gives replies to those who wait for them; the others are late.
    pub(super) fn dispatch(
        &self,
        replies: impl Iterator<Item = Message>,
        wakers: &mut Vec<Waker>,
        late: &mut Vec<Message>,
    ) {
        let mut state = lock(&self.state);
        for reply in replies {
            let found = match self.planted.answers_any_request {
                false => state.find(reply.correlation()),
                true => state.oldest(),
            };
            match found {
                Some(index) if state.slots[index].has_room() => {
                    let last = matches!(state.slots[index].takes, Takes::One);
                    wakers.extend(state.tell(index, Heard::Reply(reply), last));
                }
                _ => {
                    state.late += 1;
                    late.push(reply);
                }
            }
        }
    }

    /// The timer has fired at `now`.
    pub(super) fn expire(&self, now: Instant, wakers: &mut Vec<Waker>) {
        let mut state = lock(&self.state);
        // A timer is never early, so what it was armed for has passed whatever the clock says.
        let now = state.armed.take().map_or(now, |armed| now.max(armed));
        while let Some(Reverse((at, index))) = state.deadlines.peek().copied()
            && at <= now
        {
            state.deadlines.pop();
            if state.slots[index].deadline == Some(at) {
                wakers.extend(state.tell(index, Heard::Expired, true));
            }
        }
    }

    pub(super) fn late(&self) -> u64 {
        lock(&self.state).late
    }

    /// How many requests have a slot.
    pub(super) fn waiting(&self) -> usize {
        let state = lock(&self.state);
        state.slots.len() - state.free.len()
    }
}

impl State {
    fn find(&self, correlation: u64) -> Option<usize> {
        let index = (correlation % WAITING_MAX as u64) as usize;
        let slot = self.slots.get(index)?;
        (correlation != 0 && slot.correlation == correlation).then_some(index)
    }

    /// The request that waits longest.
    fn oldest(&self) -> Option<usize> {
        let open = (0..self.slots.len()).filter(|index| self.slots[*index].is_open());
        open.min_by_key(|index| self.slots[*index].correlation)
    }

    /// Tells a request something, `last` if nothing more comes. It does not wait until it looks.
    fn tell(&mut self, index: usize, heard: Heard, last: bool) -> Option<Waker> {
        self.stop_waiting(index);
        let slot = &mut self.slots[index];
        slot.deadline.take_if(|_| last);
        slot.ended |= last;
        slot.heard.push_back(heard);
        slot.waker.take_if(|_| slot.correlation != self.looking)
    }

    fn tell_all(&mut self, last: bool, heard: impl Fn() -> Heard, wakers: &mut Vec<Waker>) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let knows = !last && matches!(slot.heard.back(), Some(Heard::Lapsed(_)));
            if slot.is_open() && !knows {
                wakers.extend(self.tell(index, heard(), last));
            }
        }
    }

    fn wait(&mut self, index: usize) {
        if self.slots[index].place.is_none() {
            self.slots[index].place = Some(self.waiting.len());
            self.waiting.push(index);
        }
    }

    fn stop_waiting(&mut self, index: usize) {
        let Some(place) = self.slots[index].place.take() else {
            return;
        };
        self.waiting.swap_remove(place);
        if let Some(moved) = self.waiting.get(place) {
            self.slots[*moved].place = Some(place);
        }
    }

    /// Keeps no more deadlines than a few times as many as there are requests.
    fn drop_old_deadlines(&mut self) {
        let Self { slots, deadlines, free, .. } = self;
        if deadlines.len() > DEADLINES_KEPT + 2 * (slots.len() - free.len()) {
            deadlines.retain(|Reverse((at, index))| slots[*index].deadline == Some(*at));
        }
    }

    fn free(&mut self, index: usize) -> Option<Waker> {
        self.free.push(index);
        let slot = &mut self.slots[index];
        slot.correlation = 0;
        slot.heard.shrink_to(HEARD_KEPT);
        slot.waker.take()
    }

    fn next_if_due(&mut self) -> Option<Waker> {
        if !self.due || self.polling || self.waiting.is_empty() {
            return None;
        }
        self.turn = self.turn.wrapping_add(1);
        let index = self.waiting[self.turn % self.waiting.len()];
        self.slots[index].waker.clone()
    }
}

impl Slot {
    fn is_open(&self) -> bool {
        self.correlation != 0 && !self.ended
    }

    fn has_room(&self) -> bool {
        let room = match self.takes {
            Takes::One => true,
            Takes::Many(unread) => self.heard.len() < unread,
        };
        room && !self.ended
    }
}

/// The waker that the inbox is polled with, and that of the timer. It owns the table and not the
/// inbox, so that an inbox that keeps its waker keeps nothing of itself alive.
pub(super) struct LineWaker {
    table: Arc<Table>,
    /// Whether it was woken since this was cleared.
    pub(super) woken: AtomicBool,
}

impl LineWaker {
    pub(super) fn new(table: &Arc<Table>) -> Self {
        Self { table: Arc::clone(table), woken: AtomicBool::new(false) }
    }
}

impl Wake for LineWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.table.mark_due();
    }
}
