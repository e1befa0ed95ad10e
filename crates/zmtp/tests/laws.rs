//! The laws of brokers between two nodes, over TCP and over Unix sockets, on tokio and on smol.

use posthaste_conformance::{BrokerSubject, Executor, Fixture, LocalFuture, broker_suite};
use posthaste_core::{BoxFuture, Error, SharedRuntime};
use posthaste_servers::executors::{OnSmol, OnTokio};
use posthaste_zmtp::Zmtp;

broker_suite!(tcp_on_tokio, Between { executor: OnTokio::current(), place: Place::Tcp });
broker_suite!(tcp_on_tokio_threads, Between { executor: OnTokio::threads(), place: Place::Tcp });
broker_suite!(tcp_on_smol, Between { executor: OnSmol::default(), place: Place::Tcp });
broker_suite!(unix_on_tokio, Between { executor: OnTokio::current(), place: Place::Unix });
broker_suite!(unix_on_smol, Between { executor: OnSmol::default(), place: Place::Unix });

/// Two nodes: over TCP the one that sends binds, over Unix sockets the one that receives.
struct Between<E> {
    executor: E,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Tcp,
    Unix,
}

impl<E: Executor> Executor for Between<E> {
    fn runtime(&self) -> Option<SharedRuntime> {
        self.executor.runtime()
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.executor.block_on(case);
    }
}

impl<E: Executor> BrokerSubject for Between<E> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let (runtime, place) = (self.executor.runtime(), self.place);
        Box::pin(async move {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            let folder = tempfile::tempdir().map_err(|error| Error::closed(error.to_string()))?;
            let url = match place {
                Place::Tcp => String::from("zmtp+tcp://127.0.0.1:0?bind"),
                Place::Unix => format!("zmtp+unix:{}?bind", folder.path().join("zmtp").display()),
            };
            let bound = Zmtp::open(runtime.clone(), &url).await?;
            let there = &bound.endpoints()[0];
            let connected = Zmtp::open(runtime, &format!("zmtp+{there}")).await?;
            let fixture = match place {
                Place::Tcp => Fixture::new(bound).peer(connected),
                Place::Unix => Fixture::new(connected).peer(bound),
            };
            Ok(fixture.pushes().keep(folder))
        })
    }
}
