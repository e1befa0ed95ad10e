//! tokio's mpsc channel: `channel`, `send`, and either `recv` or `recv_many`, which its
//! documentation has for more throughput; one channel each for fan-out.

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use crate::in_process::{LETTER, Letter, contender, play};
use crate::peer::{Api, Contender, Peer};
use crate::stage::{Meter, Stage};
use crate::work::{BATCH, CAPACITY, Work};

/// The peer.
pub(crate) struct TokioMpsc;

impl Peer for TokioMpsc {
    fn name(&self) -> &'static str {
        "tokio mpsc"
    }

    fn version(&self) -> Option<String> {
        crate::versions::of_crate("tokio")
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let Work::Queue { executor, .. } = *work else {
            return Vec::new();
        };
        vec![
            contender(self.name(), "recv", Api::One, executor),
            contender(self.name(), "recv_many", Api::Batch, executor),
        ]
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        play(stage, |stage, engine| {
            let (sender, receiver) = mpsc::channel(CAPACITY);
            match stage.script().api {
                Api::Batch => engine.spawn(take_many(receiver, stage.meter())),
                _ => engine.spawn(take(receiver, stage.meter())),
            }
            for _ in 0..stage.script().work.producers() {
                engine.spawn(feed(sender.clone()));
            }
            Ok(())
        })
    }
}

async fn feed(sender: mpsc::Sender<Letter>) -> Result<()> {
    loop {
        sender.send(LETTER).await?;
    }
}

async fn take(mut receiver: mpsc::Receiver<Letter>, meter: Meter) -> Result<()> {
    loop {
        receiver.recv().await.context("the senders are gone")?;
        meter.add(1);
    }
}

async fn take_many(mut receiver: mpsc::Receiver<Letter>, meter: Meter) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let count = receiver.recv_many(&mut batch, BATCH).await;
        anyhow::ensure!(count > 0, "the senders are gone");
        batch.clear();
        meter.add(count);
    }
}
