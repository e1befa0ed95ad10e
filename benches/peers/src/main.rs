//! Measures Posthaste and its peers side by side: interleaved, in one run, each in processes of
//! its own. `README.md` says how each of them is driven.

#![allow(
    clippy::disallowed_methods,
    reason = "a program that measures asks the machine for time, and waits while others work"
)]

mod control;
mod executor;
mod figures;
mod goals;
mod in_process;
mod keeper;
mod load;
mod pacer;
mod peer;
mod peers;
mod posthaste;
mod process;
mod report;
mod round;
mod rows;
mod run;
mod server;
mod socket;
mod stage;
mod versions;
mod window;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measure Posthaste and its peers, side by side
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// Which rows: parts of their names, such as in-process, tcp/stream or 1p1c/smol [default: all]
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// Which contenders: parts of their names, such as Posthaste or libzmq [default: all]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// In how many rounds each contender is measured
    #[arg(long, value_name = "N", default_value = "5")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// How long each round measures, in milliseconds; a third of it warms up before
    #[arg(long, value_name = "MS", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(10..=600_000))]
    measure: u32,
    /// Three rounds of 200 ms, to see that everything runs
    #[arg(long, conflicts_with_all = ["rounds", "measure"])]
    quick: bool,
    /// A folder for the results: peers.json, and a plot of each section
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name the rows and their contenders, and what is missing, and measure nothing
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    command: Option<Hidden>,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// Play one role of one round
    #[command(hide = true)]
    Role { script: String },
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Hidden::Role { script }) = &args.command {
        return stage::Stage::enter(script);
    }
    match measure(&args) {
        Ok(code) => code,
        Err(error) => {
            report::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures what is meant; the exit code says whether every round had a figure.
fn measure(args: &Args) -> Result<ExitCode> {
    let plan = run::Plan::of(args)?;
    if args.list {
        report::list(&plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    let results = run::run(&plan)?;
    report::goals(&results)?;
    report::write(&results, args.out.as_deref())?;
    Ok(if results.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
