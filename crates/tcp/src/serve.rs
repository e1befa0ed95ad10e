//! From a runtime and an address to a remote broker, and from a broker to a server.

use posthaste_core::transport::Endpoint;
use posthaste_core::{Broker, Error, SharedRuntime};
use posthaste_link::{Remote, RemoteOptions, Server, ServerOptions};

use crate::Tcp;

/// Connects to the broker that is served at `address`, a `HOST:PORT`.
///
/// This is [`Remote::connect`] over [`Tcp::new`] with the defaults of both; call it yourself where
/// other settings are wanted.
///
/// ```
/// use posthaste_core::{
///     Broker, Message, ReceiverExt, SenderExt, SenderOptions, Subscription, Topic,
/// };
/// use posthaste_memory::Memory;
/// use posthaste_tokio::Tokio;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), posthaste_core::Error> {
/// let server = posthaste_tcp::serve(Tokio::current(), Memory::new(), "127.0.0.1:0").await?;
/// let here = server.endpoints().remove(0);
///
/// let remote = posthaste_tcp::connect(Tokio::current(), here.address()).await?;
/// let mut sender = remote.sender(SenderOptions::new()).await?;
/// sender.send(Message::to_queue(Topic::new("jobs")?, "work")).await?;
/// let mut jobs = remote.receiver(Subscription::queue("jobs")?).await?;
/// jobs.next_delivery().await?.ack();
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`Remote::connect`].
///
/// # Cancel safety
/// Dropping the future abandons the attempt and leaves nothing behind.
pub async fn connect(
    runtime: impl Into<SharedRuntime>,
    address: impl Into<String>,
) -> Result<Remote, Error> {
    let runtime = runtime.into();
    let endpoint = Endpoint::new("tcp", address);
    Remote::connect(runtime.clone(), Tcp::new(runtime), endpoint, RemoteOptions::new()).await
}

/// Serves `broker` at `address`, a `HOST:PORT`, until the server is dropped; a port of 0 is any
/// free one, and [`Server::endpoints`] says which. See [`connect`] for an example.
///
/// # Errors
/// As [`Server::listen`].
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn serve(
    runtime: impl Into<SharedRuntime>,
    broker: impl Broker + 'static,
    address: impl Into<String>,
) -> Result<Server, Error> {
    let runtime = runtime.into();
    let server = Server::new(runtime.clone(), broker, ServerOptions::new());
    server.listen(Tcp::new(runtime), Endpoint::new("tcp", address)).await?;
    Ok(server)
}
