//! A broker that does what a test tells it: it keeps what is sent and delivers what it is given.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::task::lock;
use posthaste_core::*;

/// What happens to one delivery after the other, as `tag: outcome`.
type Outcomes = Arc<Mutex<Vec<String>>>;

#[derive(Clone, Default)]
pub(crate) struct Mock(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    sent: Vec<Message>,
    senders_opened: usize,
    senders_alive: usize,
    inboxes_opened: usize,
    disarms: usize,
    hold_taking: bool,
    hold_confirming: bool,
    hold_opening: bool,
    hold_senders: bool,
    senders_asked_for: usize,
    refuse_inbox: Option<Error>,
    refusals: VecDeque<Error>,
    returns: VecDeque<Error>,
    deadlines: bool,
    matched: u64,
    waiting: Vec<Waker>,
    inbox: Feed,
    requests: Feed,
    declared: Vec<String>,
    cancelled: Vec<Cancel>,
}

impl Mock {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_deadlines(self) -> Self {
        lock(&self.0).deadlines = true;
        self
    }

    /// How many get what is sent, according to the receipts.
    pub(crate) fn matching(self, matched: u64) -> Self {
        lock(&self.0).matched = matched;
        self
    }

    /// Everything that was sent so far.
    pub(crate) fn sent(&self) -> Vec<Message> {
        lock(&self.0).sent.clone()
    }

    /// The request with this payload, if it was sent.
    pub(crate) fn request(&self, payload: &str) -> Option<Message> {
        lock(&self.0).sent.iter().rfind(|message| message.payload() == payload).cloned()
    }

    pub(crate) fn senders_opened(&self) -> usize {
        lock(&self.0).senders_opened
    }

    pub(crate) fn senders_alive(&self) -> usize {
        lock(&self.0).senders_alive
    }

    pub(crate) fn inboxes_opened(&self) -> usize {
        lock(&self.0).inboxes_opened
    }

    pub(crate) fn disarms(&self) -> usize {
        lock(&self.0).disarms
    }

    pub(crate) fn declared(&self) -> Vec<String> {
        lock(&self.0).declared.clone()
    }

    /// The correlations of the requests that were cancelled, in order.
    pub(crate) fn cancelled(&self) -> Vec<u64> {
        lock(&self.0).cancelled.iter().map(|cancel| cancel.correlation).collect()
    }

    /// The next message that is offered to any sender is refused with this.
    pub(crate) fn refuse(&self, kind: ErrorKind) {
        lock(&self.0).refusals.push_back(Error::new(kind, "scripted"));
    }

    /// The next message that is confirmed comes back with this instead.
    pub(crate) fn return_next(&self, kind: ErrorKind) {
        lock(&self.0).returns.push_back(Error::new(kind, "scripted"));
    }

    pub(crate) fn refuse_inbox(&self, kind: ErrorKind) {
        lock(&self.0).refuse_inbox = Some(Error::new(kind, "scripted"));
    }

    pub(crate) fn hold_taking(&self, hold: bool) {
        self.change(|script| script.hold_taking = hold);
    }

    pub(crate) fn hold_confirming(&self, hold: bool) {
        self.change(|script| script.hold_confirming = hold);
    }

    pub(crate) fn hold_opening(&self, hold: bool) {
        self.change(|script| script.hold_opening = hold);
    }

    /// Whether senders that are asked for are not opened yet.
    pub(crate) fn hold_senders(&self, hold: bool) {
        self.change(|script| script.hold_senders = hold);
    }

    pub(crate) fn senders_asked_for(&self) -> usize {
        lock(&self.0).senders_asked_for
    }

    fn change(&self, change: impl FnOnce(&mut Script)) {
        let wakers = {
            let mut script = lock(&self.0);
            change(&mut script);
            std::mem::take(&mut script.waiting)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The bus's inbox.
    pub(crate) fn inbox(&self) -> Feed {
        lock(&self.0).inbox.clone()
    }

    /// What every other receiver delivers.
    pub(crate) fn requests(&self) -> Feed {
        lock(&self.0).requests.clone()
    }

    /// Answers the request with this payload by its own payload.
    pub(crate) fn answer(&self, payload: &str) {
        let request = self.request(payload).expect("the request was sent");
        let reply = request.reply(request.payload().clone());
        self.inbox().deliver(reply.expect("a request has a reply address"));
    }
}

#[async_trait]
impl Broker for Mock {
    async fn sender(&self, _options: SenderOptions) -> Result<BoxSender, Error> {
        lock(&self.0).senders_asked_for += 1;
        std::future::poll_fn(|cx| {
            let mut script = lock(&self.0);
            if !script.hold_senders {
                return Poll::Ready(());
            }
            script.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let mut script = lock(&self.0);
        script.senders_opened += 1;
        script.senders_alive += 1;
        Ok(Box::new(MockSender {
            mock: self.clone(),
            taken: 0,
            settled: 0,
            returned: VecDeque::new(),
        }))
    }

    async fn receiver(&self, _subscription: Subscription) -> Result<BoxReceiver, Error> {
        Ok(Box::new(self.requests()))
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        std::future::poll_fn(|cx| {
            let mut script = lock(&self.0);
            if script.hold_opening {
                script.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        let mut script = lock(&self.0);
        if let Some(error) = script.refuse_inbox.take() {
            return Err(error);
        }
        script.inboxes_opened += 1;
        script.inbox = Feed::default();
        let address = Topic::new(format!("_ph.inbox.{}", script.inboxes_opened))?;
        Ok((address, Box::new(script.inbox.clone())))
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        lock(&self.0).declared.push(format!("{} {:?}", queue.name, queue.bindings));
        Ok(())
    }

    async fn delete(&self, _queue: &Topic) -> Result<(), Error> {
        Ok(())
    }

    async fn queue(&self, _queue: &Topic) -> Result<QueueInfo, Error> {
        Err(Error::unsupported("inspection", "mock"))
    }

    async fn stats(&self) -> Result<Stats, Error> {
        Ok(Stats::default())
    }

    async fn drain(&self, _within: Duration) -> Result<DrainReport, Error> {
        Ok(DrainReport::default())
    }

    fn cancel(&self, request: &Cancel) {
        let mut script = lock(&self.0);
        let sent = script.sent.iter().any(|message| request.is_for(message));
        assert!(sent, "only what was sent is cancelled");
        script.cancelled.push(request.clone());
    }

    fn capabilities(&self) -> Capabilities {
        let card = Capabilities::new("mock").native(&[Capability::MatchCount]);
        if lock(&self.0).deadlines {
            return card.native(&[Capability::Deadlines]);
        }
        card
    }
}

struct MockSender {
    mock: Mock,
    taken: u64,
    settled: u64,
    returned: VecDeque<Returned>,
}

impl Sender for MockSender {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        let mut script = lock(&self.mock.0);
        if script.hold_taking {
            script.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(error) = script.refusals.pop_front() {
            return Poll::Ready(Err(error));
        }
        script.sent.push(slot.take().expect("a full slot"));
        self.taken += 1;
        Poll::Ready(Ok(Seq::new(self.taken)))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>> {
        let mut script = lock(&self.mock.0);
        if script.hold_confirming {
            script.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let mut receipt = Receipt::empty(upto);
        if let Some(error) = script.returns.pop_front() {
            receipt.returned = 1;
            self.returned.push_back(Returned {
                seq: Seq::new(self.taken),
                message: script.sent.last().cloned().expect("something was sent"),
                error,
            });
        }
        let confirmed = self.taken - self.settled - receipt.returned;
        receipt.confirm(confirmed, confirmed * script.matched, Level::Held, 1);
        self.settled = self.taken;
        Poll::Ready(Ok(receipt))
    }

    fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        let at = self.returned.iter().position(|this| this.seq >= from)?;
        self.returned.remove(at)
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn disarm(&mut self) {
        lock(&self.mock.0).disarms += 1;
    }
}

impl Drop for MockSender {
    fn drop(&mut self) {
        lock(&self.mock.0).senders_alive -= 1;
    }
}

/// A receiver, and the test's end of it. It keeps one waker, and only while a poll is pending.
#[derive(Clone, Default)]
pub(crate) struct Feed(Arc<Mutex<FeedState>>);

#[derive(Default)]
struct FeedState {
    queue: VecDeque<Delivery>,
    end: Option<Result<(), Error>>,
    interrupts: VecDeque<Error>,
    waker: Option<Waker>,
    polls: usize,
    outcomes: Outcomes,
    next_tag: u64,
    cancelled: Vec<u64>,
    cancel_wakers: Vec<Waker>,
}

impl Feed {
    /// Delivers a message that is settled already.
    pub(crate) fn deliver(&self, message: Message) {
        self.change(|state| state.queue.push_back(Delivery::settled(message, 1)));
    }

    /// Delivers a message that has to be settled; its tag is the answer, counted from 0.
    pub(crate) fn lend(&self, message: Message) -> u64 {
        let settle = Arc::new(self.clone());
        let mut tag = 0;
        self.change(|state| {
            tag = state.next_tag;
            state.next_tag += 1;
            state.queue.push_back(Delivery::leased(message, 1, settle, tag));
        });
        tag
    }

    pub(crate) fn end(&self, end: Result<(), ErrorKind>) {
        let end = end.map_err(|kind| Error::new(kind, "scripted"));
        self.change(|state| state.end = Some(end));
    }

    /// Reports an error and goes on.
    pub(crate) fn interrupt(&self, kind: ErrorKind) {
        self.change(|state| state.interrupts.push_back(Error::new(kind, "scripted")));
    }

    pub(crate) fn cancel(&self, tag: u64) {
        let wakers = {
            let mut state = lock(&self.0);
            state.cancelled.push(tag);
            std::mem::take(&mut state.cancel_wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn outcomes(&self) -> Vec<String> {
        let outcomes = Arc::clone(&lock(&self.0).outcomes);
        lock(&outcomes).clone()
    }

    pub(crate) fn polls(&self) -> usize {
        lock(&self.0).polls
    }

    fn change(&self, change: impl FnOnce(&mut FeedState)) {
        let waker = {
            let mut state = lock(&self.0);
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Receiver for Feed {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let mut one = Vec::new();
        self.poll_recv_many(cx, &mut one, NonZeroUsize::MIN)
            .map(|count| count.map(|_| one.pop()).transpose())
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        let mut state = lock(&self.0);
        state.polls += 1;
        state.waker = None;
        if let Some(error) = state.interrupts.pop_front() {
            return Poll::Ready(Err(error));
        }
        let count = limit.get().min(state.queue.len());
        if count > 0 {
            into.extend(state.queue.drain(..count));
            return Poll::Ready(Ok(count));
        }
        match state.end.clone() {
            Some(Ok(())) => Poll::Ready(Ok(0)),
            Some(Err(error)) => {
                state.end = Some(Ok(()));
                Poll::Ready(Err(error))
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_settled(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

impl Settle for Feed {
    fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        let outcomes = Arc::clone(&lock(&self.0).outcomes);
        let text = match outcome {
            Outcome::Retry { after, why } => format!("retry after {after:?}: {why}"),
            Outcome::Reject { why } => format!("reject: {why}"),
            other => format!("{other:?}").to_lowercase(),
        };
        lock(&outcomes).push(format!("{tag} {text}"));
    }

    fn poll_cancelled(&self, tag: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.cancelled.contains(&tag) {
            return Poll::Ready(());
        }
        state.cancel_wakers.push(cx.waker().clone());
        Poll::Pending
    }
}
