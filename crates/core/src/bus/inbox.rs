//! The one inbox of a bus, which the waiting requests open and poll themselves.

use std::mem;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::planted::Planted;
use super::table::{Address, Heard, LineWaker, Look, Table, Takes, Turn};
use crate::runtime::BoxTimer;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::task::lock;
use crate::{
    BoxFuture, BoxReceiver, Broker, Capability, Delivery, Error, ErrorKind, Head, Message,
    SharedRuntime, Topic,
};

/// How many replies are taken at a time.
const BATCH: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// How often one poll of a request polls the inbox before it leaves the rest to another.
const ROUNDS: usize = 8;

/// The table of the waiting, and the line by which replies come in.
pub(super) struct Inbox {
    broker: Arc<dyn Broker>,
    runtime: Option<SharedRuntime>,
    table: Arc<Table>,
    waker: Waker,
    timer: Arc<LineWaker>,
    timer_waker: Waker,
    /// Only ever locked by who has the turn.
    line: Mutex<Line>,
    /// The head of the last request without headers: the next one's is often the same.
    pub(super) head: Mutex<Option<Head>>,
}

#[derive(Default)]
struct Line {
    state: LineState,
    timer: Option<BoxTimer>,
    /// Buffers, kept so that a warm line allocates nothing.
    batch: Vec<Delivery>,
    replies: Vec<Message>,
    late: Vec<Message>,
    wakers: Vec<Waker>,
}

#[derive(Default)]
enum LineState {
    #[default]
    Closed,
    Opening(BoxFuture<'static, Result<(Topic, BoxReceiver), Error>>),
    Open(BoxReceiver),
}

impl Inbox {
    pub(super) fn new(broker: Arc<dyn Broker>, runtime: Option<SharedRuntime>) -> Self {
        let table = Arc::new(Table::new(Planted::ask(runtime.as_deref())));
        let timer = Arc::new(LineWaker::new(&table));
        Self {
            broker,
            runtime,
            waker: Waker::from(Arc::new(LineWaker::new(&table))),
            timer_waker: Waker::from(Arc::clone(&timer)),
            timer,
            table,
            line: Mutex::default(),
            head: Mutex::default(),
        }
    }

    /// Enters a request; the answer is its correlation.
    pub(super) fn register(
        &self,
        takes: Takes,
        deadline: Option<Instant>,
        cx: &Context<'_>,
    ) -> Result<u64, Error> {
        self.table.register(takes, deadline, cx.waker())
    }

    /// Ready when there is something for the request; what ends it frees its slot.
    pub(super) fn poll(&self, correlation: u64, cx: &Context<'_>) -> Poll<Heard> {
        let mut goes_on = true;
        loop {
            match self.table.look(correlation, cx.waker()) {
                Look::Heard(heard) => return Poll::Ready(heard),
                Look::Due if goes_on => goes_on = self.drive(correlation),
                // Who is to go on has been woken, perhaps this request.
                Look::Due | Look::Waiting => return Poll::Pending,
            }
        }
    }

    /// Gives a request up. Whether it could have heard more.
    pub(super) fn leave(&self, correlation: u64) -> bool {
        self.table.leave(correlation)
    }

    /// The request is not being polled for now.
    pub(super) fn rest(&self, correlation: u64) {
        self.table.rest(correlation);
    }

    /// Where replies go, once the inbox is open.
    pub(super) fn address(&self) -> Option<Address> {
        self.table.address()
    }

    /// How many replies came that nobody waited for any more.
    pub(super) fn late(&self) -> u64 {
        self.drive(0);
        self.table.late()
    }

    pub(super) fn waiting(&self) -> usize {
        self.table.waiting()
    }

    /// Polls the inbox while it is due; whether nothing is left to do. The request of that
    /// correlation looks itself what it was told.
    fn drive(&self, correlation: u64) -> bool {
        for _ in 0..ROUNDS {
            let Some(turn) = self.table.begin(correlation) else {
                return true;
            };
            let mut ending = EndOfTurn { table: &self.table, due: true };
            let mut line = lock(&self.line);
            // The line first: a reply that is there beats a deadline that has passed.
            ending.due = self.poll_line(&mut line, turn.wanted) | self.poll_timer(&mut line, &turn);
            for waker in line.wakers.drain(..) {
                waker.wake();
            }
            line.late.clear();
        }
        // Who goes on takes the turn.
        self.table.rest(0);
        false
    }

    /// Whether to poll again: true unless everything is pending.
    fn poll_timer(&self, line: &mut Line, turn: &Turn) -> bool {
        let Some(runtime) = &self.runtime else {
            return false;
        };
        if let Some(at) = turn.arm {
            let timer = line.timer.get_or_insert_with(|| runtime.timer());
            timer.as_mut().reset(at);
        }
        // Neither set anew nor woken, it has nothing to say.
        if !self.timer.woken.swap(false, Ordering::SeqCst) && turn.arm.is_none() {
            return false;
        }
        let Some(timer) = line.timer.as_mut() else {
            return false;
        };
        let fired = timer.as_mut().poll(&mut Context::from_waker(&self.timer_waker));
        if fired.is_ready() {
            self.table.expire(runtime.now(), &mut line.wakers);
        }
        fired.is_ready()
    }

    /// Whether to poll again: true unless everything is pending.
    fn poll_line(&self, line: &mut Line, wanted: bool) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        // Taken out, so that a backend that panics leaves a closed line behind.
        let failed = match mem::take(&mut line.state) {
            LineState::Closed if !wanted => return false,
            LineState::Closed => {
                let broker = Arc::clone(&self.broker);
                line.state = LineState::Opening(Box::pin(async move { broker.inbox().await }));
                return true;
            }
            LineState::Opening(mut opening) => match opening.as_mut().poll(&mut cx) {
                Poll::Pending => {
                    line.state = LineState::Opening(opening);
                    return false;
                }
                Poll::Ready(Ok((topic, receiver))) => {
                    line.state = LineState::Open(receiver);
                    let deadlines = self.broker.capabilities().has(Capability::Deadlines);
                    let address = Address { topic, deadlines };
                    self.table.opened(address, &mut line.wakers);
                    return true;
                }
                Poll::Ready(Err(error)) => error,
            },
            LineState::Open(mut receiver) => {
                match receiver.poll_recv_many(&mut cx, &mut line.batch, BATCH) {
                    Poll::Pending => {
                        line.state = LineState::Open(receiver);
                        return false;
                    }
                    Poll::Ready(Ok(1..)) => {
                        line.state = LineState::Open(receiver);
                        self.dispatch(line);
                        return true;
                    }
                    Poll::Ready(Err(error)) if error.kind() == ErrorKind::SessionLost => {
                        line.state = LineState::Open(receiver);
                        self.table.lapsed(&error, &mut line.wakers);
                        return true;
                    }
                    Poll::Ready(Ok(0)) => Error::closed("the inbox for replies"),
                    Poll::Ready(Err(error)) => error,
                }
            }
        };
        self.table.lost(&failed, &mut line.wakers);
        false
    }

    fn dispatch(&self, line: &mut Line) {
        // Settled before the table is locked: settling is the backend's code and may wake us.
        let settled = line.batch.drain(..).map(Delivery::ack_into_message);
        line.replies.extend(settled);
        let replies = line.replies.drain(..);
        self.table.dispatch(replies, &mut line.wakers, &mut line.late);
    }
}

/// Lets go of the turn, also when a backend panics in it.
struct EndOfTurn<'a> {
    table: &'a Table,
    due: bool,
}

impl Drop for EndOfTurn<'_> {
    fn drop(&mut self) {
        self.table.end(self.due);
    }
}
