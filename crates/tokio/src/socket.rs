//! `std` sockets inside tokio's reactor, behind the `futures-io` traits.

use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::runtime::{Acceptor, BoxAcceptor, StdListener, StdSocket};
use posthaste_core::transport::{BoxConnection, Connection};
use tokio::io::{AsyncRead as TokioRead, AsyncWrite as TokioWrite, ReadBuf};
use tokio::runtime::Handle;

/// Puts a connected socket into the reactor of `handle`.
pub(crate) fn register(handle: &Handle, socket: StdSocket) -> io::Result<BoxConnection> {
    let _context = handle.enter();
    match socket {
        StdSocket::Tcp(socket) => Ok(Box::new(Stream(adopt_tcp(socket)?))),
        #[cfg(unix)]
        StdSocket::Unix(socket) => Ok(Box::new(Stream(adopt_unix(socket)?))),
        other => Err(unsupported(&other)),
    }
}

/// Puts a socket that is connecting into the reactor of `handle` and waits until it is connected.
pub(crate) async fn connected(handle: Handle, socket: StdSocket) -> io::Result<BoxConnection> {
    // The context is entered for the registration alone: its guard must not cross an await.
    match socket {
        StdSocket::Tcp(socket) => {
            let stream = {
                let _context = handle.enter();
                adopt_tcp(socket)?
            };
            stream.writable().await?;
            stream.take_error()?.map_or_else(|| Ok(Box::new(Stream(stream)) as _), Err)
        }
        #[cfg(unix)]
        StdSocket::Unix(socket) => {
            let stream = {
                let _context = handle.enter();
                adopt_unix(socket)?
            };
            stream.writable().await?;
            stream.take_error()?.map_or_else(|| Ok(Box::new(Stream(stream)) as _), Err)
        }
        other => Err(unsupported(&other)),
    }
}

/// Puts a listening socket into the reactor of `handle`.
pub(crate) fn register_listener(handle: &Handle, listener: StdListener) -> io::Result<BoxAcceptor> {
    let _context = handle.enter();
    let handle = handle.clone();
    match listener {
        StdListener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let inner = tokio::net::TcpListener::from_std(listener)?;
            Ok(Box::new(Listener { handle, inner }))
        }
        #[cfg(unix)]
        StdListener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let inner = tokio::net::UnixListener::from_std(listener)?;
            Ok(Box::new(Listener { handle, inner }))
        }
        other => Err(unsupported(&other)),
    }
}

fn adopt_tcp(socket: TcpStream) -> io::Result<tokio::net::TcpStream> {
    socket.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(socket)
}

#[cfg(unix)]
fn adopt_unix(socket: std::os::unix::net::UnixStream) -> io::Result<tokio::net::UnixStream> {
    socket.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(socket)
}

fn unsupported(socket: &dyn std::fmt::Debug) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("the tokio adapter knows no such kind of socket: {socket:?}"),
    )
}

/// A tokio socket that speaks `futures-io`.
///
/// `tokio-util` has such a wrapper, but it forwards no vectored writes, and those are what saves a
/// copy of every large payload.
struct Stream<S>(S);

impl<S: TokioRead + TokioWrite + Send + Unpin> Connection for Stream<S> {}

impl<S: TokioRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl<S: TokioWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A listener in the reactor of `handle`.
struct Listener<L> {
    handle: Handle,
    inner: L,
}

impl Acceptor for Listener<tokio::net::TcpListener> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<StdSocket>> {
        // Tokio registers what it accepts with the current reactor, so there has to be one. It is
        // taken out again, two cheap calls per connection: the transport wants the socket first.
        let _context = self.handle.enter();
        let (socket, _) = ready!(self.inner.poll_accept(cx))?;
        Poll::Ready(socket.into_std().map(StdSocket::Tcp))
    }
}

#[cfg(unix)]
impl Acceptor for Listener<tokio::net::UnixListener> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<StdSocket>> {
        let _context = self.handle.enter();
        let (socket, _) = ready!(self.inner.poll_accept(cx))?;
        Poll::Ready(socket.into_std().map(StdSocket::Unix))
    }
}
