//! What was recorded: a line per scenario in `expected.json`, and what it was recorded with.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use crate::scenarios::Scenario;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::counts::Counts;

/// What a message of one scenario is to cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Expectation {
    pub(crate) instructions: f64,
    pub(crate) syscalls: f64,
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
}

/// All expectations.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// The compiler and the counters, another of which counts a little differently.
    recorded_with: String,
    scenarios: BTreeMap<String, Expectation>,
}

impl Expected {
    /// Reads the file; nothing is expected where there is none.
    pub(crate) fn load() -> Result<Self, Problem> {
        match std::fs::read_to_string(file()) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn of(&self, scenario: &Scenario) -> Option<Expectation> {
        self.scenarios.get(scenario.name()).copied()
    }

    /// What it was recorded with, if that is not what is here.
    pub(crate) fn recorded_elsewhere(&self) -> Result<Option<(&str, String)>, Problem> {
        let here = tools()?;
        Ok((here != self.recorded_with).then_some((self.recorded_with.as_str(), here)))
    }

    /// Names that are expected and are no scenario of `all`.
    pub(crate) fn stale(&self, all: &[Scenario]) -> Vec<&str> {
        let names = self.scenarios.keys().map(String::as_str);
        names.filter(|name| all.iter().all(|scenario| scenario.name() != *name)).collect()
    }

    /// Takes what was counted as what is to be expected, and forgets what is no scenario of `all`.
    pub(crate) fn record(
        &mut self,
        all: &[Scenario],
        counted: &[(&Scenario, Counts)],
    ) -> Result<(), Problem> {
        self.recorded_with = tools()?;
        self.scenarios.retain(|name, _| all.iter().any(|scenario| scenario.name() == name));
        for (scenario, counts) in counted {
            // Others' work is for reference: nobody expects anything of it.
            if !scenario.is_reference() {
                self.scenarios.insert(scenario.name().to_owned(), Expectation::from(counts));
            }
        }
        std::fs::write(file(), self.to_text()?)?;
        Ok(())
    }

    /// JSON with a line per scenario, so that a change reads as one.
    fn to_text(&self) -> Result<String, Problem> {
        let mut text = format!(
            "{{\n  \"recorded_with\": {},\n  \"scenarios\": {{",
            serde_json::to_string(&self.recorded_with)?
        );
        for (nth, (name, expectation)) in self.scenarios.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            let name = serde_json::to_string(name)?;
            write!(text, "{comma}\n    {name}: {}", serde_json::to_string(expectation)?)?;
        }
        text.push_str("\n  }\n}\n");
        Ok(text)
    }
}

impl From<&Counts> for Expectation {
    fn from(counts: &Counts) -> Self {
        Self {
            instructions: rounded(counts.instructions, 1),
            syscalls: rounded(counts.syscalls, 4),
            allocations: rounded(counts.allocations, 4),
            bytes: rounded(counts.bytes, 1),
        }
    }
}

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/expected.json"))
}

fn rounded(count: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    // Adding zero turns minus zero into zero.
    (count * scale).round() / scale + 0.0
}

/// The versions of what compiles and of what counts.
fn tools() -> Result<String, Problem> {
    let version = |tool: &str| -> Result<String, Problem> {
        let output = Command::new(tool).arg("--version").output();
        let output = output.map_err(|error| format!("{tool} does not start: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(said.lines().next().unwrap_or_default().trim().to_owned())
    };
    let machine = std::env::consts::ARCH;
    Ok(format!("{}, {}, {machine}", version("rustc")?, version("valgrind")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let counts = Counts {
            instructions: 123.456,
            syscalls: 7.000_04,
            syscalls_by_name: BTreeMap::new(),
            allocations: -0.000_01,
            bytes: 0.0,
        };
        let mut expected =
            Expected { recorded_with: "a \"tool\"".to_owned(), ..Expected::default() };
        expected.scenarios.insert("a queue".to_owned(), Expectation::from(&counts));
        expected.scenarios.insert("b queue".to_owned(), Expectation::from(&counts));
        let text = expected.to_text().unwrap();
        assert_eq!(text.lines().count(), 7, "{text}");
        let read: Expected = serde_json::from_str(&text).unwrap();
        assert_eq!(read.recorded_with, expected.recorded_with);
        let expectation = read.scenarios["b queue"];
        assert_eq!((expectation.instructions, expectation.syscalls), (123.5, 7.0));
        assert!(expectation.allocations.is_sign_positive());
    }

    #[test]
    fn every_scenario_has_an_expectation_and_no_other_name_has() {
        let expected = Expected::load().unwrap();
        let all = crate::scenarios::all();
        assert_eq!(expected.stale(&all), Vec::<&str>::new());
        for scenario in all.iter().filter(|scenario| !scenario.is_reference()) {
            assert!(expected.of(scenario).is_some(), "{}: record it", scenario.name());
        }
    }
}
