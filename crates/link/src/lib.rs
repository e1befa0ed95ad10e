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
//! A session outlives its connection by [`ServerOptions::session_linger`]. The first column is for a
//! client that is back in time, the second for one that is not, or that finds another server.
//!
//! | | the session goes on | the session is lost |
//! |---|---|---|
//! | sent, not confirmed | goes again, and is taken once | with a message id: goes again, and is taken where deduplication shows that it had not arrived; else it comes back as `Unknown` |
//! | waiting to be sent | waits for the connection, and goes out | the same |
//! | handed out, not settled | stays in hand, and is settled as ever | is delivered again; settling the old delivery is in vain |
//! | settled, not known to be heard | is told again | may be delivered again; [`settled`](posthaste_core::ReceiverExt::settled) says so, with `SessionLost` |
//! | received, not handed out | is handed out | is delivered again, or, where settlement is automatic, handed out |
//! | subscriptions, inboxes | miss nothing that their bounds hold | go on at the same addresses; an inbox says `SessionLost` once |
//! | calls | fail as `Disconnected` if they were on their way, and wait otherwise | the same |

mod codes;
mod control;
mod intake;
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
