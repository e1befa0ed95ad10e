//! A log on disk: what was synced is there after a power cut, and what is damaged is named.
//!
//! [`Durable`] is a broker whose queues are kept there. Under it lies a log:
//!
//! Records are appended to segments, each with a checksum over where it is, when the log was opened
//! that wrote it, and what is in it. See [`Log`].

mod anchor;
mod change;
mod declared;
mod durable;
mod error;
mod examine;
mod inspect;
mod journal;
mod log;
mod planted;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
pub mod storage;
mod uses;

pub use durable::Durable;
pub use error::{Damage, Flaw, LogError};
pub use inspect::{Contents, Line, QueueContents};
pub use log::{Log, LogOptions, Recovery, Torn};
pub use record::{CONTENT_MAX, Record};
