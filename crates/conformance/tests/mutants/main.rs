//! The kit put to the test: brokers, transports and runtimes that are broken on purpose, each of which has
//! to fail exactly the laws that it breaks.

#[path = "../common/mod.rs"]
mod common;

mod broker;
mod durable;
mod fault;
mod handles;
mod runtime;
mod transport;

use std::collections::BTreeSet;

use posthaste_conformance::{Law, Report};

/// Whether a broken subject fails the laws that it breaks, and `more` only where what it does is so
/// grave that hardly anything can go well with it.
fn assert_breaks(report: &Report, laws: &[Law], more: bool) {
    let laws: BTreeSet<Law> = laws.iter().copied().collect();
    let broken = report.broken_laws();
    let found = if more { broken.is_superset(&laws) } else { broken == laws };
    assert!(found, "it breaks {laws:?}, and the kit says {broken:?}\n{report}");
}
