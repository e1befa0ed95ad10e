//! How long things took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What is slower counts as an hour.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// How long each of many things took, to three significant digits, in a fixed amount of memory.
///
/// An [HdrHistogram](https://hdrhistogram.github.io/HdrHistogram/) of 1 ns to an hour. Under a load
/// that goes on whether answers come or not, count from when a request was due and not from when it
/// was sent: see [`Pace`](crate::Pace).
///
/// ```
/// use std::time::Duration;
///
/// use posthaste_measure::Latency;
///
/// let mut latency = Latency::new();
/// for millis in 1..=100 {
///     latency.record(Duration::from_millis(millis));
/// }
/// let quantiles = latency.quantiles();
/// assert!((49_900.0..50_100.0).contains(&quantiles.p50_us), "{quantiles:?}");
/// assert!((99_900.0..100_100.0).contains(&quantiles.p999_us), "{quantiles:?}");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        match Histogram::new_with_bounds(1, NANOS_MAX, 3) {
            Ok(histogram) => Self(histogram),
            Err(error) => unreachable!("the bounds are constants that fit: {error}"),
        }
    }

    /// Adds how long something took.
    pub fn record(&mut self, took: Duration) {
        self.record_nanos(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds how long something took, in nanoseconds.
    pub fn record_nanos(&mut self, took: u64) {
        self.0.saturating_record(took);
    }

    /// Adds everything that another one counted.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use posthaste_measure::Latency;
    ///
    /// let (mut all, mut other) = (Latency::new(), Latency::new());
    /// all.record(Duration::from_micros(3));
    /// other.record(Duration::from_micros(5));
    /// all.add(&other);
    /// assert_eq!(all.len(), 2);
    /// ```
    pub fn add(&mut self, other: &Self) {
        if let Err(error) = self.0.add(&other.0) {
            unreachable!("all of them have the same bounds: {error}");
        }
    }

    /// How many things were counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long the quickest `share` of all (0 to 1) took at most, in microseconds; 0 if there
    /// were none.
    #[must_use]
    pub fn micros(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    /// The mean, in microseconds; 0 if there were none.
    #[must_use]
    pub fn mean_us(&self) -> f64 {
        self.0.mean() / 1e3
    }

    /// The quantiles that are commonly quoted.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            p50_us: self.micros(0.5),
            p99_us: self.micros(0.99),
            p999_us: self.micros(0.999),
            max_us: self.0.max() as f64 / 1e3,
        }
    }
}

/// How long half, 99 % and 99.9 % of all took at most, and the slowest, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of all took at most this long.
    pub p50_us: f64,
    /// 99 of 100 took at most this long.
    pub p99_us: f64,
    /// 999 of 1,000 took at most this long.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}
