//! Tables for people.

use posthaste_measure::Table;

use crate::output::printable;

/// Rows under headings, in columns as wide as they have to be; numbers stand to the right. What
/// comes from somebody else cannot command the terminal.
pub(crate) fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new(headings.iter().copied());
    for row in rows {
        table.row(row.iter().map(|cell| printable(cell)));
    }
    table.text()
}
