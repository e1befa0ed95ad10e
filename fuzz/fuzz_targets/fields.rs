//! Any bytes are fields or an error, and what was read can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthaste_fuzz_cases::fields(data));
