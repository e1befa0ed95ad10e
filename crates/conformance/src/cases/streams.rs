//! What cases do with byte streams: connect, write, read, compare.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::BoxFuture;
use posthaste_core::transport::{BoxConnection, BoxListener, Endpoint, Upgrade};

use crate::Medium;
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::both;
use crate::random::Xorshift;

/// A connection both ends of which are in this task's hands.
pub(super) async fn connected(medium: &Medium) -> Result<(BoxConnection, BoxConnection), Failure> {
    let mut listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    pair(medium, &mut listener, &at).await
}

pub(super) async fn pair(
    medium: &Medium,
    listener: &mut BoxListener,
    at: &Endpoint,
) -> Result<(BoxConnection, BoxConnection), Failure> {
    let connecting = async { Ok(medium.transport.connect(at).await?) };
    let accepting = async { Ok(listener.accept().await?.await?) };
    both(connecting, accepting).await
}

/// Accepts a connection from which something comes.
pub(super) async fn accept_talking(listener: &mut BoxListener) -> Option<BoxConnection> {
    let mut connection = listener.accept().await.ok()?.await.ok()?;
    let heard = read_some(&mut connection, 1).await.ok()?;
    (heard == b"x").then_some(connection)
}

/// Accepts while a connect that may never end is polled beside it.
pub(super) async fn accept_beside(
    connecting: &mut BoxFuture<'_, io::Result<BoxConnection>>,
    listener: &mut BoxListener,
) -> Result<(Upgrade, Option<BoxConnection>), Failure> {
    let mut accepting = listener.accept();
    let mut connection = None;
    let upgrade = poll_fn(|cx| {
        if connection.is_none()
            && let Poll::Ready(connected) = connecting.as_mut().poll(cx)
        {
            connection = Some(connected);
        }
        accepting.as_mut().poll(cx)
    })
    .await?;
    Ok((upgrade, connection.transpose()?))
}

/// Writes `out` and reads `length` bytes, both at once on one connection.
pub(super) async fn exchange(
    connection: &mut BoxConnection,
    out: &[u8],
    length: usize,
) -> Result<Vec<u8>, Failure> {
    let mut rest = out;
    let mut found = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    poll_fn(|cx| -> Poll<Outcome> {
        while !rest.is_empty() {
            match Pin::new(&mut *connection).poll_write(cx, rest)? {
                Poll::Ready(count) => rest = &rest[count..],
                Poll::Pending => break,
            }
        }
        let flushed = Pin::new(&mut *connection).poll_flush(cx)?;
        while found.len() < length {
            let Poll::Ready(count) = Pin::new(&mut *connection).poll_read(cx, &mut buffer)? else {
                return Poll::Pending;
            };
            if count == 0 {
                let heard = found.len();
                return Poll::Ready(Err(Failure::new(format!("an end after {heard} bytes"))));
            }
            found.extend(&buffer[..count]);
        }
        if rest.is_empty() { flushed.map(Ok) } else { Poll::Pending }
    })
    .await?;
    Ok(found)
}

/// Bytes that look random, the same for the same seed.
pub(super) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Xorshift::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    (0..length).map(|_| (random.next() >> 24) as u8).collect()
}

pub(super) async fn write_some(connection: &mut BoxConnection, from: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *connection).poll_write(cx, from)).await
}

pub(super) async fn flush(connection: &mut BoxConnection) -> Outcome {
    poll_fn(|cx| Pin::new(&mut *connection).poll_flush(cx)).await?;
    Ok(())
}

pub(super) async fn write_all(connection: &mut BoxConnection, from: &[u8]) -> Outcome {
    let mut rest = from;
    while !rest.is_empty() {
        let count = write_some(connection, rest).await?;
        check!((1..=rest.len()).contains(&count), "a write of {} wrote {count}", rest.len());
        rest = &rest[count..];
    }
    flush(connection).await
}

/// Writes on one end while the other one reads, and checks that it hears the same.
pub(super) async fn say(
    from: &mut BoxConnection,
    to: &mut BoxConnection,
    text: &[u8],
    what: &str,
) -> Outcome {
    let ((), heard) = both(write_all(from, text), read_exactly(to, text.len())).await?;
    check_eq!(heard, text, "{what}");
    Ok(())
}

pub(super) async fn close(connection: &mut BoxConnection) -> Outcome {
    poll_fn(|cx| Pin::new(&mut *connection).poll_close(cx)).await?;
    Ok(())
}

/// Reads once, up to `size` bytes; nothing is the end.
pub(super) async fn read_some(
    connection: &mut BoxConnection,
    size: usize,
) -> Result<Vec<u8>, Failure> {
    let mut buffer = vec![0; size];
    let count = poll_fn(|cx| Pin::new(&mut *connection).poll_read(cx, &mut buffer)).await?;
    check!(count <= size, "a read of up to {size} bytes read {count}");
    buffer.truncate(count);
    Ok(buffer)
}

pub(super) async fn read_exactly(
    connection: &mut BoxConnection,
    size: usize,
) -> Result<Vec<u8>, Failure> {
    let mut heard = Vec::new();
    while heard.len() < size {
        let part = read_some(connection, (size - heard.len()).min(64 << 10)).await?;
        check!(!part.is_empty(), "an end after {} of {size} bytes", heard.len());
        heard.extend(part);
    }
    Ok(heard)
}

pub(super) async fn read_to_end(connection: &mut BoxConnection) -> Result<Vec<u8>, Failure> {
    let mut heard = Vec::new();
    loop {
        let part = read_some(connection, 64 << 10).await?;
        if part.is_empty() {
            return Ok(heard);
        }
        heard.extend(part);
    }
}
