//! Any bytes as the options, arguments and results that links and calls carry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthaste_fuzz_cases::records(data));
