//! The broker's clock: one task that comes to each mailbox when something there is due.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use posthaste_core::SharedRuntime;
use posthaste_core::sync::Mutex;
use posthaste_core::task::lock;

use crate::aftermath::Aftermath;
use crate::engine::Engine;

/// When the clock has to come to which mailbox.
#[derive(Debug, Default)]
pub(crate) struct Schedule(Mutex<Visits>);

#[derive(Debug, Default)]
struct Visits {
    by_time: BTreeSet<(Instant, u64)>,
    by_mailbox: BTreeMap<u64, Instant>,
    waker: Option<Waker>,
    ended: bool,
}

impl Schedule {
    /// Has the clock come to `mailbox` at `at`, or earlier if it was to come earlier.
    pub(crate) fn visit(&self, mailbox: u64, at: Instant) {
        let mut visits = lock(&self.0);
        let planned = visits.by_mailbox.get(&mailbox).copied();
        if planned.is_some_and(|planned| planned <= at) {
            return;
        }
        if let Some(planned) = planned {
            visits.by_time.remove(&(planned, mailbox));
        }
        visits.by_mailbox.insert(mailbox, at);
        visits.by_time.insert((at, mailbox));
        let is_first = visits.by_time.first() == Some(&(at, mailbox));
        let waker = if is_first { visits.waker.take() } else { None };
        drop(visits);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Ends the task.
    pub(crate) fn end(&self) {
        let mut visits = lock(&self.0);
        visits.ended = true;
        let waker = visits.waker.take();
        drop(visits);
        waker.into_iter().for_each(Waker::wake);
    }

    /// What the task does next; it is woken when that changes.
    fn next(&self, now: Instant, cx: &Context<'_>) -> Next {
        let mut after = Aftermath::default();
        let mut visits = lock(&self.0);
        after.remember(&mut visits.waker, cx);
        let next = match visits.by_time.first().copied() {
            _ if visits.ended => Next::End,
            None => Next::Nothing,
            Some((at, _)) if at > now => Next::Sleep(at),
            Some((at, mailbox)) => {
                visits.by_time.remove(&(at, mailbox));
                visits.by_mailbox.remove(&mailbox);
                Next::Visit(mailbox)
            }
        };
        drop(visits);
        after.run();
        next
    }
}

enum Next {
    Visit(u64),
    Sleep(Instant),
    Nothing,
    End,
}

/// Runs until the broker is gone, of which it keeps nothing alive but the schedule.
pub(crate) async fn run(runtime: SharedRuntime, schedule: Arc<Schedule>, engine: Weak<Engine>) {
    let mut timer = runtime.timer();
    poll_fn(|cx| {
        loop {
            let now = runtime.now();
            match schedule.next(now, cx) {
                Next::End => return Poll::Ready(()),
                Next::Nothing => return Poll::Pending,
                Next::Visit(mailbox) => match engine.upgrade() {
                    Some(engine) => engine.visit(mailbox, now),
                    None => return Poll::Ready(()),
                },
                Next::Sleep(at) => {
                    timer.as_mut().reset(at);
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await;
}
