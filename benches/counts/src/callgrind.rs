//! Instructions, counted by valgrind's callgrind.

use std::ffi::OsString;
use std::process::Command;

use crate::scenarios::Scenario;

use crate::Problem;
use crate::under::run;

/// All instructions of a run of `messages` messages, start and end included.
pub(crate) fn instructions(scenario: &Scenario, messages: u64) -> Result<i64, Problem> {
    let profile = profile(scenario, messages)?;
    let total = profile.lines().find_map(|line| line.strip_prefix("summary: "));
    let total = total.ok_or("callgrind wrote a profile without a sum")?;
    Ok(total.trim().parse()?)
}

/// The profile of a run, with every name in full.
pub(crate) fn profile(scenario: &Scenario, messages: u64) -> Result<String, Problem> {
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("callgrind.out");
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(&profile);
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no"]);
    command.arg(file);
    run(command, scenario, messages, "install valgrind to count instructions")?;
    Ok(String::from_utf8_lossy(&std::fs::read(&profile)?).into_owned())
}
