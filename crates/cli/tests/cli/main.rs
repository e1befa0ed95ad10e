//! The command from outside: processes, pipes, exit codes.
#![cfg(unix)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test that watches processes has a clock and threads of its own"
)]

mod answering;
mod bridging;
mod burying;
mod handling;
mod keeping;
mod losing;
mod managing;
mod measuring;
mod overflowing;
mod proving;
mod reading;
mod sending;
mod serving;
mod settling;
mod support;
mod taking;
mod usage;
