//! Receiving through a client: the handle that hands deliveries out, and the task that takes
//! arrivals in and settles them.

mod mailbox;
mod task;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::channel::oneshot;
use posthaste_core::task::{lock, remember};
use posthaste_core::{BoxReceiver, Delivery, Error, Outcome, Receiver, Settle, Subscription};

use self::mailbox::{Mailbox, Next};
use crate::drain::{Drains, Leaving};
use crate::{Consume, Engine};

impl Engine {
    /// A receiver whose messages come in through `consumer`, which a task of the runtime drives
    /// until the receiver is gone and everything that it handed out is settled.
    ///
    /// The prefetch, the limit, the policy for a full mailbox and the settling of what is settled
    /// by itself are the receiver's; which of them the engine is told as well is the consumer's.
    pub fn receiver<C: Consume>(&self, subscription: &Subscription, consumer: C) -> BoxReceiver {
        let runtime = self.runtime.clone();
        let mailbox = Mutex::new(Mailbox::new(subscription, C::HOLDS, runtime));
        let (leave, left) = oneshot::channel();
        let shared = Arc::new(Shared { mailbox, left: left.shared() });
        self.handles.add(&shared);
        self.spawn(task::run(Arc::clone(&shared), consumer, leave));
        Box::new(EngineReceiver { shared })
    }
}

/// What the handle, its deliveries and its task share.
pub(crate) struct Shared<T> {
    mailbox: Mutex<Mailbox<T>>,
    /// Resolves once the task has taken leave of the engine.
    left: Leaving,
}

impl<T> Shared<T> {
    /// Changes the mailbox, and then wakes whoever that is of interest to.
    fn with<R>(&self, change: impl FnOnce(&mut Mailbox<T>) -> R) -> R {
        let mut mailbox = lock(&self.mailbox);
        let changed = change(&mut mailbox);
        let wakers: [Option<Waker>; 4] = mailbox.due_wakers();
        drop(mailbox);
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
        changed
    }
}

impl<T: Send> Drains for Shared<T> {
    fn begin(&self) -> (u64, u64) {
        self.with(|mailbox| {
            let leased = mailbox.leased();
            (mailbox.close(), leased)
        })
    }

    fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|mailbox| {
            if mailbox.is_settled() && mailbox.leased() == 0 {
                return Poll::Ready(());
            }
            remember(&mut mailbox.drainer, cx);
            Poll::Pending
        })
    }

    fn leased(&self) -> u64 {
        lock(&self.mailbox).leased()
    }

    fn leaving(&self) -> Option<Leaving> {
        lock(&self.mailbox).is_leaving().then(|| self.left.clone())
    }
}

/// A receiver over a client.
struct EngineReceiver<T: Send + 'static> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> EngineReceiver<T> {
    fn deliver(&self, next: Next) -> Delivery {
        let Next { message, attempt, tag, missed } = next;
        let delivery = match tag {
            Some(tag) => Delivery::leased(message, attempt, Arc::clone(&self.shared) as _, tag),
            None => Delivery::settled(message, attempt),
        };
        delivery.with_missed(missed)
    }
}

impl<T: Send + 'static> Receiver for EngineReceiver<T> {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let next = self.shared.with(|mailbox| {
            let next = mailbox.next();
            mailbox.wait_unless(next.is_some(), cx);
            next
        });
        match next {
            None => Poll::Pending,
            Some(Ok(Some(next))) => Poll::Ready(Some(Ok(self.deliver(next)))),
            Some(Ok(None)) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
        }
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        self.shared.with(|mailbox| {
            let mut count = 0;
            while count < limit.get() && (count == 0 || mailbox.has_arrivals()) {
                match mailbox.next() {
                    Some(Ok(Some(next))) => {
                        into.push(self.deliver(next));
                        count += 1;
                    }
                    Some(Ok(None)) => break,
                    Some(Err(error)) => {
                        mailbox.wait_unless(true, cx);
                        return Poll::Ready(Err(error));
                    }
                    None => {
                        mailbox.wait_unless(false, cx);
                        return Poll::Pending;
                    }
                }
            }
            mailbox.wait_unless(true, cx);
            Poll::Ready(Ok(count))
        })
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.with(|mailbox| {
            if !mailbox.is_settled() {
                mailbox.wait_settled(cx);
                return Poll::Pending;
            }
            mailbox.settler = None;
            Poll::Ready(mailbox.take_failure())
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.with(Mailbox::close);
        self.poll_settled(cx)
    }

    fn disarm(&mut self) {
        let mut mailbox = lock(&self.shared.mailbox);
        mailbox.receiver = None;
    }
}

impl<T: Send + 'static> Drop for EngineReceiver<T> {
    fn drop(&mut self) {
        self.shared.with(|mailbox| {
            mailbox.close();
            (mailbox.receiver, mailbox.settler) = (None, None);
        });
    }
}

impl<T: Send + 'static> Settle for Shared<T> {
    fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        self.with(|mailbox| mailbox.settle(tag, outcome));
    }
}
