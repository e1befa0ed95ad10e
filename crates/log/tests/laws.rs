//! The laws of brokers, on a folder, on a simulated disk whose power is cut, and behind a server; and as
//! if there were no memory for what waits in queues, all of which is read back then.

use std::sync::Arc;

use posthaste_conformance::{BrokerSubject, Executor, Fixture, LocalFuture, broker_suite};
use posthaste_core::transport::Endpoint;
use posthaste_core::{BoxFuture, Error, SharedRuntime};
use posthaste_link::{Pipe, Remote, RemoteOptions, Server, ServerOptions};
use posthaste_log::storage::{Folder, Simulated};
use posthaste_log::{Durable, LogOptions};
use posthaste_servers::executors::{OnSmol, OnTokio};
use tempfile::TempDir;

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
broker_suite!(
    served_on_smol,
    Kept { executor: OnSmol::default(), disk: Disk::Served, memory: ROOMY }
);
broker_suite!(
    served_on_tokio_threads,
    Kept { executor: OnTokio::threads(), disk: Disk::Served, memory: 0 }
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
    /// A folder, and the broker ends in order.
    Real,
    /// One whose power is cut.
    Simulated,
    /// A folder, of a broker behind a server that ends with it.
    Served,
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
        let (runtime, memory) = (self.executor.runtime(), self.memory);
        Box::pin(async move {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            let folder = Arc::new(tempfile::tempdir()?);
            let place = match self.disk {
                Disk::Real | Disk::Served => Place::Folder(Arc::clone(&folder)),
                Disk::Simulated => Place::Simulated(Simulated::new()),
            };
            let served = matches!(self.disk, Disk::Served);
            open(Opening { runtime, place, memory, served }).await
        })
    }
}

/// Where a broker keeps its queues.
#[derive(Clone)]
enum Place {
    Folder(Arc<TempDir>),
    Simulated(Simulated),
}

/// How a broker is opened, and opened again.
#[derive(Clone)]
struct Opening {
    runtime: SharedRuntime,
    place: Place,
    memory: usize,
    served: bool,
}

fn open(this: Opening) -> BoxFuture<'static, Result<Fixture, Error>> {
    Box::pin(async move {
        // Small ones are begun often.
        let mut options = LogOptions::default();
        options.segment_bytes = 8 << 10;
        options.memory_bytes = this.memory;
        options.snapshot_bytes = 32 << 10;
        let runtime = this.runtime.clone();
        let (broker, _) = match &this.place {
            Place::Folder(folder) => {
                Durable::open(runtime, Folder::open(folder.path())?, options).await?
            }
            Place::Simulated(disk) => Durable::open(runtime, disk.clone(), options).await?,
        };
        if this.served {
            return serve(this, broker).await;
        }
        let ending = broker.clone();
        Ok(Fixture::new(broker).keep(this.place.clone()).reopen(|| Box::pin(again(this, ending))))
    })
}

/// Ends a broker, in order where there is power, and opens it again.
async fn again(mut this: Opening, ending: Durable) -> Result<Fixture, Error> {
    if let Place::Simulated(disk) = &this.place {
        this.place = Place::Simulated(disk.power_cut(&mut || 0));
    }
    ending.close().await?;
    open(this).await
}

/// Two clients of a server.
async fn serve(this: Opening, broker: Durable) -> Result<Fixture, Error> {
    let (runtime, pipe) = (this.runtime.clone(), Pipe::new());
    let server = Server::new(runtime.clone(), broker.clone(), ServerOptions::new());
    let at = server.listen(pipe.clone(), Endpoint::new("pipe", "kit")).await?;
    let options = RemoteOptions::new;
    let one = Remote::connect(runtime.clone(), pipe.clone(), at.clone(), options()).await?;
    let other = Remote::connect(runtime, pipe, at, options()).await?;
    let server = Arc::new(server);
    let fixture = Fixture::new(one).peer(other).pushes();
    Ok(fixture.keep(Arc::clone(&server)).keep(this.place.clone()).reopen(|| {
        Box::pin(async move {
            server.shutdown().await;
            again(this, broker).await
        })
    }))
}
