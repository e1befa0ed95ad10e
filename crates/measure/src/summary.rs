//! The values of several rounds as one figure.

use serde::Serialize;

/// What several rounds came to.
///
/// The median stands for all of them, because a round that something else on the machine disturbed
/// moves it little. [`spread`](Self::spread) tells how far the rounds were apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// The value in the middle, or the mean of the two in the middle.
    pub median: f64,
    /// The lowest of the values.
    pub lowest: f64,
    /// The highest of the values.
    pub highest: f64,
    /// How many rounds there were.
    pub rounds: usize,
}

impl Summary {
    /// Sums up the values of several rounds, in any order.
    ///
    /// `None` if there are none, or one of them is not finite: such a round measured nothing.
    ///
    /// ```
    /// use posthaste_measure::Summary;
    ///
    /// let summary = Summary::of(&[10.0, 14.0, 11.0]).unwrap();
    /// assert_eq!((summary.lowest, summary.median, summary.highest), (10.0, 11.0, 14.0));
    /// assert_eq!(Summary::of(&[]), None);
    /// ```
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            // Halved first, as the sum of two large ones may not be finite.
            _ => values[middle - 1] / 2.0 + values[middle] / 2.0,
        };
        Some(Self { median, lowest, highest, rounds: values.len() })
    }

    /// Sums up how many times as large `these` are as `those`, round by round.
    ///
    /// The values are those of interleaved rounds, in the order of the rounds: the machine was as
    /// busy for the one as for the other, so that the ratios of rounds agree better than the
    /// rounds do. `None` if there are not as many of each, or [`of`](Self::of) the ratios is.
    ///
    /// ```
    /// use posthaste_measure::Summary;
    ///
    /// // The machine became slower from round to round, and yet:
    /// let ratio = Summary::of_ratios(&[300.0, 200.0, 100.0], &[150.0, 100.0, 50.0]).unwrap();
    /// assert_eq!((ratio.median, ratio.spread()), (2.0, 0.0));
    /// ```
    #[must_use]
    pub fn of_ratios(these: &[f64], those: &[f64]) -> Option<Self> {
        if these.len() != those.len() {
            return None;
        }
        let ratios: Vec<_> = these.iter().zip(those).map(|(this, that)| this / that).collect();
        Self::of(&ratios)
    }

    /// How many times as large this median is as another one; where rounds were interleaved,
    /// [`of_ratios`](Self::of_ratios) is better. Not finite if the other median is 0.
    ///
    /// ```
    /// use posthaste_measure::Summary;
    ///
    /// let (now, before) = (Summary::of(&[6.0]).unwrap(), Summary::of(&[4.0]).unwrap());
    /// assert_eq!(now.over(&before), 1.5);
    /// ```
    #[must_use]
    pub fn over(&self, other: &Self) -> f64 {
        self.median / other.median
    }

    /// How far the round that was furthest from the median was from it, as a share of the median:
    /// all rounds lie within the median ± this. 0 if there was one round, or the median is 0.
    ///
    /// The whole range, and not the quartiles, because there are three to ten rounds: too few to
    /// tell quartiles.
    ///
    /// ```
    /// use posthaste_measure::Summary;
    ///
    /// assert_eq!(Summary::of(&[90.0, 100.0, 125.0]).unwrap().spread(), 0.25);
    /// ```
    #[must_use]
    pub fn spread(&self) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        let furthest = (self.highest - self.median).max(self.median - self.lowest);
        furthest / self.median.abs()
    }

    /// The [`spread`](Self::spread) for people.
    ///
    /// ```
    /// use posthaste_measure::Summary;
    ///
    /// assert_eq!(Summary::of(&[90.0, 100.0, 125.0]).unwrap().percent(), "±25 %");
    /// ```
    #[must_use]
    pub fn percent(&self) -> String {
        format!("±{:.0} %", self.spread() * 100.0)
    }

    /// The median of ratios for people, in three significant digits.
    ///
    /// ```
    /// use posthaste_measure::Summary;
    ///
    /// let times = |ratio: f64| Summary::of(&[ratio]).unwrap().times();
    /// assert_eq!([1.614, 16.14, 1_614.2].map(times), ["1.61x", "16.1x", "1614x"]);
    /// ```
    #[must_use]
    pub fn times(&self) -> String {
        let places = match self.median.abs() {
            below if below < 9.995 => 2,
            below if below < 99.95 => 1,
            _ => 0,
        };
        format!("{:.places$}x", self.median)
    }

    /// The same in another unit: every value times `factor`, which is positive.
    ///
    /// ```
    /// use posthaste_measure::Summary;
    ///
    /// let seconds = Summary::of(&[0.001, 0.002]).unwrap();
    /// assert_eq!(seconds.scaled(1e3).highest, 2.0);
    /// ```
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            lowest: self.lowest * factor,
            highest: self.highest * factor,
            rounds: self.rounds,
        }
    }
}
