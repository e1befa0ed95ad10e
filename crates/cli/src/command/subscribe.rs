//! `posthaste sub`: subscribes and prints the messages.

use clap::Args;
use posthaste::limits::{SUBSCRIPTION_BYTES, SUBSCRIPTION_MESSAGES};
use posthaste::{Overflow, Reconnect, Subscription};

use crate::args::{BrokerArgs, parse_capacity, policies};
use crate::connect;
use crate::exit::Failure;
use crate::output::{Format, Output};
use crate::take::{Settling, TakeArgs, take};

/// The overflow policies that subscriptions have.
const SUBSCRIPTION_POLICIES: [&str; 5] =
    ["block", "drop-oldest", "drop-newest", "latest-per-key", "disconnect"];

/// Subscribe to a pattern and print the messages
///
/// Prints each payload and a newline. Ends on a signal, or as --count and --timeout say. What the
/// broker tells of itself, such as what it drops and why, are messages too: sub '_ph.event.>'
#[derive(Debug, Args)]
pub(crate) struct SubArgs {
    /// The topics: * stands for one word, a final > for one or more
    pattern: String,
    #[command(flatten)]
    take: TakeArgs,
    /// Share the messages with the other members of this group
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// What happens when more messages come than may wait at the broker
    ///
    /// block: publishers wait (and after 10 s of it the subscriber is cut off); drop-oldest and
    /// drop-newest: messages are dropped and counted; latest-per-key: a newer message takes the
    /// place of the one with the same key or, without a key, the same topic; disconnect: the
    /// subscriber is cut off, and exits with 1.
    #[arg(long, value_name = "POLICY", default_value = "block")]
    #[arg(value_parser = policies(SUBSCRIPTION_POLICIES))]
    overflow: Overflow,
    /// How many messages may wait at the broker
    #[arg(long, value_name = "N", default_value_t = SUBSCRIPTION_MESSAGES)]
    #[arg(value_parser = parse_capacity)]
    capacity: usize,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub(crate) async fn run(args: SubArgs) -> Result<(), Failure> {
    let pattern = args.pattern.as_str();
    let subscription = match args.group.as_deref() {
        Some(group) => Subscription::shared(pattern, group)?,
        None => Subscription::topic(pattern)?,
    };
    let subscription =
        subscription.capacity(args.capacity, SUBSCRIPTION_BYTES).overflow(args.overflow);
    let format = if args.take.json { Format::Json } else { Format::Payload };
    let bus = connect::connect(&args.broker, Reconnect::Forever).await?;
    let subscription = args.take.limit(subscription);
    let output = Output::new(format, None);
    take(&bus, subscription, Settling::Auto, &args.take, output).await
}
