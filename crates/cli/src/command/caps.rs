//! `posthaste caps`: the capability card of a broker.

use clap::Args;
use posthaste::Reconnect;
use posthaste_conformance::card;
use posthaste_tokio::Tokio;

use crate::args::TargetArgs;
use crate::connect;
use crate::exit::Failure;
use crate::output::print_line;

/// Show what a broker can do: natively, by emulation, or not at all
#[derive(Debug, Args)]
pub(crate) struct CapsArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Print one JSON object: backend, and capabilities by name
    #[arg(long)]
    json: bool,
    /// Print a table of every backend that this program knows, without connecting to any
    #[arg(long, conflicts_with_all = ["json", "target"])]
    all: bool,
}

pub(crate) async fn run(args: CapsArgs) -> Result<(), Failure> {
    if args.all {
        return print_line(&card::table(&posthaste::cards(Tokio::current())));
    }
    let bus = connect::connect(&args.target.into_broker(), Reconnect::Never).await?;
    let card = bus.capabilities();
    let text = match args.json {
        true => card::json(&card, None),
        false => card::text(&card, None),
    };
    print_line(&text)?;
    connect::goodbye(&bus).await;
    Ok(())
}
