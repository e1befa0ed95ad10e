//! The kit on the in-process broker, and on a remote one over every transport and executor.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use common::virtual_time::VirtualTime;
use common::{Bare, On, OnSmol, OnTokio};
use posthaste_conformance::{BrokerSubject, Executor, Fixture, broker_suite};
use posthaste_core::transport::{Endpoint, Transport};
use posthaste_core::{BoxFuture, Broker, Error, SharedRuntime};
use posthaste_link::{Pipe, Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;
use posthaste_tcp::Tcp;
#[cfg(unix)]
use posthaste_unix::Unix;

/// The in-process broker, with the clock of its executor if that has one.
struct InProcess;

impl<E: Executor> BrokerSubject for On<E, InProcess> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let memory = memory(self.executor.runtime());
        Box::pin(async { Ok(Fixture::new(memory)) })
    }
}

/// The in-process broker behind every forwarding implementation of the trait.
struct Erased;

impl<E: Executor> BrokerSubject for On<E, Erased> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let inner: Arc<dyn Broker> = Arc::new(memory(self.executor.runtime()));
        let broker: Box<dyn Broker> = Box::new(inner);
        Box::pin(async { Ok(Fixture::new(broker)) })
    }
}

fn memory(runtime: Option<SharedRuntime>) -> Memory {
    runtime.map_or_else(Memory::new, Memory::with_runtime)
}

/// A server of a fresh in-process broker on a TCP port of its own, and two clients.
struct OverTcp;

impl<E: Executor> BrokerSubject for On<E, OverTcp> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let runtime = self.executor.runtime();
        Box::pin(async {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            let tcp = Tcp::new(runtime.clone());
            remote(runtime, tcp, "tcp://127.0.0.1:0".parse()?).await
        })
    }
}

/// The same over a Unix socket in a folder of its own.
#[cfg(unix)]
struct OverUnix;

#[cfg(unix)]
impl<E: Executor> BrokerSubject for On<E, OverUnix> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let runtime = self.executor.runtime();
        Box::pin(async {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            let unix = Unix::new(runtime.clone());
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("kit.sock");
            let at = Endpoint::new("unix", path.to_string_lossy());
            Ok(remote(runtime, unix, at).await?.keep(folder))
        })
    }
}

/// A server of a fresh in-process broker at the other end of a pipe, and two clients.
struct OverPipe;

impl<E: Executor> BrokerSubject for On<E, OverPipe> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let runtime = self.executor.runtime();
        Box::pin(async {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            remote(runtime, Pipe::new(), Endpoint::new("pipe", "kit")).await
        })
    }
}

/// One in-process broker that all cases share, at the same time and each under names of its own.
struct Shared;

impl<E: Executor> BrokerSubject for On<E, Shared> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        static BROKER: LazyLock<Memory> = LazyLock::new(Memory::new);
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let space = format!("kit.{}", OPENED.fetch_add(1, Ordering::Relaxed));
        Box::pin(async { Ok(Fixture::new(BROKER.clone()).shared(space)) })
    }
}

async fn remote(
    runtime: SharedRuntime,
    transport: impl Transport + Clone + 'static,
    at: Endpoint,
) -> Result<Fixture, Error> {
    let memory = Memory::with_runtime(runtime.clone());
    let server = Server::new(runtime.clone(), memory, ServerOptions::new());
    let at = server.listen(transport.clone(), at).await?;
    let options = RemoteOptions::new;
    let one = Remote::connect(runtime.clone(), transport.clone(), at.clone(), options()).await?;
    let other = Remote::connect(runtime, transport, at, options()).await?;
    Ok(Fixture::new(one).peer(other).pushes().keep(server))
}

fn on<E, S>(executor: E, what: S) -> On<E, S> {
    On { executor, what }
}

broker_suite!(memory_without_runtime, on(Bare, InProcess));
broker_suite!(memory_erased, on(Bare, Erased));
broker_suite!(memory_shared, on(Bare, Shared));
broker_suite!(memory_on_tokio_threads, on(OnTokio::threads(), InProcess));
broker_suite!(memory_on_tokio_current, on(OnTokio::current(), InProcess));
broker_suite!(memory_on_smol, on(OnSmol::new(), InProcess));
broker_suite!(memory_in_virtual_time, on(VirtualTime::new(), InProcess));
broker_suite!(pipe_in_virtual_time, on(VirtualTime::new(), OverPipe));
#[cfg(unix)]
broker_suite!(unix_on_tokio_threads, on(OnTokio::threads(), OverUnix));
#[cfg(unix)]
broker_suite!(unix_on_tokio_current, on(OnTokio::current(), OverUnix));
#[cfg(unix)]
broker_suite!(unix_on_smol, on(OnSmol::new(), OverUnix));
broker_suite!(tcp_on_tokio_threads, on(OnTokio::threads(), OverTcp));
broker_suite!(tcp_on_tokio_current, on(OnTokio::current(), OverTcp));
broker_suite!(tcp_on_smol, on(OnSmol::new(), OverTcp));
