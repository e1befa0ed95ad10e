//! Unix sockets for Posthaste, on any runtime: a [`Transport`] over a [`SharedRuntime`].
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use posthaste_core::transport::{Endpoint, Transport};
//! use posthaste_tokio::Tokio;
//! use posthaste_unix::Unix;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let folder = tempfile::tempdir()?;
//!     let path = folder.path().join("app.sock");
//!     let unix = Unix::new(Tokio::current());
//!     let mut listener = unix.bind(&Endpoint::new("unix", path.to_string_lossy())).await?;
//!     let mut client = unix.connect(&listener.endpoint()).await?;
//!     let mut server = listener.accept().await?.await?;
//!     client.write_all(b"hello").await?;
//!     server.read_exact(&mut [0; 5]).await?;
//!     Ok(())
//! }
//! ```
//!
//! A listener owns its path through a lock on the file `PATH.lock` beside it. The lock dies with
//! its process, so a server may start again right after it was killed: the socket file that it
//! left is replaced. A socket that someone still listens on, or a file that is no socket, never is.
//!
//! The crate is empty where there are no Unix sockets.

#![cfg(unix)]

mod listener;
mod owner;
mod path;
mod serve;

pub use posthaste_link::{Reconnect, Remote, RemoteOptions, Server, ServerOptions};
pub use serve::{connect, serve};

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::runtime::{SharedRuntime, StdSocket, blocking};
use posthaste_core::transport::{
    BoxConnection, BoxListener, Credentials, Endpoint, Peer, Transport, WithPeer,
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::listener::UnixAcceptLoop;
use crate::path::{CONNECT, LISTEN, SocketPath};

/// How long a connect goes on while the listener's backlog is full.
const BACKLOG_WAIT_MAX: Duration = Duration::from_secs(2);
/// The first pause, and the longest; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// Unix-socket connections inside the reactor of one runtime.
///
/// ```
/// use posthaste_smol::Smol;
/// use posthaste_unix::Unix;
///
/// // For every member of the group that owns the socket's folder.
/// let unix = Unix::new(Smol::global()).mode(0o660);
/// # drop(unix);
/// ```
#[derive(Clone)]
pub struct Unix {
    runtime: SharedRuntime,
    mode: u32,
    backlog: u16,
}

impl Unix {
    /// Unix sockets over `runtime`: a runtime adapter's value, or one that is shared already.
    pub fn new(runtime: impl Into<SharedRuntime>) -> Self {
        Self { runtime: runtime.into(), mode: 0o600, backlog: 1024 }
    }

    /// Who may connect, as the permission bits of the socket file (0o600 by default: its owner
    /// alone), whatever the process's umask says. Connecting takes the right to write.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// How many connections may wait to be accepted (1,024 by default). The kernel has an upper
    /// bound of its own.
    #[must_use]
    pub fn backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Begins to connect, and says whether the kernel is done with it. A full backlog is waited
    /// for, in short pauses, as long as [`BACKLOG_WAIT_MAX`].
    async fn begin(&self, socket: &Socket, to: &SockAddr) -> io::Result<bool> {
        let give_up = self.runtime.now() + BACKLOG_WAIT_MAX;
        let mut pause = PAUSE_MIN;
        loop {
            match socket.connect(to) {
                Ok(()) => return Ok(true),
                Err(error) if is_under_way(&error) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let now = self.runtime.now();
            if now >= give_up {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "its listener is busy: the backlog stayed full for 2 s",
                ));
            }
            let mut timer = self.runtime.timer();
            timer.as_mut().reset((now + pause).min(give_up));
            timer.await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn connect_to(&self, path: &SocketPath) -> io::Result<BoxConnection> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let connected = self.begin(&socket, path.address()).await?;
        let socket = UnixStream::from(std::os::fd::OwnedFd::from(socket));
        let peer = Peer::at(path.written());
        let peer = match credentials(&socket) {
            Some(credentials) => peer.with_credentials(credentials),
            None => peer,
        };
        let socket = StdSocket::Unix(socket);
        let connection = if connected {
            self.runtime.register(socket)?
        } else {
            self.runtime.register_connecting(socket).await?
        };
        Ok(Box::new(WithPeer::new(connection, peer)))
    }
}

impl std::fmt::Debug for Unix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unix")
            .field("mode", &format_args!("{:#o}", self.mode))
            .field("backlog", &self.backlog)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for Unix {
    /// Connects to the socket at a path. The peer's credentials are those of the process that
    /// listens.
    ///
    /// # Errors
    /// `InvalidInput` for what is no path of a socket, `NotFound` and `ConnectionRefused` when
    /// nobody listens, `PermissionDenied` when the socket's mode or a folder's forbids it,
    /// `TimedOut` when the listener's backlog stayed full for 2 s. The text names the path.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let path = SocketPath::parse(to)?;
        self.connect_to(&path).await.map_err(|error| path.failure(CONNECT, &error))
    }

    /// Listens at a path, with the mode that was asked for from the first moment that anyone can
    /// connect. Dropping the listener removes the socket file and its lock file.
    ///
    /// # Errors
    /// `InvalidInput` for what is no path of a socket, `AddrInUse` while someone listens there,
    /// `AlreadyExists` when a file is there that is no socket; what the file system answers
    /// otherwise. The text names the path.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind, once the file operation under way is done.
    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        let path = SocketPath::parse(at)?;
        let (mode, backlog) = (self.mode, self.backlog);
        // The file system may be a slow one, and it has no other interface.
        let bound = blocking(&*self.runtime, move || {
            owner::bind(&path, mode, backlog).map_err(|error| path.failure(LISTEN, &error))
        });
        let (owner, listener) = bound.await?;
        Ok(Box::new(UnixAcceptLoop::new(&self.runtime, owner, listener, at.clone())?))
    }
}

/// Who is at the other end; `None` where the system has no way to say.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn credentials(socket: &UnixStream) -> Option<Credentials> {
    let found = rustix::net::sockopt::socket_peercred(socket).ok()?;
    Some(Credentials {
        pid: Some(found.pid.as_raw_pid()),
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn credentials(_socket: &UnixStream) -> Option<Credentials> {
    None
}

fn is_under_way(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS)
}
