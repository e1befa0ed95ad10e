//! A transport over another one, whose clients read a few bytes at a time: frames that a server
//! says in one breath come one after the other.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::transport::{
    BoxConnection, BoxListener, Connection, Endpoint, Peer, Transport,
};
use posthaste_link::Pipe;

/// No more than a small frame.
const SIP: usize = 8;

/// A pipe that is drunk from in sips.
#[derive(Debug)]
pub struct Sips(pub Pipe);

#[async_trait]
impl Transport for Sips {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        Ok(Box::new(Sipped(self.0.connect(to).await?)))
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        self.0.bind(at).await
    }
}

struct Sipped(BoxConnection);

impl AsyncRead for Sipped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = into.len().min(SIP);
        Pin::new(&mut self.0).poll_read(cx, &mut into[..most])
    }
}

impl AsyncWrite for Sipped {
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
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl Connection for Sipped {
    fn peer(&self) -> Peer {
        self.0.peer()
    }
}
