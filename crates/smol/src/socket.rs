//! `std` sockets inside smol's reactor, behind the `futures-io` traits.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::{Async, IoSafe};
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::runtime::{Acceptor, BoxAcceptor, StdListener, StdSocket};
use posthaste_core::transport::{BoxConnection, Connection};

/// Puts a connected socket into the reactor.
pub(crate) fn register(socket: StdSocket) -> io::Result<BoxConnection> {
    match socket {
        StdSocket::Tcp(socket) => Ok(Box::new(Stream(Async::new(socket)?))),
        #[cfg(unix)]
        StdSocket::Unix(socket) => Ok(Box::new(Stream(Async::new(socket)?))),
        other => Err(unsupported(&other)),
    }
}

/// Puts a socket that is connecting into the reactor and waits until it is connected.
pub(crate) async fn connected(socket: StdSocket) -> io::Result<BoxConnection> {
    match socket {
        StdSocket::Tcp(socket) => {
            let socket = Async::new(socket)?;
            socket.writable().await?;
            socket.get_ref().take_error()?.map_or_else(|| Ok(Box::new(Stream(socket)) as _), Err)
        }
        #[cfg(unix)]
        StdSocket::Unix(socket) => {
            let socket = Async::new(socket)?;
            socket.writable().await?;
            socket.get_ref().take_error()?.map_or_else(|| Ok(Box::new(Stream(socket)) as _), Err)
        }
        other => Err(unsupported(&other)),
    }
}

/// Puts a listening socket into the reactor.
pub(crate) fn register_listener(listener: StdListener) -> io::Result<BoxAcceptor> {
    match listener {
        StdListener::Tcp(listener) => Ok(Box::new(Listener(Async::new(listener)?))),
        #[cfg(unix)]
        StdListener::Unix(listener) => Ok(Box::new(Listener(Async::new(listener)?))),
        other => Err(unsupported(&other)),
    }
}

fn unsupported(socket: &dyn std::fmt::Debug) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("the smol adapter knows no such kind of socket: {socket:?}"),
    )
}

/// A socket in the reactor whose close is a half-close; [`Async`]'s own would be a mere flush.
struct Stream<S>(Async<S>);

/// What [`Stream`] needs of a `std` socket beside reading and writing.
trait Socket: IoSafe + io::Read + io::Write + Send + Sync + 'static {
    fn shutdown_write(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<S: Socket> Connection for Stream<S> {}

impl<S: Socket> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: Socket> AsyncWrite for Stream<S> {
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
        ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        Poll::Ready(match self.0.get_ref().shutdown_write() {
            // The other side was faster, which is as closed as it gets.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        })
    }
}

/// A listener in the reactor.
struct Listener<L>(Async<L>);

impl Acceptor for Listener<TcpListener> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<StdSocket>> {
        poll_accept(&self.0, cx, |listener| {
            let (socket, _) = listener.accept()?;
            socket.set_nonblocking(true)?;
            Ok(StdSocket::Tcp(socket))
        })
    }
}

#[cfg(unix)]
impl Acceptor for Listener<UnixListener> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<StdSocket>> {
        poll_accept(&self.0, cx, |listener| {
            let (socket, _) = listener.accept()?;
            socket.set_nonblocking(true)?;
            Ok(StdSocket::Unix(socket))
        })
    }
}

fn poll_accept<L>(
    listener: &Async<L>,
    cx: &mut Context<'_>,
    accept: impl Fn(&L) -> io::Result<StdSocket>,
) -> Poll<io::Result<StdSocket>> {
    // Asking first finds a connection that is there already without a trip through the reactor.
    loop {
        match accept(listener.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            accepted => return Poll::Ready(accepted),
        }
        ready!(listener.poll_readable(cx))?;
    }
}
