//! What was measured: tables, JSON and plots.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use posthaste_measure::plot::{Axis, Chart, Lines, svg};
use posthaste_measure::{Machine, Summary, Table, bytes, short, today};
use serde_json::{Value, json};

use crate::dimension::Dimension;
use crate::point::Point;

/// Where the project keeps what it measured.
pub(crate) fn documents() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", "performance"].iter().collect()
}

/// All rounds of one dimension.
pub(crate) struct Series {
    dimension: Dimension,
    quick: bool,
    rounds: BTreeMap<u64, Vec<Point>>,
}

/// The rounds' values of one way to travel, by size.
type Values = BTreeMap<u64, Vec<f64>>;

fn named(pairs: &[(String, f64)], name: &str) -> Option<f64> {
    pairs.iter().find(|(this, _)| this == name).map(|(_, value)| *value)
}

/// The names that occur, in the order in which they do.
fn names<'a>(pairs: impl Iterator<Item = &'a (String, f64)>) -> Vec<String> {
    let mut names = Vec::new();
    for (name, _) in pairs {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

impl Series {
    pub(crate) fn new(dimension: Dimension, quick: bool) -> Self {
        Self { dimension, quick, rounds: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, size: u64, point: Point) {
        self.rounds.entry(size).or_default().push(point);
    }

    /// The ways in which messages travelled.
    fn ways(&self) -> Vec<String> {
        names(self.points().flat_map(|point| &point.cost_ns))
    }

    /// The ways on which several processes worked.
    fn ways_by_wall(&self) -> Vec<String> {
        names(self.points().flat_map(|point| &point.wall_ns))
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.rounds.values().flatten()
    }

    fn values(&self, of: impl Fn(&Point) -> Option<f64>) -> Values {
        let rounds = self.rounds.iter();
        let values = rounds.map(|(size, points)| (*size, points.iter().filter_map(&of).collect()));
        values.filter(|(_, values): &(u64, Vec<f64>)| !values.is_empty()).collect()
    }

    fn costs(&self, way: &str) -> Values {
        self.values(|point| named(&point.cost_ns, way))
    }

    fn memory(&self) -> Values {
        self.values(|point| point.each_bytes)
    }

    /// Why a size was not measured.
    fn missing(&self, size: u64) -> Option<&str> {
        self.rounds.get(&size)?.iter().find_map(|point| point.missing.as_deref())
    }

    fn table(&self) -> Table {
        let ways = self.ways();
        let memory = self.memory();
        let mut headings = vec![self.dimension.unit().to_owned()];
        for way in &ways {
            let more = match self.dimension {
                Dimension::Payload => "per byte, ns",
                _ => "growth",
            };
            headings.extend([format!("{way}, ns"), "spread".to_owned(), more.to_owned()]);
        }
        if !memory.is_empty() {
            headings.push("memory each".to_owned());
        }
        let mut table = Table::new(headings);
        for size in self.rounds.keys() {
            let mut cells = vec![self.dimension.show(*size)];
            for way in &ways {
                cells.extend(self.cells(&self.costs(way), *size));
            }
            let each = memory.get(size).and_then(|values| Summary::of(values));
            cells.push(each.map_or_else(|| "-".to_owned(), |each| bytes(each.median)));
            table.row(cells.into_iter().take(1 + 3 * ways.len() + usize::from(!memory.is_empty())));
        }
        table
    }

    /// A cost, its spread, and how many times as much it is as that of the smallest size. What
    /// cannot but grow with its size is told for each byte instead.
    fn cells(&self, costs: &Values, size: u64) -> [String; 3] {
        let blank = || "-".to_owned();
        let rounds = costs.get(&size).map(Vec::as_slice).unwrap_or_default();
        let Some(cost) = Summary::of(rounds) else {
            return [blank(), blank(), blank()];
        };
        let more = match (self.dimension, size) {
            (Dimension::Payload, 0) => None,
            (Dimension::Payload, size) => Some(short(cost.median / size as f64)),
            _ => costs
                .values()
                .next()
                .and_then(|first| Summary::of_ratios(rounds, first))
                .map(|growth| growth.times()),
        };
        [short(cost.median), cost.percent(), more.unwrap_or_else(blank)]
    }

    fn notes(&self) -> Vec<String> {
        let sizes = self.rounds.keys();
        let missing = sizes.filter_map(|size| Some((size, self.missing(*size)?)));
        missing.map(|(size, why)| format!("{}: {why}", self.dimension.at(*size))).collect()
    }

    fn title(&self) -> String {
        format!("Cost of a {} against {}", self.dimension.work(), self.dimension.unit())
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let quick = if self.quick { " (a trial, not a measurement)" } else { "" };
        let mut text = format!("{}{quick}\n{}", self.title(), self.table().text());
        for note in self.notes() {
            // A `String` takes everything.
            let _ = write!(text, "\nnot measured: {note}");
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title(), self.dimension.method());
        let _ = write!(text, "![{}]({})\n\n", self.title(), self.plot_name());
        text.push_str(&self.table().markdown());
        for note in self.notes() {
            let _ = write!(text, "\nNot measured: {note}.\n");
        }
        text
    }

    fn plot_name(&self) -> String {
        format!("growth-{}.svg", self.dimension.name())
    }

    fn plot(&self, setting: &str) -> Result<String, Box<dyn Error>> {
        let across = Axis::new(self.dimension.unit()).logarithmic();
        let (across, upwards) = match self.dimension {
            Dimension::Payload => {
                (across.bytes(), Axis::new("CPU nanoseconds per message").logarithmic())
            }
            dimension => (across, Axis::new(format!("CPU nanoseconds per {}", dimension.work()))),
        };
        let mut lines = Lines::new(self.title(), across.clone(), upwards);
        for way in self.ways() {
            lines = lines.series(way.as_str(), points(&self.costs(&way)));
        }
        let mut charts: Vec<Chart> = vec![lines.into()];
        if self.dimension == Dimension::Payload {
            charts.push(self.per_byte(across).into());
        }
        let rounds = self.rounds.values().map(Vec::len).max().unwrap_or(0);
        let note = format!("median, lowest and highest of {rounds} rounds; {setting}");
        Ok(svg(&charts, &note)?)
    }

    /// What a byte costs, where bytes move.
    fn per_byte(&self, across: Axis) -> Lines {
        let upwards = Axis::new("CPU nanoseconds per byte").logarithmic();
        let mut lines = Lines::new("Cost of a byte against payload", across, upwards);
        for way in self.ways_by_wall() {
            let mut costs = self.costs(&way);
            costs.remove(&0);
            for (size, rounds) in &mut costs {
                rounds.iter_mut().for_each(|cost| *cost /= *size as f64);
            }
            lines = lines.series(way.as_str(), points(&costs));
        }
        lines
    }

    fn json(&self) -> Value {
        let by_size = |values: &Values| -> Value {
            let rows = values.iter().map(|(size, rounds)| {
                json!({ "size": size, "rounds": rounds, "summary": Summary::of(rounds) })
            });
            rows.collect()
        };
        let ways = self.ways().into_iter();
        let costs: Vec<_> =
            ways.map(|way| json!({ "way": &way, "sizes": by_size(&self.costs(&way)) })).collect();
        let wall: Vec<_> = self
            .ways_by_wall()
            .into_iter()
            .map(|way| {
                let values = self.values(|point| named(&point.wall_ns, &way));
                json!({ "way": way, "sizes": by_size(&values) })
            })
            .collect();
        json!({
            "dimension": self.dimension,
            "unit": self.dimension.unit(),
            "method": self.dimension.method(),
            "cpu_ns_per": self.dimension.work(),
            "cost": costs,
            "wall_ns": wall,
            "each_bytes": by_size(&self.memory()),
            "not_measured": self.notes(),
        })
    }
}

fn points(values: &Values) -> Vec<(f64, Summary)> {
    let points = values.iter();
    points.filter_map(|(size, rounds)| Some((*size as f64, Summary::of(rounds)?))).collect()
}

/// Writes `growth.md`, `growth.json` and a plot for each dimension.
pub(crate) fn write(folder: &Path, all: &[Series]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let (date, machine) = (today(), Machine::this());
    let setting = format!("{date}, {machine}");
    let mut page = format!(
        "# How cost grows\n\nWritten by `cargo bench -p posthaste-benches --bench growth` on \
         {setting}. Costs are CPU time, medians of interleaved rounds; spread is how far the \
         furthest round was from the median; growth is the median of the rounds' ratios to the \
         smallest size. Memory is what the process grew by, for each of what is counted.\n"
    );
    if all.iter().any(|series| series.quick) {
        page.push_str("\nThis was a trial with small sizes and one round, not a measurement.\n");
    }
    for series in all {
        let _ = write!(page, "\n{}", series.markdown());
        fs::write(folder.join(series.plot_name()), series.plot(&setting)?)?;
    }
    let dimensions: Vec<_> = all.iter().map(Series::json).collect();
    let record = json!({
        "date": date,
        "machine": machine,
        "quick": all.iter().any(|series| series.quick),
        "dimensions": dimensions,
    });
    fs::write(folder.join("growth.json"), serde_json::to_string_pretty(&record)? + "\n")?;
    fs::write(folder.join("growth.md"), page)?;
    println!("wrote {}", folder.display());
    Ok(())
}
