//! `posthaste stat`: the ledger, the connections and the queues.

use std::collections::BTreeMap;

use clap::Args;
use posthaste::{Ledger, Reconnect, Stats};
use serde::Serialize;

use super::queue::{self, json};
use crate::args::BrokerArgs;
use crate::connect;
use crate::exit::Failure;
use crate::output::print_line;

/// Show the ledger, the connections and the queues
///
/// The ledger counts copies: accepted = acked + auto + dead_lettered + expired + dropped + held.
#[derive(Debug, Args)]
pub(crate) struct StatArgs {
    /// Print one JSON object: ledger, connections, subscriptions, queues
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub(crate) async fn run(args: StatArgs) -> Result<(), Failure> {
    let bus = connect::connect(&args.broker, Reconnect::Never).await?;
    let stats = bus.stats().await?;
    let text = match args.json {
        true => json(&Record::of(&stats))?,
        false => show(&stats),
    };
    print_line(&text)?;
    connect::goodbye(&bus).await;
    Ok(())
}

#[derive(Debug, Serialize)]
struct Record<'a> {
    ledger: Books<'a>,
    connections: u64,
    subscriptions: u64,
    queues: Vec<queue::Record<'a>>,
}

#[derive(Debug, Serialize)]
struct Books<'a> {
    accepted: u64,
    acked: u64,
    auto: u64,
    dead_lettered: u64,
    expired: u64,
    dropped: u64,
    held: u64,
    dropped_by: &'a BTreeMap<String, u64>,
    unmatched: u64,
    returned: u64,
    balanced: bool,
}

impl<'a> Record<'a> {
    fn of(stats: &'a Stats) -> Self {
        Self {
            ledger: Books::of(&stats.ledger),
            connections: stats.connections,
            subscriptions: stats.subscriptions,
            queues: stats.queues.iter().map(queue::Record::of).collect(),
        }
    }
}

impl<'a> Books<'a> {
    fn of(ledger: &'a Ledger) -> Self {
        Self {
            accepted: ledger.accepted,
            acked: ledger.acked,
            auto: ledger.auto,
            dead_lettered: ledger.dead_lettered,
            expired: ledger.expired,
            dropped: ledger.dropped,
            held: ledger.held,
            dropped_by: &ledger.dropped_by,
            unmatched: ledger.unmatched,
            returned: ledger.returned,
            balanced: ledger.is_balanced(),
        }
    }
}

fn show(stats: &Stats) -> String {
    let ledger = &stats.ledger;
    let mut lines = vec![
        format!("ledger         {ledger}"),
        format!("unmatched      {}", ledger.unmatched),
        format!("returned       {}", ledger.returned),
        format!("connections    {}", stats.connections),
        format!("subscriptions  {}", stats.subscriptions),
    ];
    if !ledger.dropped_by.is_empty() {
        let reasons = ledger.dropped_by.iter();
        let reasons: Vec<_> = reasons.map(|(why, count)| format!("{why} {count}")).collect();
        lines.insert(1, format!("dropped by     {}", reasons.join(", ")));
    }
    if !stats.queues.is_empty() {
        lines.push(String::new());
        lines.push(queue::rows(&stats.queues));
    }
    lines.join("\n")
}
