//! What is too much: how far a count may be above what was recorded, and one above another.

use crate::scenarios::Scenario;

use crate::counts::Counts;
use crate::expected::Expectation;

/// How a count compares with what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// More than is tolerated.
    More,
    /// As expected.
    Same,
    /// So much less that it is worth recording.
    Less,
}

/// How far a count may be from what was expected: by a part of it, and by a bit more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    part: f64,
    bit: f64,
}

impl Tolerance {
    /// Counts of one build repeat to 0.5 %, but where a tree lies, and what else is built with it,
    /// moves what the compiler inlines by up to 3 %.
    pub(crate) const INSTRUCTIONS: Self = Self { part: 0.08, bit: 2.0 };
    /// How many bytes a read finds may differ, and so may the number of reads. One more for each
    /// message, or for each round trip, is always too many.
    pub(crate) const SYSCALLS: Self = Self { part: 0.10, bit: 0.03 };
    pub(crate) const ALLOCATIONS: Self = Self { part: 0.05, bit: 0.02 };
    pub(crate) const BYTES: Self = Self { part: 0.15, bit: 64.0 };

    pub(crate) fn judge(self, count: f64, expected: f64) -> Verdict {
        let far = expected * self.part + self.bit;
        match count - expected {
            more if more > far => Verdict::More,
            less if less < -far => Verdict::Less,
            _ => Verdict::Same,
        }
    }
}

/// The verdicts on all counts of a scenario, in the order of the report.
pub(crate) fn judge(counts: &Counts, expected: Expectation) -> [Verdict; 4] {
    [
        Tolerance::INSTRUCTIONS.judge(counts.instructions, expected.instructions),
        Tolerance::SYSCALLS.judge(counts.syscalls, expected.syscalls),
        Tolerance::ALLOCATIONS.judge(counts.allocations, expected.allocations),
        Tolerance::BYTES.judge(counts.bytes, expected.bytes),
    ]
}

/// Instructions of one scenario over those of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) of: &'static str,
    pub(crate) to: &'static str,
    pub(crate) at_most: Option<f64>,
}

const fn ratio(of: &'static str, to: &'static str, at_most: Option<f64>) -> Ratio {
    Ratio { of, to, at_most }
}

/// What is worth comparing.
const RATIOS: [Ratio; 9] = [
    ratio("memory queue", "memory queue, concrete", Some(1.05)),
    ratio("memory queue", "async-channel", None),
    ratio("memory queue", "kanal", None),
    ratio("tcp queue 64 B", "tcp frames 64 B", None),
    ratio("tcp queue 1 KiB", "tcp frames 1 KiB", None),
    ratio("tcp request", "tcp round trip", None),
    ratio("unix queue 64 B", "unix frames 64 B", None),
    ratio("unix queue 1 KiB", "unix frames 1 KiB", None),
    ratio("unix request", "unix round trip", None),
];

/// The ratios of which both sides were counted.
pub(crate) fn ratios(counted: &[(&Scenario, Counts)]) -> Vec<(Ratio, f64)> {
    let instructions = |name: &str| {
        let found = counted.iter().find(|(scenario, _)| scenario.name() == name);
        found.map(|(_, counts)| counts.instructions)
    };
    let value = |ratio: Ratio| Some((ratio, instructions(ratio.of)? / instructions(ratio.to)?));
    RATIOS.into_iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_be_off_by_its_tolerance() {
        let tolerance = Tolerance { part: 0.1, bit: 1.0 };
        for (count, verdict) in [
            (111.5, Verdict::More),
            (110.5, Verdict::Same),
            (100.0, Verdict::Same),
            (89.5, Verdict::Same),
            (88.5, Verdict::Less),
        ] {
            assert_eq!(tolerance.judge(count, 100.0), verdict, "{count}");
        }
    }

    #[test]
    fn ratios_are_between_scenarios() {
        let all = crate::scenarios::all();
        for name in RATIOS.iter().flat_map(|ratio| [ratio.of, ratio.to]) {
            assert!(all.iter().any(|scenario| scenario.name() == name), "{name}");
        }
    }
}
