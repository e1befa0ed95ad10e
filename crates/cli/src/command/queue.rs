//! `posthaste queue`: lists, inspects, declares, empties and removes queues.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, Subcommand};
use posthaste::{Bus, Overflow, Pattern, Queue, QueueInfo, Reconnect, Retention};

use crate::args::{BrokerArgs, parse_capacity, policies, topic};
use crate::durable::refusal;
use crate::exit::Failure;
use crate::output::print_line;
use crate::record::{QueueRecord, json, queue_lines, queue_rows};
use crate::{connect, duration};

/// The overflow policies that queues have.
const QUEUE_POLICIES: [&str; 4] = ["block", "reject", "drop-oldest", "drop-newest"];

/// List, inspect, declare, empty and remove queues
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
    Declare(Box<DeclareArgs>),
    /// Drop everything in a queue that is not handed out, and print `purged N`
    Purge {
        /// The queue
        name: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
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
/// A setting that is not named stays as it is; a time of 0s switches its setting off. What cannot
/// be changed is a conflict, and exits with 1.
#[derive(Debug, Args)]
struct DeclareArgs {
    /// The queue
    name: String,
    /// How many messages it holds [default: 1000000]
    #[arg(long, value_name = "N", value_parser = parse_capacity)]
    capacity: Option<usize>,
    /// How many bytes it holds [default: 268435456 in memory, 17179869184 if it is durable]
    #[arg(long, value_name = "B", value_parser = parse_capacity)]
    capacity_bytes: Option<usize>,
    /// What happens when it is full [default: block]
    ///
    /// block: senders wait; reject: they get the message back; drop-oldest and drop-newest:
    /// messages are dropped and counted.
    #[arg(long, value_name = "POLICY", value_parser = policies(QUEUE_POLICIES))]
    overflow: Option<Overflow>,
    /// How often it hands a message out at most [default: 16]
    #[arg(long, value_name = "N", value_parser = parse_attempts)]
    max_attempts: Option<NonZeroU32>,
    /// How long a message waits after its first attempt; twice as long after the next [default: 0s]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    backoff: Option<Duration>,
    /// Where messages go that were rejected or handed out too often; else they are dropped
    #[arg(long, value_name = "Q")]
    dead_letter: Option<String>,
    /// How long a message lives in it [default: for ever]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    ttl: Option<Duration>,
    /// How long it remembers the ids of messages, to take each of them once [default: 0s]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    dedup_window: Option<Duration>,
    /// How long a consumer may keep a message unsettled [default: for ever]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    consumer_timeout: Option<Duration>,
    /// How long it stays when it is empty and unused [default: for ever]
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    expiry: Option<Duration>,
    /// Keep the order of each key with many consumers (for good: it cannot be changed)
    #[arg(long)]
    keyed: bool,
    /// Keep it, and what is in it, on the broker's disk (for good: it cannot be changed) [default:
    /// where the broker has a folder for that]
    #[arg(long)]
    durable: bool,
    /// Retain messages whoever has read them, to be read with recv --from: for ever, or as the
    /// other options say (whether it retains is for good; what they say can be changed)
    #[arg(long)]
    retain: bool,
    /// Retain messages for so long
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    retain_age: Option<Duration>,
    /// Retain so many messages, the newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    retain_messages: Option<u64>,
    /// Retain so many bytes, of the newest
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u64).range(1..))]
    retain_bytes: Option<u64>,
    /// Retain the last message of each key, or without one of each topic
    #[arg(long)]
    retain_last: bool,
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
            bus.declare(queue).await.map_err(|error| refusal(error, args.durable))?;
            print_line(&show(&bus.queue(&name).await?, args.json)?)?;
            connect::goodbye(&bus).await;
        }
        Verb::Purge { name, broker } => {
            let name = topic(&name)?;
            let bus = connect(&broker).await?;
            let purged = bus.broker().purge(&name).await?;
            print_line(&format!("purged {purged}"))?;
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
    queue.overflow = args.overflow;
    queue.max_attempts = args.max_attempts.map(NonZeroU32::get);
    queue.backoff = args.backoff;
    queue.dead_letter = args.dead_letter.as_deref().map(topic).transpose()?;
    queue.ttl = args.ttl;
    queue.dedup_window = args.dedup_window;
    queue.consumer_timeout = args.consumer_timeout;
    queue.expiry = args.expiry;
    queue.keyed = args.keyed.then_some(true);
    queue.durable = args.durable.then_some(true);
    queue.retain = retention(args);
    for binding in &args.bindings {
        queue = queue.bind(Pattern::new(binding)?);
    }
    Ok(queue)
}

/// What is to be retained, if any of that is asked for.
fn retention(args: &DeclareArgs) -> Option<Retention> {
    let mut retain = Retention::new();
    if let Some(age) = args.retain_age {
        retain = retain.age(age);
    }
    if let Some(messages) = args.retain_messages {
        retain = retain.messages(messages);
    }
    if let Some(bytes) = args.retain_bytes {
        retain = retain.bytes(bytes);
    }
    if args.retain_last {
        retain = retain.last_per_key();
    }
    let asked = args.retain || args.retain_age.is_some() || retain != Retention::new();
    asked.then_some(retain)
}

fn parse_attempts(text: &str) -> Result<NonZeroU32, String> {
    match text.parse() {
        Ok(attempts) => NonZeroU32::new(attempts)
            .ok_or_else(|| "there has to be one attempt at least".to_owned()),
        Err(_) => Err("write a whole number".to_owned()),
    }
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
