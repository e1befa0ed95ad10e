//! Tables and numbers.

use posthaste_measure::{Table, bytes, rate, short};

fn alignment(cells: &[&str]) -> char {
    let mut table = Table::new(["a column of which the heading is the widest"]);
    for cell in cells {
        table.row([*cell]);
    }
    let text = table.text();
    match text.lines().nth(1).unwrap().starts_with(' ') {
        true => '>',
        false => '<',
    }
}

#[test]
fn numbers_stand_to_the_right() {
    for numbers in [
        &["1", "22"][..],
        &["1.5 M", "300 k"],
        &["±4 %", "±0 %"],
        &["1.58x", "0.9x"],
        &["-1.5", "1e-9", "-"],
        &["64 B", "1 KiB", ""],
        &["2026-11-24"],
    ] {
        assert_eq!(alignment(numbers), '>', "{numbers:?}");
    }
    for texts in [
        &["tcp://127.0.0.1:80", "5"][..],
        &["1 broker in all"],
        &["a1"],
        &["12a.b/c"],
        &["127.0.0.1:80"],
    ] {
        assert_eq!(alignment(texts), '<', "{texts:?}");
    }
}

#[test]
fn rows_have_as_many_cells_as_there_are_headings() {
    let mut table = Table::new(["a", "b"]);
    assert!(table.is_empty());
    table.row(["1"]).row(["2", "3", "4"]);
    assert_eq!(table.text(), "A  B\n1\n2  3");
    assert_eq!(Table::new(["a", "b"]).text(), "A  B");
    assert_eq!(Table::new(["a"]).markdown(), "| a |\n|---|\n");
}

#[test]
fn widths_are_those_of_characters() {
    let mut table = Table::new(["städte", "x"]);
    table.row(["Zürich", "a"]).row(["Ulm", "b"]);
    assert_eq!(table.text(), "STÄDTE  X\nZürich  a\nUlm     b");
}

#[test]
fn a_cell_cannot_break_a_markdown_table() {
    let mut table = Table::new(["topic"]);
    table.row(["a|b\nc"]);
    assert_eq!(table.markdown(), "| topic |\n|---|\n| a\\|b c |\n");
}

#[test]
fn numbers_have_three_digits_that_count() {
    let shown = [999.4, 999.7, 99.96, 9.996, 0.99961, 1_000_000.0, 12_345_678_901.0].map(short);
    assert_eq!(shown, ["999", "1.00 k", "100", "10.0", "1.00", "1.00 M", "12.3 G"]);
    let shown = [-0.25, 0.099_96, 0.012_34, 0.000_12].map(short);
    assert_eq!(shown, ["-0.250", "0.100", "0.0123", "1.20e-4"]);
    assert_eq!([9.87, 17.4, 999.6, 0.0].map(rate), ["9.87", "17", "1.00 k", "0"]);
}

#[test]
fn bytes_are_told_in_their_largest_unit() {
    let shown = [0.0, 1_023.0, 1_024.0, 16_777_216.0, 3e9].map(bytes);
    assert_eq!(shown, ["0 B", "1023 B", "1 KiB", "16 MiB", "2.8 GiB"]);
}
