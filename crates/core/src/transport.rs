//! Byte-stream transports: what a custom transport writes to get everything else for free.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};

use crate::runtime::BoxFuture;
use crate::{Error, ErrorKind};

/// A boxed connection.
pub type BoxConnection = Box<dyn Connection>;
/// A boxed listener.
pub type BoxListener = Box<dyn Listener>;
/// An accepted connection that still has to finish its own handshake (TLS, say), away from the
/// accept loop.
pub type Upgrade = BoxFuture<'static, io::Result<BoxConnection>>;

/// A way to carry bytes between two places.
///
/// This is all that a custom, byte-oriented transport writes; links, flow control,
/// acknowledgement, patterns and reconnection come with `posthaste-link`. A message-oriented
/// medium (a vendor bus) implements [`Broker`](crate::Broker) instead.
///
/// # Laws
///
/// - **T1** Bytes arrive in order, and the end of one direction is visible while the other still
///   runs (half-close).
/// - **T2** A peer that stalls in its handshake does not hold up `accept`.
/// - **T3** Reads and writes may be cut at any byte boundary.
/// - **T4** What a listener says it listens at can be connected to, and only while it is there;
///   a second listener there is `AddrInUse`.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Connects to a listener.
    ///
    /// # Errors
    /// Whatever the medium answers.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt and leaves nothing behind.
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection>;

    /// Starts to listen.
    ///
    /// # Errors
    /// Whatever the medium answers; an address in use is `AddrInUse`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener>;
}

#[async_trait]
impl<T: Transport + ?Sized> Transport for Arc<T> {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        (**self).connect(to).await
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        (**self).bind(at).await
    }
}

/// Accepts connections.
#[async_trait]
pub trait Listener: Send {
    /// Waits for the next connection and hands out the rest of its handshake as a future.
    ///
    /// # Errors
    /// A passing error (too many open files) may be followed by a success.
    ///
    /// # Cancel safety
    /// Dropping the future loses no connection.
    async fn accept(&mut self) -> io::Result<Upgrade>;

    /// Where this listens, in a form that [`Transport::connect`] accepts (a real port, not 0).
    fn endpoint(&self) -> Endpoint;
}

/// One byte stream in both directions, over `futures-io`.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {
    /// Who is at the other end, as far as the transport knows.
    fn peer(&self) -> Peer {
        Peer::unknown()
    }
}

impl<C: Connection + ?Sized> Connection for Box<C> {
    fn peer(&self) -> Peer {
        (**self).peer()
    }
}

/// A connection whose peer is known: any byte stream, plus a [`Peer`].
#[derive(Debug)]
pub struct WithPeer<C> {
    inner: C,
    peer: Peer,
}

impl<C> WithPeer<C> {
    /// Says who is at the other end of `inner`.
    pub fn new(inner: C, peer: Peer) -> Self {
        Self { inner, peer }
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for WithPeer<C> {
    fn peer(&self) -> Peer {
        self.peer.clone()
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for WithPeer<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for WithPeer<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The address in the transport's own notation, if it has one.
    pub address: Option<String>,
    /// The credentials of a local process, read once when it connected.
    pub credentials: Option<Credentials>,
}

/// The credentials of a local process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The process, for information only: the number may be used again.
    pub pid: Option<i32>,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

impl Peer {
    /// Nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// A peer at `address`.
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), credentials: None }
    }

    /// Adds the credentials of a local process.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, &self.credentials) {
            (Some(address), _) => f.write_str(address),
            (None, Some(credentials)) => write!(f, "uid {}", credentials.uid),
            (None, None) => f.write_str("unknown peer"),
        }
    }
}

/// Where something listens: a scheme and an address, written as a URL.
///
/// ```
/// use posthaste_core::transport::Endpoint;
///
/// let tcp: Endpoint = "tcp://127.0.0.1:7411".parse()?;
/// assert_eq!((tcp.scheme(), tcp.address()), ("tcp", "127.0.0.1:7411"));
/// let unix: Endpoint = "unix:///run/app.sock".parse()?;
/// assert_eq!((unix.scheme(), unix.address()), ("unix", "/run/app.sock"));
/// assert_eq!(unix.to_string(), "unix:/run/app.sock");
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    scheme: String,
    address: String,
}

impl Endpoint {
    /// An endpoint from its parts.
    pub fn new(scheme: impl Into<String>, address: impl Into<String>) -> Self {
        Self { scheme: scheme.into(), address: address.into() }
    }

    /// What stands before the colon.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands behind it, without the two slashes of an authority.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{url:?} is no URL; write one like tcp://127.0.0.1:7411 or unix:/run/ph.sock"
                ),
            ));
        };
        Ok(Self::new(scheme, rest.strip_prefix("//").unwrap_or(rest)))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slashes =
            if self.address.is_empty() || self.address.starts_with('/') { "" } else { "//" };
        write!(f, "{}:{slashes}{}", self.scheme, self.address)
    }
}
