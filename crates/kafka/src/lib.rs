//! Posthaste over Kafka.

#![warn(missing_docs)]

mod card;
mod client;
mod consumer;
mod errors;
mod kafka;
mod names;
mod native;
mod options;
mod publisher;
mod record;
mod replay;
mod tracker;
mod url;

pub use crate::kafka::Kafka;
pub use crate::options::{Create, KafkaOptions};
pub use crate::replay::Position;
