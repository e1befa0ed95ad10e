//! What is printed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::error::Error;

use posthaste_counts::Scenario;

use crate::counts::Counts;
use crate::expected::Expectation;
use crate::profile::Profile;

/// What may be more without being worse: a part of what was expected, and a bit.
const INSTRUCTIONS: (f64, f64) = (0.03, 1.0);
const SYSCALLS: (f64, f64) = (0.02, 0.01);
const ALLOCATIONS: (f64, f64) = (0.01, 0.01);

pub(crate) fn problem(problem: &dyn Error) {
    eprintln!("counts: {problem}");
}

pub(crate) fn list(scenarios: &[Scenario]) {
    for scenario in scenarios {
        println!("{}", scenario.name());
    }
}

pub(crate) fn head() {
    println!(
        "{:32} {:>27} {:>24} {:>24} {:>9}",
        "per message",
        "instructions (expected)",
        "syscalls (expected)",
        "allocations (expected)",
        "bytes"
    );
}

/// Prints a row and says whether something in it is more than was expected.
pub(crate) fn row(scenario: &Scenario, counts: &Counts, expected: Option<Expectation>) -> bool {
    let mut worse = false;
    let mut cell = |count: f64, expected: Option<f64>, (part, bit): (f64, f64), digits: usize| {
        let Some(expected) = expected else { return format!("{count:.digits$} (-)") };
        let mark = if count > expected * (1.0 + part) + bit {
            worse = true;
            "!"
        } else if count < expected * (1.0 - part) - bit {
            "<"
        } else {
            ""
        };
        format!("{mark}{count:.digits$} ({expected:.digits$})")
    };
    let instructions = cell(counts.instructions, expected.map(|e| e.instructions), INSTRUCTIONS, 1);
    let syscalls = cell(counts.syscalls, expected.map(|e| e.syscalls), SYSCALLS, 4);
    let allocations = cell(counts.allocations, expected.map(|e| e.allocations), ALLOCATIONS, 4);
    let names: Vec<String> =
        counts.syscalls_by_name.iter().map(|(name, count)| format!("{name} {count:.4}")).collect();
    println!(
        "{:32} {instructions:>27} {syscalls:>24} {allocations:>24} {:>9.1}  {}",
        scenario.name(),
        counts.bytes,
        names.join(", ")
    );
    worse
}

pub(crate) fn end(worse: usize) {
    if worse > 0 {
        eprintln!("{worse} scenario(s) cost more than was expected (marked with !)");
    }
}

pub(crate) fn profile(scenario: &Scenario, profile: &Profile) {
    println!("instructions per message of {:?}", scenario.name());
    for (title, functions) in
        [("in the function itself", &profile.own), ("with all it calls", &profile.inclusive)]
    {
        println!("\n{title}");
        for (name, count) in functions.iter().take(40).filter(|(_, count)| *count >= 0.1) {
            println!("{count:>10.1}  {name}");
        }
    }
}
