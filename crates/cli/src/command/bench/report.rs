//! What was measured, for people and for programs.

use clap::ValueEnum;
use posthaste_measure::plot::{Axis, Bars, Chart, svg};
use posthaste_measure::{Latency, Machine, Summary, bytes, count, per_million, today};
use serde::Serialize;

use super::sample::Sample;
use super::{BenchArgs, Pattern};
use crate::exit::{Code, Failure};
use crate::table;

/// The result for one URL: first what the contract of the command names, then more.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    url: String,
    pattern: String,
    size: usize,
    messages: u64,
    seconds: f64,
    /// The median of the rounds.
    msgs_per_s: f64,
    mb_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    rounds: usize,
    /// How far the round that was furthest from the median was from it, as a share of it.
    spread: f64,
    lowest_msgs_per_s: f64,
    highest_msgs_per_s: f64,
    /// How many times as fast as the first URL: the median of the rounds' ratios.
    ratio: Option<f64>,
    ratio_spread: Option<f64>,
    /// CPU time of this process alone, where the system tells.
    cpu_s_per_1m: Option<f64>,
    senders: u16,
    receivers: u16,
    in_flight: u32,
    /// Who settled the messages of a queue.
    ack: Option<String>,
    date: String,
    machine: Machine,
    #[serde(skip)]
    figures: Figures,
}

/// The same with what the rounds were like.
#[derive(Debug)]
struct Figures {
    rate: Summary,
    ratio: Option<Summary>,
    /// Of half, 99 % and 99.9 % of the messages, in microseconds.
    latency: [Option<Summary>; 3],
}

const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

impl Record {
    /// Makes a record of the rounds of each URL.
    pub(super) fn of_all(args: &BenchArgs, samples: &[Vec<Sample>]) -> Result<Vec<Self>, Failure> {
        let first: Vec<f64> = samples.iter().take(1).flatten().map(Sample::rate).collect();
        let pairs = args.urls.iter().zip(samples);
        pairs.map(|(url, samples)| Self::of(url, args, samples, &first)).collect()
    }

    fn of(url: &str, args: &BenchArgs, samples: &[Sample], first: &[f64]) -> Result<Self, Failure> {
        let rates: Vec<f64> = samples.iter().map(Sample::rate).collect();
        let figures = Figures {
            rate: Summary::of(&rates)
                .ok_or_else(|| Failure::new(Code::Failed, "there were no rounds to measure"))?,
            ratio: Summary::of_ratios(&rates, first),
            latency: SHARES.map(|(_, share)| {
                let micros = samples.iter().map(|sample| sample.latency.micros(share));
                Summary::of(&micros.collect::<Vec<_>>())
            }),
        };
        let mut latency = Latency::new();
        samples.iter().for_each(|sample| latency.add(&sample.latency));
        let quantiles = latency.quantiles();
        let received = samples.iter().map(|sample| sample.received).sum();
        let cpu = samples.iter().map(|sample| sample.cpu).sum::<Option<_>>();
        Ok(Self {
            url: url.to_owned(),
            pattern: name(&args.pattern),
            size: args.size,
            messages: samples.iter().map(|sample| sample.sent).sum(),
            seconds: samples.iter().map(|sample| sample.elapsed.as_secs_f64()).sum(),
            msgs_per_s: figures.rate.median,
            mb_per_s: figures.rate.median * args.size as f64 / 1e6,
            p50_us: quantiles.p50_us,
            p99_us: quantiles.p99_us,
            p999_us: quantiles.p999_us,
            max_us: quantiles.max_us,
            rounds: figures.rate.rounds,
            spread: figures.rate.spread(),
            lowest_msgs_per_s: figures.rate.lowest,
            highest_msgs_per_s: figures.rate.highest,
            ratio: figures.ratio.map(|ratio| ratio.median),
            ratio_spread: figures.ratio.map(|ratio| ratio.spread()),
            cpu_s_per_1m: cpu.map(|cpu| per_million(cpu, received)),
            senders: args.senders,
            receivers: args.receivers,
            in_flight: args.in_flight,
            ack: (args.pattern == Pattern::Queue).then(|| name(&args.ack)),
            date: today(),
            machine: Machine::this(),
            figures,
        })
    }
}

/// A table, with the ratios where there is something to compare.
pub(super) fn show(records: &[Record]) -> String {
    let several = records.len() > 1;
    let mut headings = vec![
        "url", "pattern", "size", "messages", "seconds", "msgs/s", "spread", "MB/s", "p50 us",
        "p99 us", "p99.9 us", "cpu-s/1M",
    ];
    headings.extend(several.then_some("ratio"));
    let row = |record: &Record| {
        let ratio = record.figures.ratio.map_or_else(String::new, |ratio| ratio.times());
        let mut cells = vec![
            record.url.clone(),
            record.pattern.clone(),
            record.size.to_string(),
            count(record.messages),
            format!("{:.3}", record.seconds),
            count(record.msgs_per_s.round() as u64),
            record.figures.rate.percent(),
            format!("{:.1}", record.mb_per_s),
            format!("{:.1}", record.p50_us),
            format!("{:.1}", record.p99_us),
            format!("{:.1}", record.p999_us),
            record.cpu_s_per_1m.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.3}")),
        ];
        cells.extend(several.then_some(ratio));
        cells
    };
    table::render(&headings, &records.iter().map(row).collect::<Vec<_>>())
}

/// Rates and latencies as an SVG document.
pub(super) fn plot(records: &[Record]) -> Result<String, Failure> {
    let Some(one) = records.first() else {
        return Err(Failure::new(Code::Failed, "there is nothing to plot"));
    };
    let urls = || records.iter().map(|record| record.url.clone());
    let rates = records.iter().map(|record| Some(record.figures.rate));
    let title = format!("posthaste bench: {}, {}", one.pattern, bytes(one.size as f64));
    let mut charts: Vec<Chart> = vec![
        Bars::new(title, Axis::new("messages received per second"))
            .series(urls())
            .group("", rates)
            .into(),
    ];
    let mut latencies = Bars::new("Latency", Axis::new("microseconds")).series(urls());
    for (index, (share, _)) in SHARES.iter().enumerate() {
        let bars = records.iter().map(|record| record.figures.latency[index]);
        latencies = latencies.group(*share, bars);
    }
    charts.push(latencies.into());
    let note = format!("median, lowest and highest of {} rounds; {}", one.rounds, setting(one));
    svg(&charts, &note).map_err(|error| Failure::new(Code::Failed, error.to_string()))
}

fn setting(record: &Record) -> String {
    let Record { senders, receivers, in_flight, date, machine, .. } = record;
    format!("{senders} to {receivers}, {in_flight} in flight; {date}, {machine}")
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
