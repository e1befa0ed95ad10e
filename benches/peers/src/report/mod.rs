//! What is printed and written: tables, JSON and plots.

mod json;
mod plots;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use posthaste_measure::{Machine, Summary, Table, rate, short, today};

use crate::load::Load;
use crate::peer::Peer;
use crate::posthaste::Posthaste;
use crate::run::{ContenderResult, Plan, Results, RowResult};
use crate::work::Unit;

/// Names every row and contender.
pub(crate) fn list(plan: &Plan) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for row in &plan.rows {
        writeln!(out, "{}", row.row.name)?;
        for entry in &row.contenders {
            let missing = entry.missing.as_ref();
            let missing = missing.map(|why| format!("   MISSING: {why}")).unwrap_or_default();
            let api = entry.contender.api.word();
            writeln!(out, "    {:40} {api}{missing}", entry.contender.label())?;
        }
    }
    Ok(())
}

/// Says something about the run itself, beside its results.
pub(crate) fn note(text: &str) {
    // Nobody may be listening, which is no reason not to measure.
    let _ = writeln!(std::io::stderr(), "peers: {text}");
}

/// Prints where and how everything is measured.
pub(crate) fn heading(plan: &Plan, load: Option<Load>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}, {}", today(), Machine::this())?;
    if let Some(load) = load {
        writeln!(out, "{load}")?;
    }
    let (rounds, pace) = (plan.rounds, plan.pace);
    writeln!(out, "{rounds} interleaved rounds of {:?} after {:?}", pace.measure, pace.warm_up)?;
    Ok(())
}

/// Prints a row.
pub(crate) fn row(result: &RowResult) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{}\n{}", result.row.name, table(result).text())?;
    for result in &result.contenders {
        if let Some(why) = &result.missing {
            writeln!(out, "missing: {}: {why}", result.contender.label())?;
        }
        for (nth, round) in result.rounds.iter().enumerate() {
            if let Err(why) = round {
                let label = result.contender.label();
                writeln!(out, "no figure: {label}, round {}: {why}", nth + 1)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn table(row: &RowResult) -> Table {
    let unit = row.row.work.unit();
    let mut headings = vec!["contender", "takes"];
    headings.extend(match unit {
        Unit::Rate => vec!["per second", "spread"],
        Unit::RoundTrip => vec!["round trip", "spread"],
        Unit::Late => vec!["answered", "due", "p50 us", "p99 us", "spread", "p99.9 us"],
    });
    headings.extend(["cpu-s/1M", "of these", "Posthaste is", "with CPU"]);
    let width = headings.len();
    let mut table = Table::new(headings);
    for result in &row.contenders {
        let mut cells = cells(row, result, unit);
        cells.resize(width, String::new());
        table.row(cells);
    }
    table
}

fn cells(row: &RowResult, result: &ContenderResult, unit: Unit) -> Vec<String> {
    let contender = &result.contender;
    let mut cells = vec![contender.label(), contender.api.word().to_owned()];
    let Some(value) = result.value(unit) else {
        let word = if result.missing.is_some() { "missing" } else { "no figure" };
        cells.push(word.to_owned());
        return cells;
    };
    match unit {
        Unit::Rate => cells.push(rate(value.median)),
        Unit::RoundTrip => cells.push(format!("{} us", short(value.median))),
        Unit::Late => {
            let (answered, due) = result.rates().unwrap_or_default();
            cells.extend([rate(answered), rate(due)]);
            cells.extend([show(result.late(|late| late.p50)), short(value.median)]);
        }
    }
    cells.push(value.percent());
    if unit == Unit::Late {
        cells.push(show(result.late(|late| late.p999)));
    }
    cells.push(show(result.cpu(|_| true)));
    let roles = contender.roles.iter().filter(|_| contender.roles.len() > 1);
    let roles = roles.map(|role| format!("{role} {}", show(result.cpu(|this| this == *role))));
    cells.push(roles.collect::<Vec<_>>().join(", "));
    cells.extend(compared(row, result, unit).unwrap_or_default());
    cells
}

/// How many times as fast Posthaste is in the same way, at how many times the CPU time, and which
/// way that is.
fn compared(row: &RowResult, result: &ContenderResult, unit: Unit) -> Option<[String; 2]> {
    if result.contender.peer == Posthaste.name() {
        return None;
    }
    let ours = row.counterpart(&result.contender)?;
    let (speed, cpu) = (ours.speed_over(result, unit)?, ours.cpu_over(result)?);
    Some([format!("{} ({})", speed.times(), ours.contender.way()), cpu.times()])
}

fn show(summary: Option<Summary>) -> String {
    summary.map_or_else(String::new, |summary| short(summary.median))
}

/// Prints which goals were reached.
pub(crate) fn goals(results: &Results) -> Result<()> {
    let outcomes = crate::goals::outcomes(results);
    if outcomes.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["row", "goal", "measured", ""]);
    for outcome in outcomes {
        let verdict = match outcome.holds {
            Some(true) => "reached",
            Some(false) => "NOT REACHED",
            None => "not measured",
        };
        let measured = outcome.reached.map(short).unwrap_or_default();
        table.row([outcome.row, outcome.goal, measured, verdict.to_owned()]);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "\ngoals\n{}", table.text())?;
    Ok(())
}

/// Writes everything to a folder, if one is named.
pub(crate) fn write(results: &Results, folder: Option<&Path>) -> Result<()> {
    let Some(folder) = folder else {
        return Ok(());
    };
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    json::write(results, folder)?;
    plots::write(results, folder)
}
