//! What a round measured.

use std::time::Duration;

use posthaste_measure::{Clock, Latency, Usage};

/// What one round measured.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Messages sent.
    pub(super) sent: u64,
    /// Messages received, every copy of them.
    pub(super) received: u64,
    /// From the first send to the last receipt.
    pub(super) elapsed: Duration,
    pub(super) latency: Latency,
    /// CPU time of this process, where the system tells.
    pub(super) cpu: Option<Duration>,
}

impl Sample {
    /// Messages received per second.
    pub(super) fn rate(&self) -> f64 {
        self.received as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Measures one round, from when everything is set up.
#[derive(Debug)]
pub(super) struct Stopwatch {
    pub(super) clock: Clock,
    began: Duration,
    used: Option<Usage>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        let clock = Clock::start();
        Self { clock, began: clock.elapsed(), used: used() }
    }

    /// What the round came to, if it ended at `ended` by the clock.
    pub(super) fn stop(
        self,
        ended: Duration,
        sent: u64,
        received: u64,
        latency: Latency,
    ) -> Sample {
        let cpu = self.used.zip(used()).map(|(before, after)| after.cpu_since(&before));
        Sample { sent, received, elapsed: ended.saturating_sub(self.began), latency, cpu }
    }
}

/// A system that does not tell leaves the figure out.
fn used() -> Option<Usage> {
    Usage::now().ok()
}
