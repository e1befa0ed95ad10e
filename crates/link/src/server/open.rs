//! Opening: from what a client wants to what the broker is asked for.

use std::sync::Arc;

use posthaste_core::limits::SUBSCRIPTION_BYTES;
use posthaste_core::{Ack, BoxReceiver, Broker, Capability, Error, Overflow, Source, Subscription};

use crate::control::{Opened, Wanted};

/// What an inbox holds.
const INBOX_MESSAGES: usize = 4_096;
/// What was opened for a client's receiver.
pub(super) struct Receiving {
    pub(super) receiver: BoxReceiver,
    pub(super) opened: Opened,
    /// Whether the client settles on behalf of an application that does not.
    pub(super) auto: bool,
}

/// Opens what a client wants to receive from.
pub(super) async fn receiver(broker: Arc<dyn Broker>, wanted: Wanted) -> Result<Receiving, Error> {
    let mut subscription = match wanted {
        Wanted::Subscription(subscription) => subscription,
        Wanted::Inbox(None) => {
            let (address, receiver) = broker.inbox().await?;
            let opened = Opened { settles: false, address: Some(address) };
            return Ok(Receiving { receiver, opened, auto: true });
        }
        // The client had an inbox here before its connection was lost: others know its address.
        Wanted::Inbox(Some(address)) => {
            let subscription = Subscription::topic(&address)?
                .capacity(INBOX_MESSAGES, SUBSCRIPTION_BYTES)
                .overflow(Overflow::DropNewest);
            let receiver = broker.receiver(subscription).await?;
            let opened = Opened { settles: false, address: Some(address) };
            return Ok(Receiving { receiver, opened, auto: true });
        }
    };
    let auto = subscription.ack == Ack::Auto;
    let by_hand = broker.capabilities().has(Capability::ManualAck);
    if auto && by_hand && !matches!(subscription.source, Source::Topic(_)) {
        // Taken is what the application has taken, and only its own side knows when that is.
        subscription.ack = Ack::Manual;
    }
    let settles = subscription.ack == Ack::Manual;
    let receiver = broker.receiver(subscription).await?;
    Ok(Receiving { receiver, opened: Opened { settles, address: None }, auto })
}
