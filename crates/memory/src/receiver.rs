//! The receiving handle: takes copies out of one mailbox and leases them to the application.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use posthaste_core::sync::Mutex;
use posthaste_core::sync::atomic::{AtomicU64, Ordering, fence};
use posthaste_core::task::lock;
use posthaste_core::{
    Ack, Delivery, Error, Level, Message, Outcome, Receiver, Settle, Subscription,
};

use crate::ahead::{Ahead, deliver};
use crate::blocks::Spares;
use crate::copies::{Entry, Handed, Taken, Taking};
use crate::engine::Engine;
use crate::mailbox::Mailbox;
use crate::store::Store;
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
    /// Copies that were taken out of the mailbox together, to be handed out one by one.
    ahead: Ahead,
    /// How many were handed out of these and are not counted, if somebody else says when.
    uncounted: Option<u64>,
    registered: Registered,
    ended: bool,
    /// Whether the mailbox counts this receiver among its consumers.
    joined: bool,
    /// Where a reader begins.
    begins_at: Option<u64>,
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
    /// How far the store has to come to have every settlement, if there is a store.
    settled: AtomicU64,
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
        let prefetch = subscription.prefetch.unwrap_or(usize::MAX);
        let enter = |start| mailbox.with(|state, _| state.enter(consumer, start));
        Ok(Self {
            begins_at: subscription.start.and_then(enter),
            shared: Arc::new(Shared {
                engine,
                mailbox,
                failed: Mutex::default(),
                settled: AtomicU64::new(0),
            }),
            consumer,
            manual,
            prefetch: if manual { prefetch } else { usize::MAX },
            left: subscription.limit.unwrap_or(u64::MAX),
            ahead: Ahead::new(prefetch),
            uncounted: None,
            registered: Registered::Nowhere,
            ended: false,
            joined: true,
        })
    }

    /// Takes one when nothing is at hand, and puts at hand what comes with it.
    #[inline(never)]
    fn poll_recv_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let mut one = None;
        let taken = self.poll_take(cx, None, &mut |delivery| one = Some(delivery));
        if self.uncounted.is_none() && !self.ended {
            // The last one is not at hand, because something comes after it.
            let handed = self.shared.mailbox.handed();
            self.left -= self.ahead.put_at_hand(self.left.saturating_sub(1), handed);
        }
        taken.map(|taken| taken.map(|_| one).transpose())
    }

    /// Leaves nothing at hand: something else is done than to receive one after the other.
    fn clear_hand(&mut self) {
        self.left += self.ahead.clear_hand();
    }

    /// What was at hand has been handed out, but for one that goes now.
    #[cold]
    fn hand_is_empty(&self) {
        // Either a drain sees the last one handed out, or this sees the drain.
        fence(Ordering::SeqCst);
        self.shared.engine.wake_drain();
    }

    /// Hands over one delivery, or up to `limit`, and says how many; 0 is the end.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        limit: Option<usize>,
        hand: &mut impl FnMut(Delivery),
    ) -> Poll<Result<usize, Error>> {
        self.clear_hand();
        if self.left == 0 {
            self.leave();
        }
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let limit = limit.map(|limit| limit.min(left));
        let taken = self.poll_mailbox(cx, limit, hand);
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
        limit: Option<usize>,
        hand: &mut impl FnMut(Delivery),
    ) -> Poll<Result<usize, Error>> {
        if self.shared.mailbox.is_recalled() {
            self.ahead.begin_anew();
            self.shared.mailbox.put_back(&mut self.ahead);
        }
        let (most, mut count) = (limit.unwrap_or(1), 0);
        loop {
            count += self.hand_ahead(most - count, hand);
            // One that has everything to itself has taken all there was.
            if count >= most || count > 0 && self.shared.mailbox.role().is_exclusive() {
                return Poll::Ready(Ok(count));
            }
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let taking = Taking {
                consumer: self.consumer,
                manual: self.manual,
                prefetch: self.prefetch,
                limit: most - count,
                singly: limit.is_none(),
                left,
                waits: count == 0,
            };
            match self.take(cx, taking, hand) {
                // To be handed out now, unless all of it is too old.
                Taken::Some(_) if !self.ahead.is_empty() => {}
                Taken::Some(taken) => return Poll::Ready(Ok(count + taken)),
                _ if count > 0 => return Poll::Ready(Ok(count)),
                none => return none.into_poll(),
            }
        }
    }

    /// Hands out of what was taken in advance.
    fn hand_ahead(&mut self, limit: usize, hand: &mut impl FnMut(Delivery)) -> usize {
        if self.ahead.is_empty() {
            return 0;
        }
        let (mut count, mut leased, mut expired, mut now) = (0, 0, 0, None);
        let shared = &self.shared;
        let mut is_over = |expires| shared.is_over(expires, &mut now);
        while count < limit {
            let handed = self.ahead.hand_ordinary(limit - count, hand);
            count += handed;
            if handed > 0 {
                continue;
            }
            let next = self.ahead.pop(shared.spares(), &mut is_over, &mut expired);
            let Some(entry) = next else { break };
            count += entry.count();
            if self.uncounted.is_some() && entry.is_request() {
                leased += entry.count();
                hand(shared.lease(entry, self.consumer));
            } else {
                hand(deliver(entry));
            }
        }
        if expired > 0 {
            self.shared.mailbox.with(|state, _| state.expired_in_advance(expired));
        }
        if count > leased {
            self.count((count - leased) as u64);
        }
        count
    }

    /// Counts what was handed out of what was taken in advance.
    fn count(&mut self, handed: u64) {
        match &mut self.uncounted {
            Some(uncounted) => *uncounted += handed,
            None => self.shared.mailbox.handed_out(handed),
        }
        if self.ahead.is_empty() {
            self.hand_is_empty();
        }
    }

    /// Takes out of the mailbox: to hand out at once, or in advance.
    fn take(
        &mut self,
        cx: &mut Context<'_>,
        taking: Taking,
        hand: &mut impl FnMut(Delivery),
    ) -> Taken {
        let (shared, ahead) = (&self.shared, &mut self.ahead);
        let lease = &mut |Handed { message, attempt, missed, tag }| {
            let delivery = if taking.manual {
                Delivery::leased(message, attempt, Arc::clone(shared) as Arc<dyn Settle>, tag)
            } else {
                Delivery::settled(message, attempt).with_offset(tag.checked_sub(1))
            };
            hand(delivery.with_missed(u64::from(missed)));
        };
        let waiting = self.registered.ticket();
        let taken = shared
            .mailbox
            .with(|state, after| state.take(taking, ahead, waiting, cx, lease, after));
        self.registered = Registered::after(&taken);
        taken
    }

    /// Stops new deliveries: what was not handed out goes back, the place on the list is given up.
    fn leave(&mut self) {
        self.ended = true;
        self.clear_hand();
        if !std::mem::replace(&mut self.joined, false) {
            return;
        }
        let Shared { engine, mailbox, .. } = &*self.shared;
        mailbox.put_back(&mut self.ahead);
        let waiting = std::mem::replace(&mut self.registered, Registered::Nowhere).ticket();
        engine.unsubscribe(mailbox, self.consumer, waiting);
    }
}

impl MemoryReceiver {
    /// Something became of what was handed out: a drain may wait for that, and so may the end of a
    /// mailbox that has been left.
    fn accounted(&self) {
        fence(Ordering::SeqCst);
        let Shared { engine, mailbox, .. } = &*self.shared;
        match self.uncounted {
            Some(0) if !self.joined => engine.retire(mailbox),
            _ => engine.wake_drain(),
        }
    }
}

impl Receiver for MemoryReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        if self.ahead.has_at_hand() && !self.shared.mailbox.is_recalled() {
            self.shared.mailbox.set_handed(self.ahead.count_one());
            if !self.ahead.has_at_hand() {
                self.hand_is_empty();
            }
            if let Some(entry) = self.ahead.blocks.pop_at_hand() {
                return Poll::Ready(Some(Ok(deliver(entry))));
            }
        }
        self.poll_recv_slowly(cx)
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Delivery>,
        limit: NonZeroUsize,
    ) -> Poll<Result<usize, Error>> {
        self.poll_take(cx, Some(limit.get()), &mut |delivery| into.push(delivery))
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(store) = self.shared.store() {
            let settled = self.shared.settled.load(Ordering::SeqCst);
            ready!(store.poll_reached(settled, Level::Stored, cx))?;
        }
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
            self.clear_hand();
            self.shared.mailbox.put_back(&mut self.ahead);
        }
        self.shared.mailbox.park(self.consumer, parked);
    }

    fn begins_at(&mut self) -> Option<u64> {
        self.begins_at
    }

    fn defer_accounts(&mut self) -> bool {
        let exclusive = self.shared.mailbox.role().is_exclusive();
        if exclusive && !self.manual && self.joined && self.left == u64::MAX {
            self.uncounted.get_or_insert(0);
            self.shared.mailbox.with(|state, _| state.take_runs());
        }
        self.uncounted.is_some()
    }

    fn account(&mut self, taken: u64) {
        let Some(uncounted) = &mut self.uncounted else { return };
        let taken = taken.min(*uncounted);
        *uncounted -= taken;
        self.shared.mailbox.handed_out(taken);
        self.accounted();
    }

    fn write_off(&mut self, message: Message, outcome: Outcome<'_>) {
        let Some(uncounted) = &mut self.uncounted else { return };
        let count = u64::from(message.count());
        if count <= *uncounted {
            *uncounted -= count;
            let mailbox = &self.shared.mailbox;
            mailbox.with(|state, after| state.write_off(message, outcome, after));
            self.accounted();
        }
    }
}

impl Drop for MemoryReceiver {
    fn drop(&mut self) {
        self.leave();
        if let Some(uncounted @ 1..) = self.uncounted.replace(0) {
            // Nobody says any more what became of these.
            self.shared.mailbox.with(|state, _| state.lost_on_the_way(uncounted));
            self.accounted();
        }
    }
}

impl Registered {
    fn after(taken: &Taken) -> Self {
        match taken {
            Taken::Wait(ticket) => Self::Idle(*ticket),
            Taken::Stalled => Self::Stalled,
            Taken::Some(_) | Taken::End | Taken::CutOff | Taken::Unreadable(_) => Self::Nowhere,
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
    /// Hands out what was taken in advance and is not settled with that.
    fn lease(self: &Arc<Self>, entry: Entry, consumer: u64) -> Delivery {
        let (message, missed) = (entry.message.clone(), u64::from(entry.missed));
        let (tag, attempt) = self.mailbox.with(|state, _| state.lease_ahead(entry, consumer));
        let delivery = Delivery::leased(message, attempt, Arc::clone(self) as Arc<dyn Settle>, tag);
        delivery.with_missed(missed)
    }

    /// Where what becomes of deliveries is noted.
    fn store(&self) -> Option<&Arc<dyn Store>> {
        self.engine.store().filter(|_| self.mailbox.is_durable())
    }

    fn spares(&self) -> &Spares {
        self.engine.spares()
    }

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
        if let Some(store) = self.store() {
            self.settled.fetch_max(store.noted(), Ordering::SeqCst);
        }
    }

    fn extend(&self, tag: u64) {
        self.mailbox.with(|state, _| state.extend(tag));
    }

    fn poll_cancelled(&self, tag: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.mailbox.with(|state, after| state.poll_cancelled(tag, cx, after))
    }
}
