//! What Kafka does, what is added on top of it, and what it lacks.

use posthaste_core::{Capabilities, Capability};

/// What this backend does natively, what is added to it, and what it lacks, as it is without a
/// connection.
///
/// ```
/// use posthaste_core::Capability;
///
/// let card = posthaste_kafka::card();
/// assert!(card.has(Capability::Durability) && !card.has(Capability::Redelivery));
/// ```
#[must_use]
pub fn card() -> Capabilities {
    Capabilities::new("Kafka")
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
