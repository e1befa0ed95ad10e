//! Unix sockets as every runtime shows them.

mod bytes;
mod connecting;
mod laws;
mod ownership;
mod paths;
mod support;
