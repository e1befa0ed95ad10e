//! Arbitrary bytes in arbitrary pieces against a client, fresh or established.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthaste_fuzz_cases::session_client(data));
