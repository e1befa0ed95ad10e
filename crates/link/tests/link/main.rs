//! What a remote broker over a link promises, on every runtime, over an in-memory transport.

mod sending;
mod support;
