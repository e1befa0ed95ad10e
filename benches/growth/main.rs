//! How the cost of a message grows: with the number of subscriptions, subscribers, queues and
//! connections, with the depth of a queue, and with the size of a payload.
//!
//! ```text
//! cargo bench -p posthaste-benches --bench growth            # all, into docs/performance/
//! cargo bench -p posthaste-benches --bench growth -- depth   # some of it, to stdout alone
//! cargo test -p posthaste-benches --bench growth             # small sizes, in seconds
//! ```
//!
//! Cost is CPU time, which moves less than rates do when a machine is shared. Each size is measured
//! in a process of its own, so that what one of them left in the allocator or in the caches is not
//! there for the next, and the sizes take turns: the growth is the median of the rounds' ratios to
//! the smallest size. What needs sockets has its clients in a process of their own, too: the same
//! program in another role.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

mod client;
mod dimension;
mod in_process;
mod limit;
mod over_sockets;
mod point;
mod report;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use dimension::Dimension;
use report::Series;

/// Measures how the cost of a message grows
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// What to measure, if not all of it
    #[arg(value_enum)]
    dimensions: Vec<Dimension>,
    /// Small sizes and one round: shows that it works, and measures nothing worth quoting
    #[arg(long)]
    quick: bool,
    /// How many rounds
    #[arg(long, value_name = "N", default_value = "5")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Where tables, JSON and plots go [default: docs/performance, if all of it was measured]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Cargo's way to say that this is no test
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program does in the processes that it starts.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Role {
    /// Measures one size
    #[command(hide = true)]
    Point(point::PointArguments),
    /// Sends and receives over sockets
    #[command(hide = true)]
    Client(client::ClientArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.role {
        Some(Role::Point(point)) => point::run(point),
        Some(Role::Client(client)) => client::run(client),
        None => measure(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything, round by round, and reports it.
fn measure(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // As a test it shows that it works.
    let quick = arguments.quick || !arguments.bench;
    let all = arguments.dimensions.is_empty();
    let dimensions = if all { &Dimension::ALL[..] } else { &arguments.dimensions };
    let rounds = if quick { 1 } else { usize::from(arguments.rounds) };
    let out = match (&arguments.out, all && !quick) {
        (None, true) => Some(report::documents()),
        (out, _) => out.clone(),
    };
    let mut measured = Vec::new();
    for &dimension in dimensions {
        let mut series = Series::new(dimension, quick);
        for round in 1..=rounds {
            for size in dimension.sizes(quick) {
                eprintln!("round {round} of {rounds}: {}", dimension.at(size));
                series.add(size, point::elsewhere(dimension, size, quick)?);
            }
        }
        println!("{}\n", series.text());
        measured.push(series);
    }
    if let Some(folder) = out {
        report::write(&folder, &measured)?;
    }
    Ok(())
}
