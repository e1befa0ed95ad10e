//! Serving: from a broker and a URL to a server that others connect to.

use posthaste_core::{Broker, Error, SharedRuntime};
use posthaste_link::{Server, ServerOptions};

/// Serves `broker` at `url`, until the server is dropped.
///
/// Any broker will do: the in-process one makes this process the broker's home, a remote one makes
/// it a gateway. A `tcp://` port of 0 is any free port. For several URLs call
/// [`listen`](Server::listen) on the server with the [`transport`](crate::transport()) of each.
///
/// ```
/// use posthaste::Memory;
/// use posthaste_tokio::Tokio;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), posthaste::Error> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// let url = format!("unix:{}", folder.path().join("app.sock").display());
/// let runtime: posthaste::SharedRuntime = Tokio::current().into();
/// let broker = Memory::with_runtime(runtime.clone());
/// let server = posthaste::serve(runtime.clone(), broker, &url).await?;
///
/// let bus = posthaste::connect(runtime, &url).await?;
/// bus.send("jobs", "work").await?;
/// # drop(server);
/// # Ok(()) }
/// ```
///
/// # Errors
/// `InvalidArgument` for a URL that this build does not know or that nobody can connect to;
/// otherwise why it could not listen there.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn serve(
    runtime: impl Into<SharedRuntime>,
    broker: impl Broker + 'static,
    url: impl AsRef<str>,
) -> Result<Server, Error> {
    let runtime = runtime.into();
    let endpoint = crate::endpoint(url.as_ref())?;
    let transport = crate::transport(runtime.clone(), &endpoint)?;
    let server = Server::new(runtime, broker, ServerOptions::new());
    server.listen(transport, endpoint).await?;
    Ok(server)
}
