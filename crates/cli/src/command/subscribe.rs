//! `posthaste sub`: subscribes and prints the messages.

use clap::Args;
use posthaste::limits::SUBSCRIPTION_BYTES;
use posthaste::{Reconnect, Subscription};

use crate::args::BrokerArgs;
use crate::connect;
use crate::exit::Failure;
use crate::output::{Format, Output};
use crate::take::{Settling, TakeArgs, take};

/// Subscribe to a pattern and print the messages
///
/// Prints each payload and a newline. Ends on a signal, or as --count and --timeout say.
#[derive(Debug, Args)]
pub(crate) struct SubArgs {
    /// The topics: * stands for one word, a final > for one or more
    pattern: String,
    #[command(flatten)]
    take: TakeArgs,
    /// Share the messages with the other members of this group
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// How many messages may wait at the broker; publishers then wait [default: 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    capacity: Option<u32>,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub(crate) async fn run(args: SubArgs) -> Result<(), Failure> {
    let pattern = args.pattern.as_str();
    let subscription = match args.group.as_deref() {
        Some(group) => Subscription::shared(pattern, group)?,
        None => Subscription::topic(pattern)?,
    };
    let subscription = match args.capacity.map(usize::try_from) {
        Some(Ok(messages)) => subscription.capacity(messages, SUBSCRIPTION_BYTES),
        _ => subscription,
    };
    let format = if args.take.json { Format::Json } else { Format::Payload };
    let bus = connect::connect(&args.broker, Reconnect::Forever).await?;
    let subscription = args.take.limit(subscription);
    let output = Output::new(format, None);
    take(&bus, subscription, Settling::Auto, &args.take, output).await
}
