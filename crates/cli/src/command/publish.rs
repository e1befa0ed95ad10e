//! `posthaste pub`: publishes to a topic.

use clap::Args;
use posthaste::Reconnect;

use crate::args::{BrokerArgs, HandlingArgs, PayloadArgs, PropertyArgs, ReconnectArgs, topic};
use crate::connect;
use crate::exit::{Code, Failure};
use crate::output::print_line;
use crate::publish::{Payloads, Template, send_all};

/// Publish to a topic
///
/// Prints `published N matched M level LEVEL` once everything is confirmed: M is to how many
/// subscriptions, group members and queues the messages were handed, summed over the messages;
/// LEVEL is the lowest that all of them reached (held, if there were none). If something is not
/// confirmed, the exit code is 1, and stderr says how much was.
#[derive(Debug, Args)]
pub(crate) struct PubArgs {
    /// The topic: words with dots between them, as in orders.eu.created
    topic: String,
    #[command(flatten)]
    payloads: PayloadArgs,
    #[command(flatten)]
    properties: PropertyArgs,
    #[command(flatten)]
    handling: HandlingArgs,
    /// Exit with 3 if a message matched nobody (messages then go one at a time)
    #[arg(long)]
    require_match: bool,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    reconnect: ReconnectArgs,
}

pub(crate) async fn run(args: PubArgs) -> Result<(), Failure> {
    let template = Template {
        to: topic(&args.topic)?,
        to_queue: false,
        properties: args.properties,
        handling: args.handling,
    };
    let patience = args.reconnect.reconnect;
    let bus = connect::connect(&args.broker, Reconnect::For(patience)).await?;
    let payloads = Payloads::read(args.payloads).await?;
    let sender = bus.sender(template.sender_options()).await?;
    let tally = send_all(sender, &template, payloads, args.require_match, patience).await?;
    let (confirmed, matched, level) = (tally.confirmed, tally.matched, tally.level());
    print_line(&format!("published {confirmed} matched {matched} level {level}"))?;
    connect::goodbye(&bus).await;
    if args.require_match && tally.unmatched {
        let text = format!("nobody subscribes to {}, nor is a queue bound to it", template.to);
        return Err(Failure::new(Code::Unmatched, text));
    }
    Ok(())
}
