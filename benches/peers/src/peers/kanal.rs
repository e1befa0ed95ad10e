//! kanal: `bounded_async`, `send`, `recv`.

use anyhow::Result;

use crate::in_process::{LETTER, Letter, channel, play};
use crate::peer::{Contender, Peer};
use crate::stage::{Meter, Stage};
use crate::work::{CAPACITY, Work};

/// The peer.
pub(crate) struct Kanal;

impl Peer for Kanal {
    fn name(&self) -> &'static str {
        "kanal"
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        channel(self.name(), work)
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        play(stage, |stage, engine| {
            let (sender, receiver) = kanal::bounded_async(CAPACITY);
            engine.spawn(take(receiver, stage.meter()));
            for _ in 0..stage.script().work.producers() {
                engine.spawn(feed(sender.clone()));
            }
            Ok(())
        })
    }
}

async fn feed(sender: kanal::AsyncSender<Letter>) -> Result<()> {
    loop {
        sender.send(LETTER).await?;
    }
}

async fn take(receiver: kanal::AsyncReceiver<Letter>, meter: Meter) -> Result<()> {
    loop {
        receiver.recv().await?;
        meter.add(1);
    }
}
