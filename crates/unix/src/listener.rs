//! Accepting: connections whose peer's credentials are known.

use std::future::poll_fn;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

use async_trait::async_trait;
use posthaste_core::runtime::{BoxAcceptor, Runtime, SharedRuntime, StdListener, StdSocket};
use posthaste_core::transport::{BoxConnection, Endpoint, Listener, Peer, Upgrade, WithPeer};

use crate::owner::Owner;

/// A Unix listener inside a reactor, and the files that are its own.
pub(crate) struct UnixAcceptLoop {
    // First, so that the files go before the socket closes: who comes now finds no listener
    // rather than one that hangs up.
    _owner: Owner,
    runtime: SharedRuntime,
    acceptor: BoxAcceptor,
    endpoint: Endpoint,
}

impl UnixAcceptLoop {
    /// Puts a bound listener into the reactor of `runtime`.
    pub(crate) fn new(
        runtime: &SharedRuntime,
        owner: Owner,
        listener: UnixListener,
        endpoint: Endpoint,
    ) -> io::Result<Self> {
        let acceptor = runtime.register_listener(StdListener::Unix(listener))?;
        Ok(Self { _owner: owner, runtime: SharedRuntime::clone(runtime), acceptor, endpoint })
    }
}

#[async_trait]
impl Listener for UnixAcceptLoop {
    /// # Errors
    /// What the kernel answers, unchanged: when the process or the machine is out of file
    /// descriptors, the connection stays in the backlog and the next call tries again, so a caller
    /// does well to pause first.
    async fn accept(&mut self) -> io::Result<Upgrade> {
        let socket = poll_fn(|cx| self.acceptor.poll_accept(cx)).await?;
        let StdSocket::Unix(socket) = socket else {
            return Err(io::Error::other("the runtime accepted something else than a Unix socket"));
        };
        let runtime = SharedRuntime::clone(&self.runtime);
        Ok(Box::pin(async move { upgrade(&*runtime, socket) }))
    }

    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }
}

fn upgrade(runtime: &dyn Runtime, socket: UnixStream) -> io::Result<BoxConnection> {
    // Clients seldom have a name of their own; who they are is in their credentials.
    let peer = match crate::credentials(&socket) {
        Some(credentials) => Peer::unknown().with_credentials(credentials),
        None => Peer::unknown(),
    };
    let connection = runtime.register(StdSocket::Unix(socket))?;
    Ok(Box::new(WithPeer::new(connection, peer)))
}
