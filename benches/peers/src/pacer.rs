//! Requests at a fixed rate, whatever becomes of those before: what is late is counted from when it
//! was due, so a stall shows in every request that it held up.

use std::future::Future;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use posthaste_measure::{Clock, Pace};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::stage::{Answers, Stage};

/// How many requests may be unanswered; what is due beyond that waits, and its time counts.
const UNANSWERED_MAX: usize = 4_096;

/// Says which requests are due.
pub(crate) struct Pacer {
    pace: Pace,
    clock: Clock,
    /// The first request that is not sent yet.
    next: u64,
    /// The request that the timer waits for.
    armed: Option<u64>,
    timer: OwnedFd,
}

impl Pacer {
    /// At the rate of the script, from now on.
    pub(crate) fn start(stage: &Stage) -> Result<Self> {
        let rate = stage.script().rate.context("no rate is given")?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            pace: Pace::per_second(rate).with_context(|| format!("{rate} is no rate"))?,
            clock: Clock::start(),
            next: 0,
            armed: None,
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
        })
    }

    /// Takes the requests that are due now, given how many are unanswered.
    pub(crate) fn take(&mut self, unanswered: usize) -> Range<u64> {
        let room = UNANSWERED_MAX.saturating_sub(unanswered) as u64;
        let due = self.pace.due_by(self.clock.elapsed()).min(self.next + room);
        let begin = self.next;
        self.next = due.max(begin);
        begin..self.next
    }

    /// Whether no more may be unanswered, so that only an answer can help.
    pub(crate) fn is_full(unanswered: usize) -> bool {
        unanswered >= UNANSWERED_MAX
    }

    /// When a request was due.
    pub(crate) fn due(&self, nth: u64) -> Duration {
        self.pace.due(nth)
    }

    /// How long ago that was.
    pub(crate) fn since(&self, due: Duration) -> Duration {
        self.clock.elapsed().saturating_sub(due)
    }

    /// Makes the timer readable once the next request is due.
    pub(crate) fn arm(&mut self) -> Result<()> {
        if self.armed == Some(self.next) {
            return Ok(());
        }
        self.armed = Some(self.next);
        let wait = self.pace.due(self.next).saturating_sub(self.clock.elapsed());
        // Zero would be never.
        let it_value = Timespec::try_from(wait.max(Duration::from_nanos(1)))?;
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// What becomes readable.
    pub(crate) fn timer(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// Asks at the rate of the script, on tokio, for ever.
pub(crate) async fn ask<F>(stage: &Stage, ask: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let mut answers: Answers = stage.answers();
    let mut pacer = Pacer::start(stage)?;
    let timer = pacer.timer().try_clone_to_owned()?;
    // Its successor is unsafe, for the sake of handles that change what they stand for; an owned
    // descriptor does not.
    #[allow(deprecated, reason = "there is no other way without unsafe code")]
    let timer = AsyncFd::new(timer)?;
    let mut unanswered = FuturesUnordered::new();
    loop {
        for nth in pacer.take(unanswered.len()) {
            let (due, answer) = (pacer.due(nth), ask());
            unanswered.push(async move { answer.await.map(|()| due) });
        }
        // Those that are there already, before waiting for more.
        let mut taken = 0;
        while let Some(Some(answered)) = unanswered.next().now_or_never() {
            answers.record(pacer.since(answered?));
            taken += 1;
        }
        if taken > 0 {
            continue;
        }
        pacer.arm()?;
        let full = Pacer::is_full(unanswered.len());
        tokio::select! {
            due = timer.readable(), if !full => due?.clear_ready(),
            Some(answered) = unanswered.next() => answers.record(pacer.since(answered?)),
        }
    }
}
