//! Unix sockets as every runtime shows them.

mod bytes;
mod connecting;
mod ownership;
mod paths;
mod support;
