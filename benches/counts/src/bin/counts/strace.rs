//! Syscalls, counted by strace.

use std::collections::BTreeMap;
use std::process::Command;

use posthaste_counts::Scenario;

use crate::Problem;
use crate::counts::ran;

/// All syscalls of a run of `messages` messages by name, start and end included.
pub(crate) fn syscalls(
    scenario: &Scenario,
    messages: u64,
) -> Result<BTreeMap<String, i64>, Problem> {
    let folder = tempfile::tempdir()?;
    let table = folder.path().join("strace.out");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-c", "-U", "calls,name", "-o"]).arg(&table);
    ran(command, scenario, messages, "install strace to count syscalls")?;
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(&table)?.lines() {
        let mut words = line.split_whitespace();
        let (Some(count), Some(name)) = (words.next(), words.next()) else { continue };
        if let Ok(count) = count.parse()
            && name != "total"
        {
            counts.insert(name.to_owned(), count);
        }
    }
    if counts.is_empty() {
        return Err("strace saw no syscall: is ptrace allowed here?".into());
    }
    Ok(counts)
}
