//! async-broadcast: `broadcast`, which waits while the slowest receiver's queue is full, and
//! `recv_direct`, its documentation's word for receiving without a boxed listener.

use anyhow::Result;
use async_broadcast::{Receiver, Sender};

use crate::in_process::{LETTER, Letter, contender, play};
use crate::peer::{Api, Contender, Peer};
use crate::stage::{Meter, Stage};
use crate::work::{CAPACITY, Work};

/// The peer.
pub(crate) struct AsyncBroadcast;

impl Peer for AsyncBroadcast {
    fn name(&self) -> &'static str {
        "async-broadcast"
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let Work::FanOut { executor, .. } = *work else {
            return Vec::new();
        };
        vec![contender(self.name(), "", Api::One, executor)]
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        play(stage, |stage, engine| {
            let (sender, receiver) = async_broadcast::broadcast(CAPACITY);
            for _ in 0..stage.script().work.subscribers() {
                engine.spawn(take(receiver.new_receiver(), stage.meter()));
            }
            engine.spawn(feed(sender));
            Ok(())
        })
    }
}

async fn feed(sender: Sender<Letter>) -> Result<()> {
    loop {
        sender.broadcast_direct(LETTER).await?;
    }
}

async fn take(mut receiver: Receiver<Letter>, meter: Meter) -> Result<()> {
    loop {
        receiver.recv_direct().await?;
        meter.add(1);
    }
}
