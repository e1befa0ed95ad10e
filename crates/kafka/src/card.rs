//! What Kafka does, what is added on top of it, and what it lacks.

use posthaste_core::{Capabilities, Capability};

/// The capability card.
pub(crate) fn card() -> Capabilities {
    Capabilities::new("kafka")
        .native(&[
            Capability::Topics,
            Capability::Groups,
            Capability::Queues,
            Capability::ManualAck,
            Capability::Durability,
            Capability::HandOver,
        ])
        .emulated(&[Capability::Inboxes, Capability::Deadlines, Capability::Drain])
}
