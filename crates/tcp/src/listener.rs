//! Accepting: connections with their options set and their peer known.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};

use async_trait::async_trait;
use posthaste_core::runtime::{BoxAcceptor, Runtime, SharedRuntime, StdListener, StdSocket};
use posthaste_core::transport::{BoxConnection, Endpoint, Listener, Peer, Upgrade, WithPeer};

use crate::socket::{self, Options};

/// A TCP listener inside a reactor.
pub(crate) struct TcpAcceptLoop {
    runtime: SharedRuntime,
    acceptor: BoxAcceptor,
    options: Options,
    endpoint: Endpoint,
}

impl TcpAcceptLoop {
    /// Listens at `at`.
    pub(crate) fn bind(
        runtime: &SharedRuntime,
        at: SocketAddr,
        options: &Options,
    ) -> io::Result<Self> {
        let listener = socket::listening(at, options)?;
        let endpoint = Endpoint::new("tcp", listener.local_addr()?.to_string());
        let acceptor = runtime.register_listener(StdListener::Tcp(listener))?;
        Ok(Self {
            runtime: SharedRuntime::clone(runtime),
            acceptor,
            options: options.clone(),
            endpoint,
        })
    }
}

#[async_trait]
impl Listener for TcpAcceptLoop {
    /// # Errors
    /// What the kernel answers, unchanged: when the process or the machine is out of file
    /// descriptors, the connection stays in the backlog and the next call tries again, so a caller
    /// does well to pause first. A connection that died while it waited is an error of one call.
    async fn accept(&mut self) -> io::Result<Upgrade> {
        let socket = poll_fn(|cx| self.acceptor.poll_accept(cx)).await?;
        let StdSocket::Tcp(socket) = socket else {
            return Err(io::Error::other("the runtime accepted something else than TCP"));
        };
        let (runtime, options) = (SharedRuntime::clone(&self.runtime), self.options.clone());
        // A peer that is gone already fails here: its own upgrade, not the listener.
        Ok(Box::pin(async move { upgrade(&*runtime, socket, &options) }))
    }

    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }
}

fn upgrade(
    runtime: &dyn Runtime,
    socket: TcpStream,
    options: &Options,
) -> io::Result<BoxConnection> {
    socket::apply(options, &socket)?;
    let peer = Peer::at(socket.peer_addr()?.to_string());
    let connection = runtime.register(StdSocket::Tcp(socket))?;
    Ok(Box::new(WithPeer::new(connection, peer)))
}
