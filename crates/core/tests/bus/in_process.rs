//! A bus over the in-process broker, whose books have to balance when the test is over.

use std::ops::Deref;

use posthaste_conformance::Books;
use posthaste_core::Bus;
use posthaste_memory::Memory;

pub(crate) struct InProcess {
    bus: Bus,
    _books: Books,
}

impl InProcess {
    pub(crate) fn new() -> Self {
        let broker = Memory::new();
        Self { _books: Books::watch(broker.clone()), bus: Bus::new(broker) }
    }
}

impl Deref for InProcess {
    type Target = Bus;

    fn deref(&self) -> &Bus {
        &self.bus
    }
}
