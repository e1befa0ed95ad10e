//! Instructions, counted by valgrind's callgrind.

use std::path::Path;
use std::process::Command;

use posthaste_counts::Scenario;

use crate::Problem;
use crate::counts::ran;

/// All instructions of a run of `messages` messages, start and end included.
pub(crate) fn instructions(scenario: &Scenario, messages: u64) -> Result<i64, Problem> {
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("callgrind.out");
    run(scenario, messages, &profile)?;
    let text = std::fs::read_to_string(&profile)?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let total = total.or_else(|| text.lines().find_map(|line| line.strip_prefix("totals: ")));
    let total = total.ok_or("callgrind wrote a profile without a sum")?;
    Ok(total.trim().parse()?)
}

/// Runs a scenario under callgrind, which writes its profile to `profile`.
pub(crate) fn run(scenario: &Scenario, messages: u64, profile: &Path) -> Result<(), Problem> {
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(profile);
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind"]).arg(file);
    ran(command, scenario, messages, "install valgrind to count instructions")?;
    Ok(())
}
