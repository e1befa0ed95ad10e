//! What every measurement of Posthaste shares.
//!
//! Figures that are worth quoting come from several rounds in which everything that is compared
//! takes turns, with a warm-up before them; they are medians, with the spread beside them, and
//! ratios that were taken round by round, because what else the machine did hit both sides of a
//! round alike.
//!
//! ```
//! use posthaste_measure::{Summary, Table, rate};
//!
//! // Messages per second, in three interleaved rounds.
//! let (ours, theirs) = ([8.1e6, 7.9e6, 8.4e6], [5.3e6, 5.0e6, 5.2e6]);
//! let summary = Summary::of(&ours).expect("there were rounds");
//! let ratio = Summary::of_ratios(&ours, &theirs).expect("as many of each");
//!
//! let mut table = Table::new(["work", "msgs/s", "spread", "ratio"]);
//! table.row(["64 B".to_owned(), rate(summary.median), summary.percent(), ratio.times()]);
//! assert_eq!(table.text(), "WORK  MSGS/S  SPREAD  RATIO\n64 B  8.10 M    ±4 %  1.58x");
//! ```
//!
//! The parts:
//!
//! - [`Summary`]: the values of several rounds as one figure, and the ratio of two of them;
//! - [`Clock`], [`Latency`] and [`Pace`]: how long things took, counted from when they were due;
//! - [`Usage`]: what that cost the process, in CPU time and memory;
//! - [`Machine`] and [`today`]: on what kind of machine a figure was obtained, and when;
//! - [`Table`] and [`plot`]: showing figures to people, with [`rate`], [`bytes`] and their like.
//!
//! `posthaste bench` and the project's benchmarks are built from these. What they found is in
//! `docs/performance.md`.
#![forbid(unsafe_code)]

mod clock;
mod latency;
mod machine;
mod number;
mod pace;
pub mod plot;
mod summary;
mod table;
mod usage;

pub use clock::Clock;
pub use latency::{Latency, Quantiles};
pub use machine::{Machine, today};
pub use number::{bytes, count, rate, short};
pub use pace::Pace;
pub use summary::Summary;
pub use table::Table;
pub use usage::{Usage, per_million};
