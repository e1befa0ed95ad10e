//! Messages between tasks, processes and machines, in three patterns, on any async runtime and
//! over any transport, through one small API.
//!
//! ```
//! use posthaste::prelude::*;
//! use posthaste_smol::Smol;                        // or Tokio, or a runtime of your own
//!
//! fn main() -> Result<(), posthaste::Error> {
//!     pollster::block_on(async {                   // any executor will do
//!         let bus = posthaste::connect(Smol::global(), "memory:").await?;
//!         let mut all = bus.subscribe("home.*.temperature").await?;
//!         let receipt = bus.publish("home.kitchen.temperature", "21.5").await?;
//!         assert_eq!(receipt.matched, 1);
//!         assert_eq!(all.next_delivery().await?.payload(), "21.5");
//!         Ok(())
//!     })
//! }
//! ```
//!
//! With `tcp://127.0.0.1:7411` or `unix:/run/app.sock` instead of `memory:` the same program talks
//! to a broker in another process: one started by `posthaste serve`, or any program that calls
//! [`serve`].
//!
//! # The three patterns
//!
//! **Publish-subscribe.** Every subscription that matches gets its own copy; a group shares one
//! among its members ([`Bus::subscribe_shared`]). Patterns have `*` for one word and a final `>`
//! for one or more.
//!
//! **Queues.** What is sent to a queue waits there until one of its consumers settles it.
//!
//! ```
//! # use posthaste::prelude::*;
//! # fn main() -> Result<(), posthaste::Error> { pollster::block_on(async {
//! # let bus = posthaste::connect(posthaste_smol::Smol::global(), "memory:").await?;
//! let receipt = bus.send("jobs", "resize 7").await?;
//! assert_eq!(receipt.level, Level::Held);          // what was reached, never more
//! let mut jobs = bus.consume("jobs").await?;
//! let job = jobs.next_delivery().await?;
//! assert_eq!(job.attempt(), 1);
//! job.ack();                                       // or retry, reject, release
//! # Ok(()) }) }
//! ```
//!
//! **Request-reply.** A request that nobody is there to answer is told so at once.
//!
//! ```
//! # use posthaste::prelude::*;
//! # fn main() -> Result<(), posthaste::Error> { pollster::block_on(async {
//! # let bus = posthaste::connect(posthaste_smol::Smol::global(), "memory:").await?;
//! let asked = bus.request("math.add", "20 22").within(Duration::from_secs(1)).await;
//! assert_eq!(asked.unwrap_err().kind(), ErrorKind::NoResponders);
//! # Ok(()) }) }
//! ```
//!
//! [`Bus::serve`] answers requests, many at a time.
//!
//! # What is promised
//!
//! Every message that a sender took is confirmed or comes back with its reason. A [`Receipt`] says
//! how safe a message is and never claims more than that. A delivery that is dropped unsettled is
//! delivered again, so a panic loses no work. Everything is bounded; what happens at a bound has a
//! name ([`Overflow`]), and every copy of a message is in the broker's [`Ledger`]. A backend that
//! lacks something says so, at connect time if you ask ([`Connect::needs`]), and never degrades
//! silently.
//!
//! # Cancel safety
//!
//! Every future may be dropped at any point; each method says what that does. Dropping a handle
//! neither blocks, spawns nor panics, inside a runtime or outside of one.
//!
//! # Crates and features
//!
//! The features `memory`, `tcp` and `unix`, all on by default, and `amqp`, `kafka`, `nats` and `zmtp`
//! add what a URL may name and change nothing else. Runtimes are values from `posthaste-tokio` and `posthaste-smol`; anything that
//! implements [`Runtime`] will do. Backends and transports of your own implement [`Broker`] and
//! [`Transport`](transport::Transport).

mod connect;
mod engine;
mod serve;
mod url;

pub use crate::connect::{Connect, connect};
pub use crate::engine::cards;
pub use crate::serve::serve;
pub use crate::url::{endpoint, endpoints, transport};
pub use posthaste_core::*;
pub use posthaste_link::{Limits, Reconnect, Remote, RemoteOptions, Server, ServerOptions};
#[cfg(feature = "log")]
pub use posthaste_log::{self as log, Durable, LogOptions, storage::Folder};
#[cfg(feature = "memory")]
pub use posthaste_memory::Memory;

/// What most programs use: `use posthaste::prelude::*`.
pub mod prelude {
    pub use std::time::Duration;

    pub use posthaste_core::{
        Ack, Broker, Bus, Capability, Delivery, Error, ErrorKind, Level, Message, Overflow,
        Pattern, Queue, Receipt, ReceiverExt, Retention, SenderExt, SenderOptions, Start,
        Subscription, Topic,
    };
}

/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
