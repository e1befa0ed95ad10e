//! What happens to the connection, for whoever has to know.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Event;
use posthaste_core::runtime::timeout_at;
use posthaste_core::{Error, ErrorKind, SharedRuntime};
use tokio::sync::watch;

/// The state of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) connected: bool,
    /// How many connections have been lost.
    pub(crate) ended: u64,
    /// How many connections have been lost, or have dropped messages that came too fast.
    pub(crate) losses: u64,
    closed: bool,
}

/// Follows the client's events.
#[derive(Debug, Clone)]
pub(crate) struct Events(Arc<watch::Sender<Condition>>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Condition { connected: true, ..Condition::default() })))
    }

    /// Takes an event of the client in.
    pub(crate) fn note(&self, event: &Event) {
        self.0.send_modify(|condition| match event {
            Event::Connected => condition.connected = true,
            Event::Disconnected => {
                condition.connected = false;
                condition.ended += 1;
                condition.losses += 1;
            }
            Event::SlowConsumer(_) => condition.losses += 1,
            Event::Closed => condition.closed = true,
            _ => {}
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Condition> {
        self.0.subscribe()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.0.borrow().connected
    }

    /// Waits until the connection is lost.
    pub(crate) async fn lost(&self) {
        let mut watch = self.watch();
        let ended = watch.borrow_and_update().ended;
        // Events go on as long as whoever asks.
        let _ = watch.wait_for(|condition| condition.ended != ended).await;
    }

    /// Waits until there is a connection, as long as the policy says.
    pub(crate) async fn connected(
        &self,
        runtime: &SharedRuntime,
        within: Option<Duration>,
    ) -> Result<(), Error> {
        if self.is_connected() {
            return Ok(());
        }
        let mut watch = self.watch();
        let up = watch.wait_for(|condition| condition.connected || condition.closed);
        let up = match within {
            None => Some(up.await.map(|condition| condition.connected)),
            Some(within) => {
                let deadline = runtime.now() + within;
                timeout_at(&**runtime, deadline, up).await.map(|up| up.map(|now| now.connected))
            }
        };
        match up {
            Some(Ok(true)) => Ok(()),
            _ => {
                let text = "the connection to NATS is lost and did not come back in time";
                Err(Error::new(ErrorKind::Disconnected, text))
            }
        }
    }
}
