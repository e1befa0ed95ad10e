//! Everything that was measured, as JSON, with what it takes to judge it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use posthaste_measure::{Machine, Summary, today};
use serde::Serialize;

use crate::goals::{self, Outcome};
use crate::load::Load;
use crate::peer::Api;
use crate::round::Sample;
use crate::run::{ContenderResult, Results, RowResult};
use crate::versions;
use crate::work::{Executor, Unit, Work};

#[derive(Serialize)]
struct Document<'a> {
    date: String,
    machine: Machine,
    load_before: Option<Load>,
    rounds: usize,
    warm_up_seconds: f64,
    measure_seconds: f64,
    versions: Vec<(&'static str, String)>,
    rows: Vec<Row<'a>>,
    goals: Vec<Outcome>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    section: &'a str,
    work: Work,
    unit: Unit,
    contenders: Vec<Contender<'a>>,
}

#[derive(Serialize)]
struct Contender<'a> {
    name: String,
    peer: &'a str,
    variant: &'a str,
    takes: Api,
    executor: Executor,
    missing: Option<&'a str>,
    /// In the unit of the row.
    value: Option<Summary>,
    cpu_seconds_per_million: Option<Summary>,
    posthaste_is: Option<Comparison>,
    samples: Vec<&'a Sample>,
    failures: Vec<&'a str>,
}

#[derive(Serialize)]
struct Comparison {
    way: String,
    times_as_fast: Summary,
    times_the_cpu: Option<Summary>,
}

/// Writes `peers.json`.
pub(super) fn write(results: &Results, folder: &Path) -> Result<()> {
    let document = Document {
        date: today(),
        machine: Machine::this(),
        load_before: results.load_before,
        rounds: results.rounds,
        warm_up_seconds: results.pace.warm_up.as_secs_f64(),
        measure_seconds: results.pace.measure.as_secs_f64(),
        versions: versions::all(),
        rows: results.rows.iter().map(row).collect(),
        goals: goals::outcomes(results),
    };
    let mut file = BufWriter::new(File::create(folder.join("peers.json"))?);
    serde_json::to_writer_pretty(&mut file, &document)?;
    writeln!(file)?;
    file.flush()?;
    Ok(())
}

fn row(result: &RowResult) -> Row<'_> {
    Row {
        name: &result.row.name,
        section: result.row.section,
        work: result.row.work,
        unit: result.row.work.unit(),
        contenders: result.contenders.iter().map(|this| contender(result, this)).collect(),
    }
}

fn contender<'a>(row: &'a RowResult, result: &'a ContenderResult) -> Contender<'a> {
    let (contender, unit) = (&result.contender, row.row.work.unit());
    let ours = row.counterpart(contender);
    Contender {
        name: contender.label(),
        peer: contender.peer,
        variant: contender.variant,
        takes: contender.api,
        executor: contender.executor,
        missing: result.missing.as_deref(),
        value: result.value(unit),
        cpu_seconds_per_million: result.cpu(|_| true),
        posthaste_is: ours.and_then(|ours| {
            Some(Comparison {
                way: ours.contender.label(),
                times_as_fast: ours.speed_over(result, unit)?,
                times_the_cpu: ours.cpu_over(result),
            })
        }),
        samples: result.samples().collect(),
        failures: result
            .rounds
            .iter()
            .filter_map(|it| it.as_ref().err())
            .map(String::as_str)
            .collect(),
    }
}
