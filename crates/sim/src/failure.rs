//! A failure, and all that is needed to understand it and to see it again.

use std::fmt;
use std::time::Duration;

/// How many lines of the timeline a failure shows, unless it is said otherwise.
pub(crate) const LINES: usize = 40;

/// A seed whose world went wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The name of the check that found it; a panic and a standstill have names too.
    pub check: String,
    /// What is wrong.
    pub what: String,
    /// When the world came to its end, in virtual time.
    pub at: Duration,
    /// The last lines of what happened.
    pub timeline: Vec<String>,
    /// The hash over all that happened.
    pub hash: u64,
    pub(crate) replay: String,
}

impl Failure {
    /// The lines of the timeline that mention any of these, as whole words.
    ///
    /// ```
    /// use posthaste_sim::Sim;
    ///
    /// let failure = Sim::new().seeds(0..1).search(async |world| {
    ///     world.recorder().note("paid", "order 1");
    ///     world.recorder().note("paid", "order 12");
    ///     panic!("that was one too many");
    /// });
    /// assert_eq!(failure.unwrap_err().lines_about(&["order 1"]).count(), 1);
    /// ```
    pub fn lines_about(&self, what: &[&str]) -> impl Iterator<Item = &str> {
        self.timeline
            .iter()
            .map(String::as_str)
            .filter(|line| what.iter().any(|it| names(line, it)))
    }

    /// The command that replays this failure.
    #[must_use]
    pub fn replay(&self) -> &str {
        &self.replay
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} breaks \"{}\"", self.seed, self.check)?;
        writeln!(f, "  {}", self.what)?;
        writeln!(f, "  replay: {}", self.replay)?;
        writeln!(
            f,
            "  after {:?} of virtual time, hash {:016x}; the last of it:",
            self.at, self.hash
        )?;
        for line in &self.timeline {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Whether a line has `what` in it, and no letter or digit beside it.
fn names(line: &str, what: &str) -> bool {
    let is_whole = |at: usize| {
        let (before, after) = (&line[..at], &line[at + what.len()..]);
        let apart = |beside: Option<char>| !beside.is_some_and(char::is_alphanumeric);
        apart(before.chars().next_back()) && apart(after.chars().next())
    };
    line.match_indices(what).any(|(at, _)| is_whole(at))
}

/// How to see a seed again. Within a test the thread has the test's name.
pub(crate) fn replay(seed: u64, name: Option<&str>) -> String {
    let command = match name {
        None | Some("main") => "the same program".to_owned(),
        Some(test) => format!("cargo test {test}"),
    };
    format!("POSTHASTE_SIM_SEED={seed} {command}")
}

/// How many lines of the timeline are wanted, if the environment says so.
pub(crate) fn lines() -> Option<usize> {
    number("POSTHASTE_SIM_LINES").and_then(|lines| usize::try_from(lines).ok())
}

/// A number in the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.trim().parse().ok()
}
