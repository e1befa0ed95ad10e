//! Unix sockets under the laws of a transport, on every runtime.

use std::io;
use std::sync::Arc;

use crate::support::endpoint;
use posthaste_conformance::{Executor, LocalFuture, Medium, TransportSubject, transport_suite};
use posthaste_core::{BoxFuture, SharedRuntime};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;
use posthaste_unix::Unix;
use tokio::runtime::Builder;

transport_suite!(on_tokio_threads, On::tokio(Builder::new_multi_thread().worker_threads(2)));
transport_suite!(on_tokio_current, On::tokio(&mut Builder::new_current_thread()));
transport_suite!(on_smol, On::Smol(Arc::default()));

/// A runtime of the case's own.
enum On {
    Tokio(tokio::runtime::Runtime),
    Smol(Arc<smol::Executor<'static>>),
}

impl On {
    fn tokio(builder: &mut Builder) -> Self {
        Self::Tokio(builder.enable_all().build().unwrap())
    }

    fn shared(&self) -> SharedRuntime {
        match self {
            Self::Tokio(runtime) => Tokio::new(runtime.handle().clone()).into(),
            Self::Smol(executor) => Smol::new(Arc::clone(executor)).into(),
        }
    }
}

impl Executor for On {
    fn runtime(&self) -> Option<SharedRuntime> {
        Some(self.shared())
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        match self {
            Self::Tokio(runtime) => runtime.block_on(case),
            Self::Smol(executor) => smol::block_on(executor.run(case)),
        }
    }
}

impl TransportSubject for On {
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>> {
        Box::pin(async {
            let folder = tempfile::tempdir()?;
            let at = endpoint(folder.path().join("kit.sock"));
            Ok(Medium::new(Unix::new(self.shared()), at).keep(folder))
        })
    }
}
