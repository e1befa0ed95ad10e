//! `posthaste queue`: lists, inspects, declares and removes queues.

use clap::{Args, Subcommand};
use posthaste::{Bus, Pattern, Queue, QueueInfo, Reconnect};
use serde::Serialize;

use crate::args::{BrokerArgs, topic};
use crate::exit::{Code, Failure};
use crate::output::print_line;
use crate::{connect, table};

/// List, inspect, declare and remove queues
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the queues, by name (--json: an array)
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Show what a queue is and holds (--json: an object)
    Info {
        /// The queue
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Declare a queue, or change the settings of one that are named, and show it
    Declare(DeclareArgs),
    /// Remove a queue; what it holds is dropped, its consumers end
    Rm {
        /// The queue
        name: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

#[derive(Debug, Args)]
struct DeclareArgs {
    /// The queue
    name: String,
    /// How many messages it holds; senders then wait [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    capacity: Option<u64>,
    /// How many bytes it holds; senders then wait [default: 268435456]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u64).range(1..))]
    capacity_bytes: Option<u64>,
    /// Copy the messages of matching topics into the queue; may be given several times
    #[arg(long = "bind", value_name = "PATTERN")]
    bindings: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub(crate) async fn run(args: QueueArgs) -> Result<(), Failure> {
    match args.verb {
        Verb::Ls { json, broker } => {
            let bus = connect(&broker).await?;
            let queues = bus.stats().await?.queues;
            print_line(&list(&queues, json)?)?;
            connect::goodbye(&bus).await;
        }
        Verb::Info { name, json, broker } => {
            let name = topic(&name)?;
            let bus = connect(&broker).await?;
            print_line(&show(&bus.queue(&name).await?, json)?)?;
            connect::goodbye(&bus).await;
        }
        Verb::Declare(args) => {
            let queue = declaration(&args)?;
            let name = queue.name.clone();
            let bus = connect(&args.broker).await?;
            bus.declare(queue).await?;
            print_line(&show(&bus.queue(&name).await?, args.json)?)?;
            connect::goodbye(&bus).await;
        }
        Verb::Rm { name, broker } => {
            let name = topic(&name)?;
            let bus = connect(&broker).await?;
            bus.delete(&name).await?;
            connect::goodbye(&bus).await;
        }
    }
    Ok(())
}

async fn connect(broker: &BrokerArgs) -> Result<Bus, Failure> {
    connect::connect(broker, Reconnect::Never).await
}

fn declaration(args: &DeclareArgs) -> Result<Queue, Failure> {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let mut queue = Queue::new(topic(&args.name)?);
    if let Some(messages) = args.capacity {
        queue = queue.capacity(size(messages));
    }
    if let Some(bytes) = args.capacity_bytes {
        queue = queue.capacity_bytes(size(bytes));
    }
    for binding in &args.bindings {
        queue = queue.bind(Pattern::new(binding)?);
    }
    Ok(queue)
}

/// A queue as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    name: &'a str,
    messages: u64,
    unsettled: u64,
    bytes: u64,
    consumers: u64,
    capacity: u64,
    capacity_bytes: u64,
    durable: bool,
    bindings: Vec<&'a str>,
}

impl<'a> Record<'a> {
    pub(super) fn of(info: &'a QueueInfo) -> Self {
        Self {
            name: info.name.as_str(),
            messages: info.messages,
            unsettled: info.unsettled,
            bytes: info.bytes,
            consumers: info.consumers,
            capacity: info.settings.capacity_messages as u64,
            capacity_bytes: info.settings.capacity_bytes as u64,
            durable: info.settings.durable,
            bindings: info.bindings.iter().map(Pattern::as_str).collect(),
        }
    }
}

/// Turns a value into one line of JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot write JSON: {error}")))
}

/// The queues, one a row.
pub(super) fn rows(queues: &[QueueInfo]) -> String {
    let headings = ["name", "messages", "unsettled", "bytes", "consumers", "durable"];
    let rows: Vec<_> = queues
        .iter()
        .map(|info| {
            vec![
                info.name.to_string(),
                info.messages.to_string(),
                info.unsettled.to_string(),
                info.bytes.to_string(),
                info.consumers.to_string(),
                yes_or_no(info.settings.durable).to_owned(),
            ]
        })
        .collect();
    table::render(&headings, &rows)
}

fn list(queues: &[QueueInfo], as_json: bool) -> Result<String, Failure> {
    if as_json {
        return json(&queues.iter().map(Record::of).collect::<Vec<_>>());
    }
    Ok(rows(queues))
}

fn show(info: &QueueInfo, as_json: bool) -> Result<String, Failure> {
    if as_json {
        return json(&Record::of(info));
    }
    let bindings: Vec<_> = info.bindings.iter().map(Pattern::as_str).collect();
    let lines = [
        format!("name       {}", info.name),
        format!("messages   {} of {}", info.messages, info.settings.capacity_messages),
        format!("unsettled  {}", info.unsettled),
        format!("bytes      {} of {}", info.bytes, info.settings.capacity_bytes),
        format!("consumers  {}", info.consumers),
        format!("durable    {}", yes_or_no(info.settings.durable)),
        format!("bindings   {}", bindings.join(" ")),
        format!("ledger     {}", info.ledger),
    ];
    Ok(lines.map(|line| line.trim_end().to_owned()).join("\n"))
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
