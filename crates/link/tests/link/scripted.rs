//! A broker that does what the test says, and writes down what it is told.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Cancel, Capabilities, Capability, Delivery, DrainReport, Error,
    ErrorKind, Level, Message, Outcome, Queue, QueueInfo, Receipt, Receiver, Returned, Sender,
    SenderOptions, Seq, Settle, Stats, Subscription, Topic,
};
use posthaste_memory::Memory;

/// What happens to the deliveries of a scripted broker.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    waiting: Vec<Message>,
    /// Every delivery there was, by its number.
    delivered: Vec<Message>,
    failure: Option<Error>,
    cancels: Vec<Cancel>,
    extended: Vec<u64>,
    settled: Vec<u64>,
    wakers: Vec<Waker>,
}

impl Scripted {
    fn change(&self, change: impl FnOnce(&mut Script)) {
        let wakers = {
            let mut script = self.0.lock().unwrap();
            change(&mut script);
            std::mem::take(&mut script.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Has its receiver deliver a message.
    pub(crate) fn deliver(&self, message: Message) {
        self.change(|script| script.waiting.push(message));
    }

    /// Has its receiver fail.
    pub(crate) fn fail(&self, error: Error) {
        self.change(|script| script.failure = Some(error));
    }

    pub(crate) fn cancels(&self) -> Vec<Cancel> {
        self.0.lock().unwrap().cancels.clone()
    }

    /// How many deliveries were handed out.
    pub(crate) fn taken(&self) -> usize {
        self.0.lock().unwrap().delivered.len()
    }

    pub(crate) fn extended(&self) -> Vec<u64> {
        self.0.lock().unwrap().extended.clone()
    }

    pub(crate) fn settled(&self) -> Vec<u64> {
        self.0.lock().unwrap().settled.clone()
    }
}

impl Receiver for Scripted {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let mut script = self.0.lock().unwrap();
        if let Some(error) = script.failure.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if script.waiting.is_empty() {
            script.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let message = script.waiting.remove(0);
        let tag = script.delivered.len() as u64;
        script.delivered.push(message.clone());
        Poll::Ready(Some(Ok(Delivery::leased(message, 1, Arc::new(self.clone()), tag))))
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        _limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        match std::task::ready!(self.poll_recv(cx)) {
            Some(Ok(delivery)) => into.push(delivery),
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Ok(0)),
        }
        Poll::Ready(Ok(1))
    }

    fn poll_settled(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

impl Settle for Scripted {
    fn settle(&self, tag: u64, _outcome: Outcome<'_>) {
        self.change(|script| script.settled.push(tag));
    }

    fn extend(&self, tag: u64) {
        self.change(|script| script.extended.push(tag));
    }

    fn poll_cancelled(&self, tag: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut script = self.0.lock().unwrap();
        let message = &script.delivered[tag as usize];
        if script.cancels.iter().any(|cancel| cancel.is_for(message)) {
            return Poll::Ready(());
        }
        script.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

/// A sender that takes what says "yes", and has no room for anything else.
struct Refusing(u64);

impl Sender for Refusing {
    fn poll_send(
        &mut self,
        _cx: &mut Context<'_>,
        slot: &mut Option<Message>,
    ) -> Poll<Result<Seq, Error>> {
        if slot.as_ref().is_some_and(|message| message.payload() != "yes") {
            return Poll::Ready(Err(Error::new(ErrorKind::Full, "no room")));
        }
        *slot = None;
        self.0 += 1;
        Poll::Ready(Ok(Seq::new(self.0)))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>, upto: Seq) -> Poll<Result<Receipt, Error>> {
        let mut receipt = Receipt::empty(upto);
        receipt.confirm(1, 1, Level::Held, 1);
        Poll::Ready(Ok(receipt))
    }

    fn take_returned(&mut self, _from: Seq) -> Option<Returned> {
        None
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Broker for Scripted {
    async fn sender(&self, _options: SenderOptions) -> Result<BoxSender, Error> {
        Ok(Box::new(Refusing(0)))
    }

    async fn receiver(&self, _subscription: Subscription) -> Result<BoxReceiver, Error> {
        Ok(Box::new(self.clone()))
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        Memory::new().inbox().await
    }

    async fn declare(&self, _queue: Queue) -> Result<(), Error> {
        Ok(())
    }

    async fn delete(&self, _queue: &Topic) -> Result<(), Error> {
        Ok(())
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        Memory::new().queue(queue).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        Ok(Stats::default())
    }

    async fn drain(&self, _within: Duration) -> Result<DrainReport, Error> {
        Ok(DrainReport::default())
    }

    fn cancel(&self, request: &Cancel) {
        self.change(|script| script.cancels.push(request.clone()));
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new("scripted").native(&[Capability::ManualAck])
    }
}
