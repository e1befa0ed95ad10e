//! What a session does, behaviour by behaviour.

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod calls;
mod closing;
mod coalescing;
mod credit;
mod fields;
mod fragments;
mod handshake;
mod liveness;
mod output;
mod settling;
