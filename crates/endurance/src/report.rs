//! What a run found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How many findings are told in full; all are counted.
const TOLD_MAX: usize = 20;

/// What a run found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// What was done.
    pub mode: &'static str,
    /// From what everything random followed.
    pub seed: u64,
    /// How often the broker was cut off.
    pub cycles: u64,
    /// How many of these while it was starting.
    pub cut_starting: u64,
    /// Messages that were confirmed as stored.
    pub confirmed: u64,
    /// Messages of which nobody could say what became of them, and that were not sent again.
    pub unknown: u64,
    /// Messages that were sent again, because nobody could say or to see whether they come twice.
    pub repeated: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Messages that were settled, and known to stay so.
    pub settled: u64,
    /// Confirmed messages that never came, or did not come again although nobody had settled them.
    pub lost: u64,
    /// Deliveries of what nobody sent, or what was refused.
    pub phantom: u64,
    /// Deliveries of what was known to be settled for good.
    pub redelivered_after_settled: u64,
    /// Messages that were in a queue twice.
    pub doubled: u64,
    /// Messages that came before one that the same publisher had sent to the same queue earlier.
    pub disordered: u64,
    /// Deliveries that counted wrongly how many there had been.
    pub miscounted: u64,
    /// Books that did not balance, receipts that did not add up, and the like.
    pub unbalanced: u64,
    /// How often the broker did not start, panicked, or did not answer.
    pub failures: u64,
    /// System calls that were made to fail.
    pub faults: u64,
    /// Messages that were confirmed as stored without a sync.
    pub false_confirms: u64,
    /// Messages that came, were not settled, and never came again, as is allowed for what was not
    /// confirmed.
    pub vanished: u64,
    /// How long the broker took to start at most, in milliseconds.
    pub recovery_ms_max: u64,
    /// How long the run took, in milliseconds.
    pub took_ms: u64,
    /// What the broker said when something was made to fail, and how often.
    pub said: BTreeMap<String, u64>,
    /// What went wrong, in words, the first few.
    pub findings: Vec<String>,
}

impl Report {
    /// A report of nothing yet.
    #[must_use]
    pub fn new(mode: &'static str, seed: u64) -> Self {
        Self { mode, seed, ..Self::default() }
    }

    /// Whether everything that is promised was kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.broken() == 0
    }

    /// How many promises were broken.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.lost
            + self.phantom
            + self.redelivered_after_settled
            + self.doubled
            + self.disordered
            + self.miscounted
            + self.unbalanced
            + self.false_confirms
            + self.failures
    }

    pub(crate) fn tell(&mut self, finding: impl Into<String>) {
        if self.findings.len() < TOLD_MAX {
            self.findings.push(finding.into());
        }
    }

    /// Something went wrong with the broker as a whole.
    pub(crate) fn fail(&mut self, finding: impl Into<String>) {
        self.failures += 1;
        self.tell(finding);
    }

    pub(crate) fn recovered(&mut self, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.recovery_ms_max = self.recovery_ms_max.max(took);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, seed, cycles, cut_starting, .. } = self;
        writeln!(f, "{mode}: {cycles} cycles ({cut_starting} while starting), seed {seed}")?;
        let rows = [
            ("confirmed", self.confirmed),
            ("settled", self.settled),
            ("deliveries", self.deliveries),
            ("repeated", self.repeated),
            ("unknown", self.unknown),
            ("vanished", self.vanished),
            ("lost", self.lost),
            ("phantom", self.phantom),
            ("redelivered after settled", self.redelivered_after_settled),
            ("doubled", self.doubled),
            ("disordered", self.disordered),
            ("miscounted", self.miscounted),
            ("unbalanced", self.unbalanced),
            ("faults", self.faults),
            ("confirmed without a sync", self.false_confirms),
            ("failures", self.failures),
            ("longest recovery, ms", self.recovery_ms_max),
            ("took, ms", self.took_ms),
        ];
        for (name, value) in rows {
            writeln!(f, "  {name:26} {value:>10}")?;
        }
        for (said, count) in &self.said {
            writeln!(f, "  {count:>5} x {said}")?;
        }
        for finding in &self.findings {
            writeln!(f, "  ! {finding}")?;
        }
        f.write_str(if self.holds() { "  everything held" } else { "  NOT everything held" })
    }
}
