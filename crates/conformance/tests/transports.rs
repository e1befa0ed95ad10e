//! The kit on every transport and executor.

mod common;

use std::io;

use common::{Bare, On, OnSmol, OnTokio};
use posthaste_conformance::{Executor, Medium, TransportSubject, transport_suite};
use posthaste_core::transport::Endpoint;
use posthaste_core::{BoxFuture, SharedRuntime};
use posthaste_link::Pipe;
use posthaste_tcp::Tcp;
#[cfg(unix)]
use posthaste_unix::Unix;

struct OverPipe;

impl<E: Executor> TransportSubject for On<E, OverPipe> {
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>> {
        Box::pin(async { Ok(Medium::new(Pipe::new(), Endpoint::new("pipe", "kit"))) })
    }
}

/// A pipe that holds so many bytes, so that nearly every write is cut.
struct OverNarrowPipe(usize);

impl<E: Executor> TransportSubject for On<E, OverNarrowPipe> {
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>> {
        let pipe = Pipe::new().capacity(self.what.0);
        Box::pin(async { Ok(Medium::new(pipe, Endpoint::new("pipe", "kit"))) })
    }
}

struct OverTcp;

impl<E: Executor> TransportSubject for On<E, OverTcp> {
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>> {
        Box::pin(async {
            let tcp = Tcp::new(runtime(&self.executor)?);
            Ok(Medium::new(tcp, Endpoint::new("tcp", "127.0.0.1:0")))
        })
    }
}

#[cfg(unix)]
struct OverUnix;

#[cfg(unix)]
impl<E: Executor> TransportSubject for On<E, OverUnix> {
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>> {
        Box::pin(async {
            let unix = Unix::new(runtime(&self.executor)?);
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("kit.sock");
            Ok(Medium::new(unix, Endpoint::new("unix", path.to_string_lossy())).keep(folder))
        })
    }
}

fn runtime(executor: &impl Executor) -> io::Result<SharedRuntime> {
    executor.runtime().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn on<E, S>(executor: E, what: S) -> On<E, S> {
    On { executor, what }
}

transport_suite!(pipe_without_runtime, on(Bare, OverPipe));
transport_suite!(narrow_pipe_without_runtime, on(Bare, OverNarrowPipe(700)));
transport_suite!(pipe_of_seven_bytes_without_runtime, on(Bare, OverNarrowPipe(7)));
#[cfg(unix)]
transport_suite!(unix_on_tokio_threads, on(OnTokio::threads(), OverUnix));
#[cfg(unix)]
transport_suite!(unix_on_tokio_current, on(OnTokio::current(), OverUnix));
#[cfg(unix)]
transport_suite!(unix_on_smol, on(OnSmol::new(), OverUnix));
transport_suite!(tcp_on_tokio_threads, on(OnTokio::threads(), OverTcp));
transport_suite!(tcp_on_tokio_current, on(OnTokio::current(), OverTcp));
transport_suite!(tcp_on_smol, on(OnSmol::new(), OverTcp));
