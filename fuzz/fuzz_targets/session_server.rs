//! Arbitrary bytes in arbitrary pieces against a server, fresh or established.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use posthaste_fuzz::{config, drive};
use posthaste_wire::Session;

fuzz_target!(|data: &[u8]| {
    let now = Instant::now();
    drive(Session::server(config(), now), Session::client(config(), now), data, now);
});
