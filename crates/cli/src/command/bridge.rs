//! `posthaste bridge`: forwards messages from one broker to another.

use std::time::Duration;

use clap::Args;
use posthaste::{Pattern, Reconnect, Topic};
use posthaste_bridge::Bridge;

use crate::args::{BrokerArgs, ConnectArgs, parse_url, topic};
use crate::connect;
use crate::duration;
use crate::exit::{Code, Failure};
use crate::output::print_line;
use crate::signals::Signals;

/// Forward messages from one broker to another, whatever engines they are
///
/// A message is acknowledged at FROM only after TO has confirmed it, so nothing is lost when this
/// program, FROM or TO dies: start that again and it goes on. What was under way at that moment may
/// go twice; messages with an id are taken once by a TO that deduplicates. Runs until SIGTERM or
/// SIGINT, or as --count and --timeout say, and prints how much it has forwarded, and how much of that
/// had been handed out before.
#[derive(Debug, Args)]
pub(crate) struct BridgeArgs {
    /// The broker that messages come from
    #[arg(value_name = "FROM", value_parser = parse_url)]
    from: String,
    /// The broker that they go to
    #[arg(value_name = "TO", value_parser = parse_url)]
    to: String,
    /// Forward what is published to the topics of a pattern [default: >, unless --queue is given]
    #[arg(long, value_name = "P", conflicts_with = "queue")]
    pattern: Option<String>,
    /// Forward what is in a queue, into the queue of the same name
    #[arg(long, value_name = "Q")]
    queue: Option<String>,
    /// The queue that holds published messages at FROM while no bridge runs, where FROM can do that
    #[arg(long, value_name = "NAME", default_value = "bridge", conflicts_with = "queue")]
    name: String,
    /// For how long the queue at TO remembers the ids of what was forwarded
    #[arg(long, value_name = "DUR", default_value = "10m", value_parser = duration::parse)]
    dedup_window: Duration,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so long a silence
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    timeout: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(crate) async fn run(args: BridgeArgs) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let side = |url: &str| BrokerArgs { url: url.to_owned(), connect: args.connect.clone() };
    let from = connect::connect(&side(&args.from), Reconnect::Forever).await?;
    let to = connect::connect(&side(&args.to), Reconnect::Forever).await?;
    let bridge = match &args.queue {
        Some(queue) => Bridge::queue(&from, &to, topic(queue)?),
        None => {
            let pattern = Pattern::new(args.pattern.as_deref().unwrap_or(">"))?;
            Bridge::topics(&from, &to, pattern, Topic::new(&args.name)?)
        }
    };
    let mut forwarder = bridge.window(args.dedup_window).open().await?;
    let ran = forwarder.run(args.count, args.timeout, signals.next()).await;
    let counts = forwarder.counts();
    drop(forwarder);
    connect::goodbye(&from).await;
    connect::goodbye(&to).await;
    let (forwarded, again, level) = (counts.forwarded, counts.again, counts.level);
    print_line(&format!("forwarded {forwarded} again {again} level {level}"))?;
    ran?;
    match args.count {
        Some(count) if forwarded < count => {
            let text = format!("{forwarded} of {count} messages came in time");
            Err(Failure::new(Code::TooLate, text))
        }
        _ => Ok(()),
    }
}
