//! `posthaste send`: sends into one queue.

use clap::Args;
use posthaste::{Level, Queue, Reconnect};

use crate::args::{BrokerArgs, HandlingArgs, PayloadArgs, PropertyArgs, ReconnectArgs, topic};
use crate::connect;
use crate::durable::refusal;
use crate::exit::Failure;
use crate::output::print_line;
use crate::publish::{Payloads, Template, send_all};

/// Send into a queue, which is declared if it is not there
///
/// Prints `sent N level LEVEL` once everything is confirmed: LEVEL is the lowest that all messages
/// reached (held, if there were none). If something is not confirmed, the exit code is 1, and
/// stderr says how much was.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The queue; it is declared with the broker's defaults if it is not there
    queue: String,
    /// Declare the queue durable, and have every message stored: synced to the broker's disk
    #[arg(long)]
    durable: bool,
    #[command(flatten)]
    payloads: PayloadArgs,
    #[command(flatten)]
    properties: PropertyArgs,
    #[command(flatten)]
    handling: HandlingArgs,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    reconnect: ReconnectArgs,
}

pub(crate) async fn run(args: SendArgs) -> Result<(), Failure> {
    let template = Template {
        to: topic(&args.queue)?,
        to_queue: true,
        properties: args.properties,
        handling: args.handling,
    };
    let patience = args.reconnect.reconnect;
    let bus = connect::connect(&args.broker, Reconnect::For(patience)).await?;
    let mut options = template.sender_options();
    if args.durable {
        let queue = Queue::new(template.to.clone()).durable(true);
        bus.declare(queue).await.map_err(|error| refusal(error, true))?;
        options = options.confirm(Level::Stored);
    }
    let payloads = Payloads::read(args.payloads).await?;
    let sender = bus.sender(options).await.map_err(|error| refusal(error, args.durable))?;
    let tally = send_all(sender, &template, payloads, false, patience).await?;
    let (confirmed, level) = (tally.confirmed, tally.level());
    print_line(&format!("sent {confirmed} level {level}"))?;
    connect::goodbye(&bus).await;
    Ok(())
}
