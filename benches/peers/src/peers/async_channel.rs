//! async-channel: `bounded`, `send`, `recv`, as its documentation shows; one channel each for
//! fan-out, because each message of a channel goes to one receiver.

use anyhow::Result;

use crate::in_process::{LETTER, Letter, contender, play};
use crate::peer::{Api, Contender, Peer};
use crate::stage::{Meter, Stage};
use crate::work::{CAPACITY, Work};

/// The peer.
pub(crate) struct AsyncChannel;

impl Peer for AsyncChannel {
    fn name(&self) -> &'static str {
        "async-channel"
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        match work {
            Work::Queue { executor, .. } => {
                vec![contender(self.name(), "", Api::One, *executor)]
            }
            Work::FanOut { executor, .. } => {
                vec![contender(self.name(), "one each", Api::One, *executor)]
            }
            _ => Vec::new(),
        }
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        let (producers, receivers) = match stage.script().work {
            Work::FanOut { subscribers, .. } => (1, subscribers),
            Work::Queue { producers, .. } => (producers, 1),
            _ => (0, 0),
        };
        play(stage, |stage, engine| {
            let mut senders = Vec::new();
            for _ in 0..receivers {
                let (sender, receiver) = async_channel::bounded(CAPACITY);
                senders.push(sender);
                engine.spawn(take(receiver, stage.meter()));
            }
            for _ in 0..producers {
                engine.spawn(feed(senders.clone()));
            }
            Ok(())
        })
    }
}

async fn feed(senders: Vec<async_channel::Sender<Letter>>) -> Result<()> {
    loop {
        for sender in &senders {
            sender.send(LETTER).await?;
        }
    }
}

async fn take(receiver: async_channel::Receiver<Letter>, meter: Meter) -> Result<()> {
    loop {
        receiver.recv().await?;
        meter.add(1);
    }
}
