//! What a message costs, in counts that repeat: the scenarios, each in one process and one thread.
//!
//! A scenario moves as many messages as it is told. The program `scenario` runs one of them, and
//! `counts` runs that twice, with few messages and with three times as many, under something that
//! counts; the difference is free of everything that happens once.

#![forbid(unsafe_code)]

mod exchange;
mod executor;
mod in_process;
mod reference;
mod scenario;
mod socket;

pub use scenario::{Scenario, all};
