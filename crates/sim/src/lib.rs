//! Worlds that follow from a seed: a runtime, a network and a nemesis that run real messaging code,
//! find what breaks it, and show it again.
//!
//! ```
//! use posthaste_core::transport::Transport;
//! use posthaste_sim::{Faults, Sim};
//!
//! let report = Sim::new().seeds(0..10).faults(Faults::gentle()).run(|world| async move {
//!     let here = "sim://server:7000".parse().unwrap();
//!     let server = world.node("server");
//!     let mut listener = server.transport().bind(&here).await.unwrap();
//!     let client = world.node("client");
//!     let connecting = client.spawn({
//!         let client = client.clone();
//!         async move { client.transport().connect(&here).await.is_ok() }
//!     });
//!     listener.accept().await.unwrap();
//!     assert_eq!(connecting.await, Some(true));
//! });
//! assert_eq!(report.seeds, 10);
//! ```
//!
//! There are no mocks of the framework: a [`Node`] hands out a
//! [`Runtime`](posthaste_core::Runtime), a [`Transport`](posthaste_core::transport::Transport) and a
//! [`Storage`](posthaste_log::storage::Storage), and whatever is written over those runs here unchanged,
//! one step at a time, in virtual time.
//! Every choice (which task goes on, how long bytes take, where they are cut, which node dies when)
//! follows from the seed, so a failure is shown again by its number alone. `docs/simulation.md` is
//! the guide.

pub mod check;
pub mod history;
pub mod planted;

mod blocking;
mod disk;
mod executor;
mod failure;
mod faults;
mod nemesis;
mod network;
mod node;
mod random;
mod record;
mod runtime;
mod sim;
mod state;
mod timeline;
mod transport;
mod world;

pub use disk::SimDisk;
pub use failure::Failure;
pub use faults::Faults;
pub use node::{Census, Node, Running};
pub use record::Recorded;
pub use runtime::SimRuntime;
pub use sim::{Outcome, Report, Sim};
pub use transport::SimTransport;
pub use world::World;
