//! What peers in one process have in common: their one role, and the message that they carry.

use anyhow::Result;

use crate::executor::Engine;
use crate::peer::{Api, Contender};
use crate::stage::Stage;
use crate::work::{Executor, Work};

/// The message of a channel: 64 bytes, moved as they are, which is the least that it can cost.
pub(crate) type Letter = [u8; 64];

/// Such a message.
pub(crate) const LETTER: Letter = [7; 64];

/// The contender of a peer whose producers and consumers are tasks of one process.
pub(crate) fn contender(
    peer: &'static str,
    variant: &'static str,
    api: Api,
    executor: Executor,
) -> Contender {
    Contender { peer, variant, api, executor, roles: &["process"], counts: "process" }
}

/// The contender of a channel that takes one message at a time, for the works that a channel of
/// one consumer can do.
pub(crate) fn channel(peer: &'static str, work: &Work) -> Vec<Contender> {
    match work {
        Work::Queue { executor, .. } => vec![contender(peer, "", Api::One, *executor)],
        _ => Vec::new(),
    }
}

/// Runs the tasks that `start` spawns, for ever.
pub(crate) fn play(
    stage: &Stage,
    start: impl FnOnce(&Stage, &Engine) -> Result<()> + Send,
) -> Result<()> {
    Engine::run(stage.script().executor, |engine| {
        let started = start(stage, &engine);
        stage.ready("");
        async move {
            started?;
            std::future::pending().await
        }
    })
}
