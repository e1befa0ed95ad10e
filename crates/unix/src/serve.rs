//! From a runtime and a path to a remote broker, and from a broker to a server.

use std::path::Path;

use posthaste_core::transport::Endpoint;
use posthaste_core::{Broker, Error, ErrorKind, SharedRuntime};
use posthaste_link::{Remote, RemoteOptions, Server, ServerOptions};

use crate::Unix;

/// Connects to the broker that is served at the Unix socket `path`.
///
/// This is [`Remote::connect`] over [`Unix::new`] with the defaults of both; call it yourself where
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
/// # let folder = tempfile::tempdir().expect("a folder");
/// let path = folder.path().join("app.sock");
/// let server = posthaste_unix::serve(Tokio::current(), Memory::new(), &path).await?;
///
/// let remote = posthaste_unix::connect(Tokio::current(), &path).await?;
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
    path: impl AsRef<Path>,
) -> Result<Remote, Error> {
    let runtime = runtime.into();
    let endpoint = endpoint(path.as_ref())?;
    Remote::connect(runtime.clone(), Unix::new(runtime), endpoint, RemoteOptions::new()).await
}

/// Serves `broker` at the Unix socket `path`, for this user alone, until the server is dropped. See
/// [`connect`] for an example.
///
/// # Errors
/// As [`Server::listen`].
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn serve(
    runtime: impl Into<SharedRuntime>,
    broker: impl Broker + 'static,
    path: impl AsRef<Path>,
) -> Result<Server, Error> {
    let runtime = runtime.into();
    let server = Server::new(runtime.clone(), broker, ServerOptions::new());
    server.listen(Unix::new(runtime), endpoint(path.as_ref())?).await?;
    Ok(server)
}

fn endpoint(path: &Path) -> Result<Endpoint, Error> {
    let text = path.to_str().ok_or_else(|| {
        let text = format!("the path of a socket has to be UTF-8: {}", path.display());
        Error::new(ErrorKind::InvalidArgument, text)
    })?;
    Ok(Endpoint::new("unix", text))
}
