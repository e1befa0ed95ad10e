//! Counts what a message costs and compares it with what was recorded.
//!
//! `cargo run --release -p posthaste-counts`. Counts repeat where times do not: instructions from
//! callgrind, syscalls from strace, allocations from an allocator that counts. Each scenario runs
//! in a process of its own, with few messages and with three times as many; the difference is
//! free of everything that happens once.

#![forbid(unsafe_code)]

mod allocations;
mod callgrind;
mod counts;
mod expected;
mod profile;
mod report;
mod scenarios;
mod strace;
mod under;
mod verdict;
mod workers;

use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser;

use allocations::Allocated;
use counts::Counts;
use expected::{Expectation, Expected};
use scenarios::Scenario;
use verdict::Verdict;

/// How often what seems to be too much is counted again.
const AGAIN: usize = 2;

/// An error in one sentence.
type Problem = Box<dyn Error + Send + Sync>;

/// Counts instructions, syscalls and allocations per message, and compares them with what was
/// recorded.
///
/// Fails when something costs more than was recorded (marked with "!"). What costs much less is
/// marked with "<": record it, so that it stays so.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only the scenarios whose name contains this, with their syscalls by name; may be repeated.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Write what was counted into the file of expectations instead of comparing it.
    #[arg(long)]
    record: bool,
    /// How many scenarios are counted at a time [default: one per core].
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
    /// Print which functions and lines a message of this scenario runs through.
    #[arg(long, value_name = "NAME", exclusive = true)]
    profile: Option<String>,
    /// Print the names of the scenarios.
    #[arg(long, exclusive = true)]
    list: bool,
    /// Run this scenario in this process, and print what was allocated: what is counted.
    #[arg(long, value_name = "NAME", hide = true, requires = "messages")]
    run: Option<String>,
    #[arg(long, value_name = "COUNT", hide = true, requires = "run")]
    messages: Option<u64>,
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
    let all = scenarios::all();
    let named = |name: &str| {
        let found = all.iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| format!("there is no scenario {name:?}: --list"))
    };
    if let (Some(name), Some(messages)) = (&arguments.run, arguments.messages) {
        named(name)?.run(messages)?;
        report::allocated(&Allocated::so_far()?);
        return Ok(true);
    }
    if arguments.list {
        report::list(&all);
        return Ok(true);
    }
    if let Some(name) = &arguments.profile {
        let scenario = named(name)?;
        report::profile(scenario, &profile::of(scenario)?);
        return Ok(true);
    }
    let chosen = |scenario: &&Scenario| {
        let wanted = |part: &String| scenario.name().contains(part);
        arguments.only.is_empty() || arguments.only.iter().any(wanted)
    };
    let chosen: Vec<&Scenario> = all.iter().filter(chosen).collect();
    if chosen.is_empty() {
        return Err("no scenario has such a name: --list".into());
    }

    let mut expected = Expected::load()?;
    report::head();
    let counted = count(arguments, &chosen, &expected)?;
    if arguments.record {
        expected.record(&all, &counted)?;
        return Ok(true);
    }
    judge(&all, &counted, &expected)
}

/// Counts what is chosen, several at a time, and reports each in its turn.
fn count<'a>(
    arguments: &Arguments,
    chosen: &[&'a Scenario],
    expected: &Expected,
) -> Result<Vec<(&'a Scenario, Counts)>, Problem> {
    let jobs = match arguments.jobs {
        Some(jobs) => jobs,
        None => std::thread::available_parallelism()?,
    };
    let mut counted = Vec::new();
    workers::in_turn(
        jobs,
        chosen,
        |scenario| match expected.of(scenario) {
            Some(expected) if !arguments.record => surely(scenario, expected),
            _ => Counts::of(scenario),
        },
        |scenario, counts| {
            let counts = counts?;
            report::row(scenario, &counts, expected.of(scenario));
            if !arguments.only.is_empty() {
                report::syscalls(&counts);
            }
            counted.push((*scenario, counts));
            Ok(())
        },
    )?;
    Ok(counted)
}

/// Counts, and counts again what seems to be too much: what the machine adds now and then, when
/// others keep it busy, is not there every time, and what the code adds is.
fn surely(scenario: &Scenario, expected: Expectation) -> Result<Counts, Problem> {
    let mut counts = Counts::of(scenario)?;
    for _ in 0..AGAIN {
        if !verdict::judge(&counts, expected).contains(&Verdict::More) {
            break;
        }
        counts = counts.least(Counts::of(scenario)?);
    }
    Ok(counts)
}

/// Says what is wrong, and whether nothing is.
fn judge(
    all: &[Scenario],
    counted: &[(&Scenario, Counts)],
    expected: &Expected,
) -> Result<bool, Problem> {
    let mut wrong = expected.stale(all).len();
    for name in expected.stale(all) {
        report::note(&format!("{name} is expected and is no scenario any more: --record"));
    }
    for (ratio, value) in verdict::ratios(counted) {
        report::ratio(ratio, value);
        wrong += usize::from(ratio.at_most.is_some_and(|most| value > most));
    }
    let (mut more, mut less) = (0, 0);
    for (scenario, counts) in counted.iter().filter(|(scenario, _)| !scenario.is_reference()) {
        let Some(expected) = expected.of(scenario) else {
            report::note(&format!("{} has no expectation: --record", scenario.name()));
            wrong += 1;
            continue;
        };
        let verdicts = verdict::judge(counts, expected);
        more += usize::from(verdicts.contains(&Verdict::More));
        less += usize::from(verdicts.contains(&Verdict::Less));
    }
    if less > 0 {
        report::note(&format!("{less} cost much less (<): record that with --record"));
    }
    if more > 0 {
        report::note(&format!(
            "{more} cost more than was recorded (!): look with --profile NAME; if it has to be so, \
             --record"
        ));
    }
    if let (true, Some((there, here))) = (more + less > 0, expected.recorded_elsewhere()?) {
        report::note(&format!("recorded with {there}; here is {here}"));
    }
    Ok(wrong + more == 0)
}
