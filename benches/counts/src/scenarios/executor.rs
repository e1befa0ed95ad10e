//! The executors of scenarios: everything on the calling thread.

use std::future::Future;
use std::sync::Arc;

use futures::channel::oneshot;
use posthaste::{BoxFuture, Error, SharedRuntime};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

/// A task of a scenario; an error ends the scenario.
pub(super) type Task = BoxFuture<'static, Result<(), Error>>;

/// An executor with one thread, which is the caller's.
pub(super) enum Executor {
    Tokio(tokio::runtime::Runtime),
    Smol(Arc<smol::Executor<'static>>),
}

impl Executor {
    pub(super) fn tokio() -> Result<Self, Error> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build();
        runtime.map(Self::Tokio).map_err(super::exchange::lost)
    }

    pub(super) fn smol() -> Self {
        Self::Smol(Arc::new(smol::Executor::new()))
    }

    /// The executor as the framework sees it.
    pub(super) fn runtime(&self) -> SharedRuntime {
        match self {
            Self::Tokio(tokio) => Tokio::new(tokio.handle().clone()).into(),
            Self::Smol(smol) => Smol::new(Arc::clone(smol)).into(),
        }
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Tokio(tokio) => tokio.block_on(future),
            Self::Smol(smol) => smol::block_on(smol.run(future)),
        }
    }
}

/// Spawns all tasks and waits until the last one is done.
pub(super) async fn run(runtime: &SharedRuntime, tasks: Vec<Task>) -> Result<(), Error> {
    let mut outcomes = Vec::new();
    for task in tasks {
        let (done, outcome) = oneshot::channel();
        runtime.spawn(Box::pin(async move {
            // Nobody listens any more when a task before this one has failed.
            let _ = done.send(task.await);
        }));
        outcomes.push(outcome);
    }
    for outcome in outcomes {
        outcome.await.map_err(|_| Error::closed("a task"))??;
    }
    Ok(())
}
