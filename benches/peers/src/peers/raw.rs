//! What bounds everybody: bytes on a plain socket, without any messaging.
//!
//! A stream is written 64 KiB at a time, frames of a length and a payload, and read 64 KiB at a
//! time and not looked at. A round trip is one write and one read at each end.

use std::io::{Read, Write};

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{Api, Contender, Peer};
use crate::peers::framed::{BATCH_BYTES, LENGTH_BYTES, put_frame};
use crate::socket::{AsyncDuplex, Duplex, Socket};
use crate::stage::{Meter, Stage};
use crate::work::{Executor, Work};

/// The limit.
pub(crate) struct Raw;

impl Peer for Raw {
    fn name(&self) -> &'static str {
        "raw socket"
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let peer = self.name();
        match work {
            Work::Stream { .. } => vec![Contender::stream(peer, "", Api::Limit, Executor::Threads)],
            Work::Request { in_flight: 1, .. } => Executor::ALL
                .map(|executor| Contender::request(peer, "", Api::Limit, executor))
                .into(),
            _ => Vec::new(),
        }
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        let meter = stage.meter();
        match (stage.script().role.as_str(), stage.script().executor) {
            ("receiver", _) => {
                let frame = LENGTH_BYTES + stage.script().work.size();
                receive(Socket::accept(stage)?.blocking(), frame, &meter)
            }
            ("sender", _) => {
                let socket = Socket::connect(stage, "receiver")?.blocking();
                stage.ready("");
                send(socket, &stage.payload(), &meter)
            }
            ("server", Executor::Threads) => answer(Socket::accept(stage)?.blocking()),
            ("client", Executor::Threads) => {
                let socket = Socket::connect(stage, "server")?.blocking();
                stage.ready("");
                ask(socket, &meter)
            }
            ("server", _) => {
                let socket = Socket::accept(stage)?;
                stage.run(|engine| async move { answer_async(socket.on(&engine)?).await })
            }
            ("client", _) => {
                let socket = Socket::connect(stage, "server")?;
                stage.ready("");
                stage.run(|engine| async move { ask_async(socket.on(&engine)?, meter).await })
            }
            (role, _) => bail!("a raw socket has no {role}"),
        }
    }
}

fn send(mut socket: Box<dyn Duplex>, payload: &[u8], meter: &Meter) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    let mut count = 0;
    while batch.len() < BATCH_BYTES {
        put_frame(&mut batch, payload);
        count += 1;
    }
    loop {
        socket.write_all(&batch)?;
        meter.add(count);
    }
}

fn receive(mut socket: Box<dyn Duplex>, frame: usize, meter: &Meter) -> Result<()> {
    let mut batch = vec![0; BATCH_BYTES];
    let mut rest = 0;
    loop {
        match socket.read(&mut batch)? {
            0 => bail!("the sender is gone"),
            read => rest += read,
        }
        meter.add(rest / frame);
        rest %= frame;
    }
}

fn ask(mut socket: Box<dyn Duplex>, meter: &Meter) -> Result<()> {
    let mut message = [7; 64];
    loop {
        socket.write_all(&message)?;
        socket.read_exact(&mut message)?;
        meter.add(1);
    }
}

fn answer(mut socket: Box<dyn Duplex>) -> Result<()> {
    let mut message = [0; 64];
    loop {
        socket.read_exact(&mut message)?;
        socket.write_all(&message)?;
    }
}

async fn ask_async(mut socket: Box<dyn AsyncDuplex>, meter: Meter) -> Result<()> {
    let mut message = [7; 64];
    loop {
        socket.write_all(&message).await?;
        socket.read_exact(&mut message).await?;
        meter.add(1);
    }
}

async fn answer_async(mut socket: Box<dyn AsyncDuplex>) -> Result<()> {
    let mut message = [0; 64];
    loop {
        socket.read_exact(&mut message).await?;
        socket.write_all(&message).await?;
    }
}
