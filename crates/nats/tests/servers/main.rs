//! The backend against a real server.

mod faults;
mod kit;

use posthaste_servers::harness::{self, Trials};

fn main() -> std::process::ExitCode {
    let mut trials = Trials::default();
    faults::add(&mut trials);
    kit::add(&mut trials);
    harness::main(trials)
}
