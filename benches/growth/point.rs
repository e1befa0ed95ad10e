//! One size, measured in a process of its own.

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use posthaste_measure::Usage;
use serde::{Deserialize, Serialize};

use crate::dimension::Dimension;
use crate::{in_process, over_sockets};

/// What is measured here.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PointArguments {
    #[arg(value_enum)]
    pub(crate) dimension: Dimension,
    pub(crate) size: u64,
    /// Only as much work as it takes to see that it works
    #[arg(long)]
    pub(crate) quick: bool,
}

/// What one size came to in one round.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Point {
    /// CPU nanoseconds for each message or delivery, by how it travelled.
    pub(crate) cost_ns: Vec<(String, f64)>,
    /// Nanoseconds of the clock for each, where several processes worked at it.
    pub(crate) wall_ns: Vec<(String, f64)>,
    /// Bytes of memory for each of what is counted, where there are enough to tell.
    pub(crate) each_bytes: Option<f64>,
    /// Why this size was not measured.
    pub(crate) missing: Option<String>,
}

/// What a process grew by less than this says nothing: the system counts roughly, and the process
/// has other things to do.
const GROWN_BYTES_MIN: u64 = 4 << 20;

impl Point {
    pub(crate) fn cost(&mut self, how: &str, cpu: Duration, messages: u64) {
        let each = cpu.as_nanos() as f64 / messages as f64;
        self.cost_ns.push((how.to_owned(), each));
    }

    pub(crate) fn wall(&mut self, how: &str, took: Duration, messages: u64) {
        let each = took.as_nanos() as f64 / messages as f64;
        self.wall_ns.push((how.to_owned(), each));
    }

    /// How much memory each of `count` takes, if the process grew from one to the other with them.
    pub(crate) fn memory(&mut self, count: u64, before: &Usage, after: &Usage) {
        if let (Some(before), Some(after)) = (before.resident_bytes, after.resident_bytes) {
            let grown = after.saturating_sub(before);
            self.each_bytes = (grown >= GROWN_BYTES_MIN).then(|| grown as f64 / count as f64);
        }
    }
}

/// Measures in this process, and prints the point as JSON.
pub(crate) fn run(arguments: &PointArguments) -> Result<(), Box<dyn Error>> {
    let PointArguments { dimension, size, quick } = *arguments;
    let point = match dimension {
        Dimension::Subscriptions => in_process::subscriptions(size, quick)?,
        Dimension::Subscribers => in_process::subscribers(size, quick)?,
        Dimension::Depth => in_process::depth(size, quick)?,
        Dimension::Queues => in_process::queues(size, quick)?,
        Dimension::Connections => over_sockets::connections(size, quick)?,
        Dimension::Payload => over_sockets::payload(size, quick)?,
    };
    println!("{}", serde_json::to_string(&point)?);
    Ok(())
}

/// Measures in a process of its own.
pub(crate) fn elsewhere(
    dimension: Dimension,
    size: u64,
    quick: bool,
) -> Result<Point, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["point", dimension.name(), &size.to_string()]);
    command.args(quick.then_some("--quick")).stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{} could not be measured", dimension.at(size)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
