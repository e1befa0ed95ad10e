//! The kit's laws of transports, over the simulated network, whole and hostile.

use std::cell::Cell;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use posthaste_conformance::{Executor, LocalFuture, Medium, TransportSubject, transport_suite};
use posthaste_core::BoxFuture;
use posthaste_core::transport::Endpoint;
use posthaste_sim::{Faults, Sim, SimTransport};

/// Each case in a world of its own.
struct InAWorld {
    faults: Faults,
    transport: Mutex<Option<SimTransport>>,
}

impl InAWorld {
    fn new(faults: Faults) -> Self {
        Self { faults, transport: Mutex::default() }
    }
}

impl Executor for InAWorld {
    fn block_on(&self, case: LocalFuture<'_, ()>) {
        let case = Cell::new(Some(case));
        let sim = Sim::new().faults(self.faults.clone()).heal_after(Duration::from_secs(600));
        let outcome = sim.one(11, |world| {
            *self.transport.lock().unwrap() = Some(world.node("kit").transport());
            case.take().expect("a world has one case")
        });
        assert!(outcome.failure.is_none(), "{}", outcome.failure.unwrap());
    }
}

impl TransportSubject for InAWorld {
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>> {
        let transport = self.transport.lock().unwrap().clone().expect("the world is there");
        let at = Endpoint::new("sim", "kit:0");
        Box::pin(std::future::ready(Ok(Medium::new(transport, at))))
    }
}

transport_suite!(a_whole_network, InAWorld::new(Faults::none()));
transport_suite!(a_network_that_splits_and_stalls, InAWorld::new(Faults::gentle()));
