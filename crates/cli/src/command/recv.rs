//! `posthaste recv`: takes messages from a queue and prints them.

use clap::Args;
use posthaste::{Ack, Reconnect, Subscription};

use crate::args::{BrokerArgs, topic};
use crate::connect;
use crate::exit::Failure;
use crate::output::{Format, Output};
use crate::take::{Settling, TakeArgs, take};

/// Take messages from a queue and print them
///
/// Prints each payload and a newline, and exits only when its acknowledgements are confirmed.
/// Ends on a signal, or as --count and --timeout say.
#[derive(Debug, Args)]
pub(crate) struct RecvArgs {
    /// The queue; it is declared with the broker's defaults if it is not there
    queue: String,
    #[command(flatten)]
    take: TakeArgs,
    /// Who settles the messages, and when
    #[arg(long, value_name = "WHO", value_enum, default_value = "manual")]
    ack: Settling,
    /// How many messages may be unsettled at a time (no limit with --ack never)
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    prefetch: u32,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub(crate) async fn run(args: RecvArgs) -> Result<(), Failure> {
    let queue = topic(&args.queue)?;
    let subscription = args.take.limit(Subscription::queue(&queue)?);
    let prefetch = usize::try_from(args.prefetch).unwrap_or(usize::MAX);
    let subscription = match args.ack {
        Settling::Manual => subscription.prefetch(prefetch),
        Settling::Auto => subscription.ack(Ack::Auto).prefetch(prefetch),
        Settling::Never => subscription.unlimited_prefetch(),
    };
    let format = if args.take.json { Format::Json } else { Format::Payload };
    let bus = connect::connect(&args.broker, Reconnect::Forever).await?;
    let output = Output::new(format, Some(queue));
    take(&bus, subscription, args.ack, &args.take, output).await
}
