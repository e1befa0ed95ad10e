//! `posthaste bench`: measures brokers, several of them side by side.

mod load;
mod meter;
mod request;
mod stream;

use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use posthaste::limits::PAYLOAD_BYTES_MAX;
use serde::Serialize;

use self::load::{Plan, Target, Work};
use self::meter::Sample;
use crate::args::{ConnectArgs, DEFAULT_URL, parse_url};
use crate::exit::Failure;
use crate::output::print_line;
use crate::record::json;
use crate::{duration, table};

/// How many messages are sent unless the command line says otherwise.
const MESSAGES: u64 = 100_000;
/// How many messages warm a broker up at most, before anything is measured.
const WARM_UP: u64 = 1_000;

/// Measure brokers, side by side
///
/// Senders and receivers run in this process, each with a connection of its own. The work is done
/// in rounds, one URL after the other in each, so that what else the machine does hits all of them
/// alike; the rate is the median of the rounds. A rate counts messages that were received (and
/// acknowledged, with --ack manual), so with --pattern pubsub each receiver's copy counts. Latency
/// is from the send to the receipt, or from the request to the reply.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to do with the messages
    #[arg(long, value_enum, default_value = "queue")]
    pattern: Pattern,
    /// The size of a payload, in bytes
    #[arg(long, value_name = "B", default_value = "64", value_parser = parse_size)]
    size: usize,
    /// How many messages to send in all [default: 100000]
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// How long to send in all, instead of a number of messages
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// How many senders, or requesters, there are
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1_000))]
    senders: u16,
    /// How many receivers, or responders, there are
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1_000))]
    receivers: u16,
    /// How many messages of a sender may be unconfirmed, or requests unanswered
    #[arg(long, value_name = "N", default_value = "1024")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: u32,
    /// Who settles the messages of a queue
    #[arg(long, value_enum, default_value = "manual")]
    ack: Acknowledge,
    /// In how many rounds the work is done
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// A broker: tcp://HOST:PORT, unix:/PATH, or memory: for one in this process; may be given
    /// several times
    #[arg(long = "url", value_name = "URL", env = "POSTHASTE_URL", default_value = DEFAULT_URL)]
    #[arg(value_parser = parse_url)]
    urls: Vec<String>,
    /// Print one JSON object a line for each URL
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pattern {
    /// Each message to one of the receivers, through a queue
    Queue,
    /// Each message to every receiver
    Pubsub,
    /// Each request to one of the responders, and the reply back
    Request,
}

/// Who settles the messages of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Acknowledge {
    /// Settled when they are handed out
    Auto,
    /// Acknowledged by the receiver
    Manual,
}

pub(crate) async fn run(args: BenchArgs) -> Result<(), Failure> {
    let mut targets = Vec::with_capacity(args.urls.len());
    for url in &args.urls {
        targets.push(Target::connect(url, &args).await?);
    }
    let plans = rounds(&args);
    let bar = progress(targets.len() * plans.len());
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); targets.len()];
    let warm_up = args.messages.unwrap_or(MESSAGES).div_ceil(10).min(WARM_UP);
    for target in &targets {
        bar.set_message(format!("warming up {}", target.url));
        target.run(args.plan(Work::Messages(warm_up))).await?;
    }
    for plan in plans {
        for (target, samples) in targets.iter().zip(&mut samples) {
            bar.set_message(target.url.clone());
            samples.push(target.run(plan.clone()).await?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let mut records = Vec::with_capacity(targets.len());
    for (target, samples) in targets.iter().zip(&samples) {
        records.push(Record::of(target, &args, samples));
        target.close().await;
    }
    if args.json {
        for record in &records {
            print_line(&json(record)?)?;
        }
        return Ok(());
    }
    print_line(&show(&records))
}

impl BenchArgs {
    fn plan(&self, work: Work) -> Plan {
        Plan {
            pattern: self.pattern,
            size: self.size,
            work,
            in_flight: usize::try_from(self.in_flight).unwrap_or(usize::MAX),
            acknowledge: self.ack,
        }
    }
}

/// The work, in rounds of equal size.
fn rounds(args: &BenchArgs) -> Vec<Plan> {
    let count = u64::from(args.rounds);
    if let Some(seconds) = args.seconds {
        let each = seconds / u32::from(args.rounds);
        return (0..count).map(|_| args.plan(Work::Time(each))).collect();
    }
    let messages = args.messages.unwrap_or(MESSAGES);
    let count = count.min(messages);
    (0..count)
        .map(|nth| messages / count + u64::from(nth < messages % count))
        .map(|share| args.plan(Work::Messages(share)))
        .collect()
}

fn progress(steps: usize) -> ProgressBar {
    // Nothing is drawn where stderr is no terminal.
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} rounds  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The result for one URL.
#[derive(Debug, Serialize)]
struct Record<'a> {
    url: &'a str,
    pattern: String,
    size: usize,
    messages: u64,
    seconds: f64,
    msgs_per_s: f64,
    mb_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

impl<'a> Record<'a> {
    fn of(target: &'a Target, args: &BenchArgs, samples: &[Sample]) -> Self {
        let rate = meter::median(samples.iter().map(Sample::rate).collect());
        let latency = meter::merge(samples);
        let micros = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1_000.0;
        let pattern = args.pattern.to_possible_value();
        Self {
            url: &target.url,
            pattern: pattern.map_or_else(String::new, |value| value.get_name().to_owned()),
            size: args.size,
            messages: samples.iter().map(|sample| sample.sent).sum(),
            seconds: samples.iter().map(|sample| sample.elapsed.as_secs_f64()).sum(),
            msgs_per_s: rate,
            mb_per_s: rate * args.size as f64 / 1e6,
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
        }
    }
}

fn show(records: &[Record<'_>]) -> String {
    let headings = [
        "url", "pattern", "size", "messages", "seconds", "msgs/s", "MB/s", "p50 us", "p99 us",
        "p99.9 us",
    ];
    let rows: Vec<_> = records
        .iter()
        .map(|record| {
            vec![
                record.url.to_owned(),
                record.pattern.clone(),
                record.size.to_string(),
                record.messages.to_string(),
                format!("{:.3}", record.seconds),
                format!("{:.0}", record.msgs_per_s),
                format!("{:.1}", record.mb_per_s),
                format!("{:.1}", record.p50_us),
                format!("{:.1}", record.p99_us),
                format!("{:.1}", record.p999_us),
            ]
        })
        .collect();
    table::render(&headings, &rows)
}

fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size <= PAYLOAD_BYTES_MAX => Ok(size),
        _ => Err(format!("write a number of bytes up to {PAYLOAD_BYTES_MAX}")),
    }
}

/// Seconds are a number, as the name of the option says; a time with a unit is understood, too.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => duration::parse(text).ok(),
    };
    time.filter(|time| !time.is_zero() && *time <= Duration::from_secs(24 * 60 * 60))
        .ok_or_else(|| "write a number of seconds, up to a day".to_owned())
}
