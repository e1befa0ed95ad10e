//! Tables for people.

use std::fmt::Write;

/// Rows under headings.
///
/// A column of numbers stands to the right: of cells that begin with a digit or a sign and consist
/// of digits, signs and units. An empty cell, or `-`, is one that was not measured.
///
/// ```
/// use posthaste_measure::Table;
///
/// let mut table = Table::new(["queue", "messages"]);
/// table.row(["jobs", "7"]).row(["mail", "1,200"]);
/// assert_eq!(table.text(), "QUEUE  MESSAGES\njobs          7\nmail      1,200");
/// assert_eq!(
///     table.markdown(),
///     "| queue | messages |\n|---|---:|\n| jobs | 7 |\n| mail | 1,200 |\n"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row. It has as many cells as there are headings: what is missing is empty, what is
    /// too much is left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) -> &mut Self {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.headings.len(), String::new());
        self.rows.push(row);
        self
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For a terminal: columns as wide as they have to be, headings in capitals; no line break at
    /// the end.
    #[must_use]
    pub fn text(&self) -> String {
        let headings: Vec<_> = self.headings.iter().map(|heading| heading.to_uppercase()).collect();
        let numbers = self.numbers();
        let widths: Vec<usize> = (0..headings.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&headings]).map(|row| width(&row[column]));
                cells.max().unwrap_or_default()
            })
            .collect();
        let lines = [&headings].into_iter().chain(&self.rows);
        lines.map(|row| line(row, &widths, &numbers)).collect::<Vec<_>>().join("\n")
    }

    /// For a document, in GitHub's Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let escape = |cell: &String| cell.replace('|', "\\|").replace('\n', " ");
        let mut text = String::new();
        let mut add = |row: &[String]| {
            let cells: Vec<_> = row.iter().map(escape).collect();
            // A `String` takes everything.
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        add(&self.headings);
        for row in &self.rows {
            add(row);
        }
        let rules = self.numbers().into_iter().map(|number| if number { "---:|" } else { "---|" });
        let rule = format!("|{}\n", rules.collect::<String>());
        let below_headings = text.find('\n').map_or(text.len(), |end| end + 1);
        text.insert_str(below_headings, &rule);
        text
    }

    /// Which columns are numbers.
    fn numbers(&self) -> Vec<bool> {
        let is_number = |column: usize| {
            let cells = || self.rows.iter().map(|row| row[column].as_str());
            let all = cells().all(|cell| is_blank(cell) || is_number(cell));
            all && cells().any(|cell| !is_blank(cell))
        };
        (0..self.headings.len()).map(is_number).collect()
    }
}

fn is_blank(cell: &str) -> bool {
    matches!(cell, "" | "-")
}

/// A number, maybe with a sign and a unit of at most three letters.
fn is_number(cell: &str) -> bool {
    let cell = cell.trim_start_matches(['-', '+', '±', '<', '>', '~']);
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-' | 'e');
    let unit = cell.trim_start_matches(is_part);
    cell.starts_with(|c: char| c.is_ascii_digit())
        && unit.chars().count() <= 4
        && unit.chars().all(|c| c.is_alphabetic() || matches!(c, ' ' | '%' | '×'))
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

fn line(row: &[String], widths: &[usize], numbers: &[bool]) -> String {
    let cells = row.iter().zip(widths).zip(numbers);
    let padded: Vec<String> = cells
        .map(|((cell, width), number)| match number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        })
        .collect();
    padded.join("  ").trim_end().to_owned()
}
