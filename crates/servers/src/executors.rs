//! The executors that engines are tested on.

use std::sync::Arc;
use std::time::Duration;

use posthaste_conformance::{Executor, LocalFuture};
use posthaste_core::SharedRuntime;
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

/// A tokio runtime of its own.
#[derive(Debug)]
pub struct OnTokio(tokio::runtime::Runtime);

impl OnTokio {
    /// With two threads.
    ///
    /// # Panics
    /// If the machine has no threads to give.
    #[must_use]
    pub fn threads() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(builder.worker_threads(2).enable_all().build().expect("a runtime"))
    }

    /// With the thread that blocks on it alone.
    ///
    /// # Panics
    /// If the machine has no event queue to give.
    #[must_use]
    pub fn current() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Self(builder.enable_all().build().expect("a runtime"))
    }
}

impl Executor for OnTokio {
    fn runtime(&self) -> Option<SharedRuntime> {
        Some(Tokio::new(self.0.handle().clone()).into())
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.0.block_on(case);
    }
}

/// A smol executor of its own, run by the thread that blocks on it.
#[derive(Debug, Default)]
pub struct OnSmol(Arc<smol::Executor<'static>>);

impl Executor for OnSmol {
    fn runtime(&self) -> Option<SharedRuntime> {
        Some(Smol::new(Arc::clone(&self.0)).into())
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        smol::block_on(self.0.run(case));
        // What the case leaves behind ends as on an executor that goes on; else it would be there
        // for as long as the process, because it holds its executor.
        smol::block_on(self.0.run(async {
            for _ in 0..AFTERMATH_LOOKS {
                if self.0.is_empty() {
                    break;
                }
                smol::Timer::after(AFTERMATH / AFTERMATH_LOOKS).await;
            }
        }));
    }
}

/// How long what a case leaves behind may take to end, and how often that is looked at.
const AFTERMATH: Duration = Duration::from_millis(300);
const AFTERMATH_LOOKS: u32 = 60;
