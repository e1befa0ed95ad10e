//! A plot of each section: a chart of bars for every row.

use std::path::Path;

use anyhow::{Result, anyhow};
use posthaste_measure::plot::{Axis, Bars, Chart, svg};
use posthaste_measure::{Machine, today};

use crate::run::{Results, RowResult};
use crate::work::Unit;

/// Writes `SECTION.svg` for every section that was measured.
pub(super) fn write(results: &Results, folder: &Path) -> Result<()> {
    let note = format!("{}, {}, medians of {} rounds", today(), Machine::this(), results.rounds);
    let mut sections: Vec<&str> = results.rows.iter().map(|row| row.row.section).collect();
    sections.dedup();
    for section in sections {
        let rows = results.rows.iter().filter(|row| row.row.section == section);
        let charts: Vec<Chart> = rows.filter_map(chart).collect();
        if charts.is_empty() {
            continue;
        }
        let plot = svg(&charts, &note).map_err(|error| anyhow!("{section}: {error}"))?;
        std::fs::write(folder.join(format!("{section}.svg")), plot)?;
    }
    Ok(())
}

/// The bars of a row; none if nobody has a figure.
fn chart(row: &RowResult) -> Option<Chart> {
    let unit = row.row.work.unit();
    let names = row.contenders.iter().map(|result| result.contender.label());
    let values: Vec<_> = row.contenders.iter().map(|result| result.value(unit)).collect();
    values.iter().any(Option::is_some).then(|| {
        let axis = Axis::new(match unit {
            Unit::Rate => "per second, more is better",
            Unit::RoundTrip => "microseconds of a round trip, less is better",
            Unit::Late => "99th percentile from due to answered, microseconds, less is better",
        });
        Bars::new(row.row.name.clone(), axis).series(names).group("", values).into()
    })
}
