//! A folder of the operating system's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Blob, Storage};

/// A folder on a disk, which is this process's alone for as long as this is there: a file `lock` in
/// it is locked, and has the number of the process in it.
///
/// ```
/// use posthaste_log::storage::{Folder, Storage};
///
/// let scratch = tempfile::tempdir()?;
/// let folder = Folder::open(scratch.path().join("data"))?;
/// let file = folder.create("notes")?;
/// file.write_at(0, b"kept")?;
/// file.sync_data()?;
/// folder.sync_dir()?;
/// assert_eq!(folder.names()?, ["notes"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What is synced for the sake of the names.
    handle: File,
    /// Locked until it is closed.
    _lock: File,
}

const LOCK: &str = "lock";

impl Folder {
    /// The folder at `path`, which is made if it is not there, with the folders above it.
    ///
    /// # Errors
    /// `ResourceBusy` if another process has it, with its number; what the system says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let made = !path.is_dir();
        fs::create_dir_all(&path)?;
        // Each folder that was made is a name in the one above it; the process that made this one may
        // have ended before it came so far.
        for above in path.ancestors().skip(1).take(if made { usize::MAX } else { 1 }) {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            if let Ok(folder) = File::open(above) {
                folder.sync_all()?;
            }
        }
        let handle = File::open(&path)?;
        let lock = lock(&path)?;
        Ok(Self { path, handle, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options
    }
}

/// Locks a folder, and leaves in it who has it.
fn lock(folder: &Path) -> io::Result<File> {
    let mut options = Folder::options();
    let mut lock = options.create(true).truncate(false).open(folder.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            lock.read_to_string(&mut holder)?;
            let (folder, holder) = (folder.display(), holder.trim());
            let text = format!(
                "the folder {folder} is in use by process {holder}; stop that first, or choose \
                 another folder"
            );
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
    }
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

impl Storage for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && name != LOCK
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        let file = Self::options().create_new(true).open(self.path.join(name))?;
        Ok(Box::new(FileBlob(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        Ok(Box::new(FileBlob(Self::options().open(self.path.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

#[derive(Debug)]
struct FileBlob(File);

/// How many zeros are written at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Blob for FileBlob {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.0.read_at(&mut into[read..], at + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let from = self.len()?;
        let mut at = from;
        while at < len {
            let count = (len - at).min(ZEROS.len() as u64);
            let zeros = &ZEROS[..usize::try_from(count).unwrap_or(ZEROS.len())];
            if let Err(error) = self.0.write_all_at(zeros, at) {
                // Whatever room that took is somebody else's to have.
                self.0.set_len(from)?;
                return Err(error);
            }
            at += count;
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
