//! A broker that is killed, loses its power, or whose disk fails, in short; the command `endurance`
//! does the same for longer.
#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "what is skipped is said")]

use posthaste_endurance::{FileSystem, Options, Outcome, Report, eio, kill, memory, power};

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
fn what_was_confirmed_survives_power_cuts() {
    check_unless_skipped(power(&options(20), FileSystem::Ext4).unwrap());
}

#[test]
fn what_cannot_be_stored_is_not_confirmed() {
    check_unless_skipped(eio(&options(12)).unwrap());
}
