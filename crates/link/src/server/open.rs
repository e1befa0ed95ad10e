//! Opening: from what a client wants to what the broker is asked for.

use std::sync::Arc;

use posthaste_core::limits::SUBSCRIPTION_BYTES;
use posthaste_core::{
    Ack, BoxReceiver, Broker, Capability, Error, Overflow, Source, Subscription, Topic,
};

use crate::control::Wanted;

/// What an inbox holds.
const INBOX_MESSAGES: usize = 4_096;

/// What was opened for a client's receiver.
pub(super) struct Receiving {
    pub(super) receiver: BoxReceiver,
    /// The address of an inbox.
    pub(super) address: Option<Topic>,
    /// Whether the client settles on behalf of an application that does not.
    pub(super) auto: bool,
    /// Whether the broker waits to be told what became of what it hands out settled.
    pub(super) accounts: bool,
}

impl Receiving {
    fn inbox(receiver: BoxReceiver, address: Topic) -> Self {
        Self { receiver, address: Some(address), auto: true, accounts: false }
    }
}

/// Opens what a client wants to receive from.
pub(super) async fn receiver(broker: Arc<dyn Broker>, wanted: Wanted) -> Result<Receiving, Error> {
    let mut subscription = match wanted {
        Wanted::Subscription(subscription) => subscription,
        Wanted::Inbox(None) => {
            let (address, receiver) = broker.inbox().await?;
            return Ok(Receiving::inbox(receiver, address));
        }
        // The client had an inbox here before its connection was lost: others know its address.
        Wanted::Inbox(Some(address)) => {
            let subscription = Subscription::topic(&address)?
                .capacity(INBOX_MESSAGES, SUBSCRIPTION_BYTES)
                .overflow(Overflow::DropNewest);
            let receiver = broker.receiver(subscription).await?;
            return Ok(Receiving::inbox(receiver, address));
        }
    };
    let auto = subscription.ack == Ack::Auto;
    if subscription.start.is_some() {
        // What is read is not settled.
        let receiver = broker.receiver(subscription).await?;
        return Ok(Receiving { receiver, address: None, auto, accounts: false });
    }
    let by_hand = broker.capabilities().has(Capability::ManualAck);
    // What is on its way to a lossy subscription could not make room for what is newer.
    let topic = matches!(subscription.source, Source::Topic(_));
    let lossy = topic && subscription.overflow.is_lossy();
    if auto && by_hand && !lossy {
        // Taken is what the application has taken, and only its own side knows when that is.
        // One with a limit leaves the broker with its last delivery, before that is accounted for.
        if topic && subscription.limit.is_none() {
            let mut receiver = broker.receiver(subscription.clone()).await?;
            if receiver.defer_accounts() {
                return Ok(Receiving { receiver, address: None, auto, accounts: true });
            }
        }
        subscription.ack = Ack::Manual;
    }
    let receiver = broker.receiver(subscription).await?;
    Ok(Receiving { receiver, address: None, auto, accounts: false })
}
