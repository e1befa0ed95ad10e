//! Any broker over any byte stream: [`Remote`] is a broker at the other end of a connection,
//! [`Server`] puts one there.
//!
//! ```
//! use posthaste_core::{Broker, Message, SenderExt, SenderOptions, Topic};
//! use posthaste_link::{Pipe, Remote, RemoteOptions, Server, ServerOptions};
//! use posthaste_memory::Memory;
//! use posthaste_smol::Smol;
//!
//! # smol::block_on(async {
//! let pipe = Pipe::new();
//! let server = Server::new(Smol::global(), Memory::new(), ServerOptions::new());
//! let here = server.listen(pipe.clone(), "pipe:here".parse()?).await?;
//! let remote = Remote::connect(Smol::global(), pipe, here, RemoteOptions::new()).await?;
//! let mut sender = remote.sender(SenderOptions::new()).await?;
//! sender.send(Message::to_queue(Topic::new("jobs")?, "work")).await?;
//! # Ok::<(), posthaste_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! A custom transport writes [`Transport`](posthaste_core::transport::Transport) and gets all of
//! this for free: credit from end to end, receipts, redelivery, heartbeats, reconnection. [`Pipe`]
//! is one that stays inside the process, for tests. `posthaste-tcp` and `posthaste-unix` have
//! `connect` and `serve` in one call. The bytes are described in `docs/protocol.md`.
//!
//! # Cancel safety
//!
//! Every future here may be dropped at any point: what was being opened is closed again, a message
//! that was not taken is still the caller's, a settlement is done when its call returns.
//!
//! # What a lost connection means
//!
//! | | |
//! |---|---|
//! | sent, not confirmed | comes back as `Unknown`: it may or may not have arrived |
//! | waiting to be sent | waits for the connection, and goes out |
//! | handed out, not settled | is delivered again; settling the old delivery is in vain |
//! | received, not handed out | is delivered again, or, where settlement is automatic, handed out |
//! | subscriptions, inboxes | go on, at the same addresses |
//! | calls | fail as `Disconnected` if they were on their way, and wait otherwise |
//!
//! A settlement that was in vain is an error of
//! [`settled`](posthaste_core::ReceiverExt::settled).

mod codes;
mod control;
mod numbering;
mod pipe;
mod planted;
mod pump;
mod remote;
mod server;

#[doc(hidden)]
pub use control::read_as_everything;
pub use pipe::Pipe;
pub use posthaste_wire::{Auth, Limits};
pub use remote::{Reconnect, Remote, RemoteOptions};
pub use server::{Server, ServerOptions};
