//! The Posthaste wire protocol as a state machine: bytes in, events out; commands in, bytes out.
//!
//! A [`Session`] is one side of one connection. It owns no socket, no clock and no task, so the
//! same code runs over TCP, Unix sockets, a simulator and in a fuzzer. What it does own is the
//! protocol: the preface, framing, limits, links with credit, sequence numbers, fragments,
//! heartbeats, calls and the goodbye. What a message means (its topic, its headers, its queue) is
//! not its business: a message is an opaque head and an opaque payload.
//!
//! ```
//! use bytes::BytesMut;
//! use posthaste_wire::{Config, Event, Output, Role, Session};
//!
//! let now = std::time::Instant::now();
//! let mut client = Session::client(Config::default(), now);
//! let mut server = Session::server(Config::default(), now);
//! let carry = |from: &mut Session, to: &mut Session| {
//!     let mut output = Output::new();
//!     from.swap_output(&mut output);
//!     to.handle_input(&mut BytesMut::from(&output.to_vec()[..]), now);
//! };
//! carry(&mut client, &mut server); // preface and HELLO
//! carry(&mut server, &mut client); // preface and WELCOME
//! assert!(matches!(client.poll_event(), Some(Event::Established { .. })));
//! client.open(Role::Sender, b"options").expect("a link is free");
//! ```
//!
//! A driver's loop is: read into a [`BytesMut`](bytes::BytesMut), [`Session::handle_input`], drain
//! [`Session::poll_event`]; take what has gathered with [`Session::swap_output`] and write it;
//! call [`Session::handle_timeout`] when [`Session::poll_timeout`] is due.
//!
//! The format is written down byte by byte in `docs/protocol.md`.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod code;
mod config;
mod cursor;
mod event;
pub mod fields;
pub mod frame;
mod hello;
mod input;
mod link;
mod output;
mod preface;
mod session;
mod transfer;

pub use code::Code;
pub use config::{Auth, Config, Limits};
pub use event::Event;
pub use frame::{Frame, Header, Payloads, Violation};
pub use hello::Hello;
pub use input::Input;
pub use link::{Link, Outcome, Role};
pub use output::Output;
pub use preface::{FOREIGN_LINE, PREFACE_LEN, VERSION};
pub use session::{CommandError, Session};
pub use transfer::{Hop, Transfer, TransferError};
