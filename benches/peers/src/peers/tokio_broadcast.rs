//! tokio's broadcast channel. Its `send` never waits: receivers that fall behind lose messages. So
//! that all contenders deliver everything, the producer yields while the slowest receiver has as
//! much before it as the others may hold.

use anyhow::Result;
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::in_process::{LETTER, Letter, contender, play};
use crate::peer::{Api, Contender, Peer};
use crate::stage::{Meter, Stage};
use crate::work::{CAPACITY, Work};

/// How many messages are sent between two looks at how full the channel is.
const BURST: usize = 256;

/// The peer.
pub(crate) struct TokioBroadcast;

impl Peer for TokioBroadcast {
    fn name(&self) -> &'static str {
        "tokio broadcast"
    }

    fn version(&self) -> Option<String> {
        crate::versions::of_crate("tokio")
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let Work::FanOut { executor, .. } = *work else {
            return Vec::new();
        };
        vec![contender(self.name(), "", Api::One, executor)]
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        play(stage, |stage, engine| {
            let (sender, _) = broadcast::channel(CAPACITY);
            for _ in 0..stage.script().work.subscribers() {
                engine.spawn(take(sender.subscribe(), stage.meter()));
            }
            engine.spawn(feed(sender));
            Ok(())
        })
    }
}

async fn feed(sender: Sender<Letter>) -> Result<()> {
    loop {
        while sender.len() > CAPACITY - BURST {
            smol::future::yield_now().await;
        }
        for _ in 0..BURST {
            sender.send(LETTER)?;
        }
    }
}

async fn take(mut receiver: Receiver<Letter>, meter: Meter) -> Result<()> {
    loop {
        receiver.recv().await?;
        meter.add(1);
    }
}
