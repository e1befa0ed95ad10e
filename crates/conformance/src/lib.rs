//! The laws of Posthaste brokers, transports and runtimes as tests that anyone can run.
//!
//! Every law in the documentation of [`Sender`](posthaste_core::Sender),
//! [`Receiver`](posthaste_core::Receiver), [`Broker`](posthaste_core::Broker),
//! [`Transport`](posthaste_core::transport::Transport) and
//! [`Runtime`](posthaste_core::Runtime) has cases here that bear its number. A broker says how it
//! is opened ([`BrokerSubject`]) and [`broker_suite!`] makes a test of every case, as
//! [`transport_suite!`] does for a transport and [`runtime_suite!`] for an executor:
//!
//! ```
//! use posthaste_conformance::{BrokerSubject, Executor, Fixture};
//! use posthaste_core::{BoxFuture, Error};
//! use posthaste_memory::Memory;
//!
//! struct InProcess;
//!
//! impl Executor for InProcess {}
//!
//! impl BrokerSubject for InProcess {
//!     fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
//!         Box::pin(async { Ok(Fixture::new(Memory::new())) })
//!     }
//! }
//!
//! posthaste_conformance::broker_suite!(in_process, InProcess);
//! # fn main() {}
//! ```
//!
//! The same cases run from a program with [`run_broker`], which returns a [`Report`]. What a
//! backend lacks is *not applicable*, by the name of what is lacking, and never passes silently;
//! what it has is held to the law. No case sleeps, and every one has a watchdog, so a lost
//! wake-up is a failed case and not a hanging test.
//!
//! A broker whose queues outlive it says how it is opened again ([`Fixture::reopen`]), and is held to
//! what it has kept.
//!
//! After every case the books have to balance, the broker's and its clients', and nothing that the
//! case opened may be left. [`Books`] asks the same of any other test, and [`cancel`] gives any
//! future up at every poll. `docs/conformance.md` is the guide.

pub mod cancel;
pub mod card;

mod books;
mod case;
mod cases;
mod context;
mod failure;
mod json;
mod law;
mod poll;
mod random;
mod report;
mod run;
mod subject;
mod suite;
mod watchdog;

pub use books::Books;
pub use case::{BrokerCase, Case, Need, RuntimeCase, TransportCase, Verdict};
pub use cases::{BROKER_CASES, RUNTIME_CASES, TRANSPORT_CASES};
pub use context::Context;
pub use failure::{Failure, Outcome};
pub use law::Law;
pub use poll::{LocalFuture, block_on};
pub use report::{Report, Row, Totals};
pub use run::{
    assert_broker_case, assert_runtime_case, assert_transport_case, run_broker, run_broker_case,
    run_runtime, run_runtime_case, run_transport, run_transport_case,
};
pub use subject::{BrokerSubject, Executor, Fixture, Medium, RuntimeSubject, TransportSubject};
