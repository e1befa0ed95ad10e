//! Several handlers at a time inside one task: a bounded set of futures, each with its own waker.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::runtime::BoxTimer;
use crate::task::{Child, ReadySet};
use crate::{BoxReceiver, Delivery, Error, Receiver, ReceiverExt};

/// How often one poll goes round before it lets the executor's other tasks run.
const ROUNDS: usize = 32;
/// The timer, among the children.
const TIMER: usize = usize::MAX;

/// Starts work for each delivery that comes in, up to `limit` at a time, until the receiver ends
/// and everything that was started has finished and is settled. `start` may decline a delivery.
/// With a timer, work is polled at the deadline of its message too.
pub(super) async fn run<F: Future<Output = ()>>(
    mut receiver: BoxReceiver,
    limit: usize,
    timer: Option<BoxTimer>,
    mut start: impl FnMut(Delivery) -> Option<F>,
) -> Result<(), Error> {
    let mut crew = Crew::new(limit, timer);
    let mut batch = Vec::new();
    let mut end = None;
    std::future::poll_fn(|cx| {
        // Whether the receiver wakes the task when it has more.
        let mut pending = false;
        for _ in 0..ROUNDS {
            while end.is_none()
                && !pending
                && let Some(room) = NonZeroUsize::new(crew.room())
            {
                match receiver.poll_recv_many(cx, &mut batch, room) {
                    Poll::Pending => pending = true,
                    Poll::Ready(Ok(0)) => end = Some(Ok(())),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => end = Some(Err(error)),
                }
                for delivery in batch.drain(..) {
                    crew.start(delivery, &mut start);
                }
            }
            let finished = crew.poll(cx);
            if crew.is_idle()
                && let Some(end) = end.take()
            {
                return Poll::Ready(end);
            }
            // With room again the receiver has to be asked again, or it would wake nobody.
            if !finished || pending {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await?;
    receiver.settled().await
}

/// A bounded set of running handlers. A slot is boxed once and used again, so a warm crew
/// allocates nothing, and a poll touches only the handlers that were woken.
struct Crew<F> {
    members: Vec<Member<F>>,
    free: Vec<usize>,
    ready: ReadySet,
    /// Those to be polled, kept between polls for its buffer.
    due: Vec<usize>,
    limit: usize,
    /// The timer, which is polled when it is set anew and when it was woken.
    timer: Option<(BoxTimer, Child)>,
    /// What the timer is set to; an earlier deadline than that there is none.
    armed: Option<Instant>,
}

struct Member<F> {
    work: Pin<Box<Option<F>>>,
    child: Child,
    until: Option<Instant>,
}

impl<F: Future<Output = ()>> Crew<F> {
    fn new(limit: usize, timer: Option<BoxTimer>) -> Self {
        let ready = ReadySet::new();
        Self {
            members: Vec::new(),
            free: Vec::new(),
            timer: timer.map(|timer| (timer, ready.add(TIMER))),
            ready,
            due: Vec::new(),
            limit: limit.max(1),
            armed: None,
        }
    }

    /// How many more can be started.
    fn room(&self) -> usize {
        self.limit - self.members.len() + self.free.len()
    }

    fn is_idle(&self) -> bool {
        self.free.len() == self.members.len()
    }

    /// Starts work for `delivery` if there is room for it: the next [`poll`](Self::poll) polls it.
    fn start(&mut self, delivery: Delivery, start: &mut impl FnMut(Delivery) -> Option<F>) {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.members.len() < self.limit => {
                self.members.push(Member {
                    work: Box::pin(None),
                    child: self.ready.add(self.members.len()),
                    until: None,
                });
                self.members.len() - 1
            }
            None => return,
        };
        let member = &mut self.members[index];
        let until = delivery.message().deadline();
        member.until = until;
        // Made where it stays, for it may be large.
        member.work.set(start(delivery));
        if member.work.is_none() {
            return self.free.push(index);
        }
        self.due.push(index);
        self.arm(until);
    }

    /// Sets the timer if `until` is earlier than what it is set to.
    fn arm(&mut self, until: Option<Instant>) {
        if let (Some((timer, _)), Some(at)) = (&mut self.timer, until)
            && self.armed.is_none_or(|armed| at < armed)
        {
            timer.as_mut().reset(at);
            self.armed = Some(at);
            self.due.push(TIMER);
        }
    }

    /// Lists those whose deadline has passed. The timer stays set when work ends before its time,
    /// so that most work sets none.
    fn poll_timer(&mut self) {
        while let (Some((timer, child)), Some(now)) = (&mut self.timer, self.armed)
            && timer.as_mut().poll(&mut Context::from_waker(child.polling())).is_ready()
        {
            self.armed = None;
            for (index, member) in self.members.iter_mut().enumerate() {
                if member.until.take_if(|at| *at <= now).is_some() {
                    self.due.push(index);
                }
            }
            let next = self.members.iter().filter_map(|member| member.until).min();
            self.arm(next);
        }
    }

    /// Polls those that were started or woken, once each. Whether any has finished.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        // Registered first: what is woken from here on wakes the task again.
        self.ready.register(cx);
        self.ready.take_ready(&mut self.due);
        if self.due.contains(&TIMER) {
            self.poll_timer();
        }
        let mut finished = false;
        for index in self.due.drain(..) {
            let Some(member) = self.members.get_mut(index) else {
                continue; // the timer
            };
            let waker = member.child.polling();
            let Some(work) = member.work.as_mut().as_pin_mut() else {
                continue; // it finished before this wake-up
            };
            if work.poll(&mut Context::from_waker(waker)).is_ready() {
                member.work.set(None);
                member.until = None;
                self.free.push(index);
                finished = true;
            }
        }
        finished
    }
}
