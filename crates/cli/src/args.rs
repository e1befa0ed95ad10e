//! The command line: what all commands share of it, and how its errors read.

use std::ffi::OsString;
use std::time::Duration;
use std::{env, process};

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser};
use posthaste::Overflow;

use crate::command::Command;
use crate::exit::{Code, complain};
use crate::{duration, exit};

/// The broker that is meant when none is named.
pub(crate) const DEFAULT_URL: &str = "tcp://127.0.0.1:7411";

const TIMES: &str = "Times are written 500ms, 2s, 1m, 1h. URLs are tcp://HOST:PORT, unix:/PATH, \
    memory: for a broker inside the command itself, and those of other engines that this build \
    knows, such as nats://HOST:PORT.\n\
    Exit codes: 0 done; 1 failed or not confirmed; 2 wrong usage or URL; 3 a message matched \
    nobody (--require-match); 4 too few messages or no reply in time; 5 no responders.";

/// Messaging from a shell: publish and subscribe, queues, requests and replies.
#[derive(Debug, Parser)]
#[command(name = "posthaste", version, after_help = TIMES, max_term_width = 100)]
#[command(arg_required_else_help = true, infer_subcommands = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log more to stderr: -v what happens, -vv how, -vvv every step
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Reads the command line, or ends the program with what is wrong with it.
pub(crate) fn parse() -> Cli {
    Cli::try_parse_from(arguments(env::args_os())).unwrap_or_else(|error| refuse(&error))
}

/// The arguments, with a `--url` that stands before the command moved behind it, where it belongs:
/// `posthaste --url URL stat` is what some write first, and it is clear what they mean.
fn arguments(all: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all = all.peekable();
    let mut arguments: Vec<OsString> = all.next().into_iter().collect();
    let mut moved = Vec::new();
    while let Some(url) = all.next_if(|this| {
        this.to_str().is_some_and(|text| text == "--url" || text.starts_with("--url="))
    }) {
        let value = if url == "--url" { all.next() } else { None };
        moved.extend([Some(url), value].into_iter().flatten());
    }
    arguments.extend(all);
    // What comes behind a lone `--` is not read as options.
    let end = arguments.iter().position(|this| this == "--").unwrap_or(arguments.len());
    arguments.splice(end..end, moved);
    arguments
}

/// Help and version are clap's own; errors are one sentence.
fn refuse(error: &clap::Error) -> ! {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A reader of the help that has gone wants no more of it.
        let _ = error.print();
        process::exit(error.exit_code());
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // Up to the usage come the error and, sometimes, a tip; each is a paragraph.
    let sentence = text
        .split("\n\n")
        .take_while(|paragraph| !paragraph.starts_with("Usage:"))
        .filter(|paragraph| !paragraph.starts_with("For more information"))
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("; ");
    complain(&format!("{sentence} (see --help)"));
    Code::Usage.exit()
}

/// Which broker, and for how long to try.
#[derive(Debug, Clone, Args)]
pub(crate) struct BrokerArgs {
    /// The broker: tcp://HOST:PORT or unix:/PATH
    #[arg(long, env = "POSTHASTE_URL", default_value = DEFAULT_URL, value_parser = parse_url)]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Which broker, for a command that is about a broker.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// The broker, as for --url
    #[arg(value_name = "URL", value_parser = parse_url)]
    target: Option<String>,
    #[command(flatten)]
    broker: BrokerArgs,
}

impl TargetArgs {
    /// The broker that is named, however it is.
    pub(crate) fn into_broker(self) -> BrokerArgs {
        let Self { target, mut broker } = self;
        broker.url = target.unwrap_or(broker.url);
        broker
    }
}

/// For how long to try to connect.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    /// How long to try to connect at first
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = duration::parse)]
    pub(crate) connect_timeout: Duration,
}

/// For how long to try to connect again.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReconnectArgs {
    /// How long to try to connect again when the connection was lost
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration::parse)]
    pub(crate) reconnect: Duration,
}

/// What is sent: one payload, or one for each line.
#[derive(Debug, Clone, Args)]
pub(crate) struct PayloadArgs {
    /// The payload; without it, all of stdin (on a terminal: empty)
    #[arg(conflicts_with = "lines", allow_negative_numbers = true)]
    pub(crate) payload: Option<OsString>,
    /// Send each line of stdin, many in flight
    #[arg(long)]
    pub(crate) lines: bool,
    /// Send the payload N times; with --lines, the first N lines
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// What goes with a payload.
#[derive(Debug, Clone, Args)]
pub(crate) struct PropertyArgs {
    /// Add a header; may be given several times
    #[arg(long = "header", value_name = "K=V", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Set the key
    #[arg(long, value_name = "K", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: Option<String>,
}

/// What a broker is to know about a message.
#[derive(Debug, Clone, Args)]
pub(crate) struct HandlingArgs {
    /// Set the id, which a queue with a deduplication window takes once
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: Option<String>,
    /// Let it expire if nobody got it after so long
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) ttl: Option<Duration>,
    /// Let nobody get it before so long has passed
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) delay: Option<Duration>,
    /// Set the priority, 0 to 3: the highest comes first
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=3))]
    pub(crate) priority: u8,
}

/// Reads a URL, as far as that goes without connecting.
pub(crate) fn parse_url(text: &str) -> Result<String, String> {
    match posthaste::endpoints(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a capacity in messages or bytes.
pub(crate) fn parse_capacity(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there has to be room for one at least".to_owned()),
        Ok(capacity) => Ok(capacity),
        Err(_) => Err("write a whole number".to_owned()),
    }
}

/// The overflow policies that are named, by the names that they have on the command line.
pub(crate) fn policies<const N: usize>(names: [&'static str; N]) -> impl TypedValueParser {
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Overflow>())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write a header as NAME=VALUE".to_owned()),
    }
}

/// Reads a topic or a queue's name. A wrong one is a failure rather than wrong usage, so it is
/// read after the command line.
pub(crate) fn topic(text: &str) -> Result<posthaste::Topic, exit::Failure> {
    Ok(posthaste::Topic::new(text)?)
}
