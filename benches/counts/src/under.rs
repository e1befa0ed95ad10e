//! Running a scenario in a process of its own, under something that counts.

use std::io::ErrorKind;
use std::process::Command;

use crate::scenarios::Scenario;

use crate::Problem;

/// Runs `scenario` under what `command` begins and returns what that process printed; `install`
/// is what to do if the command is not there.
pub(crate) fn run(
    mut command: Command,
    scenario: &Scenario,
    messages: u64,
    install: &str,
) -> Result<String, Problem> {
    let tool = command.get_program().to_string_lossy().into_owned();
    command.arg(std::env::current_exe()?).args(["--run", scenario.name(), "--messages"]);
    command.arg(messages.to_string());
    let output = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{tool} is not here: {install}"),
        _ => format!("{tool} does not start: {error}"),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let name = scenario.name();
        return Err(format!("{tool} with the scenario {name:?} failed: {}", said.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
