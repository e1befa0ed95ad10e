//! Logs, on stderr.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// What clients of engines log of themselves becomes an error that says what to do, or is of use to
/// those who ask for more.
const CLIENTS: &str = "async_nats=off,lapin=off,rdkafka=off,librdkafka=off";

/// Shows warnings, and with every `-v` one level more.
pub(crate) fn install(verbose: u8) {
    let level = match verbose {
        0 => &format!("warn,{CLIENTS}"),
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
