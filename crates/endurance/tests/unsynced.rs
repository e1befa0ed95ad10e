//! The harness finds out a broker that does not sync.
#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "what is skipped is said")]

use posthaste_endurance::{FileSystem, Options, Outcome, memory, power};

#[test]
fn a_broker_that_syncs_nothing_loses_something_and_is_found_out() {
    let mut options = Options::new(env!("CARGO_BIN_EXE_endurance"));
    (options.cycles, options.expect_loss) = (10, true);
    if let Some(memory) = memory() {
        memory.clone_into(&mut options.scratch);
    }
    match power(&options, FileSystem::Ext4).unwrap() {
        Outcome::Ran(report) => assert!(report.lost > 0 && !report.holds(), "{report}"),
        Outcome::Skipped(why) => println!("skipped: {why}"),
    }
}
