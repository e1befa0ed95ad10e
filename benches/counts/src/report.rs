//! What is printed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::error::Error;

use crate::scenarios::Scenario;

use crate::allocations::Allocated;
use crate::counts::Counts;
use crate::expected::Expectation;
use crate::profile::PerMessage;
use crate::verdict::{Ratio, Verdict, judge};

/// How many rows each part of a profile has.
const ROWS: usize = 40;

pub(crate) fn problem(problem: &dyn Error) {
    eprintln!("counts: {problem}");
}

pub(crate) fn note(note: &str) {
    eprintln!("{note}");
}

pub(crate) fn allocated(allocated: &Allocated) {
    println!("{allocated}");
}

pub(crate) fn list(scenarios: &[Scenario]) {
    for scenario in scenarios {
        println!("{}", scenario.name());
    }
}

pub(crate) fn head() {
    println!(
        "{:30}{:>31}{:>29}{:>29}{:>29}",
        "per message (and as expected)", "instructions", "syscalls", "allocations", "bytes"
    );
}

/// A scenario's counts, each with what was expected and how far it is off.
pub(crate) fn row(scenario: &Scenario, counts: &Counts, expected: Option<Expectation>) {
    let counted = [
        (counts.instructions, expected.map(|e| e.instructions), 1, 31),
        (counts.syscalls, expected.map(|e| e.syscalls), 4, 29),
        (counts.allocations, expected.map(|e| e.allocations), 4, 29),
        (counts.bytes, expected.map(|e| e.bytes), 1, 29),
    ];
    let verdicts = expected.map_or([Verdict::Same; 4], |expected| judge(counts, expected));
    print!("{:30}", scenario.name());
    for ((count, expected, digits, width), verdict) in counted.into_iter().zip(verdicts) {
        // Adding zero turns minus zero into zero.
        let count = (count * 1e4).round() / 1e4 + 0.0;
        let text = match expected {
            None => format!("{count:.digits$}"),
            Some(expected) => {
                let mark = match verdict {
                    Verdict::More => " !",
                    Verdict::Less => " <",
                    Verdict::Same => "",
                };
                format!("{count:.digits$} ({expected:.digits$}{}{mark})", off(count, expected))
            }
        };
        print!("{text:>width$}");
    }
    println!();
}

/// How far a count is from what was expected, in per cent, where that says something.
fn off(count: f64, expected: f64) -> String {
    let off = 100.0 * (count / expected - 1.0);
    if expected >= 1.0 && off.abs() >= 0.05 { format!(" {off:+.1}%") } else { String::new() }
}

/// Syscalls by name.
pub(crate) fn syscalls(counts: &Counts) {
    let count = |(name, count): (&String, &f64)| format!("{name} {count:.4}");
    let names: Vec<String> = counts.syscalls_by_name.iter().map(count).collect();
    if !names.is_empty() {
        println!("    {}", names.join(", "));
    }
}

pub(crate) fn ratio(Ratio { of, to, at_most }: Ratio, value: f64) {
    let bound = at_most.map_or(String::new(), |most| {
        let mark = if value > most { " !" } else { "" };
        format!(" (at most {most}{mark})")
    });
    println!("instructions of {of} / {to}: {value:.2}{bound}");
}

pub(crate) fn profile(scenario: &Scenario, profile: &PerMessage) {
    println!("per message of {}: instructions in the function itself,", scenario.name());
    println!("with all it calls, and calls");
    let mut functions: Vec<_> = profile.functions.iter().collect();
    for by in ["itself", "with all it calls"] {
        println!("\n{:>10} {:>10} {:>8}  most {by}", "itself", "with all", "calls");
        let most = |function: &crate::profile::Function| match by {
            "itself" => function.own,
            _ => function.inclusive,
        };
        functions.sort_by(|a, b| most(b).total_cmp(&most(a)));
        for function in functions.iter().take(ROWS).filter(|function| most(function) >= 0.1) {
            let crate::profile::Function { name, own, inclusive, calls } = function;
            println!("{own:>10.1} {inclusive:>10.1} {calls:>8.3}  {name}");
        }
    }
    println!("\nsource lines with the most instructions, also where they are inlined");
    for (line, count) in profile.lines.iter().take(ROWS).filter(|(_, count)| *count >= 0.1) {
        println!("{count:>10.1}  {line}");
    }
    println!("\nwho allocates, and how often");
    for (name, count) in profile.allocating.iter().take(ROWS).filter(|(_, n)| *n >= 0.0005) {
        println!("{count:>10.3}  {name}");
    }
}
