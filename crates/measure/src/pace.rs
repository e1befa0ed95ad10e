//! Load at a fixed rate.

use std::time::Duration;

/// Binary places after the point of a nanosecond.
const PLACES: u32 = 32;

/// When each request of a steady load is due.
///
/// A client that waits for an answer before it asks again is at its slowest just when the server
/// is, and so leaves out most of the slow answers that an independent client would have got: the
/// *coordinated omission* that Gil Tene describes in [How NOT to Measure Latency] and that the
/// [documentation of HdrHistogram] warns of. A load that is free of it has a schedule that does not
/// depend on the answers, and counts each latency from when the request was due, even if it could
/// be sent only later.
///
/// The schedule is computed from the number of the request, so it does not drift however late the
/// single requests are.
///
/// ```
/// use posthaste_measure::{Clock, Latency, Pace};
///
/// let pace = Pace::per_second(100_000.0).expect("a rate");
/// let (clock, mut latency, mut asked) = (Clock::start(), Latency::new(), 0);
/// while asked < 100 {
///     // A client that is idle waits until `pace.due(asked)`, on the timer of its runtime.
///     for nth in asked..pace.due_by(clock.elapsed()) {
///         // Ask, and once the answer is there, wherever it comes in:
///         latency.record(clock.elapsed().saturating_sub(pace.due(nth)));
///         asked = nth + 1;
///     }
/// }
/// assert_eq!(latency.len(), asked);
/// ```
///
/// [How NOT to Measure Latency]: https://www.infoq.com/presentations/latency-response-time/
/// [documentation of HdrHistogram]: https://hdrhistogram.github.io/HdrHistogram/JavaDoc/
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one to the next, in nanoseconds with [`PLACES`] binary places; never 0.
    interval: u128,
}

impl Pace {
    /// So many in a second; `None` unless that is from one in a day to a thousand million.
    #[must_use]
    pub fn per_second(rate: f64) -> Option<Self> {
        let interval_ns = 1e9 / rate;
        let places = (1_u64 << PLACES) as f64;
        (1.0..=86_400e9)
            .contains(&interval_ns)
            .then(|| Self { interval: (interval_ns * places).round() as u128 })
    }

    /// When the `nth` is due, counted from 0, after the start.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use posthaste_measure::Pace;
    ///
    /// let pace = Pace::per_second(50.0).unwrap();
    /// assert_eq!(pace.due(0), Duration::ZERO);
    /// assert_eq!(pace.due(3), Duration::from_millis(60));
    /// ```
    #[must_use]
    pub fn due(&self, nth: u64) -> Duration {
        let nanos = u128::from(nth).saturating_mul(self.interval) >> PLACES;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many are due once so much time has `elapsed` since the start, the first one included.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use posthaste_measure::Pace;
    ///
    /// let pace = Pace::per_second(50.0).unwrap();
    /// assert_eq!(pace.due_by(Duration::ZERO), 1);
    /// assert_eq!(pace.due_by(Duration::from_millis(59)), 3);
    /// assert_eq!(pace.due_by(Duration::from_millis(60)), 4);
    /// ```
    #[must_use]
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        // Those whose time is before the end of this nanosecond.
        let nanos = elapsed.as_nanos().min(u128::from(u64::MAX)) + 1;
        let before = (nanos << PLACES) - 1;
        u64::try_from(before / self.interval + 1).unwrap_or(u64::MAX)
    }
}
