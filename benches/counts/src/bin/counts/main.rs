//! Counts what a message costs and compares it with what was recorded.
//!
//! `cargo build --release -p posthaste-counts`, then `target/release/counts`; `.ci/counts` does
//! both. Counts repeat where times do not: instructions from callgrind, syscalls from strace,
//! allocations from an allocator that counts.

#![forbid(unsafe_code)]

mod allocations;
mod callgrind;
mod counts;
mod expected;
mod profile;
mod report;
mod strace;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use posthaste_counts::Scenario;

use counts::Counts;
use expected::Expected;

/// An error in one sentence.
type Problem = Box<dyn Error + Send + Sync>;

/// Counts instructions, syscalls and allocations per message, and compares them with what was
/// recorded.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only the scenarios whose name contains this; may be repeated.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Write what was counted into the file of expectations.
    #[arg(long)]
    record: bool,
    /// Print which functions a message of this scenario runs through.
    #[arg(long, value_name = "NAME", exclusive = true)]
    profile: Option<String>,
    /// Print the names of the scenarios.
    #[arg(long, exclusive = true)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            report::problem(&*problem);
            ExitCode::from(2)
        }
    }
}

/// Says whether nothing costs more than was expected.
fn run(arguments: &Arguments) -> Result<bool, Problem> {
    let scenarios = posthaste_counts::all();
    if arguments.list {
        report::list(&scenarios);
        return Ok(true);
    }
    if let Some(name) = &arguments.profile {
        let scenario = scenarios.iter().find(|scenario| scenario.name() == name);
        let scenario = scenario.ok_or_else(|| format!("there is no scenario {name:?}: --list"))?;
        report::profile(scenario, &profile::of(scenario)?);
        return Ok(true);
    }
    let chosen = |scenario: &&Scenario| {
        let wanted = |part: &String| scenario.name().contains(part);
        arguments.only.is_empty() || arguments.only.iter().any(wanted)
    };
    let chosen: Vec<&Scenario> = scenarios.iter().filter(chosen).collect();
    if chosen.is_empty() {
        return Err("no scenario has such a name: --list".into());
    }
    let mut expected = Expected::load()?;
    let mut worse = 0;
    report::head();
    for scenario in chosen {
        let counts = Counts::of(scenario)?;
        worse += usize::from(report::row(scenario, &counts, expected.of(scenario)));
        if arguments.record {
            expected.set(scenario, &counts);
        }
    }
    if arguments.record {
        expected.store()?;
        return Ok(true);
    }
    report::end(worse);
    Ok(worse == 0)
}
