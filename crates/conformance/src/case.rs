//! A case: one thing that a law demands, what it needs to be shown, and how a run of it ended.

use std::fmt;

use posthaste_core::{Capability, SharedRuntime};

use crate::failure::{Failure, Outcome};
use crate::poll::LocalFuture;
use crate::{Context, Law, Medium};

/// One case of a law. `C` is what it is run with.
#[derive(Debug)]
pub struct Case<C> {
    /// The law that it shows.
    pub law: Law,
    /// Its name, which begins with the law's number and is a sentence.
    pub name: &'static str,
    /// What the subject has to have for the case to be applicable.
    pub needs: &'static [Need],
    /// The case itself.
    pub run: fn(C) -> LocalFuture<'static, Outcome>,
}

/// A case that is run with a fresh broker.
pub type BrokerCase = Case<Context>;
/// A case that is run with a transport and a place to listen at.
pub type TransportCase = Case<Medium>;
/// A case that is run with a runtime.
pub type RuntimeCase = Case<SharedRuntime>;

/// What a subject has to have for a case to be applicable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The broker has the capability.
    Has(Capability),
    /// The executor has a runtime, and with it a clock.
    Clock,
    /// Nobody else uses the broker.
    Alone,
    /// The broker hands a message to a consumer that polls, not ahead of its polls.
    Pull,
    /// The fixture says how the broker is ended and opened again.
    Reopening,
    /// The runtime has real sockets, which a simulated one has not.
    Sockets,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(capability) => write!(f, "the capability {capability}"),
            Self::Clock => f.write_str("a clock: give the executor a runtime"),
            Self::Alone => f.write_str("a broker that nobody else uses"),
            Self::Pull => f.write_str("a broker that hands out to polls, not ahead of them"),
            Self::Reopening => f.write_str("a way to open the broker again: `Fixture::reopen`"),
            Self::Sockets => f.write_str("a runtime with real sockets"),
        }
    }
}

/// How the run of a case ended.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The law held.
    Passed,
    /// The subject lacks something that the case needs.
    NotApplicable(Need),
    /// The law was broken.
    Failed(Failure),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::NotApplicable(need) => write!(f, "not applicable, needs {need}"),
            Self::Failed(failure) => write!(f, "FAILED: {failure}"),
        }
    }
}

/// The needs by the names that the table of cases uses.
pub(crate) mod needs {
    use super::Need;
    use posthaste_core::Capability;

    pub(crate) const TOPICS: Need = Need::Has(Capability::Topics);
    pub(crate) const GROUPS: Need = Need::Has(Capability::Groups);
    pub(crate) const QUEUES: Need = Need::Has(Capability::Queues);
    pub(crate) const INBOXES: Need = Need::Has(Capability::Inboxes);
    pub(crate) const MANUAL_ACK: Need = Need::Has(Capability::ManualAck);
    pub(crate) const NO_RESPONDERS: Need = Need::Has(Capability::NoResponders);
    pub(crate) const REDELIVERY: Need = Need::Has(Capability::Redelivery);
    pub(crate) const BINDINGS: Need = Need::Has(Capability::Bindings);
    pub(crate) const BYTE_LIMITS: Need = Need::Has(Capability::ByteLimits);
    pub(crate) const DEADLINES: Need = Need::Has(Capability::Deadlines);
    pub(crate) const DRAIN: Need = Need::Has(Capability::Drain);
    pub(crate) const INSPECTION: Need = Need::Has(Capability::Inspection);
    pub(crate) const RETRY_DELAY: Need = Need::Has(Capability::RetryDelay);
    pub(crate) const DEAD_LETTERS: Need = Need::Has(Capability::DeadLetters);
    pub(crate) const DELAY: Need = Need::Has(Capability::Delay);
    pub(crate) const PRIORITY: Need = Need::Has(Capability::Priority);
    pub(crate) const DEDUPLICATION: Need = Need::Has(Capability::Deduplication);
    pub(crate) const KEYED_ORDER: Need = Need::Has(Capability::KeyedOrder);
    pub(crate) const OVERFLOW: Need = Need::Has(Capability::Overflow);
    pub(crate) const CONSUMER_TIMEOUT: Need = Need::Has(Capability::ConsumerTimeout);
    pub(crate) const CANCELLATION: Need = Need::Has(Capability::Cancellation);
    pub(crate) const EVENTS: Need = Need::Has(Capability::Events);
    pub(crate) const BACK_PRESSURE: Need = Need::Has(Capability::BackPressure);
    pub(crate) const MATCH_COUNT: Need = Need::Has(Capability::MatchCount);
    pub(crate) const HAND_OVER: Need = Need::Has(Capability::HandOver);
    pub(crate) const ANY_NAME: Need = Need::Has(Capability::AnyName);
    pub(crate) const REPLAY: Need = Need::Has(Capability::Replay);
    pub(crate) const DURABILITY: Need = Need::Has(Capability::Durability);
    pub(crate) const CLOCK: Need = Need::Clock;
    pub(crate) const ALONE: Need = Need::Alone;
    pub(crate) const PULL: Need = Need::Pull;
    pub(crate) const REOPENING: Need = Need::Reopening;
    pub(crate) const SOCKETS: Need = Need::Sockets;
}
