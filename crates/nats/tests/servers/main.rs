//! The backend against a real server.

mod dead;
mod faults;
mod kit;

use posthaste_servers::harness::{self, Trials};

fn main() -> std::process::ExitCode {
    let mut trials = Trials::default();
    dead::add(&mut trials);
    faults::add(&mut trials);
    kit::add(&mut trials);
    harness::main(trials)
}
