//! Measuring: clocks, latencies, and what is made of several rounds.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What one round measured.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Messages sent.
    pub(super) sent: u64,
    /// Messages received, every copy of them.
    pub(super) received: u64,
    /// From the first send to the last receipt.
    pub(super) elapsed: Duration,
    /// In nanoseconds.
    pub(super) latency: Histogram<u64>,
}

impl Sample {
    /// Messages received per second.
    pub(super) fn rate(&self) -> f64 {
        self.received as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// An empty histogram, with three significant digits.
pub(super) fn histogram() -> Histogram<u64> {
    // One nanosecond to an hour: what is slower counts as an hour.
    match Histogram::new_with_bounds(1, 3_600_000_000_000, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants that fit: {error}"),
    }
}

/// The latencies of all rounds together.
pub(super) fn merge(samples: &[Sample]) -> Histogram<u64> {
    let mut all = histogram();
    for sample in samples {
        // Every histogram has the bounds above.
        let _ = all.add(&sample.latency);
    }
    all
}

/// The one in the middle, or the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => 0.0,
        (Some(value), 1) => *value,
        (Some(value), _) => (values[middle - 1] + value) / 2.0,
    }
}

/// The clock of this round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is a program that measures, and asks the machine where it has to"
    )]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Nanoseconds since the start, which are never 0.
    pub(super) fn stamp(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}
