//! The sending handle: routes a message, and puts it everywhere or nowhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use posthaste_core::sync::atomic::{AtomicU64, Ordering};
use posthaste_core::{
    Capability, Error, ErrorKind, Kind, Level, Message, Receipt, Returned, Sender, SenderOptions,
    Seq,
};

use crate::copies::{Admission, Entrance, uncertain};
use crate::engine::Engine;
use crate::fan;
use crate::mailbox::Mailbox;
use crate::route::Route;
use crate::unstored::Unstored;
use crate::wait::Ticket;

/// The most messages that are put into a mailbox in one step, so that its lock is not held long.
const RUN_MAX: usize = 256;

/// A sender of the in-process broker. Every message is confirmed as it is taken.
#[derive(Debug)]
pub struct MemorySender {
    engine: Arc<Engine>,
    route: Route,
    blocked: Option<(Arc<Mailbox>, Ticket)>,
    /// How many messages were taken, for the books of all senders.
    taken: Arc<AtomicU64>,
    /// The level that every message has to reach.
    confirm: Option<Level>,
    unstored: Unstored,
    closed: bool,
}

impl MemorySender {
    pub(crate) fn open(engine: Arc<Engine>, options: SenderOptions) -> Result<Self, Error> {
        if options.confirm.is_some_and(|level| level > Level::Held) && engine.store().is_none() {
            return Err(Error::unsupported(Capability::Durability, "memory"));
        }
        if let Some(queue) = options.queue {
            engine.declare(posthaste_core::Queue::new(queue))?;
        }
        Ok(Self {
            taken: engine.sends.join(),
            engine,
            route: Route::default(),
            blocked: None,
            confirm: options.confirm,
            unstored: Unstored::default(),
            closed: false,
        })
    }

    /// Whether the message may go, and if so, where: in `self.route`.
    fn ready(&mut self, message: &Message) -> Result<(), Error> {
        self.check(message)?;
        self.route.look_up(&self.engine, message)?;
        if message.is_repeat() && self.route.targets().is_empty() {
            return Err(uncertain());
        }
        match self.confirm {
            Some(level) if level > Level::Held && level > self.route.level() => {
                Err(unconfirmed(message, level, self.route.level()))
            }
            _ => Ok(()),
        }
    }

    /// Ready when a store that is to have the message has room for it.
    fn poll_store(&self, cx: &mut Context<'_>, size: usize) -> Poll<Result<(), Error>> {
        match self.engine.store().filter(|_| self.route.is_durable()) {
            Some(store) => store.poll_room(size, cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn check(&self, message: &Message) -> Result<(), Error> {
        if self.closed {
            return Err(Error::closed("the sender"));
        }
        // What is asked while the broker drains is refused, what was asked before is answered.
        let answers = matches!(message.kind(), Kind::Reply | Kind::Status);
        if self.engine.is_draining() && !answers {
            return Err(Engine::draining());
        }
        message.check_size(self.engine.payload_limit())?;
        if !self.engine.has_clock() {
            if message.deadline().is_some() {
                return Err(Engine::needs_clock("a deadline"));
            }
            if !message.delay().is_zero() {
                return Err(Engine::needs_clock("a delay"));
            }
        }
        Ok(())
    }

    /// Puts the message into every target or into none, and says what became of it. One that has
    /// to wait, or found a target gone, is still in the slot.
    fn put(&mut self, cx: &Context<'_>, slot: &mut Option<Message>) -> Put {
        let impatient = slot.as_ref().is_some_and(is_impatient);
        let (target, admission) = match self.route.willing(impatient) {
            [] => return Put::Into(0),
            [target] => (target, target.admit(slot, Entrance::Sender(Some(cx.waker())))),
            targets => {
                let Some(message) = slot.as_ref() else {
                    return Put::Into(0);
                };
                let put = fan::put_everywhere(targets, message, cx.waker());
                // A drain waits for what room was kept for, wherever that went.
                self.engine.wake_drain();
                match put {
                    Ok(matched) => return Put::Into(matched),
                    Err(refused) => refused,
                }
            }
        };
        match admission {
            Admission::Taken => Put::Into(1),
            not_taken => Self::not_put(&mut self.blocked, target, not_taken),
        }
    }

    fn not_put(
        blocked: &mut Option<(Arc<Mailbox>, Ticket)>,
        target: &Arc<Mailbox>,
        admission: Admission,
    ) -> Put {
        match admission {
            Admission::Full(ticket) => {
                *blocked = ticket.map(|ticket| (Arc::clone(target), ticket));
                Put::Waits
            }
            Admission::Refused(error) => Put::Refused(error),
            Admission::Draining => Put::Refused(Engine::draining()),
            Admission::Gone | Admission::Taken => Put::Stale,
        }
    }

    /// Sends a message that is not like the one before, or finds not all as that did.
    #[inline(never)]
    fn poll_send_slowly(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        let new = slot.as_ref().filter(|this| this.is_plain() && !self.route.has_model(this));
        let model = new.map(Message::without_payload);
        let waited = self.blocked.take();
        let outcome = self.put_or_wait(cx, slot);
        Self::leave(waited);
        match outcome {
            Poll::Ready(Ok(matched)) => {
                self.put_one(slot.take(), matched);
                if model.is_some() && !self.engine.is_draining() {
                    self.route.set_model(model);
                }
                Poll::Ready(Ok(self.last()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // The next one, whatever it is, has to give up this one's place on the list.
                self.route.set_model(None);
                Poll::Pending
            }
        }
    }

    /// Puts the message where it belongs now, looking again when that changes meanwhile.
    fn put_or_wait(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<u64, Error>> {
        loop {
            let Some(message) = slot.as_ref() else {
                let text = "there is no message in the slot";
                return Poll::Ready(Err(Error::new(ErrorKind::InvalidArgument, text)));
            };
            self.ready(message)?;
            if self.poll_store(cx, message.size())?.is_pending() {
                return Poll::Pending;
            }
            match self.put(cx, slot) {
                Put::Into(matched) => return Poll::Ready(Ok(matched)),
                Put::Waits => return Poll::Pending,
                Put::Refused(error) => return Poll::Ready(Err(error)),
                // Nothing leads there any more, since before it was closed.
                Put::Stale => self.route.forget(),
            }
        }
    }

    /// Puts the messages at the front that go the same way where they belong, in one step, and
    /// says what became of the next one.
    fn put_run(&mut self, cx: &mut Context<'_>, messages: &mut VecDeque<Message>) -> Put {
        let Some(first) = messages.front() else {
            return Put::Into(0);
        };
        if let Err(error) = self.ready(first) {
            return Put::Refused(error);
        }
        match self.poll_store(cx, first.size()) {
            Poll::Pending => return Put::Waits,
            Poll::Ready(Err(error)) => return Put::Refused(error),
            Poll::Ready(Ok(())) => {}
        }
        let impatient = is_impatient(first);
        let limit = self.engine.payload_limit();
        let goes_along = |message: &&Message| {
            message.is_like(first) && message.is_plain() && message.payload().len() <= limit
                || is_impatient(message) == impatient
                    && self.route.leads(message)
                    && self.check(message).is_ok()
        };
        let most = 1 + messages.iter().take(RUN_MAX).skip(1).take_while(goes_along).count();
        let (taken, matched, put) = match self.route.willing(impatient) {
            // Each of them may be a question that is to be answered.
            [] => (0, 0, Put::Into(0)),
            [target] => {
                let entrance = Entrance::Sender(Some(cx.waker()));
                match target.admit_run(messages, most, entrance) {
                    (taken, Admission::Taken) => (taken, taken, Put::Into(1)),
                    (taken, admission) => {
                        (taken, taken, Self::not_put(&mut self.blocked, target, admission))
                    }
                }
            }
            targets => {
                let (taken, copies) = fan::put_run_everywhere(targets, messages, most);
                self.engine.wake_drain();
                (taken, copies, Put::Into(1))
            }
        };
        if taken > 0 && matched == 0 {
            self.engine.count_unmatched(taken as u64);
        }
        self.took(taken as u64, matched as u64);
        if taken > 0 || !matches!(put, Put::Into(_)) {
            return put;
        }
        // One alone: nobody gets it, or it is the first one that there is no room for.
        let mut slot = messages.pop_front();
        let put = self.put(cx, &mut slot);
        match put {
            Put::Into(matched) => self.put_one(slot, matched),
            _ => {
                if let Some(message) = slot {
                    messages.push_front(message);
                }
            }
        }
        put
    }

    /// Notes that a message was put where it belongs.
    fn put_one(&mut self, left: Option<Message>, matched: u64) {
        // What nobody got, what several got a clone of, and what was dropped is left.
        if matched == 0 {
            self.engine.count_unmatched(1);
            if let Some(request) = left.filter(|this| this.kind() == Kind::Request) {
                self.engine.answer_nobody(&request);
            }
        }
        self.took(1, matched);
    }

    fn took(&mut self, count: u64, matched: u64) {
        self.unstored.count(count, matched, self.route.level());
        let seq = self.count(count).get();
        if self.route.is_durable()
            && let Some(store) = self.engine.store()
        {
            self.unstored.wait(seq, store.noted());
        }
    }

    /// Counts messages that were taken; the number of the last one.
    #[inline(always)]
    fn count(&self, more: u64) -> Seq {
        // One writer, so no read-modify-write is needed.
        let count = self.taken.load(Ordering::Relaxed) + more;
        self.taken.store(count, Ordering::Relaxed);
        Seq::new(count)
    }

    fn last(&self) -> Seq {
        Seq::new(self.taken.load(Ordering::Relaxed))
    }

    /// Gives up the place on the list of an earlier poll, once a new one has been taken.
    fn leave(waited: Option<(Arc<Mailbox>, Ticket)>) {
        if let Some((mailbox, ticket)) = waited {
            mailbox.leave_blocked(ticket);
        }
    }
}

/// What is said of a message that cannot become as safe as was asked for.
fn unconfirmed(message: &Message, asked: Level, level: Level) -> Error {
    let text = format!(
        "{} would be {level} and not {asked}, because not every queue that it goes to is durable; \
         declare one that is, or ask for less",
        message.topic()
    );
    Error::new(ErrorKind::Unconfirmed, text)
}

/// Whether the message is of use to live responders alone.
fn is_impatient(message: &Message) -> bool {
    message.kind() == Kind::Request && !message.waits()
}

/// What became of a message.
enum Put {
    /// This many have a copy.
    Into(u64),
    /// One has no room; the sender is on its list.
    Waits,
    /// One is gone, and perhaps another in its place.
    Stale,
    /// One does not take it.
    Refused(Error),
}

impl Sender for MemorySender {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        if let Some(message) = slot
            && let Some([target]) = self.route.of_model(message, &self.engine)
            && target.admit_plainly(slot)
        {
            return Poll::Ready(Ok(self.count(1)));
        }
        self.poll_send_slowly(cx, slot)
    }

    fn poll_send_many(
        &mut self,
        cx: &mut Context<'_>,
        messages: &mut VecDeque<Message>,
    ) -> Poll<Result<(), Error>> {
        let waited = self.blocked.take();
        let mut outcome = Poll::Ready(Ok(()));
        while !messages.is_empty() {
            match self.put_run(cx, messages) {
                Put::Into(_) => {}
                Put::Stale => self.route.forget(),
                Put::Waits => {
                    self.route.set_model(None);
                    outcome = Poll::Pending;
                    break;
                }
                Put::Refused(error) => {
                    outcome = Poll::Ready(Err(error));
                    break;
                }
            }
        }
        Self::leave(waited);
        outcome
    }

    fn try_send_run(&mut self, slot: &mut Option<Message>) -> Option<Seq> {
        let run = slot.as_ref()?;
        let plain = run.kind() != Kind::Request && !run.is_repeat() && run.delay().is_zero();
        // What is wrong is said of each message.
        if !plain || run.deadline().is_some() || self.ready(run).is_err() {
            return None;
        }
        let count = u64::from(run.count());
        let matched = match self.route.targets() {
            [] => {
                self.engine.count_unmatched(count);
                0
            }
            [target] => {
                let taken = target.with(|state, after| state.admit_whole(slot, after));
                taken.then_some(count)?
            }
            targets => {
                let put = fan::put_whole_everywhere(targets, run);
                self.engine.wake_drain();
                put?
            }
        };
        *slot = None;
        self.took(count, matched);
        Some(self.last())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>> {
        if self.closed {
            return Poll::Ready(Err(Error::closed("the sender")));
        }
        let level = self.confirm.unwrap_or(Level::Stored);
        let mut reached = u64::MAX;
        if level > Level::Held
            && let Some(store) = self.engine.store()
            && let Some(needed) = self.unstored.needs(upto.get())
        {
            ready!(store.poll_reached(needed, level, cx))?;
            reached = store.reached(level);
        }
        Poll::Ready(Ok(self.unstored.receipt(self.last().get(), reached, level)))
    }

    fn take_returned(&mut self, _from: Seq) -> Option<Returned> {
        // What this broker does not take, it leaves in the slot.
        None
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.disarm();
        self.route.forget();
        self.closed = true;
        Poll::Ready(Ok(()))
    }

    fn disarm(&mut self) {
        Self::leave(self.blocked.take());
    }
}

impl Drop for MemorySender {
    fn drop(&mut self) {
        self.disarm();
        self.engine.sends.leave(&self.taken);
    }
}
