//! Every law of transports, and every law of brokers over a server and a remote on this transport.

use std::io;
use std::sync::Arc;

use posthaste_conformance::{
    BrokerSubject, Executor, Fixture, LocalFuture, Medium, TransportSubject, broker_suite,
    transport_suite,
};
use posthaste_core::transport::Endpoint;
use posthaste_core::{BoxFuture, Error, SharedRuntime};
use posthaste_example_custom_transport::Board;
use posthaste_link::{Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;
use posthaste_smol::Smol;

transport_suite!(board, OnSmol::default());
broker_suite!(broker_over_a_board, OnSmol::default());

#[derive(Default)]
struct OnSmol(Arc<smol::Executor<'static>>);

impl Executor for OnSmol {
    fn runtime(&self) -> Option<SharedRuntime> {
        Some(Smol::new(Arc::clone(&self.0)).into())
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        smol::block_on(self.0.run(case));
    }
}

impl TransportSubject for OnSmol {
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>> {
        Box::pin(async { Ok(Medium::new(Board::default(), Endpoint::new("serial", "ttyS0"))) })
    }
}

impl BrokerSubject for OnSmol {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(async {
            let runtime: SharedRuntime = Smol::new(Arc::clone(&self.0)).into();
            let board = Board::default();
            let memory = Memory::with_runtime(runtime.clone());
            let server = Server::new(runtime.clone(), memory, ServerOptions::new());
            let port = server.listen(board.clone(), Endpoint::new("serial", "ttyS0")).await?;
            let connect = async || {
                let (port, options) = (port.clone(), RemoteOptions::new());
                Remote::connect(runtime.clone(), board.clone(), port, options).await
            };
            let (one, other) = (connect().await?, connect().await?);
            Ok(Fixture::new(one).peer(other).pushes().keep(server))
        })
    }
}
