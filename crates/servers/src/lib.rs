//! Real servers for the tests of the engines.
//!
//! A [`Server`] is started by the script `.ci/servers`, in a folder and on a port of its own, and
//! ends with its value. It can be stopped, killed, started again, paused; a [`Proxy`] in front of it
//! cuts connections. [`harness`] makes tests of what needs one: where the server is not installed
//! they are reported as ignored, with the reason, and on a build server (`CI=true`) as failed.
//!
//! ```no_run
//! use posthaste_servers::Server;
//!
//! let mut server = Server::start("nats")?;
//! println!("{}", server.url());
//! server.kill();
//! server.restart()?;
//! # Ok::<(), posthaste_servers::Missing>(())
//! ```
//!
//! Of no use outside of this repository, and not published.

pub mod executors;
pub mod harness;
mod proxy;
mod server;

pub use proxy::Proxy;
pub use server::{Missing, Server};
