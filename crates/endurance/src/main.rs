//! The command `endurance`: runs a mode, prints what it found, and ends with 0 if everything held.
#![cfg(unix)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use posthaste_endurance::{Failure, Options, Report};

/// Break a durable broker, and check the books
#[derive(Debug, Parser)]
#[command(name = "endurance")]
struct Command {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Kill the broker under load at a random instant, over and over
    Kill(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// The posthaste command
    #[arg(long, value_name = "PATH", env = "POSTHASTE_BIN")]
    posthaste: PathBuf,
    /// How often the broker is cut off
    #[arg(long, value_name = "N", default_value_t = 20)]
    cycles: u64,
    /// From what everything random follows
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// After how many cycles to go on with an empty folder
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..))]
    renew: u64,
    /// Where to put the data
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Print one object
    #[arg(long)]
    json: bool,
    /// Tell on stderr how it goes
    #[arg(long, short)]
    verbose: bool,
}

impl Run {
    fn options(&self) -> Options {
        let mut options = Options::new(&self.posthaste);
        (options.cycles, options.seed) = (self.cycles, self.seed);
        (options.renew, options.verbose) = (self.renew, self.verbose);
        if let Some(scratch) = &self.scratch {
            options.scratch.clone_from(scratch);
        }
        options
    }
}

fn main() -> ExitCode {
    match run(&Command::parse().mode) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mode: &Mode) -> Result<bool, Failure> {
    match mode {
        Mode::Kill(run) => {
            let report = posthaste_endurance::kill(&run.options())?;
            show(&report, run.json)?;
            Ok(report.holds())
        }
    }
}

fn show(report: &Report, json: bool) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match json {
        true => writeln!(stdout, "{}", serde_json::to_string(report)?)?,
        false => writeln!(stdout, "{report}")?,
    }
    Ok(())
}
