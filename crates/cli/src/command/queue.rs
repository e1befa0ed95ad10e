//! `posthaste queue`: lists, inspects, declares and removes queues.

use clap::{Args, Subcommand};
use posthaste::{Bus, Pattern, Queue, QueueInfo, Reconnect};

use crate::args::{BrokerArgs, parse_capacity, topic};
use crate::connect;
use crate::exit::Failure;
use crate::output::print_line;
use crate::record::{QueueRecord, json, queue_lines, queue_rows};

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
    Declare(DeclareArgs),
    /// Remove a queue; what it holds is dropped, its consumers end
    Rm {
        /// The queue
        name: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

/// Declare a queue, or change the settings of one that are named, and show it
///
/// A setting that is not named stays as it is.
#[derive(Debug, Args)]
struct DeclareArgs {
    /// The queue
    name: String,
    /// How many messages it holds [default: 1000000]
    #[arg(long, value_name = "N", value_parser = parse_capacity)]
    capacity: Option<usize>,
    /// How many bytes it holds [default: 268435456]
    #[arg(long, value_name = "B", value_parser = parse_capacity)]
    capacity_bytes: Option<usize>,
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
    let mut queue = Queue::new(topic(&args.name)?);
    queue.capacity_messages = args.capacity;
    queue.capacity_bytes = args.capacity_bytes;
    for binding in &args.bindings {
        queue = queue.bind(Pattern::new(binding)?);
    }
    Ok(queue)
}

fn list(queues: &[QueueInfo], as_json: bool) -> Result<String, Failure> {
    match as_json {
        true => json(&queues.iter().map(QueueRecord::of).collect::<Vec<_>>()),
        false => Ok(queue_rows(queues)),
    }
}

fn show(info: &QueueInfo, as_json: bool) -> Result<String, Failure> {
    match as_json {
        true => json(&QueueRecord::of(info)),
        false => Ok(queue_lines(info)),
    }
}
