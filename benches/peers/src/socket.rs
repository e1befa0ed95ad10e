//! Plain sockets for those who need nothing else, on threads and on every executor.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::Result;
use smol::Async;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::executor::Engine;
use crate::peer::Script;
use crate::stage::Stage;
use crate::work::Transport;

/// A socket that blocks.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket's two directions on a thread.
pub(crate) trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A socket's two directions on an executor.
pub(crate) trait AsyncDuplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> AsyncDuplex for T {}

impl Socket {
    /// Listens, says so, and waits for the one that connects.
    pub(crate) fn accept(stage: &Stage) -> Result<Self> {
        match stage.script().work.transport() {
            Transport::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                stage.ready(listener.local_addr()?.to_string());
                Self::tcp(listener.accept()?.0)
            }
            Transport::Unix => {
                let path = unix_path(stage.script());
                let listener = UnixListener::bind(&path)?;
                stage.ready(path);
                Ok(Self::Unix(listener.accept()?.0))
            }
        }
    }

    /// Connects to a role that was started before.
    pub(crate) fn connect(stage: &Stage, role: &str) -> Result<Self> {
        let address = stage.address_of(role)?;
        match stage.script().work.transport() {
            Transport::Tcp => Self::tcp(TcpStream::connect(address)?),
            Transport::Unix => Ok(Self::Unix(UnixStream::connect(address)?)),
        }
    }

    fn tcp(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// The socket for a thread.
    pub(crate) fn blocking(self) -> Box<dyn Duplex> {
        match self {
            Self::Tcp(stream) => Box::new(stream),
            Self::Unix(stream) => Box::new(stream),
        }
    }

    /// The socket on an executor, as that executor has it.
    pub(crate) fn on(self, engine: &Engine) -> Result<Box<dyn AsyncDuplex>> {
        Ok(match (self, engine) {
            (Self::Tcp(stream), Engine::Tokio(handle)) => {
                let _context = handle.enter();
                stream.set_nonblocking(true)?;
                Box::new(tokio::net::TcpStream::from_std(stream)?)
            }
            (Self::Unix(stream), Engine::Tokio(handle)) => {
                let _context = handle.enter();
                stream.set_nonblocking(true)?;
                Box::new(tokio::net::UnixStream::from_std(stream)?)
            }
            (Self::Tcp(stream), Engine::Smol(_)) => Box::new(Async::new(stream)?.compat()),
            (Self::Unix(stream), Engine::Smol(_)) => Box::new(Async::new(stream)?.compat()),
        })
    }
}

/// A path for the Unix socket of a role.
pub(crate) fn unix_path(script: &Script) -> String {
    script.folder.join(format!("{}.sock", script.role)).display().to_string()
}
