//! Breaks a durable broker in every way, and checks the books.
//!
//! A driver has a broker (`posthaste serve --data`) as a child process, publishers that send to its
//! durable queues and consumers that settle what comes in every way. It keeps books of its own: what
//! was confirmed as stored, what was settled and known to stay so. The broker is cut off in the middle
//! of it all, started again on what is left, and everything that it then delivers is held against the
//! books: nothing that was confirmed is lost, nothing comes that was not sent or was settled for good,
//! nothing comes twice or before its time.
//!
//! [`kill()`] kills the process, [`power()`] cuts the power of its disk,
//! [`eio()`] lets its system calls fail, [`full()`] fills its disk.
//! [`compare()`] does the first two to other brokers. [`deep()`] measures a queue that holds more than fits
//! in memory.

#![cfg(unix)]
#![expect(
    clippy::disallowed_methods,
    reason = "a program that watches processes asks the machine for the time and for a random instant"
)]

mod books;
mod broker;
mod compare;
mod cycles;
mod deep;
mod drain;
mod eio;
mod ending;
mod full;
mod ground;
mod image;
mod kill;
mod load;
mod message;
mod power;
mod random;
mod report;
mod strace;
mod unsynced;

pub use crate::compare::{Compared, compare, table};
pub use crate::cycles::Options;
pub use crate::deep::{Deep, Depth, deep};
pub use crate::eio::eio;
pub use crate::ending::end_on_signals;
pub use crate::full::full;
pub use crate::ground::memory;
pub use crate::kill::kill;
pub use crate::power::{FileSystem, Outcome, power};
pub use crate::report::Report;
pub use crate::unsynced::serve_unsynced;

/// Why a run could not be made, in words.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
