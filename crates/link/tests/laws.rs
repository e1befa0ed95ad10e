//! The laws of brokers and transports, over a pipe and over a gateway: a server in front of a
//! remote broker.

use std::sync::Arc;

use posthaste_conformance::{
    BrokerSubject, Executor, Fixture, LocalFuture, Medium, TransportSubject, broker_suite,
    transport_suite,
};
use posthaste_core::transport::Endpoint;
use posthaste_core::{BoxFuture, Broker, Error, SharedRuntime};
use posthaste_link::{Pipe, Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;
use posthaste_smol::Smol;
use smol::Executor as Smolling;

broker_suite!(over_a_pipe, OverPipe::new(0));
broker_suite!(over_a_gateway, OverPipe::new(1));
transport_suite!(pipe, OverPipe::new(0));

/// Brokers so many gateways away.
struct OverPipe {
    executor: Arc<Smolling<'static>>,
    gateways: usize,
}

impl OverPipe {
    fn new(gateways: usize) -> Self {
        let executor = Arc::new(Smolling::new());
        Self { executor, gateways }
    }

    fn runtime(&self) -> SharedRuntime {
        Smol::new(Arc::clone(&self.executor)).into()
    }
}

impl Executor for OverPipe {
    fn runtime(&self) -> Option<SharedRuntime> {
        Some(Self::runtime(self))
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        smol::block_on(self.executor.run(case));
    }
}

impl BrokerSubject for OverPipe {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(async {
            let runtime = Self::runtime(self);
            let pipe = Pipe::new();
            let mut broker: Arc<dyn Broker> = Arc::new(Memory::with_runtime(runtime.clone()));
            let mut servers = Vec::new();
            for hop in 0..=self.gateways {
                let server = Server::new(runtime.clone(), broker, ServerOptions::new());
                let at = Endpoint::new("pipe", format!("hop {hop}"));
                let here = server.listen(pipe.clone(), at).await?;
                servers.push(server);
                broker = Arc::new(connect(&runtime, &pipe, here).await?);
            }
            let last = Endpoint::new("pipe", format!("hop {}", self.gateways));
            let peer = connect(&runtime, &pipe, last).await?;
            Ok(Fixture::new(broker).peer(peer).pushes().keep(servers))
        })
    }
}

async fn connect(runtime: &SharedRuntime, pipe: &Pipe, to: Endpoint) -> Result<Remote, Error> {
    Remote::connect(runtime.clone(), pipe.clone(), to, RemoteOptions::new()).await
}

impl TransportSubject for OverPipe {
    fn open(&self) -> BoxFuture<'_, std::io::Result<Medium>> {
        let medium = Medium::new(Pipe::new(), Endpoint::new("pipe", "here"));
        Box::pin(async { Ok(medium) })
    }
}
