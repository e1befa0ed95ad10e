//! Syscalls, counted by strace, and allocations, which the process counts itself.

use std::collections::BTreeMap;
use std::process::Command;

use crate::scenarios::Scenario;

use crate::Problem;
use crate::allocations::Allocated;
use crate::under::run;

/// All syscalls by name and all allocations of a run of `messages` messages, start and end
/// included.
pub(crate) fn syscalls_and_allocations(
    scenario: &Scenario,
    messages: u64,
) -> Result<(BTreeMap<String, i64>, Allocated), Problem> {
    let folder = tempfile::tempdir()?;
    let table = folder.path().join("strace.out");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-c", "-U", "calls,name", "-o"]).arg(&table);
    let printed = run(command, scenario, messages, "install strace to count syscalls")?;
    let counts = read(&std::fs::read_to_string(&table)?);
    if counts.is_empty() {
        return Err("strace saw no syscall: is ptrace allowed here?".into());
    }
    Ok((counts, printed.parse()?))
}

/// Reads strace's table: a head, a rule, a line per syscall, a rule and the sum.
fn read(table: &str) -> BTreeMap<String, i64> {
    let row = |line: &str| {
        let (count, name) = line.trim().split_once(' ')?;
        let name = name.trim();
        Some((name.to_owned(), count.parse().ok()?)).filter(|_| name != "total")
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "    calls syscall\n--------- --------\n       12 writev\n        3 epoll_wait\n\
                     --------- --------\n       15 total\n";
        let counts = read(table);
        assert_eq!(counts.len(), 2);
        assert_eq!((counts["writev"], counts["epoll_wait"]), (12, 3));
    }
}
