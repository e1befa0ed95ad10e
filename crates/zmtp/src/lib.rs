//! The ZeroMQ wire: Posthaste talks with libzmq, pyzmq and every other ZeroMQ binding.
//!
//! A [`Zmtp`] is a *node*: it listens, it connects, or both, over Posthaste's own TCP and Unix
//! transports, on any runtime, without a ZeroMQ library. There is no server in between: whoever is
//! connected with a node is who it talks to.
//!
//! ```
//! use posthaste_core::{Bus, ReceiverExt};
//! use posthaste_tokio::Tokio;
//! use posthaste_zmtp::Zmtp;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), posthaste_core::Error> {
//! let publisher = Zmtp::open(Tokio::current(), "zmtp+tcp://127.0.0.1:0?bind").await?;
//! let there = format!("zmtp+{}", publisher.endpoints()[0]);
//!
//! let subscriber = Bus::new(Zmtp::open(Tokio::current(), &there).await?);
//! let mut prices = subscriber.subscribe("px.>").await?;
//! let receipt = Bus::new(publisher).publish("px.eu", "21.5").await?;
//! assert_eq!(receipt.matched, 1);
//! assert_eq!(prices.next_delivery().await?.payload(), "21.5");
//! # Ok(()) }
//! ```
//!
//! # What becomes what
//!
//! | Posthaste | this node is | its peer is | frames |
//! |---|---|---|---|
//! | publish to a topic | `PUB` | `SUB`, `XSUB` | topic, payload |
//! | subscribe to a pattern | `SUB` | `PUB`, `XPUB` | topic, payload; or one frame, `TOPIC PAYLOAD` |
//! | send into a queue | `PUSH` | `PULL` | queue, payload |
//! | consume a queue | `PULL` | `PUSH` | queue, payload; or one frame, the payload |
//! | request | `DEALER` | `REP`, `ROUTER` | ticket, empty, topic, payload |
//! | reply to it | `ROUTER` | `REQ`, `DEALER` | the envelope as it came, empty, payload |
//!
//! What a message has beside topic and payload (headers, a key, a status, ...) stands in a frame
//! before the payload, one line `name: value` for each, as
//! [`properties`](posthaste_engine::properties) names them. Without any there is no such frame, so
//! that a plain pyzmq program that sends `[topic, payload]` is understood, and understands. What
//! comes in another shape is dropped and [counted](Zmtp::malformed).
//!
//! **A listener takes peers of every kind at one port**, because it hears first what the other is.
//! Other ZeroMQ programs have one port for each socket; a URL names them:
//!
//! | URL | means |
//! |---|---|
//! | `zmtp+tcp://HOST:PORT?bind` | listens for everybody (port 0: any free one, see [`Zmtp::endpoints`]) |
//! | `zmtp+tcp://HOST:PORT` | connects there, for each kind of socket when it is first needed |
//! | `zmtp+unix:/PATH`, with or without `?bind` | the same over a Unix socket, ZeroMQ's `ipc://` |
//! | `zmtp+tcp://HOST?sub=5556&push=@5557` | connects as `SUB`, and binds as `PUSH` |
//! | `zmtp+tcp://USER:PASSWORD@HOST:PORT` | with `PLAIN`; who binds is its server and takes nobody else |
//!
//! The options are `pub`, `sub`, `push`, `pull`, `req` and `rep`, each a port, `HOST:PORT` or a path,
//! behind `@` to bind it and `>` to connect; `bind`; `identity`; and `hwm`, how many messages may
//! wait for a peer (1,000). [`ZmtpOptions`] has more.
//!
//! # What is promised, and what is not
//!
//! ZeroMQ acknowledges nothing, so:
//!
//! - **Receipts** say [`Level::Sent`](posthaste_core::Level::Sent) on one node: the operating system
//!   has it for every peer that it went to, or it waits in this node's memory, in a queue that
//!   nobody pulls from. It may still be lost with the connection. A sender that asks for more is
//!   `Unsupported`.
//! - **How many got it** is true for topics: publishers know their subscribers. A Posthaste peer
//!   counts once for each of its subscriptions that match, another once.
//! - **Queues** hold in the sender's memory, up to the high-water mark; then senders wait. Each
//!   message goes to one consumer, in turn. What was written to a consumer that dies is lost.
//!   Consuming with [`Ack::Manual`](posthaste_core::Ack::Manual), the default of queues, is
//!   `Unsupported`: say `Ack::Auto`. Queues have no settings. A pipeline of another ZeroMQ program
//!   has no names: its consumers get whatever is in it.
//! - **Topics**: whoever is slow holds publishers up, and is cut off after it has read nothing for
//!   ten seconds ([`ZmtpOptions::stall_limit`]). What a pattern asks of other publishers is
//!   everything before its first wildcard; the rest is sorted out here.
//! - **A subscription is live** once `receiver` resolves: every connected peer has answered a
//!   heartbeat that was sent behind it. Posthaste peers have it in force then. libzmq has read it
//!   then, and has it in force when its program next uses the socket. Peers of ZMTP 3.0 know no
//!   heartbeats: they have been sent it. To publishers that connect later it is told as they come.
//! - **Groups** are added on top, between Posthaste peers: each publisher hands each message to one
//!   member. With a publisher that is not Posthaste they are `Unsupported`.
//! - **Requests** go to one member of every matching group and to every matching subscription, or to
//!   one `REP` or `ROUTER` peer. `REQ` and `DEALER` peers are answered by one member of one group,
//!   or by one subscription. Who asks is told at once if nobody is there, and if the connection to
//!   who was to answer is lost. A request with one frame alone is for the only service there is.
//! - This node's own receivers get what it sends as those of its peers do.
//! - Connections come back by themselves, after 50 ms to 2 s, and subscriptions with them. What is
//!   published meanwhile is lost.
//!
//! Everything else that the [card](posthaste_core::Broker::capabilities) lacks is `Unsupported` and
//! says so.
//!
//! # Security
//!
//! `NULL`, `PLAIN` and `CURVE`, the latter two also by
//! [`ZmtpOptions::security`](ZmtpOptions::security). `PLAIN` sends its password as it is: use it on
//! a Unix socket or in a tunnel. `CURVE` encrypts everything, and both sides prove who they are by
//! their keys:
//!
//! ```
//! use posthaste_zmtp::ZmtpOptions;
//! use posthaste_zmtp::codec::{CurveKeys, Security};
//!
//! # fn main() -> Result<(), posthaste_core::Error> {
//! let (server, client) = (CurveKeys::generate()?, CurveKeys::generate()?);
//! let known = client.public();
//! let place = "tcp://127.0.0.1:5555".parse()?;
//! let theirs = Security::curve(server.public(), client);
//! let connects = ZmtpOptions::new().connect(&place).security(theirs);
//! let ours = Security::curve_server(server, move |key| *key == known);
//! let binds = ZmtpOptions::new().bind(place).security(ours);
//! # drop((connects, binds));
//! # Ok(()) }
//! ```
//!
//! A node that binds for every kind of socket has to be the server of its mechanism, because a client
//! says what it is before it knows what its peer is.
//!
//! # Between Posthaste peers
//!
//! Posthaste nodes know each other by the property `X-Posthaste` of their handshake, and then say a
//! subscription as a NUL byte and the whole pattern, with a group behind another NUL byte; on a lane
//! of queues, the queue. Nothing else differs, and nothing of it is ever sent to another peer.
//!
//! # Cancel safety
//!
//! Every future here may be dropped at any point. A receiver that is dropped before it is open
//! leaves nothing behind.

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
pub use zmtp::{Zmtp, card};

pub(crate) use zmtp::{Alive, BACKEND};
