//! `posthaste recv`: takes messages from a queue and prints them.

use std::time::Duration;

use clap::Args;
use posthaste::{Ack, Reconnect, Runtime, Start, Subscription};
use posthaste_tokio::Tokio;

use crate::args::{BrokerArgs, topic};
use crate::connect;
use crate::exit::Failure;
use crate::output::{Format, Output};
use crate::take::{Settling, TakeArgs, take};
use crate::{duration, timestamp};

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
    /// Read a queue that retains, from there on, and leave everything in it
    ///
    /// beginning: the oldest message that is there; new: what comes next; OFFSET: where a reader
    /// has been, one more than the offset of the last message that it had; TIME: what came since
    /// then, in RFC 3339 (2026-11-29T12:00:00Z) or as so long ago (10m).
    #[arg(long, value_name = "beginning|new|OFFSET|TIME", value_parser = parse_start)]
    #[arg(conflicts_with = "ack")]
    from: Option<From>,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    At(Start),
    Ago(Duration),
}

impl From {
    fn start(self) -> Start {
        match self {
            Self::At(start) => start,
            Self::Ago(ago) => Start::Time(Tokio::current().unix_time().saturating_sub(ago)),
        }
    }
}

fn parse_start(text: &str) -> Result<From, String> {
    let start = match text {
        "beginning" => Some(Start::Beginning),
        "new" => Some(Start::New),
        _ if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) => {
            text.parse().ok().map(Start::Offset)
        }
        _ => timestamp::parse(text).map(Start::Time),
    };
    start.map(From::At).or_else(|| duration::parse(text).ok().map(From::Ago)).ok_or_else(|| {
        "write beginning, new, an offset, a time as 2026-11-29T12:00:00Z, or how long ago, as 10m"
            .to_owned()
    })
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
    let subscription = match args.from {
        Some(from) => subscription.start(from.start()).prefetch(prefetch),
        None => subscription,
    };
    let format = if args.take.json { Format::Json } else { Format::Payload };
    let bus = connect::connect(&args.broker, Reconnect::Forever).await?;
    let output = Output::new(format, Some(queue));
    take(&bus, subscription, args.ack, &args.take, output).await
}
