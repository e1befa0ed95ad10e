//! The command `endurance`: runs a mode, prints what it found, and ends with 0 if everything held.
#![cfg(unix)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use posthaste_endurance::{Depth, Failure, FileSystem, Options, Outcome, Report};

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
    /// Cut the power of the broker's disk, over and over; needs root
    Power {
        #[command(flatten)]
        run: Run,
        /// The file system on the disk
        #[arg(long, value_enum, default_value_t = Disk::Ext4)]
        file_system: Disk,
        /// Succeed if something was lost: for a build that does not sync
        #[arg(long)]
        expect_loss: bool,
    },
    /// Let the first system calls of each kind fail, one after the other; needs strace
    Eio(Run),
    /// Fill the broker's disk and make room by consuming, over and over; needs root
    Full {
        #[command(flatten)]
        run: Run,
        /// How large the disk is
        #[arg(long, value_name = "N", default_value_t = 256)]
        mebibytes: u64,
    },
    /// Kill other brokers and cut their power, as far as they are installed; needs root
    Compare {
        #[command(flatten)]
        run: Run,
        /// The NATS server
        #[arg(long, value_name = "PATH", default_value = "nats-server")]
        nats: PathBuf,
        /// Only brokers whose names have this in them
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Fill a queue, and measure it beside an empty one: speed, memory, and how soon it is there again
    Deep {
        /// The posthaste command
        #[arg(long, value_name = "PATH", env = "POSTHASTE_BIN")]
        posthaste: PathBuf,
        /// How many messages wait
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        messages: u64,
        /// How many bytes each has
        #[arg(long, value_name = "B", default_value_t = 100)]
        size: usize,
        /// How many go through each queue in a round
        #[arg(long, value_name = "N", default_value_t = 500_000)]
        round: u64,
        /// How many rounds there are
        #[arg(long, value_name = "N", default_value_t = 5)]
        rounds: usize,
        /// Where to put the data
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
        /// Print one object
        #[arg(long)]
        json: bool,
    },
    /// Serve a folder as posthaste does, but sync nothing: `--posthaste` with this command itself
    /// shows that `power --expect-loss` finds that out
    Serve {
        /// Where to listen
        url: String,
        /// The folder
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Disk {
    Ext4,
    Xfs,
    Btrfs,
}

impl From<Disk> for FileSystem {
    fn from(disk: Disk) -> Self {
        match disk {
            Disk::Ext4 => Self::Ext4,
            Disk::Xfs => Self::Xfs,
            Disk::Btrfs => Self::Btrfs,
        }
    }
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
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
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
    if !matches!(mode, Mode::Serve { .. }) {
        posthaste_endurance::end_on_signals()?;
    }
    match mode {
        Mode::Serve { url, data } => {
            posthaste_endurance::serve_unsynced(url, data)?;
            Ok(true)
        }
        Mode::Kill(run) => {
            let report = posthaste_endurance::kill(&run.options())?;
            show(&report, run.json)?;
            Ok(report.holds())
        }
        Mode::Power { run, file_system, expect_loss } => {
            let mut options = run.options();
            options.expect_loss = *expect_loss;
            in_memory(run, &mut options);
            match posthaste_endurance::power(&options, (*file_system).into())? {
                Outcome::Ran(report) => {
                    show(&report, run.json)?;
                    Ok(if *expect_loss { report.lost > 0 } else { report.holds() })
                }
                Outcome::Skipped(why) => skip("power", &why, run.json),
            }
        }
        Mode::Eio(run) => end("eio", posthaste_endurance::eio(&run.options())?, run.json),
        Mode::Full { run, mebibytes } => {
            let outcome = posthaste_endurance::full(&run.options(), mebibytes << 20)?;
            end("full", outcome, run.json)
        }
        Mode::Deep { posthaste, messages, size, round, rounds, scratch, json } => {
            let mut options = Options::new(posthaste);
            if let Some(scratch) = scratch {
                options.scratch.clone_from(scratch);
            }
            let (messages, size, round, rounds) = (*messages, *size, *round, *rounds);
            let found =
                posthaste_endurance::deep(&options, &Depth { messages, size, round, rounds })?;
            let mut stdout = io::stdout().lock();
            match json {
                true => writeln!(stdout, "{}", serde_json::to_string(&found)?)?,
                false => writeln!(stdout, "{found}")?,
            }
            Ok(true)
        }
        Mode::Compare { run, nats, only } => {
            let mut options = run.options();
            in_memory(run, &mut options);
            let rows = posthaste_endurance::compare(&options, nats, only.as_deref())?;
            let mut stdout = io::stdout().lock();
            match run.json {
                true => writeln!(stdout, "{}", serde_json::to_string(&rows)?)?,
                false => write!(stdout, "{}", posthaste_endurance::table(&rows))?,
            }
            Ok(true)
        }
    }
}

/// Puts an image where nothing is written out later, unless somebody chose a place.
fn in_memory(run: &Run, options: &mut Options) {
    if let Some(memory) = posthaste_endurance::memory().filter(|_| run.scratch.is_none()) {
        memory.clone_into(&mut options.scratch);
    }
}

/// Shows what came of a mode, and says whether everything held.
fn end(mode: &str, outcome: Outcome, json: bool) -> Result<bool, Failure> {
    match outcome {
        Outcome::Ran(report) => {
            show(&report, json)?;
            Ok(report.holds())
        }
        Outcome::Skipped(why) => skip(mode, &why, json),
    }
}

/// Says why nothing was done, which is no failure.
fn skip(mode: &str, why: &str, json: bool) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match json {
        true => writeln!(stdout, "{}", serde_json::json!({"mode": mode, "skipped": why}))?,
        false => writeln!(stdout, "{mode}: skipped: {why}")?,
    }
    Ok(true)
}

fn show(report: &Report, json: bool) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match json {
        true => writeln!(stdout, "{}", serde_json::to_string(report)?)?,
        false => writeln!(stdout, "{report}")?,
    }
    Ok(())
}
