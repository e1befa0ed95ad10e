//! A client and a server in conversation, next to a model of what each has to be told.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthaste_fuzz_cases::session_pair(data));
