//! What a message of a scenario costs.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::Command;

use posthaste_counts::Scenario;

use crate::{Problem, allocations, callgrind, strace};

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
    pub(crate) fn of(scenario: &Scenario) -> Result<Self, Problem> {
        let instructions = difference(scenario, callgrind::instructions)?;
        let few = strace::syscalls(scenario, scenario.messages())?;
        let mut more = strace::syscalls(scenario, 3 * scenario.messages())?;
        for (name, count) in few {
            *more.entry(name).or_default() -= count;
        }
        more.retain(|_, count| *count != 0);
        let per_message = |count: i64| count as f64 / (2 * scenario.messages()) as f64;
        let (allocations, bytes) = allocations::allocations(scenario)?;
        Ok(Self {
            instructions,
            syscalls: per_message(more.values().sum()),
            syscalls_by_name: more.into_iter().map(|(name, n)| (name, per_message(n))).collect(),
            allocations,
            bytes,
        })
    }
}

/// What each message adds, between a run with few messages and one with three times as many.
fn difference(
    scenario: &Scenario,
    count: impl Fn(&Scenario, u64) -> Result<i64, Problem>,
) -> Result<f64, Problem> {
    let messages = scenario.messages();
    let added = count(scenario, 3 * messages)? - count(scenario, messages)?;
    Ok(added as f64 / (2 * messages) as f64)
}

/// Runs `scenario` under what `command` begins; `install` is what to do if that is not there.
pub(crate) fn ran(
    mut command: Command,
    scenario: &Scenario,
    messages: u64,
    install: &str,
) -> Result<(), Problem> {
    let program = std::env::current_exe()?.with_file_name("scenario");
    command.arg(program).arg(scenario.name()).arg(messages.to_string());
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{tool} is not here: {install}"),
        _ => format!("{tool} does not start: {error}"),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let name = scenario.name();
        return Err(format!("{tool} with the scenario {name:?} failed: {}", said.trim()).into());
    }
    Ok(())
}
