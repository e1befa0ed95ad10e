//! What the tests share: one body on every runtime, and a connected pair.

use std::path::Path;
use std::sync::Arc;

use posthaste_core::SharedRuntime;
use posthaste_core::transport::{BoxConnection, Endpoint, Listener, Transport};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

/// Runs `test` on tokio with many threads, tokio with one, smol's global executor and one of its
/// own, one after the other.
pub(crate) fn on_every_runtime(test: impl AsyncFn(SharedRuntime)) {
    let many = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    many.block_on(async { test(Tokio::current().into()).await });
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    one.block_on(async { test(Tokio::current().into()).await });
    smol::block_on(test(Smol::global().into()));
    let executor = Arc::new(smol::Executor::new());
    smol::block_on(executor.run(test(Smol::new(Arc::clone(&executor)).into())));
}

/// A client's and a server's end of one connection to `listener`.
pub(crate) async fn pair(
    transport: &dyn Transport,
    listener: &mut dyn Listener,
) -> (BoxConnection, BoxConnection) {
    let to = listener.endpoint();
    let (client, server) =
        futures::join!(transport.connect(&to), async { listener.accept().await?.await });
    (client.unwrap(), server.unwrap())
}

/// An empty folder, which goes when the test ends.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The endpoint of a socket at `path`.
pub(crate) fn endpoint(path: impl AsRef<Path>) -> Endpoint {
    Endpoint::new("unix", path.as_ref().to_str().unwrap())
}

/// The error of something that must not have worked.
#[track_caller]
pub(crate) fn refusal<T>(result: std::io::Result<T>) -> std::io::Error {
    match result {
        Ok(_) => panic!("this was to fail"),
        Err(error) => error,
    }
}
