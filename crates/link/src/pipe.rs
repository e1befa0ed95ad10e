//! An in-memory transport: byte streams inside one process, bounded and with half-close.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::sync::Mutex;
use posthaste_core::task::{lock, remember};
use posthaste_core::transport::{
    BoxConnection, BoxListener, Connection, Endpoint, Listener, Peer, Transport, Upgrade,
};

/// Bytes that one direction holds before its writer waits, unless it was told otherwise.
const CAPACITY: usize = 64 << 10;
/// Connections that wait to be accepted before further ones are refused.
const BACKLOG: usize = 1_024;

/// A transport that never leaves the process: for tests, and for brokers and clients that share
/// one.
///
/// Clones share their addresses: what one binds the other connects to. An address is any text. It
/// needs no runtime and behaves as a socket does: bounded, in order, closable one way at a time.
///
/// ```
/// use posthaste_core::transport::{Endpoint, Transport};
/// use posthaste_link::Pipe;
///
/// # pollster::block_on(async {
/// let pipe = Pipe::new();
/// let here = Endpoint::new("pipe", "here");
/// let mut listener = pipe.bind(&here).await?;
/// let client = pipe.connect(&here).await?;
/// let server = listener.accept().await?.await?;
/// assert_eq!(client.peer().to_string(), "here");
/// # drop(server);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Pipe {
    shared: Arc<Mutex<Addresses>>,
    capacity: Option<usize>,
}

#[derive(Default)]
struct Addresses {
    bound: BTreeMap<String, Arc<Mutex<Backlog>>>,
    /// Every direction of every connection made so far that still lives, for `cut`.
    alive: Vec<Weak<Mutex<Direction>>>,
}

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<PipeConnection>,
    waker: Option<Waker>,
}

impl Pipe {
    /// A transport with no addresses bound, whose connections hold 64 KiB each way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes a connection holds each way before its writer waits; at least 1.
    #[must_use]
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes.max(1));
        self
    }

    /// Two ends of one connection, without an address.
    #[must_use]
    pub fn pair(&self) -> (BoxConnection, BoxConnection) {
        let (one, other) = self.connected("pair");
        (Box::new(one), Box::new(other))
    }

    /// Breaks every connection there is, as a network does: both ends see `ConnectionReset`.
    /// Listeners stay, so that peers may connect again.
    pub fn cut(&self) {
        let alive = std::mem::take(&mut lock(&self.shared).alive);
        for direction in alive.iter().filter_map(Weak::upgrade) {
            wake_all(lock(&direction).cut());
        }
    }

    fn connected(&self, address: &str) -> (PipeConnection, PipeConnection) {
        let capacity = self.capacity.unwrap_or(CAPACITY);
        let there = Arc::new(Mutex::new(Direction::new(capacity)));
        let back = Arc::new(Mutex::new(Direction::new(capacity)));
        let mut shared = lock(&self.shared);
        shared.alive.retain(|direction| direction.strong_count() > 0);
        shared.alive.extend([&there, &back].map(Arc::downgrade));
        let peer = Peer::at(address);
        let client = PipeConnection {
            incoming: Arc::clone(&back),
            outgoing: Arc::clone(&there),
            peer: peer.clone(),
        };
        let server = PipeConnection { incoming: there, outgoing: back, peer };
        (client, server)
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound: Vec<_> = lock(&self.shared).bound.keys().cloned().collect();
        f.debug_struct("Pipe").field("bound", &bound).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for Pipe {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let backlog = lock(&self.shared).bound.get(to.address()).cloned();
        let Some(backlog) = backlog else {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("nothing listens at {to}"),
            ));
        };
        let (client, server) = self.connected(to.address());
        let waker = {
            let mut backlog = lock(&backlog);
            if backlog.waiting.len() >= BACKLOG {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    format!("{BACKLOG} connections wait at {to} already"),
                ));
            }
            backlog.waiting.push_back(server);
            backlog.waker.take()
        };
        wake_all(waker);
        Ok(Box::new(client))
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        let backlog = Arc::default();
        let mut shared = lock(&self.shared);
        if shared.bound.contains_key(at.address()) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("something listens at {at} already"),
            ));
        }
        shared.bound.insert(at.address().to_owned(), Arc::clone(&backlog));
        let pipe = Arc::clone(&self.shared);
        Ok(Box::new(PipeListener { pipe, backlog, at: at.clone() }))
    }
}

struct PipeListener {
    pipe: Arc<Mutex<Addresses>>,
    backlog: Arc<Mutex<Backlog>>,
    at: Endpoint,
}

#[async_trait]
impl Listener for PipeListener {
    async fn accept(&mut self) -> io::Result<Upgrade> {
        let connection = std::future::poll_fn(|cx| {
            let mut backlog = lock(&self.backlog);
            if let Some(connection) = backlog.waiting.pop_front() {
                return Poll::Ready(connection);
            }
            remember(&mut backlog.waker, cx);
            Poll::Pending
        })
        .await;
        Ok(Box::pin(std::future::ready(Ok(Box::new(connection) as BoxConnection))))
    }

    fn endpoint(&self) -> Endpoint {
        self.at.clone()
    }
}

impl Drop for PipeListener {
    fn drop(&mut self) {
        lock(&self.pipe).bound.remove(self.at.address());
        // Dropped outside the lock: their ends wake whoever waits at the others.
        let waiting = std::mem::take(&mut lock(&self.backlog).waiting);
        drop(waiting);
    }
}

/// One end: what comes in, and what goes out.
struct PipeConnection {
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
    peer: Peer,
}

/// One way of a connection.
struct Direction {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// The writer has closed its side: the reader sees the end after what is left.
    ended: bool,
    /// The reader is gone: the writer sees a broken pipe.
    abandoned: bool,
    /// The connection was cut.
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity,
            ended: false,
            abandoned: false,
            reset: false,
            reader: None,
            writer: None,
        }
    }

    fn cut(&mut self) -> [Option<Waker>; 2] {
        self.reset = true;
        self.bytes = VecDeque::new();
        [self.reader.take(), self.writer.take()]
    }
}

fn wake_all(wakers: impl IntoIterator<Item = impl Into<Option<Waker>>>) {
    for waker in wakers {
        if let Some(waker) = waker.into() {
            waker.wake();
        }
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the pipe was cut")
}

impl AsyncRead for PipeConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (count, writer) = {
            let mut incoming = lock(&self.incoming);
            if incoming.reset {
                return Poll::Ready(Err(reset()));
            }
            if incoming.bytes.is_empty() {
                if incoming.ended || into.is_empty() {
                    return Poll::Ready(Ok(0));
                }
                remember(&mut incoming.reader, cx);
                return Poll::Pending;
            }
            let mut count = 0;
            while count < into.len() && !incoming.bytes.is_empty() {
                let (front, _) = incoming.bytes.as_slices();
                let step = front.len().min(into.len() - count);
                into[count..count + step].copy_from_slice(&front[..step]);
                incoming.bytes.drain(..step);
                count += step;
            }
            (count, incoming.writer.take())
        };
        wake_all(writer);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for PipeConnection {
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
        let (count, reader) = {
            let mut outgoing = lock(&self.outgoing);
            if outgoing.reset {
                return Poll::Ready(Err(reset()));
            }
            if outgoing.abandoned || outgoing.ended {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let mut room = outgoing.capacity.saturating_sub(outgoing.bytes.len());
            if room == 0 {
                remember(&mut outgoing.writer, cx);
                return Poll::Pending;
            }
            let mut count = 0;
            for slice in from {
                let step = slice.len().min(room);
                outgoing.bytes.extend(&slice[..step]);
                room -= step;
                count += step;
            }
            (count, outgoing.reader.take())
        };
        wake_all(reader);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reader = {
            let mut outgoing = lock(&self.outgoing);
            outgoing.ended = true;
            outgoing.reader.take()
        };
        wake_all(reader);
        Poll::Ready(Ok(()))
    }
}

impl Connection for PipeConnection {
    fn peer(&self) -> Peer {
        self.peer.clone()
    }
}

impl Drop for PipeConnection {
    fn drop(&mut self) {
        let reader = {
            let mut outgoing = lock(&self.outgoing);
            outgoing.ended = true;
            outgoing.reader.take()
        };
        let writer = {
            let mut incoming = lock(&self.incoming);
            incoming.abandoned = true;
            incoming.bytes = VecDeque::new();
            incoming.writer.take()
        };
        wake_all([reader, writer]);
    }
}
