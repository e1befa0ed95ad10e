//! Any bytes are a frame or a violation, and a frame has exactly one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthaste_fuzz_cases::frame(data));
