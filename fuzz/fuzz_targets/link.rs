//! A client, a server and a broker, next to a model of what may come of each message.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthaste_fuzz_cases::link(data));
