//! The clock of a round.

use std::time::{Duration, Instant};

/// Tells how long ago a round began, on the machine's monotonic clock.
///
/// Reading it takes tens of nanoseconds, which is as much as some of what is measured: read it once
/// per batch, or for one message in so many.
///
/// ```
/// use posthaste_measure::Clock;
///
/// let clock = Clock::start();
/// let began = clock.nanos();
/// assert!(clock.nanos() >= began);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A round that begins now.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "what is measured is the machine, so the machine is asked for the time"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago the round began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// How long ago the round began, in nanoseconds, at least 1: a message that carries 0 was not
    /// stamped.
    #[must_use]
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}
