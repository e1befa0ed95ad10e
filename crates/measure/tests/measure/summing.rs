//! Rounds, and what they come to.

use posthaste_measure::Summary;
use proptest::prelude::*;

#[test]
fn the_median_is_in_the_middle() {
    let median = |values: &[f64]| Summary::of(values).map(|summary| summary.median);
    assert_eq!(median(&[7.0]), Some(7.0));
    assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    assert_eq!(median(&[f64::MAX, f64::MAX]), Some(f64::MAX));
}

#[test]
fn a_round_that_measured_nothing_is_no_figure() {
    assert_eq!(Summary::of(&[]), None);
    assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    assert_eq!(Summary::of_ratios(&[1.0], &[0.0]), None);
    assert_eq!(Summary::of_ratios(&[1.0, 2.0], &[1.0]), None);
}

#[test]
fn one_round_has_no_spread() {
    let once = Summary::of(&[3.0]).unwrap();
    assert_eq!((once.spread(), once.rounds), (0.0, 1));
    assert_eq!(Summary::of(&[0.0, 0.0]).unwrap().spread(), 0.0);
}

/// Finite values that do not vanish beside each other.
fn rounds(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(1e-3..1e9, count)
}

proptest! {
    #[test]
    fn the_order_of_rounds_does_not_matter(values in rounds(1..12)) {
        let summary = Summary::of(&values).unwrap();
        let mut reversed = values.clone();
        reversed.reverse();
        prop_assert_eq!(Summary::of(&reversed), Some(summary));
        prop_assert!(summary.lowest <= summary.median && summary.median <= summary.highest);
        prop_assert!(values.contains(&summary.lowest) && values.contains(&summary.highest));
        let below = values.iter().filter(|value| **value < summary.median).count();
        let above = values.iter().filter(|value| **value > summary.median).count();
        prop_assert!(below.max(above) <= values.len() / 2);
    }

    #[test]
    fn every_round_is_within_the_spread(values in rounds(1..12)) {
        let summary = Summary::of(&values).unwrap();
        let reach = summary.median * summary.spread() * (1.0 + 1e-9);
        prop_assert!(values.iter().all(|value| (value - summary.median).abs() <= reach));
    }

    #[test]
    fn what_slows_both_sides_of_a_round_leaves_ratios_alone(
        (ours, theirs, slower) in (1_usize..12).prop_flat_map(|count| {
            (rounds(count), rounds(count), prop::collection::vec(0.1..10.0, count))
        }),
    ) {
        let slow = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(&slower).map(|(value, factor)| value * factor).collect()
        };
        let quiet = Summary::of_ratios(&ours, &theirs).unwrap();
        let busy = Summary::of_ratios(&slow(&ours), &slow(&theirs)).unwrap();
        prop_assert!((quiet.median / busy.median - 1.0).abs() < 1e-9);
        let back = Summary::of_ratios(&theirs, &ours).unwrap();
        if ours.len() % 2 == 1 {
            prop_assert!((quiet.median * back.median - 1.0).abs() < 1e-9);
        }
    }
}
