//! What a message of a scenario costs.

use std::collections::BTreeMap;

use crate::scenarios::Scenario;

use crate::{Problem, callgrind, strace};

/// Counts per message.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) instructions: f64,
    pub(crate) syscalls: f64,
    pub(crate) syscalls_by_name: BTreeMap<String, f64>,
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
}

impl Counts {
    /// What each message adds, between a run with few and one with three times as many.
    pub(crate) fn of(scenario: &Scenario) -> Result<Self, Problem> {
        let few = scenario.messages();
        let more = 3 * few;
        let per_message = |count: i64| count as f64 / (more - few) as f64;

        let instructions =
            callgrind::instructions(scenario, more)? - callgrind::instructions(scenario, few)?;

        let (fewer, before) = strace::syscalls_and_allocations(scenario, few)?;
        let (mut syscalls, after) = strace::syscalls_and_allocations(scenario, more)?;
        for (name, count) in fewer {
            *syscalls.entry(name).or_default() -= count;
        }
        syscalls.retain(|_, count| *count != 0);

        Ok(Self {
            instructions: per_message(instructions),
            syscalls: per_message(syscalls.values().sum()),
            syscalls_by_name: syscalls
                .into_iter()
                .map(|(name, n)| (name, per_message(n)))
                .collect(),
            allocations: per_message(after.allocations - before.allocations),
            bytes: per_message(after.bytes - before.bytes),
        })
    }

    /// The smaller of each count.
    pub(crate) fn least(self, other: Self) -> Self {
        let fewer = other.syscalls < self.syscalls;
        Self {
            instructions: self.instructions.min(other.instructions),
            syscalls: self.syscalls.min(other.syscalls),
            syscalls_by_name: if fewer { other.syscalls_by_name } else { self.syscalls_by_name },
            allocations: self.allocations.min(other.allocations),
            bytes: self.bytes.min(other.bytes),
        }
    }
}
