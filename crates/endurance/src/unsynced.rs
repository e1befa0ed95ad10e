//! A broker that syncs nothing, to see that the harness finds out.

use std::io::{self, Write};
use std::path::Path;

use posthaste::log::storage::{Blob, Folder, Storage};
use posthaste::{Durable, LogOptions, Server, ServerOptions, SharedRuntime};
use posthaste_tokio::Tokio;

use crate::Failure;

/// Serves a folder at a URL as `posthaste serve` does, until the process is killed; but nothing that it
/// says is stored is any more than written.
///
/// # Errors
/// Why it cannot.
pub fn serve_unsynced(url: &str, data: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let runtime: SharedRuntime = Tokio::current().into();
        let folder = Unsynced(Folder::open(data)?);
        let (broker, _) = Durable::open(runtime.clone(), folder, LogOptions::default()).await?;
        let endpoint = posthaste::endpoint(url)?;
        let transport = posthaste::transport(runtime.clone(), &endpoint)?;
        let server = Server::new(runtime, broker, ServerOptions::new());
        let listening = server.listen(transport, endpoint).await?;
        writeln!(io::stdout(), "listening {listening}")?;
        std::future::pending().await
    })
}

#[derive(Debug)]
struct Unsynced<T>(T);

impl Storage for Unsynced<Folder> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        Ok(Box::new(Unsynced(self.0.create(name)?)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        Ok(Box::new(Unsynced(self.0.open(name)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Blob for Unsynced<Box<dyn Blob>> {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(at, bytes)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(at, into)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}
