//! flume: `bounded`, `send_async`, `recv_async`.

use anyhow::Result;

use crate::in_process::{LETTER, Letter, channel, play};
use crate::peer::{Contender, Peer};
use crate::stage::{Meter, Stage};
use crate::work::{CAPACITY, Work};

/// The peer.
pub(crate) struct Flume;

impl Peer for Flume {
    fn name(&self) -> &'static str {
        "flume"
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        channel(self.name(), work)
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        play(stage, |stage, engine| {
            let (sender, receiver) = flume::bounded(CAPACITY);
            engine.spawn(take(receiver, stage.meter()));
            for _ in 0..stage.script().work.producers() {
                engine.spawn(feed(sender.clone()));
            }
            Ok(())
        })
    }
}

async fn feed(sender: flume::Sender<Letter>) -> Result<()> {
    loop {
        sender.send_async(LETTER).await?;
    }
}

async fn take(receiver: flume::Receiver<Letter>, meter: Meter) -> Result<()> {
    loop {
        receiver.recv_async().await?;
        meter.add(1);
    }
}
