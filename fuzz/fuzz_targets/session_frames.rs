//! Frames of every kind in any order against either side, at any stage, some of them spoiled.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| posthaste_fuzz_cases::session_frames(data));
