//! A broker whose handles write down what happens to them, and change nothing.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::task::lock;
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Browsed, Cancel, Capabilities, Delivery, DrainReport, Error,
    Lease, Message, Outcome, Queue, QueueInfo, Receipt, Receiver, Replayed, Returned, Sender,
    SenderOptions, Sends, Seq, Settle, Source, Stats, Subscription, Topic,
};

use crate::history::{How, Name, Recorder, What, name_of};

/// A broker, and whatever a [`Bus`](posthaste_core::Bus) does with it, written into the history.
///
/// Inboxes and what goes to topics of the framework's own are left out: requests are recorded by
/// [`Recorder::ask`].
#[derive(Debug)]
pub struct Recorded<B> {
    broker: B,
    recorder: Recorder,
}

impl<B> Recorded<B> {
    pub(crate) fn new(broker: B, recorder: Recorder) -> Self {
        Self { broker, recorder }
    }

    fn name(&self, what: &str) -> Name {
        let (node, number) = (self.recorder.node_name(), self.recorder.next_number());
        format!("{node}/{what}{number}").into()
    }
}

#[async_trait]
impl<B: Broker> Broker for Recorded<B> {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        let inner = self.broker.sender(options).await?;
        let recorder = self.recorder.clone();
        Ok(Box::new(RecordedSender {
            inner,
            recorder,
            name: self.name("sender"),
            offered: false,
            settled: 0,
            taken: VecDeque::new(),
            returned: VecDeque::new(),
        }))
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        let (source, recorder) = (subscription.source.clone(), self.recorder.clone());
        let consumer = self.name("receiver");
        recorder.record(What::SubscribeInvoke { consumer: Arc::clone(&consumer) });
        let inner = self.broker.receiver(subscription).await?;
        let (name, from) = (Arc::clone(&consumer), source.clone());
        recorder.record(What::SubscribeOk { consumer: name, source: from });
        let leases = Arc::new(Leases { recorder, consumer, source, open: Mutex::default() });
        Ok(Box::new(RecordedReceiver { inner, leases }))
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        self.broker.inbox().await
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        self.broker.declare(queue).await
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        self.broker.delete(queue).await
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        self.broker.queue(queue).await
    }

    async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        self.broker.purge(queue).await
    }

    async fn browse(
        &self,
        queue: &Topic,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Browsed>, Error> {
        self.broker.browse(queue, after, limit).await
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        self.broker.replay(queue, limit).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        self.broker.stats().await
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.broker.drain(within).await
    }

    fn cancel(&self, request: &Cancel) {
        self.broker.cancel(request);
    }

    fn sends(&self) -> Option<Sends> {
        self.broker.sends()
    }

    fn capabilities(&self) -> Capabilities {
        self.broker.capabilities()
    }
}

struct RecordedSender {
    inner: BoxSender,
    recorder: Recorder,
    name: Name,
    /// Whether the message in the caller's slot is in the history already.
    offered: bool,
    /// Up to where outcomes are in the history.
    settled: u64,
    /// The messages behind that; those that are not recorded have no name.
    taken: VecDeque<Option<Name>>,
    returned: VecDeque<Returned>,
}

impl RecordedSender {
    /// Takes over what has come back, and writes it down. The caller may ask for it before it has
    /// flushed.
    fn take_back(&mut self) {
        while let Some(returned) = self.inner.take_returned(Seq::FIRST) {
            let place = returned.seq.get().checked_sub(self.settled + 1);
            let place = place.and_then(|place| usize::try_from(place).ok());
            let name = place.and_then(|place| self.taken.get_mut(place)).and_then(Option::take);
            if let Some(id) = name {
                let (sender, kind) = (Arc::clone(&self.name), returned.error.kind());
                self.recorder.record(What::SendErr { sender, id, kind });
            }
            self.returned.push_back(returned);
        }
    }

    fn on_receipt(&mut self, receipt: &Receipt) {
        if receipt.returned > 0 {
            self.take_back();
        }
        while self.settled < receipt.upto.get()
            && let Some(name) = self.taken.pop_front()
        {
            self.settled += 1;
            if let Some(id) = name {
                let sender = Arc::clone(&self.name);
                self.recorder.record(What::SendOk { sender, id, level: receipt.level });
            }
        }
    }
}

impl Sender for RecordedSender {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        let name = slot.as_ref().filter(|message| !message.topic().is_reserved()).map(name_of);
        if let (Some(message), Some(id), false) = (&*slot, &name, self.offered) {
            self.offered = true;
            self.recorder.record(What::SendInvoke {
                sender: Arc::clone(&self.name),
                id: Arc::clone(id),
                to: message.topic(),
                queue: message.is_to_queue(),
                key: message.key().map(Name::from),
                delay: message.delay(),
            });
        }
        let taken = ready!(self.inner.poll_send(cx, slot));
        self.offered = false;
        match (&taken, name) {
            (Ok(_), name) => self.taken.push_back(name),
            (Err(error), Some(id)) => {
                let (sender, kind) = (Arc::clone(&self.name), error.kind());
                self.recorder.record(What::SendErr { sender, id, kind });
            }
            (Err(_), None) => {}
        }
        Poll::Ready(taken)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>> {
        let receipt = ready!(self.inner.poll_flush(cx, upto));
        if let Ok(receipt) = &receipt {
            self.on_receipt(receipt);
        }
        Poll::Ready(receipt)
    }

    fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        self.take_back();
        let at = self.returned.iter().position(|returned| returned.seq >= from)?;
        self.returned.remove(at)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_close(cx)
    }

    fn disarm(&mut self) {
        // The caller may come back with the same message or with another one.
        self.offered = false;
        self.inner.disarm();
    }
}

struct RecordedReceiver {
    inner: BoxReceiver,
    leases: Arc<Leases>,
}

/// The deliveries that are out.
struct Leases {
    recorder: Recorder,
    consumer: Name,
    source: Source,
    open: Mutex<BTreeMap<u64, (Lease, Name, u32)>>,
}

impl Leases {
    fn hand_out(self: &Arc<Self>, delivery: Delivery) -> Delivery {
        let (id, attempt) = (name_of(delivery.message()), delivery.attempt());
        let parts = delivery.into_parts();
        self.recorder.record(What::Deliver {
            consumer: Arc::clone(&self.consumer),
            source: self.source.clone(),
            id: Arc::clone(&id),
            attempt,
            missed: parts.missed,
            leased: parts.lease.is_some(),
        });
        let delivery = match parts.lease {
            None => Delivery::settled(parts.message, attempt).with_offset(parts.offset),
            Some(lease) => {
                let tag = self.recorder.next_number();
                lock(&self.open).insert(tag, (lease, id, attempt));
                Delivery::leased(parts.message, attempt, Arc::clone(self) as Arc<dyn Settle>, tag)
            }
        };
        delivery.with_missed(parts.missed)
    }
}

impl Settle for Leases {
    fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        let Some((lease, id, attempt)) = lock(&self.open).remove(&tag) else {
            return;
        };
        let how = match outcome {
            Outcome::Ack | Outcome::Taken => How::Ack,
            Outcome::Retry { .. } => How::Retry,
            Outcome::Reject { .. } | Outcome::Lost => How::Reject,
            Outcome::Release => How::Release,
            Outcome::Dropped => How::Dropped,
        };
        let consumer = Arc::clone(&self.consumer);
        self.recorder.record(What::Settle { consumer, id, attempt, how });
        lease.settle(outcome);
    }

    fn extend(&self, tag: u64) {
        if let Some((lease, ..)) = lock(&self.open).get(&tag) {
            lease.extend();
        }
    }

    fn poll_cancelled(&self, tag: u64, cx: &mut Context<'_>) -> Poll<()> {
        match lock(&self.open).get(&tag) {
            Some((lease, ..)) => lease.poll_cancelled(cx),
            None => Poll::Pending,
        }
    }
}

impl RecordedReceiver {
    fn on_settled(&mut self, outcome: &Result<(), Error>) {
        let consumer = Arc::clone(&self.leases.consumer);
        self.leases.recorder.record(match outcome {
            Ok(()) => What::SettleOk { consumer },
            Err(error) => What::SettleErr { consumer, kind: error.kind() },
        });
    }
}

impl Receiver for RecordedReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let next = ready!(self.inner.poll_recv(cx));
        Poll::Ready(next.map(|next| next.map(|delivery| self.leases.hand_out(delivery))))
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        let mut batch = Vec::new();
        let count = ready!(self.inner.poll_recv_many(cx, &mut batch, limit));
        into.extend(batch.into_iter().map(|delivery| self.leases.hand_out(delivery)));
        Poll::Ready(count)
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let settled = ready!(self.inner.poll_settled(cx));
        self.on_settled(&settled);
        Poll::Ready(settled)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let closed = ready!(self.inner.poll_close(cx));
        self.on_settled(&closed);
        Poll::Ready(closed)
    }

    fn park(&mut self, parked: bool) {
        self.inner.park(parked);
    }

    fn begins_at(&mut self) -> Option<u64> {
        self.inner.begins_at()
    }

    fn disarm(&mut self) {
        self.inner.disarm();
    }

    fn share_wakeup(&mut self) {
        self.inner.share_wakeup();
    }
}
