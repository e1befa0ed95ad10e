//! Any broker over any byte stream: [`Remote`] is a broker at the other end of a connection,
//! [`Server`] puts one there.
#![doc = ""]

mod codes;
mod control;
mod pipe;
mod pump;
mod remote;
mod server;

#[doc(hidden)]
pub use control::read_as_everything;
pub use pipe::Pipe;
pub use remote::{Reconnect, Remote, RemoteOptions};
pub use server::{Server, ServerOptions};
