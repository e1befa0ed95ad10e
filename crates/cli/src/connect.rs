//! From the command line's URL to a bus, and the goodbye at the end.

use std::time::Duration;

use posthaste::{Bus, ErrorKind, Reconnect};
use posthaste_tokio::Tokio;

use crate::args::BrokerArgs;
use crate::exit::{Code, Failure};

/// How long the goodbye may take: long enough for a server under load, and no longer than a user
/// waits for a program that has done its work.
const GOODBYE: Duration = Duration::from_secs(2);

/// Connects to the broker that the command line names.
pub(crate) async fn connect(broker: &BrokerArgs, reconnect: Reconnect) -> Result<Bus, Failure> {
    let connecting = posthaste::connect(Tokio::current(), &broker.url)
        .connect_timeout(broker.connect.connect_timeout)
        .reconnect(reconnect);
    connecting.await.map_err(|error| match error.kind() {
        ErrorKind::InvalidArgument => Failure::new(Code::Usage, error.to_string()),
        _ => Failure::from(error),
    })
}

/// Tells the broker goodbye, so that what this process held is free again before it ends.
pub(crate) async fn goodbye(bus: &Bus) {
    // What could not be said is what the end of the process says as well.
    let _ = tokio::time::timeout(GOODBYE, bus.drain(Duration::ZERO)).await;
}
