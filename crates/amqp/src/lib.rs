//! WIP
mod fault;
mod greeting;
mod kit;
mod link;
mod options;
pub use options::{AmqpOptions, QueueType};
