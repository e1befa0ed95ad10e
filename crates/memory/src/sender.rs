//! The sending handle: routes a message, and puts it everywhere or nowhere.

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use posthaste_core::sync::atomic::{AtomicU64, Ordering};
use posthaste_core::{
    Error, ErrorKind, Kind, Level, Message, Receipt, Returned, Sender, SenderOptions, Seq, Topic,
};

use crate::copies::{Admission, Entrance, uncertain};
use crate::engine::Engine;
use crate::mailbox::{Mailbox, Role};
use crate::wait::Ticket;

/// A sender of the in-process broker. Every message is confirmed as it is taken.
#[derive(Debug)]
pub struct MemorySender {
    engine: Arc<Engine>,
    route: Route,
    blocked: Option<(Arc<Mailbox>, Ticket)>,
    last: Seq,
    /// How many messages were taken, for the books of all senders.
    taken: Arc<AtomicU64>,
    receipt: Receipt,
    closed: bool,
}

/// The last look-up. Most senders send to one topic, so most messages need no other.
#[derive(Debug, Default)]
struct Route {
    topic: Option<Topic>,
    to_queue: bool,
    generation: u64,
    targets: Vec<Arc<Mailbox>>,
    /// Those of the targets that somebody asks at, where it matters.
    busy: Vec<Arc<Mailbox>>,
}

impl MemorySender {
    pub(crate) fn open(engine: Arc<Engine>, options: SenderOptions) -> Result<Self, Error> {
        if options.confirm.is_some_and(|level| level > Level::Held) {
            return Err(Error::unsupported("durability", "memory"));
        }
        if let Some(queue) = options.queue {
            engine.declare(posthaste_core::Queue::new(queue))?;
        }
        Ok(Self {
            taken: engine.sends.join(),
            engine,
            route: Route::default(),
            blocked: None,
            last: Seq::default(),
            receipt: Receipt::empty(Seq::default()),
            closed: false,
        })
    }

    /// Whether the message may go, and if so, where: in `self.route`.
    fn ready(&mut self, message: &Message) -> Result<(), Error> {
        if self.closed {
            return Err(Error::closed("the sender"));
        }
        // What is asked while the broker drains is refused, what was asked before is answered.
        let answers = matches!(message.kind(), Kind::Reply | Kind::Status);
        if self.engine.is_draining() && !answers {
            return Err(Engine::draining());
        }
        message.check_size()?;
        if !self.engine.has_clock() {
            if message.deadline().is_some() {
                return Err(Engine::needs_clock("a deadline"));
            }
            if !message.delay().is_zero() {
                return Err(Engine::needs_clock("a delay"));
            }
        }
        self.look_up(message)?;
        match message.is_repeat() && self.route.targets.is_empty() {
            true => Err(uncertain()),
            false => Ok(()),
        }
    }

    fn look_up(&mut self, message: &Message) -> Result<(), Error> {
        let to_queue = message.is_to_queue();
        let generation = self.engine.generation();
        let route = &mut self.route;
        // A queue that was not there is looked for again: this message may declare it.
        let same = route.generation == generation
            && !(to_queue && route.targets.is_empty())
            && route.to_queue == to_queue
            && route.topic.as_ref().is_some_and(|topic| topic.as_bytes() == message.topic_bytes());
        if same {
            return Ok(());
        }
        // A look-up that fails leaves no answer to an older one behind.
        route.topic = None;
        let topic = message.topic();
        // A request does not conjure up a queue in which nobody would find it.
        let declare = message.kind() != Kind::Request || message.waits();
        let queue = to_queue.then_some(&topic);
        route.generation =
            self.engine.route(message.topic_bytes(), queue, declare, &mut route.targets)?;
        route.to_queue = to_queue;
        route.topic = Some(topic);
        Ok(())
    }

    /// Puts the message into every target or into none, and says what became of it. One that has
    /// to wait, or found a target gone, is still in the slot.
    fn put(&mut self, cx: &Context<'_>, slot: &mut Option<Message>) -> Put {
        let impatient =
            slot.as_ref().is_some_and(|this| this.kind() == Kind::Request && !this.waits());
        let (target, admission) = match self.route.willing(impatient) {
            [] => return Put::Into(0),
            [target] => (target, target.admit(slot, Entrance::Sender(Some(cx.waker())))),
            targets => {
                let Some(message) = slot.as_ref() else {
                    return Put::Into(0);
                };
                let put = put_everywhere(targets, message, cx.waker());
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
            Admission::Full(ticket) => {
                self.blocked = ticket.map(|ticket| (Arc::clone(target), ticket));
                Put::Waits
            }
            Admission::Refused(error) => Put::Refused(error),
            Admission::Gone => Put::Stale,
            Admission::Draining => Put::Refused(Engine::draining()),
        }
    }

    /// Puts the message where it belongs now, looking again when that changes meanwhile.
    fn put_or_wait(
        &mut self,
        cx: &Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<u64, Error>> {
        loop {
            let Some(message) = slot.as_ref() else {
                let text = "there is no message in the slot";
                return Poll::Ready(Err(Error::new(ErrorKind::InvalidArgument, text)));
            };
            self.ready(message)?;
            match self.put(cx, slot) {
                Put::Into(matched) => return Poll::Ready(Ok(matched)),
                Put::Waits => return Poll::Pending,
                Put::Refused(error) => return Poll::Ready(Err(error)),
                // Nothing leads there any more, since before it was closed.
                Put::Stale => self.route.topic = None,
            }
        }
    }
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

impl Route {
    /// The targets that take the message. A request that does not wait is for live responders: no
    /// queue takes it at which nobody asks, and nothing at all if nobody asks anywhere.
    fn willing(&mut self, impatient: bool) -> &[Arc<Mailbox>] {
        if !impatient || self.targets.iter().all(|this| this.has_takers()) {
            return &self.targets;
        }
        self.busy.clear();
        if self.targets.iter().any(|this| this.has_takers()) {
            let waits = |this: &&Arc<Mailbox>| this.role() == Role::Queue && !this.has_takers();
            self.busy.extend(self.targets.iter().filter(|this| !waits(this)).cloned());
        }
        &self.busy
    }
}

/// Keeps room at every target before any gets a copy; gives the room up again if one refuses, and
/// says which.
fn put_everywhere<'a>(
    targets: &'a [Arc<Mailbox>],
    message: &Message,
    waker: &Waker,
) -> Result<u64, (&'a Arc<Mailbox>, Admission)> {
    let size = message.size();
    for (index, target) in targets.iter().enumerate() {
        let reserved = target.with(|state, after| state.reserve(message, waker, after));
        if !matches!(reserved, Admission::Taken) {
            for this in &targets[..index] {
                this.with(|state, after| state.unreserve(size, after));
            }
            return Err((target, reserved));
        }
    }
    let taken = |target: &&Arc<Mailbox>| {
        let copy = message.clone();
        let admitted = target.with(|state, after| state.admit_reserved(copy, after));
        matches!(admitted, Admission::Taken)
    };
    Ok(targets.iter().filter(taken).count() as u64)
}

impl Sender for MemorySender {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        let waited = self.blocked.take();
        let outcome = self.put_or_wait(cx, slot);
        if let Some((mailbox, ticket)) = waited {
            mailbox.leave_blocked(ticket);
        }
        let matched = ready!(outcome)?;
        // What nobody got, what several got a clone of, and what was dropped is still in the slot.
        let message = slot.take();
        if matched == 0 {
            self.engine.count_unmatched();
            if let Some(request) = message.filter(|this| this.kind() == Kind::Request) {
                self.engine.answer_nobody(&request);
            }
        }
        self.last = self.last.next();
        // One writer, so no read-modify-write is needed.
        self.taken.store(self.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.receipt.confirm(1, matched, Level::Held, 1);
        Poll::Ready(Ok(self.last))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>, _upto: Seq) -> Poll<Result<Receipt, Error>> {
        if self.closed {
            return Poll::Ready(Err(Error::closed("the sender")));
        }
        let mut receipt = std::mem::replace(&mut self.receipt, Receipt::empty(self.last));
        receipt.upto = self.last;
        Poll::Ready(Ok(receipt))
    }

    fn take_returned(&mut self, _from: Seq) -> Option<Returned> {
        // What this broker does not take, it leaves in the slot.
        None
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.disarm();
        self.closed = true;
        Poll::Ready(Ok(()))
    }

    fn disarm(&mut self) {
        if let Some((mailbox, ticket)) = self.blocked.take() {
            mailbox.leave_blocked(ticket);
        }
    }
}

impl Drop for MemorySender {
    fn drop(&mut self) {
        self.disarm();
        self.engine.sends.leave(&self.taken);
    }
}
