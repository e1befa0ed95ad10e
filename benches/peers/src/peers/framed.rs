//! What bounds a messaging library on the same executor: frames, and one [`Bytes`] for each.
//!
//! The sender encodes frames of a length and a payload into one buffer and writes 64 KiB at a time;
//! a payload too large for that is written by itself, vectored and not copied. The receiver reads
//! as much as is there and cuts it into payloads without copying.

use anyhow::{Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{Api, Contender, Peer};
use crate::socket::{AsyncDuplex, Socket};
use crate::stage::{Meter, Stage};
use crate::work::{Executor, Work};

/// How much is written and read at a time.
pub(crate) const BATCH_BYTES: usize = 64 << 10;
/// What the length of a frame takes.
pub(crate) const LENGTH_BYTES: usize = 4;
/// From this size on copying costs more than a vectored write.
const LARGE: usize = 16 << 10;

/// The limit.
pub(crate) struct Framed;

impl Peer for Framed {
    fn name(&self) -> &'static str {
        "framed socket"
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        match work {
            Work::Stream { .. } => Executor::ASYNC
                .map(|executor| Contender::stream(self.name(), "", Api::Limit, executor))
                .into(),
            _ => Vec::new(),
        }
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        let meter = stage.meter();
        let payload = stage.payload();
        match stage.script().role.as_str() {
            "receiver" => {
                let socket = Socket::accept(stage)?;
                let room = BATCH_BYTES.max(4 * payload.len());
                stage.run(
                    move |engine| async move { receive(socket.on(&engine)?, room, meter).await },
                )
            }
            "sender" => {
                let socket = Socket::connect(stage, "receiver")?;
                stage.ready("");
                stage.run(
                    move |engine| async move { send(socket.on(&engine)?, payload, meter).await },
                )
            }
            role => bail!("framed sockets have no {role}"),
        }
    }
}

/// Appends a frame.
pub(crate) fn put_frame(to: &mut impl BufMut, payload: &[u8]) {
    to.put_u32_le(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    to.put_slice(payload);
}

async fn send(mut socket: Box<dyn AsyncDuplex>, payload: Bytes, meter: Meter) -> Result<()> {
    let length = u32::try_from(payload.len())?.to_le_bytes();
    let mut batch = BytesMut::with_capacity(BATCH_BYTES + payload.len());
    loop {
        if payload.len() >= LARGE {
            socket.write_all_buf(&mut Buf::chain(&length[..], payload.clone())).await?;
            meter.add(1);
            continue;
        }
        let mut count = 0;
        while batch.len() < BATCH_BYTES {
            put_frame(&mut batch, &payload);
            count += 1;
        }
        socket.write_all(&batch).await?;
        batch.clear();
        meter.add(count);
    }
}

async fn receive(mut socket: Box<dyn AsyncDuplex>, room: usize, meter: Meter) -> Result<()> {
    let mut read = BytesMut::with_capacity(room);
    loop {
        read.reserve(room);
        anyhow::ensure!(socket.read_buf(&mut read).await? > 0, "the sender is gone");
        let mut count = 0;
        while let Some(payload) = cut(&mut read) {
            std::hint::black_box(payload);
            count += 1;
        }
        meter.add(count);
    }
}

/// The next payload, if it is there as a whole.
fn cut(read: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_le_bytes(*read.first_chunk()?);
    let whole = LENGTH_BYTES + usize::try_from(length).ok()?;
    if read.len() < whole {
        return None;
    }
    let mut frame = read.split_to(whole).freeze();
    frame.advance(LENGTH_BYTES);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{cut, put_frame};

    #[test]
    fn a_frame_is_cut_once_it_is_there_as_a_whole() {
        let mut whole = BytesMut::new();
        put_frame(&mut whole, b"one");
        put_frame(&mut whole, b"");
        for end in 0..7 {
            assert_eq!(cut(&mut BytesMut::from(&whole[..end])), None, "{end}");
        }
        assert_eq!(cut(&mut whole).as_deref(), Some(&b"one"[..]));
        assert_eq!(cut(&mut whole).as_deref(), Some(&b""[..]));
        assert_eq!((cut(&mut whole), whole.len()), (None, 0));
    }
}
