//! The laws of brokers, on a folder and on a simulated disk; and as if there were no memory for what
//! waits in queues, all of which is read back then.

use posthaste_conformance::{BrokerSubject, Executor, Fixture, LocalFuture, broker_suite};
use posthaste_core::{BoxFuture, Error, SharedRuntime};
use posthaste_log::storage::{Folder, Simulated};
use posthaste_log::{Durable, LogOptions};
use posthaste_servers::executors::{OnSmol, OnTokio};

broker_suite!(
    folder_on_tokio,
    Kept { executor: OnTokio::current(), disk: Disk::Real, memory: ROOMY }
);
broker_suite!(
    folder_on_tokio_threads,
    Kept { executor: OnTokio::threads(), disk: Disk::Real, memory: 0 }
);
broker_suite!(
    folder_on_smol,
    Kept { executor: OnSmol::default(), disk: Disk::Real, memory: ROOMY }
);
broker_suite!(
    simulated_on_smol,
    Kept { executor: OnSmol::default(), disk: Disk::Simulated, memory: 0 }
);

/// A broker whose queues are kept.
struct Kept<E> {
    executor: E,
    disk: Disk,
    memory: usize,
}

const ROOMY: usize = 128 << 20;

#[derive(Clone, Copy)]
enum Disk {
    Real,
    Simulated,
}

impl<E: Executor> Executor for Kept<E> {
    fn runtime(&self) -> Option<SharedRuntime> {
        self.executor.runtime()
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.executor.block_on(case);
    }
}

impl<E: Executor> BrokerSubject for Kept<E> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let (runtime, disk, memory) = (self.executor.runtime(), self.disk, self.memory);
        Box::pin(async move {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            // Small ones are begun often.
            let mut options = LogOptions::default();
            options.segment_bytes = 8 << 10;
            options.memory_bytes = memory;
            options.snapshot_bytes = 32 << 10;
            let folder = tempfile::tempdir().map_err(|error| Error::closed(error.to_string()))?;
            let (broker, _) = match disk {
                Disk::Real => {
                    let storage = Folder::open(folder.path())
                        .map_err(|error| Error::closed(error.to_string()))?;
                    Durable::open(runtime, storage, options).await?
                }
                Disk::Simulated => Durable::open(runtime, Simulated::new(), options).await?,
            };
            Ok(Fixture::new(broker).keep(folder))
        })
    }
}
