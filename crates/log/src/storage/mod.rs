//! Where a log keeps its files: a folder on a disk, or what stands for one in a test.

mod folder;
mod simulated;

use std::fmt;
use std::io;

pub use folder::Folder;
pub use simulated::Simulated;

/// A folder of files. Everything here blocks, and nothing is safe from a power cut before it is
/// synced: what is in a file by [`Blob::sync_data`], and that a file is there, or is there no more,
/// or has another name, by [`sync_dir`](Self::sync_dir).
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// The names of the files, in any order.
    ///
    /// # Errors
    /// What the system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the system says.
    fn create(&self, name: &str) -> io::Result<Box<dyn Blob>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn open(&self, name: &str) -> io::Result<Box<dyn Blob>>;

    /// Gives a file another name; one that has that name already is replaced.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names as safe as [`Blob::sync_data`] makes the content.
    ///
    /// # Errors
    /// What the system says. It is not known then which names are safe.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A file.
pub trait Blob: fmt::Debug + Send + Sync + 'static {
    /// Writes all of `bytes` at `at`; the file grows if it ends before that.
    ///
    /// # Errors
    /// What the system says; some of it may have been written.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads what is at `at`, as much as there is room for; less than that only at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// What the system says. What was written since the last call may be gone for good then, also
    /// if a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// How many bytes it has.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has none.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Writes zeros from its end up to `len`, so that what is written there later changes nothing
    /// but content: a sync is cheaper then, and no disk is full.
    ///
    /// # Errors
    /// What the system says; `StorageFull` leaves it as it was.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts it.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&self, len: u64) -> io::Result<()>;
}
