//! Posthaste as a contender, through its public API, with default settings except where the work
//! says otherwise.

mod beside;
mod brokers;
mod in_process;
mod requests;
mod sockets;

use anyhow::Result;

use crate::peer::{Contender, Peer};
use crate::stage::Stage;
use crate::work::{Via, Work};

/// Posthaste.
pub(crate) struct Posthaste;

impl Peer for Posthaste {
    fn name(&self) -> &'static str {
        "Posthaste"
    }

    fn version(&self) -> Option<String> {
        crate::versions::of_crate("posthaste")
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        match Place::of(work) {
            Place::InProcess => in_process::contenders(work),
            Place::Sockets => sockets::contenders(work),
            Place::Brokers => brokers::contenders(work),
        }
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        match Place::of(&stage.script().work) {
            Place::InProcess => in_process::play(stage),
            Place::Sockets => sockets::play(stage),
            Place::Brokers => brokers::play(stage),
        }
    }
}

/// Where the broker is.
enum Place {
    /// With everybody in one process.
    InProcess,
    /// With who receives or answers.
    Sockets,
    /// In a process of its own.
    Brokers,
}

impl Place {
    fn of(work: &Work) -> Self {
        match work {
            Work::Queue { .. } | Work::FanOut { .. } => Self::InProcess,
            Work::Stream { .. } | Work::Request { .. } | Work::Beside { .. } => Self::Sockets,
            Work::Paced { via: Via::Direct, .. } => Self::Sockets,
            Work::PubSub { .. } | Work::Group { .. } | Work::Acked { .. } | Work::Ask { .. } => {
                Self::Brokers
            }
            Work::Durable { .. } => Self::Brokers,
            Work::Paced { via: Via::Broker, .. } => Self::Brokers,
        }
    }
}
