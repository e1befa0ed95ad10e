//! The broker of every test, whose books have to balance when the test is over.

use std::ops::Deref;

use posthaste_conformance::Books;
use posthaste_core::SharedRuntime;

/// The in-process broker with its books watched: what tests here mean by `Memory`.
#[derive(Debug)]
pub(crate) struct Memory {
    broker: posthaste_memory::Memory,
    _books: Books,
}

impl Memory {
    pub(crate) fn new() -> Self {
        posthaste_memory::Memory::new().into()
    }

    #[allow(dead_code, reason = "not every binary has tests with a clock")]
    pub(crate) fn with_runtime(runtime: SharedRuntime) -> Self {
        posthaste_memory::Memory::with_runtime(runtime).into()
    }
}

impl From<posthaste_memory::Memory> for Memory {
    fn from(broker: posthaste_memory::Memory) -> Self {
        Self { _books: Books::watch(broker.clone()), broker }
    }
}

impl Deref for Memory {
    type Target = posthaste_memory::Memory;

    fn deref(&self) -> &Self::Target {
        &self.broker
    }
}
