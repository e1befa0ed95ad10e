//! Senders and receivers with a fault.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::thread::ThreadId;
use std::time::Duration;

use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::task::lock;
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Delivery, Error, Event, Kind, Level, Message, MessageBuilder,
    Outcome, Receipt, Receiver, Returned, Sender, Seq, Settle, Status, Subscription, Topic,
};
use posthaste_memory::Memory;

use super::fault::Fault;

pub(crate) struct BrokenSender {
    inner: BoxSender,
    fault: Fault,
    /// How many messages were taken, by this sender's own count.
    taken: u64,
    /// Of these, how many the inner sender never saw.
    hidden: u64,
    held: VecDeque<Message>,
    closed: bool,
}

impl BrokenSender {
    pub(crate) fn new(inner: BoxSender, fault: Fault) -> Self {
        let held = VecDeque::new();
        Self { inner, fault, taken: 0, hidden: 0, held, closed: false }
    }

    /// Counts a message that the inner sender knows nothing of.
    fn hide(&mut self) -> Poll<Result<Seq, Error>> {
        self.hidden += 1;
        self.took()
    }

    fn took(&mut self) -> Poll<Result<Seq, Error>> {
        self.taken += 1;
        let number = self.taken - u64::from(self.fault == Fault::CountsFromZero);
        Poll::Ready(Ok(Seq::new(number)))
    }

    /// Sends what was held back, as far as there is room.
    fn catch_up(&mut self) {
        while let Some(message) = self.held.pop_front() {
            let mut slot = Some(message);
            let mut cx = Context::from_waker(Waker::noop());
            let sent = self.inner.poll_send(&mut cx, &mut slot);
            if sent.is_pending() {
                self.inner.disarm();
            }
            if let Some(message) = slot {
                self.held.push_front(message);
                return;
            }
        }
    }
}

impl Sender for BrokenSender {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        let next = self.taken + 1;
        match self.fault {
            Fault::LosesEverySeventh if next.is_multiple_of(7) && slot.is_some() => {
                *slot = None;
                return self.hide();
            }
            Fault::ReordersTwo if next.is_multiple_of(5) => {
                self.held.extend(slot.take());
                // The inner sender sees it later, so it is not hidden.
                return self.took();
            }
            Fault::CutsPayloads => {
                if let Some(message) = slot.take() {
                    let mut parts = message.into_parts();
                    parts.payload.truncate(PAYLOAD_BYTES_MAX);
                    *slot = Message::from_parts(parts).ok();
                }
            }
            Fault::LosesHeaders => {
                if let Some(message) = slot.take_if(|message| message.kind() == Kind::Event) {
                    let plain = if message.is_to_queue() {
                        Message::to_queue(message.topic(), message.payload().clone())
                    } else {
                        Message::new(message.topic(), message.payload().clone())
                    };
                    *slot = Some(plain);
                }
            }
            Fault::ForgetsDelays => *slot = slot.take().map(Message::without_delay),
            Fault::IgnoresPriorities => {
                if let Some(usual) = slot.as_ref().filter(|message| message.priority() > 0) {
                    *slot = plain(usual).build().ok();
                }
            }
            _ => {}
        }
        let double = slot.clone().filter(|_| next.is_multiple_of(5));
        let sent = self.inner.poll_send(cx, slot);
        match (self.fault, &sent) {
            (Fault::ConfirmsTheRefused, Poll::Ready(Err(_))) if slot.is_some() => {
                *slot = None;
                return self.hide();
            }
            (Fault::EmptiesThePendingSlot, Poll::Pending) => *slot = None,
            (Fault::BuffersWithoutBound, Poll::Pending) => {
                self.inner.disarm();
                self.held.extend(slot.take());
                return self.hide();
            }
            (Fault::DoublesOne, Poll::Ready(Ok(_))) => self.held.extend(double),
            _ => {}
        }
        ready!(sent)?;
        if self.fault != Fault::BuffersWithoutBound {
            self.catch_up();
        }
        self.took()
    }

    fn poll_send_many(
        &mut self,
        cx: &mut Context<'_>,
        messages: &mut VecDeque<Message>,
    ) -> Poll<Result<(), Error>> {
        if self.fault == Fault::SendsBatchesBackwards {
            messages.make_contiguous().reverse();
        }
        while let Some(message) = messages.pop_front() {
            let mut slot = Some(message);
            let sent = self.poll_send(cx, &mut slot);
            slot.into_iter().for_each(|message| messages.push_front(message));
            if sent.is_pending() && self.fault == Fault::DropsTheBatchThatWaits {
                messages.clear();
            }
            ready!(sent)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, _upto: Seq) -> Poll<Result<Receipt, Error>> {
        self.catch_up();
        let mut receipt = ready!(self.inner.poll_flush(cx, Seq::new(u64::MAX)))?;
        receipt.upto = Seq::new(self.taken);
        match self.fault {
            Fault::DoublesOne => receipt.confirmed = receipt.confirmed.min(self.taken),
            Fault::MiscountsMatches => receipt.matched = receipt.confirmed,
            Fault::ClaimsToHaveStored => receipt.level = Level::Stored,
            Fault::ForgetsOutcomes => receipt.confirmed = receipt.confirmed.min(20),
            _ => {}
        }
        let hidden = std::mem::take(&mut self.hidden);
        if hidden > 0 {
            receipt.confirm(hidden, hidden, Level::Held, 1);
        }
        Poll::Ready(Ok(receipt))
    }

    fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        self.inner.take_returned(from)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.catch_up();
        self.closed = true;
        if self.fault == Fault::NeverCloses {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_close(cx)
    }

    fn disarm(&mut self) {
        if self.fault != Fault::SenderStaysOnTheList {
            self.inner.disarm();
        }
    }
}

/// A message like this one, without what makes it special.
fn plain(message: &Message) -> MessageBuilder {
    let mut draft = Message::builder(message.topic()).payload(message.payload().clone());
    for (name, value) in message.headers() {
        draft = draft.header(name, value);
    }
    if let Some(key) = message.key() {
        draft = draft.key(key);
    }
    if message.is_to_queue() { draft.to_queue() } else { draft }
}

/// Consumers of the same queues, and the copies that each of them gets of the others' messages.
#[derive(Default)]
pub(crate) struct Crowd(Mutex<BTreeMap<u64, (Topic, VecDeque<Message>)>>);

pub(crate) struct BrokenReceiver {
    inner: BoxReceiver,
    fault: Fault,
    number: u64,
    crowd: Arc<Crowd>,
    opener: ThreadId,
    /// What the next poll returns.
    peeked: Option<Delivery>,
    ended: bool,
    settler: Arc<Settler>,
    /// The correlation of the reply before.
    last: u64,
}

impl BrokenReceiver {
    pub(crate) fn new(
        inner: BoxReceiver,
        fault: Fault,
        number: u64,
        queue: Option<Topic>,
        crowd: Arc<Crowd>,
    ) -> Self {
        if let Some(queue) = queue {
            lock(&crowd.0).insert(number, (queue, VecDeque::new()));
        }
        Self {
            inner,
            fault,
            number,
            crowd,
            opener: std::thread::current().id(),
            peeked: None,
            ended: false,
            settler: Arc::new(Settler { fault, leases: Mutex::default() }),
            last: 0,
        }
    }

    /// What becomes of a delivery on its way; `None` if it goes nowhere.
    fn pass(&mut self, delivery: Delivery) -> Option<Delivery> {
        let delivery = match self.fault {
            Fault::ForgetsAttempts
            | Fault::LosesAcks
            | Fault::CountsReleases
            | Fault::IgnoresDelays => self.settler.lease(delivery),
            _ => delivery,
        };
        match self.fault {
            Fault::DeliversToEverybody => {
                let mut crowd = lock(&self.crowd.0);
                let mine = crowd.get(&self.number).map(|(queue, _)| queue.clone());
                for (number, (queue, copies)) in crowd.iter_mut() {
                    if *number != self.number && Some(&*queue) == mine.as_ref() {
                        copies.push_back(delivery.message().clone());
                    }
                }
            }
            Fault::TellsNoEvents if Event::from_message(delivery.message()).is_some() => {
                return None;
            }
            Fault::ForgetsDeaths if delivery.message().deaths().next().is_some() => {
                return Some(self.settler.without_deaths(delivery));
            }
            Fault::NeverSaysNobody if delivery.message().status() == Some(Status::NoResponders) => {
                return None;
            }
            Fault::AnswersOnce if delivery.message().kind() == Kind::Reply => {
                let correlation = delivery.message().correlation();
                if std::mem::replace(&mut self.last, correlation) == correlation {
                    return None;
                }
            }
            Fault::ForgetsOffsets if delivery.offset().is_some() => {
                let parts = delivery.into_parts();
                let delivery = Delivery::settled(parts.message, parts.attempt);
                return Some(delivery.with_missed(parts.missed));
            }
            Fault::HidesGaps if delivery.offset().is_some() => {
                return Some(delivery.with_missed(0));
            }
            Fault::MixesReplies if delivery.message().kind() == Kind::Reply => {
                let attempt = delivery.attempt();
                let mut parts = delivery.into_parts().message.into_parts();
                std::mem::swap(&mut parts.correlation, &mut self.last);
                return Message::from_parts(parts)
                    .ok()
                    .map(|message| Delivery::settled(message, attempt));
            }
            _ => {}
        }
        Some(delivery)
    }
}

impl Receiver for BrokenReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        if self.fault == Fault::EndsOnlyOnce && self.ended {
            return Poll::Pending;
        }
        if self.fault == Fault::DeliversToEverybody
            && let Some((_, copies)) = lock(&self.crowd.0).get_mut(&self.number)
            && let Some(copy) = copies.pop_front()
        {
            return Poll::Ready(Some(Ok(Delivery::settled(copy, 1))));
        }
        if let Some(peeked) = self.peeked.take() {
            return Poll::Ready(Some(Ok(peeked)));
        }
        loop {
            let Some(next) = ready!(self.inner.poll_recv(cx)) else {
                self.ended = true;
                return Poll::Ready(None);
            };
            if self.fault == Fault::EndsInSilence && next.is_err() {
                self.ended = true;
                return Poll::Ready(None);
            }
            let Some(delivery) = self.pass(next?) else {
                continue;
            };
            if self.fault == Fault::LosesWhatIsGivenUp {
                self.peeked = Some(delivery);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Ok(delivery)));
        }
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        let before = into.len();
        while into.len() - before < limit.get() {
            match self.poll_recv(cx) {
                Poll::Ready(Some(next)) => into.push(next?),
                Poll::Ready(None) => break,
                Poll::Pending if into.len() > before => {
                    // What is ready leaves no registration.
                    self.disarm();
                    break;
                }
                Poll::Pending if self.fault == Fault::HasEmptyBatches => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(into.len() - before))
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_settled(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_close(cx)
    }

    fn disarm(&mut self) {
        if let Some(lost) = self.peeked.take() {
            lost.ack();
        }
        if self.fault != Fault::ReceiverStaysOnTheList {
            self.inner.disarm();
        }
    }

    fn share_wakeup(&mut self) {
        if self.fault != Fault::KeepsTheWakeupOfStreams {
            self.inner.share_wakeup();
        }
    }

    fn park(&mut self, parked: bool) {
        self.inner.park(parked);
    }
}

impl Drop for BrokenReceiver {
    fn drop(&mut self) {
        lock(&self.crowd.0).remove(&self.number);
        // A second panic on the way out would end the process.
        let foreign = std::thread::current().id() != self.opener && !std::thread::panicking();
        assert!(
            !(foreign && self.fault == Fault::PanicsOnOtherThreads),
            "dropped on a thread that is none of its own"
        );
    }
}

/// Settles on behalf of the inner broker, with a fault.
struct Settler {
    fault: Fault,
    leases: Mutex<(u64, BTreeMap<u64, posthaste_core::Lease>)>,
}

impl Settler {
    fn without_deaths(self: &Arc<Self>, delivery: Delivery) -> Delivery {
        let attempt = delivery.attempt();
        let parts = delivery.into_parts();
        let (Ok(message), Some(lease)) = (plain(&parts.message).build(), parts.lease) else {
            return Delivery::settled(parts.message, attempt);
        };
        let mut leases = lock(&self.leases);
        leases.0 += 1;
        let tag = leases.0;
        leases.1.insert(tag, lease);
        Delivery::leased(message, attempt, Arc::clone(self) as Arc<dyn Settle>, tag)
    }

    fn lease(self: &Arc<Self>, delivery: Delivery) -> Delivery {
        let parts = delivery.into_parts();
        let attempt = match self.fault {
            Fault::ForgetsAttempts => 1,
            _ => parts.attempt,
        };
        let Some(lease) = parts.lease else {
            let settled = Delivery::settled(parts.message, attempt).with_missed(parts.missed);
            return settled.with_offset(parts.offset);
        };
        let mut leases = lock(&self.leases);
        leases.0 += 1;
        let tag = leases.0;
        leases.1.insert(tag, lease);
        Delivery::leased(parts.message, attempt, Arc::clone(self) as Arc<dyn Settle>, tag)
            .with_missed(parts.missed)
    }
}

impl Settle for Settler {
    fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        let Some(lease) = lock(&self.leases).1.remove(&tag) else {
            return;
        };
        lease.settle(match (self.fault, outcome) {
            (Fault::LosesAcks, Outcome::Ack) => Outcome::Dropped,
            (Fault::CountsReleases, Outcome::Release) => Outcome::Dropped,
            (Fault::IgnoresDelays, Outcome::Retry { why, .. }) => {
                Outcome::Retry { after: Duration::ZERO, why }
            }
            (_, outcome) => outcome,
        });
    }

    fn extend(&self, tag: u64) {
        if let Some(lease) = lock(&self.leases).1.get(&tag) {
            lease.extend();
        }
    }

    fn poll_cancelled(&self, tag: u64, cx: &mut Context<'_>) -> Poll<()> {
        match lock(&self.leases).1.get(&tag) {
            Some(lease) => lease.poll_cancelled(cx),
            None => Poll::Pending,
        }
    }
}

/// A subscription that is opened at its first poll.
pub(crate) struct Late {
    memory: Memory,
    subscription: Subscription,
    inner: Option<BoxReceiver>,
}

impl Late {
    pub(crate) fn new(memory: Memory, subscription: Subscription) -> Self {
        Self { memory, subscription, inner: None }
    }

    fn inner(&mut self, cx: &mut Context<'_>) -> Result<&mut BoxReceiver, Error> {
        if self.inner.is_none() {
            let mut opening = self.memory.receiver(self.subscription.clone());
            if let Poll::Ready(opened) = opening.as_mut().poll(cx) {
                self.inner = Some(opened?);
            }
        }
        self.inner.as_mut().ok_or_else(|| Error::closed("the receiver"))
    }
}

impl Receiver for Late {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        self.inner(cx)?.poll_recv(cx)
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        self.inner(cx)?.poll_recv_many(cx, into, limit)
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner(cx)?.poll_settled(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner(cx)?.poll_close(cx)
    }

    fn disarm(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.disarm();
        }
    }
}
