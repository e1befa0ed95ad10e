//! `posthaste caps`: the capability card of a broker.

use std::collections::BTreeMap;

use clap::Args;
use posthaste::{Capabilities, Reconnect, Support};
use serde::Serialize;

use crate::args::TargetArgs;
use crate::exit::Failure;
use crate::output::print_line;
use crate::record::json;
use crate::{connect, table};

/// Show what a broker can do: natively, by emulation, or not at all
#[derive(Debug, Args)]
pub(crate) struct CapsArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Print one JSON object: backend, and capabilities by name
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: CapsArgs) -> Result<(), Failure> {
    let bus = connect::connect(&args.target.into_broker(), Reconnect::Never).await?;
    let card = bus.capabilities();
    let text = match args.json {
        true => json(&Card::of(&card))?,
        false => show(&card),
    };
    print_line(&text)?;
    connect::goodbye(&bus).await;
    Ok(())
}

/// A capability card as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Card {
    backend: String,
    /// `native`, `emulated` or `lacking`, by the name of the capability.
    capabilities: BTreeMap<String, &'static str>,
}

impl Card {
    pub(super) fn of(card: &Capabilities) -> Self {
        let capabilities = card.iter().map(|(this, how)| (this.to_string(), name(how)));
        Self { backend: card.backend().to_owned(), capabilities: capabilities.collect() }
    }
}

fn show(card: &Capabilities) -> String {
    let rows = card.iter().map(|(this, how)| vec![this.to_string(), name(how).to_owned()]);
    let table = table::render(&["capability", "support"], &rows.collect::<Vec<_>>());
    format!("{}\n\n{table}", card.backend())
}

fn name(support: Support) -> &'static str {
    match support {
        Support::Native => "native",
        Support::Emulated => "emulated",
        Support::Lacking => "lacking",
    }
}
