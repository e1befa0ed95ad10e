//! A broker that is killed, loses its power, or whose disk fails, in short; the command `endurance`
//! does the same for longer.
#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "what is skipped is said")]

use posthaste_endurance::{
    Depth, FileSystem, Options, Outcome, Report, deep, eio, kill, memory, power,
};

/// So many cycles, with the data in memory where there is a place for that.
fn options(cycles: u64) -> Options {
    let mut options = Options::new(env!("CARGO_BIN_EXE_posthaste"));
    options.cycles = cycles;
    if let Some(memory) = memory() {
        memory.clone_into(&mut options.scratch);
    }
    options
}

#[track_caller]
fn check(report: &Report) {
    assert!(report.holds(), "{report}");
    assert!(report.confirmed > 0 && report.settled > 0, "nothing was tried: {report}");
}

#[track_caller]
fn check_unless_skipped(outcome: Outcome) {
    match outcome {
        Outcome::Ran(report) => check(&report),
        Outcome::Skipped(why) => println!("skipped: {why}"),
    }
}

#[test]
fn what_was_confirmed_survives_kills() {
    check(&kill(&options(20)).unwrap());
}

#[test]
fn a_queue_that_does_not_fit_in_memory_comes_out_as_it_went_in() {
    // Larger than what may be in memory, beside what a message takes there.
    let depth = Depth { messages: 60_000, size: 4_000, round: 2_000, rounds: 1 };
    let found = deep(&options(1), &depth).unwrap();
    let whole = (depth.messages * depth.size as u64) >> 20;
    assert!(found.resident_mib[1] < whole, "{found}");
    assert!(found.recovered_mib < whole / 2, "{found}");
}

#[test]
fn what_was_confirmed_survives_power_cuts() {
    check_unless_skipped(power(&options(20), FileSystem::Ext4).unwrap());
}

#[test]
fn what_cannot_be_stored_is_not_confirmed() {
    check_unless_skipped(eio(&options(12)).unwrap());
}
