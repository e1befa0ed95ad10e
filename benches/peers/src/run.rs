//! A run: every row, and in each row the contenders one after the other, round by round.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use posthaste_measure::Summary;

use crate::Args;
use crate::load::Load;
use crate::peer::Contender;
use crate::peers;
use crate::report::{self, note};
use crate::round::{self, Pace, Sample};
use crate::rows::{self, Row};
use crate::work::Work;

/// How often a peak rate is measured; its median counts.
const PEAK_ROUNDS: usize = 3;

/// What is to be measured, and how.
pub(crate) struct Plan {
    pub(crate) rows: Vec<RowPlan>,
    pub(crate) rounds: usize,
    pub(crate) pace: Pace,
}

/// A row, and who takes part in it.
pub(crate) struct RowPlan {
    pub(crate) row: Row,
    pub(crate) contenders: Vec<Entry>,
}

/// A contender of a row; missing ones are kept, so that they are named.
pub(crate) struct Entry {
    pub(crate) contender: Contender,
    pub(crate) missing: Option<String>,
}

/// What was measured.
pub(crate) struct Results {
    pub(crate) rows: Vec<RowResult>,
    pub(crate) rounds: usize,
    pub(crate) pace: Pace,
    /// How busy the machine was before anything was measured.
    pub(crate) load_before: Option<Load>,
}

/// A row with what its contenders did.
pub(crate) struct RowResult {
    pub(crate) row: Row,
    pub(crate) contenders: Vec<ContenderResult>,
}

/// What one contender did in the rounds of a row.
pub(crate) struct ContenderResult {
    pub(crate) contender: Contender,
    /// What it lacks, and why it was not measured.
    pub(crate) missing: Option<String>,
    /// What each round measured, or why it did not.
    pub(crate) rounds: Vec<Result<Sample, String>>,
}

impl Plan {
    pub(crate) fn of(args: &Args) -> Result<Self> {
        let (rounds, measure) = if args.quick { (3, 200) } else { (args.rounds, args.measure) };
        let measure = Duration::from_millis(u64::from(measure));
        let pace = Pace { warm_up: (measure / 3).max(Duration::from_millis(50)), measure };
        let rows = rows::all().into_iter().filter(|row| row.is_meant(&args.rows));
        let mut rows: Vec<_> = rows.map(|row| RowPlan::of(row, &args.only)).collect();
        rows.retain(|row| !row.contenders.is_empty());
        ensure!(!rows.is_empty(), "no row and contender is called that; --list names them");
        Ok(Self { rows, rounds: usize::from(rounds), pace })
    }
}

impl RowPlan {
    fn of(row: Row, only: &[String]) -> Self {
        let mut contenders = Vec::new();
        for peer in peers::ALL {
            let missing = peer.missing();
            for contender in peer.contenders(&row.work) {
                let label = contender.label();
                if only.is_empty() || only.iter().any(|part| label.contains(part.as_str())) {
                    contenders.push(Entry { contender, missing: missing.clone() });
                }
            }
        }
        Self { row, contenders }
    }
}

impl Results {
    /// Whether a round of a contender that is there has no figure.
    pub(crate) fn has_failures(&self) -> bool {
        let mut contenders = self.rows.iter().flat_map(|row| &row.contenders);
        contenders.any(|contender| contender.rounds.iter().any(Result::is_err))
    }
}

/// Measures, and prints each row as soon as it is done.
pub(crate) fn run(plan: &Plan) -> Result<Results> {
    let load_before = Load::now();
    report::heading(plan, load_before)?;
    let mut peaks = Peaks::default();
    let mut rows = Vec::with_capacity(plan.rows.len());
    for (nth, row) in plan.rows.iter().enumerate() {
        note(&format!("{} ({} of {})", row.row.name, nth + 1, plan.rows.len()));
        let result = run_row(row, plan, &mut peaks);
        report::row(&result)?;
        rows.push(result);
    }
    Ok(Results { rows, rounds: plan.rounds, pace: plan.pace, load_before })
}

/// Interleaves the contenders: each round measures every one of them once.
fn run_row(plan: &RowPlan, all: &Plan, peaks: &mut Peaks) -> RowResult {
    let mut results: Vec<_> = plan
        .contenders
        .iter()
        .map(|entry| ContenderResult {
            contender: entry.contender.clone(),
            missing: entry.missing.clone(),
            rounds: Vec::new(),
        })
        .collect();
    for round in 1..=all.rounds {
        for (entry, result) in plan.contenders.iter().zip(&mut results) {
            if entry.missing.is_some() {
                continue;
            }
            let sample = peaks.of(entry, &plan.row.work, all).and_then(|peak| {
                let rate = plan.row.work.rate(peak);
                round::play(&entry.contender, &plan.row.work, all.pace, rate)
            });
            if let Err(error) = &sample {
                note(&format!("{}, round {round}: {error:#}", entry.contender.label()));
            }
            result.rounds.push(sample.map_err(|error| format!("{error:#}")));
        }
    }
    RowResult { row: plan.row.clone(), contenders: results }
}

/// The peak rates of contenders, each measured once in a run, when it is first needed.
#[derive(Default)]
struct Peaks(Vec<(Work, String, f64)>);

impl Peaks {
    /// The median rate of the work whose rate is the peak; none if the rate depends on no peak.
    fn of(&mut self, entry: &Entry, work: &Work, all: &Plan) -> Result<Option<f64>> {
        let Some(closed) = work.peak() else {
            return Ok(None);
        };
        let label = entry.contender.label();
        let known = self.0.iter().find(|(work, this, _)| *work == closed && *this == label);
        if let Some((_, _, peak)) = known {
            return Ok(Some(*peak));
        }
        let measure = |_| round::play(&entry.contender, &closed, all.pace, None);
        let rates = (0..PEAK_ROUNDS).map(measure).map(|sample| Ok(sample?.rate()));
        let rates = rates.collect::<Result<Vec<_>>>().context("its peak cannot be measured")?;
        let peak = Summary::of(&rates).context("its peak was not measured")?.median;
        self.0.push((closed, label, peak));
        Ok(Some(peak))
    }
}
