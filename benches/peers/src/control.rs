//! What the orchestrator and the processes of a round say to each other: a line of JSON each.

use std::time::Duration;

use posthaste_measure::Quantiles;
use serde::{Deserialize, Serialize};

/// The line that asks a process for a [`Mark`]; the end of its input ends it.
pub(crate) const ASK_MARK: &str = "mark";

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It is ready, and can be reached there.
    Ready(String),
    /// Where it stands, because it was asked.
    Mark(Mark),
    /// It cannot go on, and why.
    Failed(String),
}

/// Where a process stands at a moment.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// When this was, by the monotonic clock of the machine.
    pub(crate) at_ns: u64,
    /// How much it has done since it began.
    pub(crate) count: u64,
    /// User and system time that it has used since it began.
    pub(crate) cpu: Duration,
    /// How late answers came since the last mark, if that is measured.
    pub(crate) latency: Option<Late>,
}

/// How late answers came, in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Late {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl From<Quantiles> for Late {
    fn from(these: Quantiles) -> Self {
        Self { p50: these.p50_us, p99: these.p99_us, p999: these.p999_us, max: these.max_us }
    }
}

impl Mark {
    /// Where a process stands now.
    pub(crate) fn at(cpu: Duration, count: u64) -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let at_ns = u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or_default();
        Self { at_ns, count, cpu, latency: None }
    }
}
