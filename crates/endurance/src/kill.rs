//! Killing the process of a broker under load.

use crate::Failure;
use crate::cycles::{self, Options};
use crate::ground::Ground;
use crate::report::Report;

/// Kills a broker under load at a random instant and starts it again, over and over: what was confirmed
/// survives that, since the system has it.
///
/// # Errors
/// What kept the run from being made; what it found is in the report.
pub fn kill(options: &Options) -> Result<Report, Failure> {
    let ground = Ground::folder(options.scratch.clone())?;
    cycles::run("kill", options, ground)
}
