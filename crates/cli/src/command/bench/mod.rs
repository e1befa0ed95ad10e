//! `posthaste bench`: measures brokers, several of them side by side.

mod drawing;
mod load;
mod progress;
mod report;
mod request;
mod sample;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use posthaste::limits::PAYLOAD_BYTES_MAX;
use posthaste_measure::Clock;

use self::drawing::Drawing;
use self::load::{Arrived, Plan, Target, Work};
use self::progress::Progress;
use self::report::Record;
use self::sample::Sample;
use crate::args::{ConnectArgs, DEFAULT_URL, parse_capacity, parse_url};
use crate::duration;
use crate::exit::{Code, Failure};
use crate::output::print_line;
use crate::record::json;
use crate::signals::Signals;

/// How long each URL is measured unless the command line says otherwise.
const TIME: Duration = Duration::from_secs(3);
/// How much of the work is done once before anything is measured, and how much at most.
const WARM_UP_SHARE: u32 = 10;
const WARM_UP_MESSAGES_MAX: u64 = 100_000;
const WARM_UP_TIME_MAX: Duration = Duration::from_secs(1);

/// Measure brokers, side by side
///
/// Senders and receivers run in this process, each with a connection of its own. The work is done
/// in rounds, one URL after the other in each, so that what else the machine does hits all of them
/// alike; the rate is the median of the rounds, the spread how far the furthest round was from it,
/// and the ratio, which is to the first URL, the median of the rounds' ratios. A rate counts
/// messages that were received (and acknowledged, with --ack manual), so with --pattern pubsub each
/// receiver's copy counts. Latency is from the send to the receipt, or from the request to the
/// reply; with 64 or more in flight, of one message in 16. It includes the time in queues, which is
/// most of it while a sender is faster than its receiver: --in-flight 1 shows a single message.
/// CPU time is that of this process alone.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to do with the messages
    #[arg(long, value_enum, default_value = "queue")]
    pattern: Pattern,
    /// The size of a payload, in bytes
    #[arg(long, value_name = "B", default_value = "64", value_parser = parse_size)]
    size: usize,
    /// How many messages to send in all, instead of a time
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// How long to send in all [default: 3]
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
    /// How many messages may wait in the queue; senders wait while it is full
    #[arg(long, value_name = "N", default_value = "65536")]
    #[arg(value_parser = parse_capacity)]
    capacity: usize,
    /// Declare the queue durable, and have every message stored: synced to the broker's disk
    #[arg(long)]
    durable: bool,
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
    /// Draw rates and latencies into a file, as SVG
    #[arg(long, value_name = "FILE.svg", value_parser = drawing::parse_path)]
    plot: Option<PathBuf>,
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
    if args.durable && args.pattern != Pattern::Queue {
        let text = "only queues are durable; measure --pattern queue, or leave --durable out";
        return Err(Failure::new(Code::Usage, text));
    }
    let drawing = args.plot.as_deref().map(Drawing::open).transpose()?;
    let mut signals = Signals::listen()?;
    let mut targets = Vec::with_capacity(args.urls.len());
    for url in &args.urls {
        let target = Target::connect(url, &args).await?;
        target.prepare(&args).await?;
        targets.push(target);
    }
    let mut progress = Progress::new(targets.len() * args.rounds().len());
    let outcome = tokio::select! {
        outcome = measure(&args, &targets, &mut progress) => outcome,
        () = signals.next() => {
            Err(Failure::new(Code::Failed, "the measurement was interrupted before its end"))
        }
    };
    progress.clear();
    for target in &targets {
        target.close().await;
    }
    let records = Record::of_all(&args, &outcome?)?;
    if let Some(drawing) = drawing {
        drawing.write(&report::plot(&records)?)?;
    }
    if args.json {
        for record in &records {
            print_line(&json(record)?)?;
        }
        return Ok(());
    }
    print_line(&report::show(&records))
}

/// Does the work on every target, round by round.
async fn measure(
    args: &BenchArgs,
    targets: &[Target],
    progress: &mut Progress,
) -> Result<Vec<Vec<Sample>>, Failure> {
    for target in targets {
        let (plan, arrived) = (args.warm_up(), Arc::default());
        let what = format!("warming up {}", target.url);
        progress.prepare(what, target.run(&plan, &arrived)).await?;
    }
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); targets.len()];
    let plans = args.rounds();
    for (nth, plan) in plans.iter().enumerate() {
        for (target, samples) in targets.iter().zip(&mut samples) {
            let what = format!("round {} of {}: {}", nth + 1, plans.len(), target.url);
            let (arrived, clock) = (Arc::<Arrived>::default(), Clock::start());
            let done = || plan.done(arrived.count(), clock.elapsed());
            samples.push(progress.round(what, done, target.run(plan, &arrived)).await?);
        }
    }
    Ok(samples)
}

impl BenchArgs {
    fn plan(&self, work: Work) -> Plan {
        Plan {
            pattern: self.pattern,
            size: self.size,
            work,
            in_flight: usize::try_from(self.in_flight).unwrap_or(usize::MAX),
            acknowledge: self.ack,
            durable: self.durable,
            copies: match self.pattern {
                Pattern::Pubsub => u64::from(self.receivers),
                Pattern::Queue | Pattern::Request => 1,
            },
        }
    }

    /// What is done in all.
    fn work(&self) -> Work {
        match self.messages {
            Some(messages) => Work::Messages(messages),
            None => Work::Time(self.seconds.unwrap_or(TIME)),
        }
    }

    /// What is done before anything is measured.
    fn warm_up(&self) -> Plan {
        self.plan(match self.work() {
            Work::Messages(all) => {
                Work::Messages(all.div_ceil(u64::from(WARM_UP_SHARE)).min(WARM_UP_MESSAGES_MAX))
            }
            Work::Time(all) => Work::Time((all / WARM_UP_SHARE).min(WARM_UP_TIME_MAX)),
        })
    }

    /// The work, in rounds of equal size.
    fn rounds(&self) -> Vec<Plan> {
        let rounds = u64::from(self.rounds);
        match self.work() {
            Work::Time(all) => {
                let each = all / u32::from(self.rounds);
                (0..rounds).map(|_| self.plan(Work::Time(each))).collect()
            }
            Work::Messages(all) => {
                let rounds = rounds.min(all);
                (0..rounds)
                    .map(|nth| all / rounds + u64::from(nth < all % rounds))
                    .map(|share| self.plan(Work::Messages(share)))
                    .collect()
            }
        }
    }
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
