//! What a session does, behaviour by behaviour.

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod bad_runs;
mod calls;
mod carrying;
mod closing;
mod coalescing;
mod credit;
mod fields;
mod fragments;
mod handshake;
mod liveness;
mod output;
mod runs;
mod settling;
mod whole_runs;
