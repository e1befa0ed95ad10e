//! Draining: in which order a broker ends, and whom that waits for.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use posthaste_core::runtime::timeout_at;
use posthaste_core::sync::Mutex;
use posthaste_core::sync::atomic::{Ordering, fence};
use posthaste_core::task::lock;
use posthaste_core::{DrainReport, Runtime};

use crate::aftermath::Aftermath;
use crate::mailbox::{Mailbox, Role};
use crate::state::State;
use crate::wait::{Ticket, WaitList};

/// Drains `mailboxes`, which are all that there will be, `within` that time at most.
///
/// Inboxes come last: as long as something is under way elsewhere, its answer may still come.
pub(crate) async fn drain(
    runtime: &dyn Runtime,
    mailboxes: Vec<Arc<Mailbox>>,
    waiting: &Drains,
    within: Duration,
) -> DrainReport {
    let (inboxes, others): (Vec<_>, Vec<_>) =
        mailboxes.into_iter().partition(|mailbox| mailbox.role() == Role::Inbox);
    let start = |mailbox: &Arc<Mailbox>| mailbox.with(State::start_drain);
    let before = Outstanding::of(&others);
    others.iter().for_each(start);
    let work = async {
        waiting.until(|| Outstanding::of(&others).is_done()).await;
        inboxes.iter().for_each(start);
        waiting.until(|| Outstanding::of(&inboxes).is_done()).await;
    };
    // Whether in time or not, the report says what is left.
    match runtime.now().checked_add(within) {
        Some(deadline) => drop(timeout_at(runtime, deadline, work).await),
        None => work.await,
    }
    inboxes.iter().for_each(start);
    let (after, answers) = (Outstanding::of(&others), Outstanding::of(&inboxes));
    DrainReport {
        finished: before.leased.saturating_sub(after.leased),
        requeued: 0,
        abandoned: after.leased + answers.leased,
        held: after.kept + after.undelivered + answers.undelivered + answers.kept,
    }
}

/// The drains that are under way: seldom more than one, but each has to be told.
#[derive(Debug, Default)]
pub(crate) struct Drains(Mutex<WaitList>);

impl Drains {
    /// Something that a drain may wait for has happened.
    pub(crate) fn wake(&self) {
        let mut after = Aftermath::default();
        lock(&self.0).notify_all(&mut after);
        after.run();
    }

    /// Resolves once `is_done`, which is asked again at every [`wake`](Self::wake).
    fn until(&self, is_done: impl Fn() -> bool) -> impl Future<Output = ()> {
        let mut place = Place { list: &self.0, ticket: None };
        poll_fn(move |cx| {
            place.renew(cx);
            // Before the look at what was handed out of a batch, which takes no lock.
            fence(Ordering::SeqCst);
            if is_done() { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

/// A drain's place on the list, given up when the drain is.
struct Place<'a> {
    list: &'a Mutex<WaitList>,
    ticket: Option<Ticket>,
}

impl Place<'_> {
    fn renew(&mut self, cx: &Context<'_>) {
        let mut after = Aftermath::default();
        let mut list = lock(self.list);
        if let Some(ticket) = self.ticket.replace(list.wait(cx.waker(), 0)) {
            list.leave(ticket, &mut after);
        }
        drop(list);
        after.run();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut after = Aftermath::default();
        if let Some(ticket) = self.ticket {
            lock(self.list).leave(ticket, &mut after);
        }
        after.run();
    }
}

/// What there is at a moment.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    /// Handed out and not settled.
    pub(crate) leased: u64,
    /// In subscriptions and groups, to be handed out still.
    pub(crate) undelivered: u64,
    /// In queues, to stay there; and what waits elsewhere for a time that may be far.
    pub(crate) kept: u64,
}

impl Outstanding {
    fn of(mailboxes: &[Arc<Mailbox>]) -> Self {
        let mut sum = Self::default();
        for mailbox in mailboxes {
            let this = mailbox.outstanding();
            sum.leased += this.leased;
            sum.undelivered += this.undelivered;
            sum.kept += this.kept;
        }
        sum
    }

    fn is_done(&self) -> bool {
        self.leased == 0 && self.undelivered == 0
    }
}
