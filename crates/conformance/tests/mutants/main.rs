//! The kit put to the test: brokers, transports and runtimes that are broken on purpose, each of which has
//! to fail exactly the laws that it breaks.

#[path = "../common/mod.rs"]
mod common;

mod broker;
mod fault;
mod handles;
mod runtime;
mod transport;

use std::collections::BTreeSet;

use posthaste_conformance::{Law, Report};

fn assert_breaks(report: &Report, laws: &[Law]) {
    let laws: BTreeSet<Law> = laws.iter().copied().collect();
    let broken = report.broken_laws();
    assert!(broken == laws, "it breaks {laws:?}, and the kit says {broken:?}\n{report}");
}
