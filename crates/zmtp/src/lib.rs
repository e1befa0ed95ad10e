//! The ZeroMQ wire.

pub mod codec;
