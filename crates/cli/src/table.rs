//! Tables for people.

use crate::output::printable;

/// Rows under headings, in columns as wide as they have to be; numbers stand to the right.
pub(crate) fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let printable = |row: &Vec<String>| row.iter().map(|cell| printable(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(printable).collect();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .chain([heading.chars().count()])
                .max()
                .unwrap_or_default()
        })
        .collect();
    let headings: Vec<String> = headings.iter().map(|heading| heading.to_uppercase()).collect();
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some()
            && cells.all(|cell| cell.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-'))
    };
    let numbers: Vec<bool> = (0..widths.len()).map(is_number).collect();
    std::iter::once(&headings)
        .chain(&rows)
        .map(|row| line(row, &widths, &numbers))
        .collect::<Vec<_>>()
        .join("\n")
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
