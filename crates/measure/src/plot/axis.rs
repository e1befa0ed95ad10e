//! Axes: what is along them, and where a value is.

use crate::number::bytes;

/// What is along an axis of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    pub(super) label: String,
    logarithmic: bool,
    is_bytes: bool,
}

impl Axis {
    /// A linear one that begins at 0. The `label` names the unit, too.
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), logarithmic: false, is_bytes: false }
    }

    /// Makes it logarithmic: equal steps are equal factors. A value of 0 is shown at its beginning.
    #[must_use]
    pub fn logarithmic(mut self) -> Self {
        self.logarithmic = true;
        self
    }

    /// Its values are numbers of bytes.
    #[must_use]
    pub fn bytes(mut self) -> Self {
        self.is_bytes = true;
        self
    }

    /// The scale for these values, which are finite and not negative. `None` without any that is
    /// positive.
    pub(super) fn scale(&self, values: impl Iterator<Item = f64>) -> Option<Scale> {
        let (mut lowest, mut highest, mut has_zero) = (f64::INFINITY, 0.0_f64, false);
        for value in values {
            match value > 0.0 {
                true => (lowest, highest) = (lowest.min(value), highest.max(value)),
                false => has_zero = true,
            }
        }
        (highest > 0.0).then(|| match self.logarithmic {
            true => Scale::logarithmic(lowest, highest, has_zero, self.is_bytes),
            false => Scale::linear(highest, self.is_bytes),
        })
    }

    /// A value beside its tick.
    pub(super) fn tick(&self, value: f64) -> String {
        if self.is_bytes { bytes(value) } else { plain(value) }
    }
}

/// Where on an axis a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    /// What is drawn beside the axis.
    pub(super) ticks: Vec<f64>,
    low: f64,
    high: f64,
    logarithmic: bool,
    /// The share of a logarithmic axis that lies before its lowest value, where 0 is.
    before: f64,
}

impl Scale {
    fn linear(highest: f64, is_bytes: bool) -> Self {
        let step = nice(highest / 5.0, is_bytes);
        let count = (highest / step).ceil();
        let ticks = (0..=count as u32).map(|nth| f64::from(nth) * step).collect();
        Self { ticks, low: 0.0, high: count * step, logarithmic: false, before: 0.0 }
    }

    fn logarithmic(lowest: f64, highest: f64, has_zero: bool, is_bytes: bool) -> Self {
        let base: f64 = if is_bytes { 2.0 } else { 10.0 };
        let power = |exponent: i32| base.powi(exponent);
        let first = lowest.log(base).floor() as i32;
        let last = (highest.log(base) - 1e-9).ceil().max(f64::from(first) + 1.0) as i32;
        // Some eight ticks at most, and more than the two ends.
        let every = ((last - first) as usize).div_ceil(8).max(1);
        let mut ticks: Vec<f64> = (first..=last).step_by(every).map(power).collect();
        if last - first <= 2 && !is_bytes {
            ticks.extend((first..last).flat_map(|it| [2.0 * power(it), 5.0 * power(it)]));
        }
        if has_zero {
            ticks.push(0.0);
        }
        let before = if has_zero { 0.06 } else { 0.0 };
        Self { ticks, low: power(first), high: power(last), logarithmic: true, before }
    }

    /// How far along the axis a value is: from 0 to 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        let share = match self.logarithmic {
            false => (value - self.low) / (self.high - self.low),
            true if value <= 0.0 => return 0.0,
            true => {
                let along = (value / self.low).ln() / (self.high / self.low).ln();
                self.before + along * (1.0 - self.before)
            }
        };
        share.clamp(0.0, 1.0)
    }
}

/// A step of 1, 2 or 5 in its decimal place, or a power of two, not below this one.
fn nice(step: f64, is_bytes: bool) -> f64 {
    if is_bytes {
        return step.log2().ceil().exp2().max(1.0);
    }
    let place = 10_f64.powf(step.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|it| it * place);
    // What is above 5 is rounded up to the next place.
    steps.into_iter().find(|it| *it >= step * (1.0 - 1e-9)).unwrap_or(10.0 * place)
}

/// A number without zeros at its end.
fn plain(value: f64) -> String {
    let (sign, unit) = [(" G", 1e9), (" M", 1e6), (" k", 1e3)]
        .into_iter()
        .find(|(_, unit)| value >= *unit)
        .unwrap_or(("", 1.0));
    // Sums of steps are not exact.
    let rounded = format!("{:.6}", value / unit);
    format!("{}{sign}", rounded.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Axis, plain};

    #[test]
    fn ticks_are_numbers_that_people_would_choose() {
        let ticks = |axis: &Axis, values: &[f64]| {
            let scale = axis.scale(values.iter().copied()).expect("there are values");
            let mut ticks = scale.ticks;
            ticks.sort_by(f64::total_cmp);
            ticks.into_iter().map(|value| axis.tick(value)).collect::<Vec<_>>().join(", ")
        };
        let linear = Axis::new("msgs/s");
        assert_eq!(ticks(&linear, &[3.0, 14_500_000.0]), "0, 5 M, 10 M, 15 M");
        assert_eq!(ticks(&linear, &[0.31]), "0, 0.1, 0.2, 0.3, 0.4");
        let logarithmic = linear.logarithmic();
        assert_eq!(ticks(&logarithmic, &[1.0, 100_000.0]), "1, 10, 100, 1 k, 10 k, 100 k");
        assert_eq!(ticks(&logarithmic, &[300.0, 700.0]), "100, 200, 500, 1 k");
        assert_eq!(ticks(&logarithmic, &[0.0, 1.0, 10.0]), "0, 1, 2, 5, 10");
        let sizes = Axis::new("bytes").bytes().logarithmic();
        let expected = "0 B, 1 B, 8 B, 64 B, 512 B, 4 KiB, 32 KiB, 256 KiB, 2 MiB, 16 MiB";
        assert_eq!(ticks(&sizes, &[0.0, 1.0, f64::from(16 << 20)]), expected);
    }

    #[test]
    fn numbers_beside_ticks_are_exact() {
        let shown = [0.0, 0.3, 2.5, 1_000.0, 250_000.0, 1e10].map(plain).join(" | ");
        assert_eq!(shown, "0 | 0.3 | 2.5 | 1 k | 250 k | 10 G");
    }

    proptest! {
        #[test]
        fn larger_values_are_further_along(
            mut values in prop::collection::vec(1e-3..1e9, 1..20),
            logarithmic in any::<bool>(),
            with_zero in any::<bool>(),
            is_bytes in any::<bool>(),
        ) {
            if with_zero {
                values.push(0.0);
            }
            let axis = Axis { label: String::new(), logarithmic, is_bytes };
            let scale = axis.scale(values.iter().copied()).expect("there are positive ones");
            values.sort_by(f64::total_cmp);
            let shares: Vec<_> = values.iter().map(|value| scale.share(*value)).collect();
            prop_assert!(shares.is_sorted() && shares.iter().all(|it| (0.0..=1.0).contains(it)));
            prop_assert!((2..=20).contains(&scale.ticks.len()), "{:?}", scale.ticks);
        }
    }
}
