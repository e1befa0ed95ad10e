//! The laws of brokers, on a folder and on a simulated disk.

use posthaste_conformance::{BrokerSubject, Executor, Fixture, LocalFuture, broker_suite};
use posthaste_core::{BoxFuture, Error, SharedRuntime};
use posthaste_log::storage::{Folder, Simulated};
use posthaste_log::{Durable, LogOptions};
use posthaste_servers::executors::{OnSmol, OnTokio};

broker_suite!(folder_on_tokio, Kept { executor: OnTokio::current(), disk: Disk::Real });
broker_suite!(folder_on_tokio_threads, Kept { executor: OnTokio::threads(), disk: Disk::Real });
broker_suite!(folder_on_smol, Kept { executor: OnSmol::default(), disk: Disk::Real });
broker_suite!(simulated_on_smol, Kept { executor: OnSmol::default(), disk: Disk::Simulated });

/// A broker whose queues are kept.
struct Kept<E> {
    executor: E,
    disk: Disk,
}

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
        let (runtime, disk) = (self.executor.runtime(), self.disk);
        Box::pin(async move {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            // Small ones are begun often.
            let mut options = LogOptions::default();
            options.segment_bytes = 8 << 10;
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
