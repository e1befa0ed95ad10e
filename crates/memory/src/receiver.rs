//! The receiving handle: takes copies out of one mailbox and leases them to the application.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use posthaste_core::sync::Mutex;
use posthaste_core::sync::atomic::{Ordering, fence};
use posthaste_core::task::lock;
use posthaste_core::{Ack, Delivery, Error, Outcome, Receiver, Settle, Subscription};

use crate::copies::{Batch, Handed, Taken, Taking};
use crate::engine::Engine;
use crate::mailbox::Mailbox;
use crate::wait::Ticket;

/// A receiver of the in-process broker.
#[derive(Debug)]
pub struct MemoryReceiver {
    shared: Arc<Shared>,
    consumer: u64,
    manual: bool,
    prefetch: usize,
    /// How many deliveries there may still be.
    left: u64,
    /// Copies swapped out of the mailbox at once: only where nobody else could want them, which
    /// is an exclusive automatic subscription.
    batch: Option<Batch>,
    /// How many were handed out of the batch and are not counted, if somebody else says when.
    uncounted: Option<u64>,
    registered: Registered,
    ended: bool,
    /// Whether the mailbox counts this receiver among its consumers.
    joined: bool,
}

/// Where this handle waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registered {
    Nowhere,
    Idle(Ticket),
    Stalled,
}

/// What outlives the receiver while deliveries of it are out.
struct Shared {
    engine: Arc<Engine>,
    mailbox: Arc<Mailbox>,
    /// The first settlement that could not be done as asked.
    failed: Mutex<Option<Error>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("mailbox", &self.mailbox.name()).finish_non_exhaustive()
    }
}

impl MemoryReceiver {
    pub(crate) fn open(engine: Arc<Engine>, subscription: &Subscription) -> Result<Self, Error> {
        let consumer = engine.next_consumer();
        let mailbox = engine.subscribe(subscription, consumer)?;
        let manual = subscription.ack == Ack::Manual;
        let exclusive = mailbox.role().is_exclusive();
        Ok(Self {
            shared: Arc::new(Shared { engine, mailbox, failed: Mutex::default() }),
            consumer,
            manual,
            prefetch: subscription.prefetch.filter(|_| manual).unwrap_or(usize::MAX),
            left: subscription.limit.unwrap_or(u64::MAX),
            batch: (exclusive && !manual).then(Batch::default),
            uncounted: None,
            registered: Registered::Nowhere,
            ended: false,
            joined: true,
        })
    }

    /// Hands over up to `limit` deliveries and says how many; 0 is the end.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        hand: &mut impl FnMut(Delivery),
    ) -> Poll<Result<usize, Error>> {
        if self.left == 0 {
            self.leave();
        }
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let limit = limit.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let taken = if self.batch.is_some() {
            self.poll_batch(cx, limit, hand)
        } else {
            self.poll_mailbox(cx, limit, hand)
        };
        if let Poll::Ready(taken) = &taken {
            let count = *taken.as_ref().unwrap_or(&0);
            self.left = self.left.saturating_sub(count as u64);
            self.ended = count == 0;
            self.shared.engine.wake_drain();
            if self.left == 0 {
                // The source has no use for a consumer that will take no more.
                self.leave();
            }
        }
        taken
    }

    fn poll_mailbox(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        hand: &mut impl FnMut(Delivery),
    ) -> Poll<Result<usize, Error>> {
        let (consumer, manual, prefetch) = (self.consumer, self.manual, self.prefetch);
        let shared = &self.shared;
        let taking = Taking { consumer, manual, prefetch, limit };
        let lease = &mut |Handed { message, attempt, missed, tag }| {
            let delivery = if manual {
                Delivery::leased(message, attempt, Arc::clone(shared) as Arc<dyn Settle>, tag)
            } else {
                Delivery::settled(message, attempt)
            };
            hand(delivery.with_missed(u64::from(missed)));
        };
        let waiting = self.registered.ticket();
        let taken =
            shared.mailbox.with(|state, after| state.take(taking, waiting, cx, lease, after));
        self.registered = Registered::after(&taken);
        taken.into_poll()
    }

    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        hand: &mut impl FnMut(Delivery),
    ) -> Poll<Result<usize, Error>> {
        let mut now = None;
        loop {
            let Some(batch) = &mut self.batch else {
                return Poll::Ready(Ok(0));
            };
            let (mut count, mut expired) = (0, 0);
            let mut is_expired = |expires| self.shared.is_over(expires, &mut now);
            while count < limit
                && let Some((message, missed)) = batch.pop(&mut is_expired, &mut expired)
            {
                count += usize::try_from(message.count()).unwrap_or(usize::MAX);
                hand(Delivery::settled(message, 1).with_missed(u64::from(missed)));
            }
            if expired > 0 {
                self.shared.mailbox.with(|state, _| state.expired_in_batch(expired));
            }
            if count > 0 {
                match &mut self.uncounted {
                    Some(uncounted) => *uncounted += count as u64,
                    None => self.shared.mailbox.handed_out(count as u64),
                }
                if batch.is_empty() {
                    // Either a drain sees the last one handed out, or this sees the drain.
                    fence(Ordering::SeqCst);
                }
                return Poll::Ready(Ok(count));
            }
            let waiting = self.registered.ticket();
            let mailbox = &self.shared.mailbox;
            let taken = mailbox.with(|state, after| state.take_batch(batch, waiting, cx, after));
            self.registered = Registered::after(&taken);
            if !matches!(taken, Taken::Some(_)) {
                return taken.into_poll();
            }
        }
    }

    /// Stops new deliveries: what was not handed out goes back, the place on the list is given up.
    fn leave(&mut self) {
        self.ended = true;
        if !std::mem::replace(&mut self.joined, false) {
            return;
        }
        let uncounted = self.uncounted.take().unwrap_or(0);
        let Shared { engine, mailbox, .. } = &*self.shared;
        // Nobody says any more what became of these.
        mailbox.handed_out(uncounted);
        let waiting = std::mem::replace(&mut self.registered, Registered::Nowhere).ticket();
        if let Some(mut batch) = self.batch.take()
            && !batch.is_empty()
        {
            mailbox.with(|state, after| state.put_back(&mut batch, after));
        }
        engine.unsubscribe(mailbox, self.consumer, waiting);
    }
}

impl Receiver for MemoryReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let mut one = None;
        let taken = self.poll_take(cx, 1, &mut |delivery| one = Some(delivery));
        taken.map(|taken| taken.map(|_| one).transpose())
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        self.poll_take(cx, limit.get(), &mut |delivery| into.push(delivery))
    }

    fn poll_settled(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(lock(&self.shared.failed).take().map_or(Ok(()), Err))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.leave();
        self.poll_settled(cx)
    }

    fn disarm(&mut self) {
        let (mailbox, consumer) = (&self.shared.mailbox, self.consumer);
        match std::mem::replace(&mut self.registered, Registered::Nowhere) {
            Registered::Nowhere => {}
            Registered::Idle(ticket) => {
                mailbox.with(|state, after| state.leave_idle(ticket, after));
            }
            Registered::Stalled => {
                mailbox.with(|state, after| state.leave_stalled(consumer, after));
            }
        }
    }

    fn share_wakeup(&mut self) {
        if let Registered::Idle(ticket) = self.registered {
            self.shared.mailbox.with(|state, after| state.share_idle(ticket, after));
        }
    }

    fn park(&mut self, parked: bool) {
        if parked {
            self.disarm();
        }
        self.shared.mailbox.park(self.consumer, parked);
    }

    fn defer_accounts(&mut self) -> bool {
        if self.batch.is_some() && self.joined && self.left == u64::MAX {
            self.uncounted.get_or_insert(0);
            self.shared.mailbox.with(|state, _| state.take_runs());
        }
        self.uncounted.is_some()
    }

    fn account(&mut self, taken: u64, lost: u64) {
        let Some(uncounted) = &mut self.uncounted else { return };
        let (taken, lost) = (taken.min(*uncounted), lost.min(*uncounted - taken.min(*uncounted)));
        *uncounted -= taken + lost;
        let Shared { engine, mailbox, .. } = &*self.shared;
        mailbox.handed_out(taken);
        if lost > 0 {
            mailbox.with(|state, _| state.lost_on_the_way(lost));
        }
        fence(Ordering::SeqCst);
        engine.wake_drain();
    }
}

impl Drop for MemoryReceiver {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Registered {
    fn after(taken: &Taken) -> Self {
        match taken {
            Taken::Wait(ticket) => Self::Idle(*ticket),
            Taken::Stalled => Self::Stalled,
            Taken::Some(_) | Taken::End | Taken::CutOff => Self::Nowhere,
        }
    }

    fn ticket(self) -> Option<Ticket> {
        match self {
            Self::Idle(ticket) => Some(ticket),
            Self::Nowhere | Self::Stalled => None,
        }
    }
}

impl Shared {
    /// Reads the clock only for a message that has an end, and once per batch.
    fn is_over(&self, expires: Instant, now: &mut Option<Instant>) -> bool {
        *now = now.or_else(|| self.engine.now());
        now.is_some_and(|now| expires <= now)
    }
}

impl Settle for Shared {
    fn settle(&self, tag: u64, outcome: Outcome<'_>) {
        if let Outcome::Retry { after, .. } = outcome
            && after > Duration::ZERO
            && !self.engine.has_clock()
        {
            let unsupported = || Engine::needs_clock("a delayed retry, which went back at once,");
            lock(&self.failed).get_or_insert_with(unsupported);
        }
        self.mailbox.settle(tag, outcome);
    }

    fn extend(&self, tag: u64) {
        self.mailbox.with(|state, _| state.extend(tag));
    }

    fn poll_cancelled(&self, tag: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.mailbox.with(|state, after| state.poll_cancelled(tag, cx, after))
    }
}
