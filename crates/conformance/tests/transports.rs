//! The kit on the transport in memory, wide and narrow; sockets are tested where they are written.

mod common;

use std::io;

use common::{Bare, On};
use posthaste_conformance::{Executor, Medium, TransportSubject, transport_suite};
use posthaste_core::BoxFuture;
use posthaste_core::transport::Endpoint;
use posthaste_link::Pipe;

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

fn on<E, S>(executor: E, what: S) -> On<E, S> {
    On { executor, what }
}

transport_suite!(pipe_without_runtime, on(Bare, OverPipe));
transport_suite!(narrow_pipe_without_runtime, on(Bare, OverNarrowPipe(700)));
transport_suite!(pipe_of_seven_bytes_without_runtime, on(Bare, OverNarrowPipe(7)));
