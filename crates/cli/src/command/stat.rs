//! `posthaste stat`: the ledger, the connections and the queues.

use clap::Args;
use posthaste::{Reconnect, Stats};
use serde::Serialize;

use crate::args::BrokerArgs;
use crate::connect;
use crate::exit::Failure;
use crate::output::print_line;
use crate::record::{Books, QueueRecord, json, queue_rows, reasons};

/// Show the ledger, the connections and the queues
///
/// The ledger counts copies: accepted = acked + auto + dead_lettered + expired + dropped + held.
/// Beside it are the messages that matched nothing, came back to their sender, or were duplicates.
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
    queues: Vec<QueueRecord<'a>>,
}

impl<'a> Record<'a> {
    fn of(stats: &'a Stats) -> Self {
        Self {
            ledger: Books::of(&stats.ledger),
            connections: stats.connections,
            subscriptions: stats.subscriptions,
            queues: stats.queues.iter().map(QueueRecord::of).collect(),
        }
    }
}

fn show(stats: &Stats) -> String {
    let ledger = &stats.ledger;
    let mut lines = vec![
        format!("ledger         {ledger}"),
        format!("unmatched      {}", ledger.unmatched),
        format!("returned       {}", ledger.returned),
        format!("duplicates     {}", ledger.duplicates),
        format!("connections    {}", stats.connections),
        format!("subscriptions  {}", stats.subscriptions),
    ];
    if !ledger.dropped_by.is_empty() {
        lines.insert(1, format!("dropped by     {}", reasons(ledger)));
    }
    if !stats.queues.is_empty() {
        lines.push(String::new());
        lines.push(queue_rows(&stats.queues));
    }
    lines.join("\n")
}
