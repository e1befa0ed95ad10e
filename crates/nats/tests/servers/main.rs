//! The backend against a real server.

mod kit;

use posthaste_servers::harness::{self, Trials};

fn main() -> std::process::ExitCode {
    let mut trials = Trials::default();
    kit::add(&mut trials);
    harness::main(trials)
}
