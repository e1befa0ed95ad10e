//! ZMTP 3.1, the protocol of ZeroMQ, as a codec and a state machine that do no IO.
//!
//! Nothing here owns a socket, a clock or a task: bytes go in, events come out, and what is to be
//! written is appended to a buffer of the caller's. Everything that a peer can make grow is bounded,
//! and no length is trusted before it was checked.
//!
//! ```
//! use posthaste_zmtp::codec::{Credentials, Event, Properties, Security, Session, SocketType};
//!
//! let mut server = Session::accepting(Security::null());
//! let mut client = Session::connecting(Security::null(), Properties::new(SocketType::Push));
//! let mut events = Vec::new();
//! for _ in 0..3 {
//!     let out = client.take_output();
//!     server.receive(&out);
//!     while let Some(event) = server.poll_event()? {
//!         if let Event::Peer(properties) = event {
//!             assert_eq!(properties.socket_type, SocketType::Push);
//!             server.introduce(&Properties::new(SocketType::Pull))?;
//!         }
//!     }
//!     let out = server.take_output();
//!     client.receive(&out);
//!     while let Some(event) = client.poll_event()? {
//!         events.push(event);
//!     }
//! }
//! assert!(matches!(events.last(), Some(Event::Established)));
//! # let _: Option<Credentials> = None;
//! # Ok::<(), posthaste_core::Error>(())
//! ```

mod command;
mod curve;
mod frame;
mod greeting;
mod properties;
mod security;
mod session;
mod z85;

pub use command::Command;
pub use curve::{CurveKey, CurveKeys};
pub use frame::{Frame, decode_frame, encode_frame};
pub use greeting::{GREETING_BYTES, Greeting};
pub use properties::{Properties, SocketType};
pub use security::{Credentials, Security};
pub use session::{Event, Multipart, Session, SessionLimits};

use posthaste_core::{Error, ErrorKind};

/// The error of a peer that breaks the protocol.
pub(crate) fn broken(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Protocol, format!("the peer does not speak ZMTP 3 properly: {what}"))
}
