//! The executors that the kit's own tests run on.

#![allow(dead_code, reason = "every test binary uses some of them")]

pub(crate) mod virtual_time;

use std::sync::Arc;
use std::time::Duration;

use posthaste_conformance::{Executor, LocalFuture};
use posthaste_core::SharedRuntime;
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

/// No runtime at all. Nothing but the case itself can wake it, so a hang is seen at once.
pub(crate) struct Bare;

impl Executor for Bare {
    fn patience(&self) -> Duration {
        Duration::ZERO
    }
}

/// A tokio runtime of its own.
pub(crate) struct OnTokio(tokio::runtime::Runtime);

impl OnTokio {
    /// With several threads.
    pub(crate) fn threads() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(builder.worker_threads(2).enable_all().build().unwrap())
    }

    /// With the thread that blocks on it alone.
    pub(crate) fn current() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Self(builder.enable_all().build().unwrap())
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
pub(crate) struct OnSmol(Arc<smol::Executor<'static>>);

impl OnSmol {
    pub(crate) fn new() -> Self {
        Self(Arc::new(smol::Executor::new()))
    }
}

impl Executor for OnSmol {
    fn runtime(&self) -> Option<SharedRuntime> {
        Some(Smol::new(Arc::clone(&self.0)).into())
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        smol::block_on(self.0.run(case));
    }
}

/// An executor under another name, which is put to another test.
pub(crate) struct On<E, S> {
    pub(crate) executor: E,
    pub(crate) what: S,
}

impl<E: Executor, S: Sync> Executor for On<E, S> {
    fn runtime(&self) -> Option<SharedRuntime> {
        self.executor.runtime()
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.executor.block_on(case);
    }

    fn patience(&self) -> Duration {
        self.executor.patience()
    }
}
