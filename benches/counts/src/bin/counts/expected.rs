//! What was recorded: a line per scenario in `expected.json`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use posthaste_counts::Scenario;
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
#[derive(Debug)]
pub(crate) struct Expected {
    file: PathBuf,
    by_name: BTreeMap<String, Expectation>,
}

impl Expected {
    pub(crate) fn load() -> Result<Self, Problem> {
        let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/expected.json"));
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { by_name: serde_json::from_str(&text)?, file })
    }

    pub(crate) fn of(&self, scenario: &Scenario) -> Option<Expectation> {
        self.by_name.get(scenario.name()).copied()
    }

    /// Takes what was counted as what is to be expected; of others' work nothing is.
    pub(crate) fn set(&mut self, scenario: &Scenario, counts: &Counts) {
        if scenario.is_reference() {
            return;
        }
        let expectation = Expectation {
            instructions: rounded(counts.instructions, 1),
            syscalls: rounded(counts.syscalls, 4),
            allocations: rounded(counts.allocations, 4),
            bytes: rounded(counts.bytes, 1),
        };
        self.by_name.insert(scenario.name().to_owned(), expectation);
    }

    /// Writes a line per scenario, so that a change reads as one.
    pub(crate) fn store(&self) -> Result<(), Problem> {
        let mut text = String::from("{");
        for (nth, (name, expectation)) in self.by_name.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            let name = serde_json::to_string(name)?;
            let expectation = serde_json::to_string(expectation)?;
            write!(text, "{comma}\n  {name}: {expectation}")?;
        }
        text.push_str("\n}\n");
        std::fs::write(&self.file, text)?;
        Ok(())
    }
}

fn rounded(count: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (count * scale).round() / scale
}
