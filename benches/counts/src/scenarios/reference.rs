//! What others cost at the same work, for reference: channels, and sockets without a framework.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::try_join;
use posthaste::{Error, Message, SharedRuntime, Topic};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::exchange::lost;
use super::executor::{Task, run};
use super::in_process::{CAPACITY, PAYLOAD};
use super::socket::Socket;

/// How many bytes are written, and read, at a time.
const CHUNK: usize = 64 << 10;

/// Messages through async-channel.
pub(super) async fn async_channel(runtime: SharedRuntime, count: u64) -> Result<(), Error> {
    let (sender, receiver) = async_channel::bounded(CAPACITY);
    let message = Message::new(Topic::new("home.kitchen")?, &PAYLOAD[..]);
    let sending = async move {
        for _ in 0..count {
            let sent = sender.send(message.clone()).await;
            sent.map_err(|_| Error::closed("the channel"))?;
        }
        Ok(())
    };
    let taking = async move {
        for _ in 0..count {
            receiver.recv().await.map_err(|_| Error::closed("the channel"))?;
        }
        Ok(())
    };
    run(&runtime, vec![Box::pin(taking), Box::pin(sending)]).await
}

/// Messages through kanal.
pub(super) async fn kanal(runtime: SharedRuntime, count: u64) -> Result<(), Error> {
    let (sender, receiver) = kanal::bounded_async(CAPACITY);
    let message = Message::new(Topic::new("home.kitchen")?, &PAYLOAD[..]);
    let sending = async move {
        for _ in 0..count {
            let sent = sender.send(message.clone()).await;
            sent.map_err(|_| Error::closed("the channel"))?;
        }
        Ok(())
    };
    let taking = async move {
        for _ in 0..count {
            receiver.recv().await.map_err(|_| Error::closed("the channel"))?;
        }
        Ok(())
    };
    run(&runtime, vec![Box::pin(taking), Box::pin(sending)]).await
}

/// 64 bytes there and back, `count` times, one at a time.
pub(super) async fn round_trip(
    runtime: SharedRuntime,
    count: u64,
    socket: Socket,
) -> Result<(), Error> {
    over(runtime, socket, move |mut near, mut far| {
        let asking = async move {
            let mut answer = *PAYLOAD;
            for _ in 0..count {
                near.write_all(PAYLOAD).await.map_err(lost)?;
                near.read_exact(&mut answer).await.map_err(lost)?;
            }
            Ok(())
        };
        let answering = async move {
            let mut question = *PAYLOAD;
            for _ in 0..count {
                far.read_exact(&mut question).await.map_err(lost)?;
                far.write_all(&question).await.map_err(lost)?;
            }
            Ok(())
        };
        vec![Box::pin(asking), Box::pin(answering)]
    })
    .await
}

/// `count` payloads of `size` bytes, each after its length, in writes of [`CHUNK`]; each becomes
/// a `Bytes` of its own at the other end.
pub(super) async fn frames(
    runtime: SharedRuntime,
    count: u64,
    socket: Socket,
    size: usize,
) -> Result<(), Error> {
    over(runtime, socket, move |near, far| {
        vec![Box::pin(write_frames(near, count, size)), Box::pin(read_frames(far, count))]
    })
    .await
}

async fn write_frames(mut near: Stream, count: u64, size: usize) -> Result<(), Error> {
    let payload = Bytes::from(vec![7; size]);
    let length = u32::try_from(size).expect("a payload of the scenarios is small");
    let mut chunk = BytesMut::with_capacity(CHUNK + size);
    for _ in 0..count {
        chunk.put_u32(length);
        chunk.put_slice(&payload);
        if chunk.len() >= CHUNK {
            near.write_all(&chunk).await.map_err(lost)?;
            chunk.clear();
        }
    }
    near.write_all(&chunk).await.map_err(lost)
}

async fn read_frames(mut far: Stream, count: u64) -> Result<(), Error> {
    let mut chunk = BytesMut::new();
    let mut frames: Vec<Bytes> = Vec::new();
    let mut left = count;
    while left > 0 {
        chunk.reserve(CHUNK);
        if far.read_buf(&mut chunk).await.map_err(lost)? == 0 {
            return Err(Error::closed("the socket"));
        }
        while let Some(length) = chunk.first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if chunk.len() - 4 < length {
                break;
            }
            chunk.advance(4);
            frames.push(chunk.split_to(length).freeze());
        }
        left -= frames.len() as u64;
        frames.clear();
    }
    Ok(())
}

/// Either end of a socket.
type Stream = Box<dyn Both>;

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Both for S {}

/// Runs what `tasks` makes of the two ends of a connection.
async fn over(
    runtime: SharedRuntime,
    socket: Socket,
    tasks: impl FnOnce(Stream, Stream) -> Vec<Task>,
) -> Result<(), Error> {
    let (near, far) = connect(socket).await.map_err(lost)?;
    run(&runtime, tasks(near, far)).await
}

async fn connect(socket: Socket) -> io::Result<(Stream, Stream)> {
    match socket {
        Socket::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let (near, far) = try_join!(TcpStream::connect(address), listener.accept())?;
            let (near, far) = (near, far.0);
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            Ok((Box::new(near), Box::new(far)))
        }
        Socket::Unix => {
            let (near, far) = UnixStream::pair()?;
            Ok((Box::new(near), Box::new(far)))
        }
    }
}
