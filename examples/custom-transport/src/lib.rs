//! A transport of one's own: serial lines inside this process, 64 bytes of FIFO each way.
//!
//! It stands for whatever carries bytes where you are. All that it knows of Posthaste are three
//! traits of `posthaste_core::transport`; `tests/laws.rs` shows that this is enough.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_channel::{Receiver, Sender, bounded};
use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::task::lock;
use posthaste_core::transport::{
    BoxConnection, BoxListener, Connection, Endpoint, Listener, Transport, Upgrade,
};

/// Bytes that are under way in one direction, as on the chip of a real line.
const FIFO: usize = 64;
/// Connections that may wait to be accepted.
const BACKLOG: usize = 64;

/// A board of serial ports. Clones are the same board: what one binds, another connects to.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<Endpoint, Sender<Port>>>>);

#[async_trait]
impl Transport for Board {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let listener = lock(&self.0).get(to).cloned();
        let (incoming, outgoing) = (Line::default(), Line::default());
        let far = Port(outgoing.clone(), incoming.clone());
        // Nobody bound it, its listener is gone, or it is busy: all of them refuse.
        let sent = listener.and_then(|listener| listener.try_send(far).ok());
        sent.ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(Port(incoming, outgoing)))
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        let mut ports = lock(&self.0);
        if ports.get(at).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (listener, waiting) = bounded(BACKLOG);
        ports.insert(at.clone(), listener);
        Ok(Box::new(Plug(at.clone(), waiting)))
    }
}

struct Plug(Endpoint, Receiver<Port>);

#[async_trait]
impl Listener for Plug {
    async fn accept(&mut self) -> io::Result<Upgrade> {
        let accepted = self.1.recv().await;
        // A handshake, if there were one, would go on in this future, away from accepting.
        Ok(Box::pin(async {
            let port = accepted.map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(Box::new(port) as BoxConnection)
        }))
    }

    fn endpoint(&self) -> Endpoint {
        self.0.clone()
    }
}

/// One end: what comes in and what goes out. `peer` could tell who is at the other end.
#[derive(Debug)]
struct Port(Line, Line);

impl Connection for Port {}

#[derive(Debug, Clone, Default)]
struct Line(Arc<Mutex<Wire>>);

/// What is on the way in one direction, and who waits for it to change.
#[derive(Debug, Default)]
struct Wire {
    fifo: VecDeque<u8>,
    /// Nothing more is written, or nothing more is read.
    cut: bool,
    waiting: Vec<Waker>,
}

impl Line {
    /// Acts on the wire and wakes who waits for a change, or waits for one.
    fn poll<T>(&self, cx: &Context<'_>, act: impl FnOnce(&mut Wire) -> Option<T>) -> Poll<T> {
        let mut wire = lock(&self.0);
        let Some(done) = act(&mut wire) else {
            wire.waiting.retain(|waker| !waker.will_wake(cx.waker()));
            wire.waiting.push(cx.waker().clone());
            return Poll::Pending;
        };
        let waiting = std::mem::take(&mut wire.waiting);
        drop(wire);
        waiting.into_iter().for_each(Waker::wake);
        Poll::Ready(done)
    }

    fn cut(&self) {
        let _ready = self.poll(&Context::from_waker(Waker::noop()), |wire| {
            wire.cut = true;
            Some(())
        });
    }
}

type Count = Poll<io::Result<usize>>;

impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Count {
        self.0.poll(cx, |wire| {
            let read = wire.fifo.read(into);
            (wire.cut || into.is_empty() || !matches!(read, Ok(0))).then_some(read)
        })
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Count {
        self.1.poll(cx, |wire| {
            if wire.cut {
                return Some(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let count = (FIFO - wire.fifo.len()).min(from.len());
            wire.fifo.extend(&from[..count]);
            (count > 0 || from.is_empty()).then_some(Ok(count))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.cut();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.0.cut();
        self.1.cut();
    }
}
