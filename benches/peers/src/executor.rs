//! The executors that roles run on, as one value.

use std::future::Future;
use std::sync::Arc;

use anyhow::{Result, bail};
use posthaste::SharedRuntime;
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;
use tokio::runtime::{Builder, Handle};

use crate::work::Executor;

/// An executor that runs.
#[derive(Clone)]
pub(crate) enum Engine {
    /// Tokio, with one thread or several.
    Tokio(Handle),
    /// Smol, on one thread.
    Smol(Arc<smol::Executor<'static>>),
}

impl Engine {
    /// Runs `task` on a new executor of this kind, which it is given to spawn others on.
    pub(crate) fn run<F>(kind: Executor, task: impl FnOnce(Self) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let tokio = match kind {
            Executor::TokioMt => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
            Executor::TokioCt => Builder::new_current_thread().enable_all().build(),
            Executor::Smol => {
                let executor = Arc::new(smol::Executor::new());
                let task = task(Self::Smol(Arc::clone(&executor)));
                let task = executor.spawn(task);
                return smol::block_on(executor.run(task));
            }
            Executor::Threads => bail!("there is no executor for threads"),
        }?;
        // Spawned, because the future of `block_on` itself is not run by the workers.
        tokio.block_on(tokio.spawn(task(Self::Tokio(tokio.handle().clone()))))?
    }

    /// Spawns a task; if it fails, the process ends with its error.
    pub(crate) fn spawn(&self, task: impl Future<Output = Result<()>> + Send + 'static) {
        let task = async {
            if let Err(error) = task.await {
                crate::stage::fail(&error);
            }
        };
        match self {
            Self::Tokio(handle) => drop(handle.spawn(task)),
            Self::Smol(executor) => executor.spawn(task).detach(),
        }
    }

    /// The executor as Posthaste sees it.
    pub(crate) fn shared(&self) -> SharedRuntime {
        match self {
            Self::Tokio(handle) => Tokio::new(handle.clone()).into(),
            Self::Smol(executor) => Smol::new(Arc::clone(executor)).into(),
        }
    }
}
