//! The traits and the patterns of Posthaste.

pub mod error;
pub mod limits;
pub mod message;
pub mod runtime;
pub mod task;
pub mod topic;
pub mod transport;

pub use error::{Error, ErrorKind, SendError};
pub use message::{Kind, Message, MessageBuilder, Parts, Status};
pub use runtime::{BoxFuture, Runtime, SharedRuntime};
pub use topic::{Pattern, Topic};
