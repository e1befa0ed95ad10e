//! What is made of the rounds of a row: medians, spreads, and ratios taken round by round.

use posthaste_measure::Summary;

use crate::control::Late;
use crate::peer::{Api, Contender, Peer};
use crate::posthaste::Posthaste;
use crate::round::Sample;
use crate::run::{ContenderResult, RowResult};
use crate::work::Unit;

impl ContenderResult {
    /// The rounds that have a figure.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.rounds.iter().filter_map(|round| round.as_ref().ok())
    }

    /// The figure of the row, if there was a round that has it.
    pub(crate) fn value(&self, unit: Unit) -> Option<Summary> {
        summary(self.samples().filter_map(|sample| unit.of(sample)))
    }

    /// One of the quantiles of how late answers came.
    pub(crate) fn late(&self, which: impl Fn(&Late) -> f64) -> Option<Summary> {
        summary(self.samples().filter_map(|sample| sample.late.as_ref()).map(which))
    }

    /// Answers a second, and how many were due.
    pub(crate) fn rates(&self) -> Option<(f64, f64)> {
        let answered = summary(self.samples().map(Sample::rate))?.median;
        let due = summary(self.samples().filter_map(|sample| sample.asked_rate))?.median;
        Some((answered, due))
    }

    /// CPU seconds per million of what was counted, of the roles that `which` picks.
    pub(crate) fn cpu(&self, which: impl Fn(&str) -> bool) -> Option<Summary> {
        summary(self.samples().map(|sample| sample.cpu_per_million(&which)))
    }

    /// How many times as much CPU time as `other` this takes, round by round.
    pub(crate) fn cpu_over(&self, other: &Self) -> Option<Summary> {
        let cpu = |sample: &Sample| sample.cpu_per_million(|_| true);
        summary(self.with(other).map(|(this, that)| cpu(this) / cpu(that)))
    }

    /// How many times as fast as `other` this is, round by round.
    pub(crate) fn speed_over(&self, other: &Self, unit: Unit) -> Option<Summary> {
        summary(self.with(other).filter_map(|(this, that)| {
            let (this, that) = (unit.of(this)?, unit.of(that)?);
            Some(if unit == Unit::Rate { this / that } else { that / this })
        }))
    }

    /// The rounds in which both have a figure.
    fn with<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Sample, &'a Sample)> {
        let both = self.rounds.iter().zip(&other.rounds);
        both.filter_map(|(this, that)| Some((this.as_ref().ok()?, that.as_ref().ok()?)))
    }
}

impl Unit {
    fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Rate => Some(sample.rate()),
            Self::RoundTrip => Some(1e6 / sample.rate()),
            Self::Late => Some(sample.late?.p99),
        }
    }
}

impl RowResult {
    /// Which of Posthaste's contenders a peer's is fairly compared with: one that takes messages
    /// in the same way, on the same executor if there is one, else on its best.
    pub(crate) fn counterpart(&self, of: &Contender) -> Option<&ContenderResult> {
        let unit = self.row.work.unit();
        let ours = |result: &&ContenderResult| {
            result.contender.peer == Posthaste.name() && result.value(unit).is_some()
        };
        let alike = |api: Api| {
            self.contenders.iter().filter(ours).filter(move |ours| {
                let Contender { api: its, .. } = ours.contender;
                its == api
            })
        };
        // A limit is compared with the best there is.
        let apis = match of.api {
            Api::Limit => [Api::Batch, Api::One],
            api => [api, api],
        };
        let api = apis.into_iter().find(|api| alike(*api).next().is_some())?;
        let same = alike(api).find(|ours| ours.contender.executor == of.executor);
        same.or_else(|| self.fastest(alike(api)))
    }

    /// The fastest of these, by its median.
    pub(crate) fn fastest<'a>(
        &self,
        these: impl Iterator<Item = &'a ContenderResult>,
    ) -> Option<&'a ContenderResult> {
        let unit = self.row.work.unit();
        let speed = |result: &&ContenderResult| {
            let value = result.value(unit).map(|value| value.median);
            // What is not a rate is a time, of which less is better.
            value.map_or(0.0, |value| if unit == Unit::Rate { value } else { 1.0 / value })
        };
        these.max_by(|this, that| speed(this).total_cmp(&speed(that)))
    }
}

fn summary(values: impl Iterator<Item = f64>) -> Option<Summary> {
    Summary::of(&values.collect::<Vec<_>>())
}
