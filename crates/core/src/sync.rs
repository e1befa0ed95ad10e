//! The locks and atomics of this crate and of those above it: `std`'s, or loom's under
//! `--cfg loom`, where `models/` explores the interleavings of the threads that use them.

#[cfg(loom)]
pub use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub use std::sync::{Mutex, MutexGuard, atomic};
