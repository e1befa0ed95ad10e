//! Any bytes as the head of a message: what is accepted can be read, and goes out as it came in.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthaste_fuzz_cases::head(data));
