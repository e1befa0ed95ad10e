//! Transports with a fault, and the laws that each fault breaks.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_conformance::Law::{self, *};
use posthaste_conformance::{Medium, TransportSubject, run_transport};
use posthaste_core::BoxFuture;
use posthaste_core::transport::{
    BoxConnection, BoxListener, Connection, Endpoint, Listener, Peer, Transport, Upgrade,
};
use posthaste_link::Pipe;

use super::assert_breaks;
use super::common::{Bare, On};

/// One defect of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Every thousandth byte that is written is gone.
    DropsAByte,
    /// Chunks of a write are swapped.
    SwapsChunks,
    /// A chunk is written twice.
    DoublesAChunk,
    /// Closing one direction is not seen at the other end.
    HidesTheEnd,
    /// Closing one direction closes both.
    ClosesBothWays,
    /// Accepting waits for the peer to say something.
    WaitsInAccept,
    /// A wait for bytes that is given up loses them.
    LosesAcceptedPeers,
    /// Writes report all of a vectored write but write the first slice alone.
    WritesOneSlice,
    /// A full connection does not wake who waits for room.
    ForgetsTheWriter,
    /// The listener says another address than its own.
    SaysAnotherAddress,
    /// Two listeners may share one address.
    SharesAddresses,
    /// A connection has no bound.
    HasNoBound,
}

impl TransportSubject for On<Bare, Fault> {
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>> {
        let pipe = match self.what {
            Fault::HasNoBound => Pipe::new().capacity(usize::MAX),
            _ => Pipe::new(),
        };
        let broken = Broken { pipe, fault: self.what };
        Box::pin(async { Ok(Medium::new(broken, Endpoint::new("pipe", "kit"))) })
    }
}

struct Broken {
    pipe: Pipe,
    fault: Fault,
}

#[async_trait]
impl Transport for Broken {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        Ok(wrap(self.pipe.connect(to).await?, self.fault))
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        let inner = match self.pipe.bind(at).await {
            Err(_) if self.fault == Fault::SharesAddresses => {
                self.pipe.bind(&Endpoint::new("pipe", "elsewhere")).await?
            }
            bound => bound?,
        };
        Ok(Box::new(BrokenListener { inner, fault: self.fault }))
    }
}

struct BrokenListener {
    inner: BoxListener,
    fault: Fault,
}

#[async_trait]
impl Listener for BrokenListener {
    async fn accept(&mut self) -> io::Result<Upgrade> {
        let mut connection = self.inner.accept().await?.await?;
        match self.fault {
            Fault::WaitsInAccept => {
                // A handshake where there should be none: the first byte, which is then missing.
                let mut first = [0];
                std::future::poll_fn(|cx| Pin::new(&mut connection).poll_read(cx, &mut first))
                    .await?;
            }
            Fault::LosesAcceptedPeers => {
                // Given up here, the connection is gone.
                let mut yielded = false;
                std::future::poll_fn(|cx| {
                    if std::mem::replace(&mut yielded, true) {
                        return Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
            }
            _ => {}
        }
        let fault = self.fault;
        Ok(Box::pin(async move { Ok(wrap(connection, fault)) }))
    }

    fn endpoint(&self) -> Endpoint {
        match self.fault {
            Fault::SaysAnotherAddress => Endpoint::new("pipe", "nowhere"),
            _ => self.inner.endpoint(),
        }
    }
}

fn wrap(inner: BoxConnection, fault: Fault) -> BoxConnection {
    Box::new(Faulty { inner, fault, written: 0, closed: false })
}

struct Faulty {
    inner: BoxConnection,
    fault: Fault,
    written: usize,
    closed: bool,
}

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed && self.fault == Fault::ClosesBothWays {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // A few bytes at a time, so that each is this one's to spoil.
        let mut chunk = from[..from.len().min(64)].to_vec();
        match this.fault {
            Fault::DropsAByte => {
                let hit = (0..chunk.len()).find(|at| (this.written + at) % 1_000 == 999);
                if let Some(at) = hit {
                    chunk.truncate(at);
                    if at == 0 {
                        this.written += 1;
                        return Poll::Ready(Ok(1));
                    }
                }
            }
            Fault::SwapsChunks if chunk.len() == 64 => chunk.rotate_left(32),
            Fault::ForgetsTheWriter => {
                let mut deaf = Context::from_waker(std::task::Waker::noop());
                return Pin::new(&mut this.inner).poll_write(&mut deaf, from);
            }
            Fault::HasNoBound | Fault::ClosesBothWays | Fault::HidesTheEnd => {
                return Pin::new(&mut this.inner).poll_write(cx, from);
            }
            _ => {}
        }
        let count = ready!(Pin::new(&mut this.inner).poll_write(cx, &chunk))?;
        if this.fault == Fault::DoublesAChunk && this.written % 4_096 > 4_000 {
            let _ = Pin::new(&mut this.inner).poll_write(cx, &chunk[..count]);
        }
        this.written += count;
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = from.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if self.fault == Fault::WritesOneSlice {
            let wrote = ready!(Pin::new(&mut self.inner).poll_write(cx, first))?;
            let all = from.iter().map(|slice| slice.len()).sum();
            return Poll::Ready(Ok(if wrote == first.len() { all } else { wrote }));
        }
        self.poll_write(cx, first)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        if self.fault == Fault::HidesTheEnd {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl Connection for Faulty {
    fn peer(&self) -> Peer {
        self.inner.peer()
    }
}

macro_rules! mutants {
    ($($name:ident: $fault:ident breaks $laws:tt;)+) => {$(
        #[test]
        fn $name() {
            let laws: &[Law] = &$laws;
            assert_breaks(&run_transport(&On { executor: Bare, what: Fault::$fault }), laws, false);
        }
    )+};
}

mutants! {
    a_transport_that_drops_a_byte: DropsAByte breaks [T1, T3];
    a_transport_that_swaps_chunks: SwapsChunks breaks [T1, T3];
    a_transport_that_doubles_a_chunk: DoublesAChunk breaks [T1, T3];
    a_transport_that_hides_the_end: HidesTheEnd breaks [T1, T3];
    a_transport_that_closes_both_ways: ClosesBothWays breaks [T1];
    a_transport_that_waits_in_accept: WaitsInAccept breaks [D1, T1, T2, T3, T4];
    a_transport_that_loses_accepted_peers: LosesAcceptedPeers breaks [T2];
    a_transport_that_writes_one_slice: WritesOneSlice breaks [T3];
    a_transport_that_forgets_the_writer: ForgetsTheWriter breaks [T1, T3];
    a_transport_that_says_another_address: SaysAnotherAddress breaks [D1, T1, T2, T3, T4];
    a_transport_that_shares_addresses: SharesAddresses breaks [T4];
    a_transport_that_has_no_bound: HasNoBound breaks [T1];
}
