//! A log on disk: what was synced is there after a power cut, and what is damaged is named.
//!
//! Records are appended to segments, each with a checksum over where it is, when the log was opened
//! that wrote it, and what is in it. See [`Log`].

mod anchor;
mod error;
mod log;
mod record;
mod scan;
mod segment;
pub mod storage;

pub use error::{Damage, Flaw, LogError};
pub use log::{Log, LogOptions, Recovery, Torn};
pub use record::{CONTENT_MAX, Record};
