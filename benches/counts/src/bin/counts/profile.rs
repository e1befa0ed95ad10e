//! Which functions the instructions of a message are in.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use posthaste_counts::Scenario;

use crate::{Problem, callgrind};

/// Instructions per message of each function, most first.
#[derive(Debug)]
pub(crate) struct Profile {
    /// In the function itself, and what is inlined into it.
    pub(crate) own: Vec<(String, f64)>,
    /// In the function and all that it calls.
    pub(crate) inclusive: Vec<(String, f64)>,
}

/// The difference of the profiles of a short and a long run, per message.
pub(crate) fn of(scenario: &Scenario) -> Result<Profile, Problem> {
    let folder = tempfile::tempdir()?;
    let messages = scenario.messages();
    let (few, more) = (folder.path().join("few"), folder.path().join("more"));
    callgrind::run(scenario, messages, &few)?;
    callgrind::run(scenario, 3 * messages, &more)?;
    let difference = |inclusive: bool| -> Result<Vec<(String, f64)>, Problem> {
        let mut counts = functions(&more, inclusive)?;
        for (name, count) in functions(&few, inclusive)? {
            *counts.entry(name).or_default() -= count;
        }
        let per_message = |(name, count)| (name, count as f64 / (2 * messages) as f64);
        let mut counts: Vec<_> = counts.into_iter().map(per_message).collect();
        counts.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(counts)
    };
    Ok(Profile { own: difference(false)?, inclusive: difference(true)? })
}

/// The instructions of each function in a profile of callgrind.
fn functions(profile: &Path, inclusive: bool) -> Result<BTreeMap<String, i64>, Problem> {
    let inclusive = if inclusive { "--inclusive=yes" } else { "--inclusive=no" };
    let mut annotate = Command::new("callgrind_annotate");
    annotate.args(["--threshold=100", "--auto=no", inclusive]).arg(profile);
    let output = annotate.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("callgrind_annotate failed: {}", said.trim()).into());
    }
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((name, count)) = function(line) {
            *counts.entry(name).or_insert(0) += count;
        }
    }
    Ok(counts)
}

/// A line such as `1,234 (5.6%)  src/file.rs:name [object]`.
fn function(line: &str) -> Option<(String, i64)> {
    let (count, rest) = line.trim_start().split_once(' ')?;
    let count = count.replace(',', "").parse().ok()?;
    let rest = rest.trim_start();
    let rest = rest.split_once(')').map_or(rest, |(_share, rest)| rest).trim();
    let name = rest.rsplit_once(" [").map_or(rest, |(name, _object)| name);
    let name = name.split_once(':').map_or(name, |(_file, name)| name);
    Some((name.to_owned(), count))
}
