//! The ZeroMQ wire.

pub mod codec;

mod consumer;
mod drive;
mod frames;
mod greet;
mod keep;
mod lane;
mod node;
mod options;
mod publisher;
mod url;
mod wants;
mod zmtp;

pub use lane::Lane;
pub use options::ZmtpOptions;
pub use zmtp::Zmtp;

pub(crate) use zmtp::{Alive, BACKEND};
