//! Latencies, and when requests are due.

use std::time::Duration;

use posthaste_measure::{Clock, Latency, Pace};
use proptest::prelude::*;

#[test]
fn quantiles_are_of_all_that_was_counted() {
    let mut all = Latency::default();
    assert!(all.is_empty());
    assert_eq!((all.micros(0.5), all.mean_us()), (0.0, 0.0));
    let mut tail = Latency::new();
    (0..990).for_each(|_| all.record(Duration::from_micros(10)));
    (0..10).for_each(|_| tail.record(Duration::from_millis(5)));
    all.add(&tail);
    assert_eq!(all.len(), 1_000);
    let quantiles = all.quantiles();
    assert!((quantiles.p50_us / 10.0 - 1.0).abs() < 2e-3, "{quantiles:?}");
    assert!((quantiles.p99_us / 10.0 - 1.0).abs() < 2e-3, "{quantiles:?}");
    assert!((quantiles.p999_us / 5_000.0 - 1.0).abs() < 2e-3, "{quantiles:?}");
    assert!((all.mean_us() / 59.9 - 1.0).abs() < 2e-3, "{}", all.mean_us());
}

#[test]
fn what_takes_longer_than_an_hour_counts_as_an_hour() {
    let mut latency = Latency::new();
    latency.record(Duration::MAX);
    latency.record_nanos(0);
    let hour_us = 3_600e6;
    assert!((latency.quantiles().max_us / hour_us - 1.0).abs() < 2e-3);
}

#[test]
fn a_stall_is_seen_by_all_that_was_due_in_it() {
    // 1,000 a second for a second, each answered at once, except that nothing is sent nor
    // answered between 0.3 and 0.8 s.
    let pace = Pace::per_second(1_000.0).unwrap();
    let stall = Duration::from_millis(300)..Duration::from_millis(800);
    let (mut from_due, mut from_sent) = (Latency::new(), Latency::new());
    for nth in 0..1_000 {
        let due = pace.due(nth);
        let sent = if stall.contains(&due) { stall.end } else { due };
        let answered = sent + Duration::from_micros(20);
        from_due.record(answered - due);
        from_sent.record(answered - sent);
    }
    assert!(from_sent.micros(0.999) < 25.0, "the omission that this is about");
    assert!(from_due.micros(0.5) < 25.0);
    assert!((from_due.micros(0.75) / 250e3 - 1.0).abs() < 0.01, "{}", from_due.micros(0.75));
    assert!(from_due.micros(0.99) > 480e3);
}

#[test]
fn a_pace_is_a_rate_that_a_clock_can_follow() {
    for rate in [0.0, -1.0, 1e-6, 1.1e9, f64::NAN, f64::INFINITY] {
        assert_eq!(Pace::per_second(rate), None, "{rate}");
    }
    // A third of a second is no whole number of nanoseconds, and still nothing drifts.
    let thirds = Pace::per_second(3.0).unwrap();
    let day = Duration::from_secs(86_400);
    assert!(thirds.due(3 * 86_400).abs_diff(day) < Duration::from_micros(100));
}

#[test]
fn a_clock_never_says_zero() {
    let clock = Clock::start();
    let (first, second) = (clock.nanos(), clock.nanos());
    assert!(first >= 1 && second >= first);
    assert!(clock.elapsed() >= Duration::from_nanos(second) - Duration::from_nanos(1));
}

proptest! {
    #[test]
    fn a_request_is_due_from_its_time_on(rate in 0.001..1e9, nth in 0_u64..1_000_000_000_000) {
        let pace = Pace::per_second(rate).unwrap();
        let due = pace.due(nth);
        prop_assert!(pace.due(nth + 1) >= due);
        // Several are due in one nanosecond, at most.
        if due < Duration::from_nanos(u64::MAX) {
            prop_assert!(pace.due_by(due) > nth);
            if let Some(before) = due.checked_sub(Duration::from_nanos(1)) {
                prop_assert!(pace.due_by(before) <= nth);
            }
        }
    }

    #[test]
    fn the_rate_is_kept(rate in 0.1..1e9, seconds in 1_u64..3_600) {
        let pace = Pace::per_second(rate).unwrap();
        let due = pace.due_by(Duration::from_secs(seconds)) as f64;
        let expected = rate * seconds as f64;
        prop_assert!((due - expected).abs() <= 1.0 + expected * 1e-8, "{due} of {expected}");
    }
}
