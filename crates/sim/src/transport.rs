//! The transport of a node: addresses are `NODE:PORT`, connections are the world's.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::transport::{
    BoxConnection, BoxListener, Connection, Endpoint, Listener, Peer, Transport, Upgrade,
};

use crate::state::{Scope, Shared};

/// A node's way into the simulated network.
///
/// An endpoint is `sim://NODE:PORT`. A node listens at addresses of its own; port 0 is any that is
/// free. Connecting to a node that does not listen is refused; to one that is cut off, or whose
/// machine is down, it times out.
#[derive(Clone)]
pub struct SimTransport {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scope: Scope,
}

impl fmt::Debug for SimTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTransport").field("node", &self.scope.node).finish_non_exhaustive()
    }
}

impl SimTransport {
    fn address(&self, endpoint: &Endpoint) -> io::Result<(usize, u16)> {
        let wrong = || {
            let text = format!("{endpoint} is no address here; write one like sim://broker:7000");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let (node, port) = endpoint.address().rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let seed = self.shared.seed;
        Ok((self.shared.with(|state, _| state.node(seed, node)), port))
    }
}

#[async_trait]
impl Transport for SimTransport {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let address = self.address(to)?;
        let shared = &self.shared;
        let dial = shared
            .with(|state, _| state.is_alive(self.scope).then(|| state.dial(self.scope, address)));
        let Some(dial) = dial else {
            return Err(dead());
        };
        let dialling = Dialling { shared: Arc::clone(shared), dial };
        let conn = poll_fn(|cx| dialling.poll(cx))
            .await
            .map_err(|why| io::Error::new(why, format!("no connection to {to}: {why}")))?;
        Ok(Box::new(SimConnection::new(shared, conn, 0, self.scope, Peer::at(to.address()))))
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        let (node, port) = self.address(at)?;
        if node != self.scope.node {
            let text = format!("{at} is another node's address");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
        let (port, name) = self.shared.with(|state, _| {
            if !state.is_alive(self.scope) {
                return Err(dead());
            }
            let port = state.listen(self.scope, port)?;
            Ok((port, state.nodes[node].name.to_string()))
        })?;
        let at = Endpoint::new(at.scheme(), format!("{name}:{port}"));
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(SimListener { shared, scope: self.scope, port, at }))
    }
}

fn dead() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the node is dead")
}

/// An attempt to connect; hangs up when it is dropped.
struct Dialling {
    shared: Arc<Shared>,
    dial: u64,
}

impl Dialling {
    fn poll(&self, cx: &Context<'_>) -> Poll<Result<u64, io::ErrorKind>> {
        self.shared.with(|state, after| {
            let Some(dial) = state.network.dials.get_mut(&self.dial) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected));
            };
            if let Some(outcome) = dial.outcome.take() {
                return Poll::Ready(outcome);
            }
            after.forgotten.extend(dial.waker.replace(cx.waker().clone()));
            Poll::Pending
        })
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.shared.with(|state, after| state.hang_up(self.dial, after));
    }
}

struct SimListener {
    shared: Arc<Shared>,
    scope: Scope,
    port: u16,
    at: Endpoint,
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&mut self) -> io::Result<Upgrade> {
        let (shared, scope, port) = (&self.shared, self.scope, self.port);
        let conn = poll_fn(|cx| {
            shared.with(|state, after| match state.accept(scope, port) {
                Ok(Some(conn)) => Poll::Ready(Ok(conn)),
                Ok(None) => {
                    let listener = state.network.listeners.get_mut(&(scope.node, port));
                    let old = listener.and_then(|it| it.waker.replace(cx.waker().clone()));
                    after.forgotten.extend(old);
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            })
        })
        .await?;
        let peer = shared.with(|state, _| {
            let client = state.network.conns.get(&conn).map(|conn| conn.ends[0].scope.node);
            client.map(|node| Peer::at(&*state.nodes[node].name)).unwrap_or_default()
        });
        let connection = SimConnection::new(shared, conn, 1, scope, peer);
        Ok(Box::pin(std::future::ready(Ok(Box::new(connection) as BoxConnection))))
    }

    fn endpoint(&self) -> Endpoint {
        self.at.clone()
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.shared.with(|state, after| state.stop_listening(self.scope, self.port, after));
    }
}

/// One end of a connection.
struct SimConnection {
    shared: Arc<Shared>,
    conn: u64,
    end: usize,
    scope: Scope,
    peer: Peer,
}

impl SimConnection {
    fn new(shared: &Arc<Shared>, conn: u64, end: usize, scope: Scope, peer: Peer) -> Self {
        Self { shared: Arc::clone(shared), conn, end, scope, peer }
    }
}

/// Whether the connection is of any use to this end.
fn usable(state: &crate::state::State, conn: u64, end: usize, scope: Scope) -> io::Result<()> {
    let Some(conn) = state.network.conns.get(&conn) else {
        return Err(io::ErrorKind::ConnectionReset.into());
    };
    if conn.ends[end].reset || !conn.ends[end].open || !state.is_alive(scope) {
        return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection was reset"));
    }
    Ok(())
}

impl AsyncRead for SimConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (conn, end) = (self.conn, self.end);
        self.shared.with(|state, after| {
            usable(state, conn, end, self.scope)?;
            if let Some(count) = state.read(conn, end, into, after) {
                return Poll::Ready(Ok(count));
            }
            if let Some(conn) = state.network.conns.get_mut(&conn) {
                let reader = &mut conn.flows[1 - end].reader;
                after.forgotten.extend(reader.replace(cx.waker().clone()));
            }
            Poll::Pending
        })
    }
}

impl AsyncWrite for SimConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (conn, end) = (self.conn, self.end);
        if from.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.shared.with(|state, after| {
            usable(state, conn, end, self.scope)?;
            let finished = |conn: &crate::network::Conn| conn.flows[end].is_finished();
            if state.network.conns.get(&conn).is_some_and(finished) {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let count = state.write(conn, end, from);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            if let Some(conn) = state.network.conns.get_mut(&conn) {
                let writer = &mut conn.flows[end].writer;
                after.forgotten.extend(writer.replace(cx.waker().clone()));
            }
            Poll::Pending
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|state, _| state.finish_writing(self.conn, self.end));
        Poll::Ready(Ok(()))
    }
}

impl Connection for SimConnection {
    fn peer(&self) -> Peer {
        self.peer.clone()
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        self.shared.with(|state, after| state.close_end(self.conn, self.end, after));
    }
}
