//! TCP for Posthaste, on any runtime: a [`Transport`] over a [`SharedRuntime`].
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use posthaste_core::transport::Transport;
//! use posthaste_tcp::Tcp;
//! use posthaste_tokio::Tokio;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let tcp = Tcp::new(Tokio::current());
//!     let mut listener = tcp.bind(&"tcp://127.0.0.1:0".parse()?).await?;
//!     let mut client = tcp.connect(&listener.endpoint()).await?;
//!     let mut server = listener.accept().await?.await?;
//!     client.write_all(b"hello").await?;
//!     server.read_exact(&mut [0; 5]).await?;
//!     Ok(())
//! }
//! ```
//!
//! Addresses are `HOST:PORT` or `[IPV6]:PORT`; a host name is looked up where it blocks no task.

mod address;
mod listener;
mod serve;
mod socket;

pub use posthaste_link::{Reconnect, Remote, RemoteOptions, Server, ServerOptions};
pub use serve::{connect, serve};

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::runtime::{SharedRuntime, StdSocket};
use posthaste_core::transport::{BoxConnection, BoxListener, Endpoint, Peer, Transport, WithPeer};

use crate::address::Address;
use crate::listener::TcpAcceptLoop;
use crate::socket::Options;

/// TCP connections inside the reactor of one runtime.
///
/// Options are set by value and hold for every connection made or accepted from then on.
///
/// ```
/// use std::time::Duration;
///
/// use posthaste_smol::Smol;
/// use posthaste_tcp::Tcp;
///
/// let tcp = Tcp::new(Smol::global()).keepalive(Some(Duration::from_secs(20))).backlog(64);
/// # drop(tcp);
/// ```
#[derive(Clone)]
pub struct Tcp {
    runtime: SharedRuntime,
    options: Options,
}

impl Tcp {
    /// TCP over `runtime`: a runtime adapter's value, or one that is shared already.
    pub fn new(runtime: impl Into<SharedRuntime>) -> Self {
        Self { runtime: runtime.into(), options: Options::default() }
    }

    /// Whether small writes leave at once (`TCP_NODELAY`). On by default: whatever batches is
    /// above, and knows better when a batch ends.
    #[must_use]
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.options.nodelay = nodelay;
        self
    }

    /// How long a connection may be idle before the kernel probes whether the peer is still
    /// there (60 s by default, in whole seconds from 1 to 32,767); `None` never probes.
    #[must_use]
    pub fn keepalive(mut self, idle: Option<Duration>) -> Self {
        self.options.keepalive = idle;
        self
    }

    /// How many connections may wait to be accepted (1,024 by default). The kernel has an upper
    /// bound of its own.
    #[must_use]
    pub fn backlog(mut self, connections: u16) -> Self {
        self.options.backlog = connections;
        self
    }

    /// Whether a listener on an IPv6 address such as `[::]` takes IPv4 connections too. Off by
    /// default, on every system, so that an address means what it says.
    #[must_use]
    pub fn dual_stack(mut self, dual_stack: bool) -> Self {
        self.options.dual_stack = dual_stack;
        self
    }

    async fn connect_to(&self, to: SocketAddr) -> io::Result<BoxConnection> {
        let socket = socket::connecting(to, &self.options)?;
        let connection = self.runtime.register_connecting(StdSocket::Tcp(socket)).await?;
        Ok(Box::new(WithPeer::new(connection, Peer::at(to.to_string()))))
    }
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("options", &self.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for Tcp {
    /// Connects to `HOST:PORT`, trying every address that the host has, one after the other.
    ///
    /// There is no deadline here but the kernel's, of minutes; the caller sets one by dropping the
    /// future.
    ///
    /// # Errors
    /// `InvalidInput` for what is no TCP address, what the look-up answers for a name, and
    /// otherwise the reason of the last address tried, which the text names.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket; a look-up under way runs on and is forgotten.
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let address = Address::parse(to)?;
        let mut last = None;
        for socket_address in address.resolve(&*self.runtime).await? {
            match self.connect_to(socket_address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some((socket_address, error)),
            }
        }
        Err(address.failure("connect to", last))
    }

    /// Listens on `HOST:PORT`, at the first address of the host that can be had; port 0 is any
    /// free port, which the listener's `endpoint` names.
    ///
    /// # Errors
    /// `InvalidInput` for what is no TCP address, `AddrInUse` while another socket listens there
    /// (but not for the remains of connections of an earlier one), what the look-up answers for a
    /// name.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        let address = Address::parse(at)?;
        let mut last = None;
        for socket_address in address.resolve(&*self.runtime).await? {
            match TcpAcceptLoop::bind(&self.runtime, socket_address, &self.options) {
                Ok(listener) => return Ok(Box::new(listener)),
                Err(error) => last = Some((socket_address, error)),
            }
        }
        Err(address.failure("listen on", last))
    }
}
