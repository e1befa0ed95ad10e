//! A folder of the operating system's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use super::{Blob, Storage};

/// A folder on a disk, which is this process's alone for as long as this is there: a file `lock` in
/// it is locked, and has the number of the process in it. Those who only [look](Self::look) share it.
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
    /// Locked until it is closed; absent where there is none and nothing may be made.
    _lock: Option<File>,
    is_read_only: bool,
}

const LOCK: &str = "lock";
/// How often the number of whoever has a folder is looked for: it is written right after the lock is had.
const LOOKS: usize = 1_000;

impl Folder {
    /// The folder at `path`, which is made if it is not there, with the folders above it.
    ///
    /// # Errors
    /// `ResourceBusy` if another process has it, with its number, or looks into it; `NotADirectory` if
    /// it is something else than a folder; what the system says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let made = !path.is_dir();
        if made && path.exists() {
            let text = "it is a file; name a folder, which is made if it is not there";
            return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
        }
        make(&path)?;
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
        Ok(Self { path, handle, _lock: Some(lock), is_read_only: false })
    }

    /// The folder at `path`, to look at what is in it: nothing there is made or changed, so it may be one
    /// that cannot be written. Several may look at a time, while nobody keeps anything there.
    ///
    /// ```
    /// use posthaste_log::storage::{Folder, Storage};
    ///
    /// let scratch = tempfile::tempdir()?;
    /// let (one, other) = (Folder::look(scratch.path())?, Folder::look(scratch.path())?);
    /// assert_eq!((one.names()?.len(), other.names()?.len()), (0, 0));
    /// assert!(one.create("notes").is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `ResourceBusy` if another process has it, with its number; what the system says.
    pub fn look(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let handle = File::open(&path)?;
        let lock = shared_lock(&path)?;
        Ok(Self { path, handle, _lock: lock, is_read_only: true })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        // What is in messages is for nobody else who has an account here.
        options.read(true).write(true).mode(0o600);
        options
    }

    fn may_change(&self) -> io::Result<()> {
        match self.is_read_only {
            true => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is only looked at")),
            false => Ok(()),
        }
    }
}

/// Makes a folder that is this user's alone, and those above it, if they are not there.
fn make(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Locks a folder, and leaves in it who has it.
fn lock(folder: &Path) -> io::Result<File> {
    let mut options = Folder::options();
    let mut lock = options.create(true).truncate(false).open(folder.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error),
        // Whoever only looks leaves no number, and what is there is of somebody who has gone.
        Err(TryLockError::WouldBlock) if lock.try_lock_shared().is_ok() => {
            let who = "another process, which looks into it; wait until that has ended";
            return Err(in_use(folder, who));
        }
        Err(TryLockError::WouldBlock) => return Err(kept(folder, &lock)),
    }
    lock.set_len(0)?;
    match writeln!(lock, "{}", std::process::id()) {
        // Who has it is then known by nobody, and it is theirs all the same.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
        written => written?,
    }
    Ok(lock)
}

/// Sees to it that nobody keeps anything in a folder. Where there is no lock nobody does.
fn shared_lock(folder: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(folder.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => Err(kept(folder, &lock)),
    }
}

/// Who keeps something in a folder. The number may be about to be written.
fn kept(folder: &Path, lock: &File) -> io::Error {
    let number = (0..LOOKS).find_map(|_| {
        let number = number_in(lock);
        if number.is_none() {
            thread::yield_now();
        }
        number
    });
    let who = number.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
    in_use(folder, &format!("{who}; stop that first, or choose another folder"))
}

/// The number in a lock, if it is there.
fn number_in(lock: &File) -> Option<u32> {
    let mut bytes = [0; 16];
    let read = lock.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..read]).ok()?.trim().parse().ok()
}

fn in_use(folder: &Path, who: &str) -> io::Error {
    let text = format!("the folder {} is in use by {who}", folder.display());
    io::Error::new(io::ErrorKind::ResourceBusy, text)
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
        self.may_change()?;
        let file = Self::options().create_new(true).open(self.path.join(name))?;
        Ok(Box::new(FileBlob(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        let mut options = Self::options();
        let file = options.write(!self.is_read_only).open(self.path.join(name))?;
        Ok(Box::new(FileBlob(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may_change()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_change()?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn refused(opened: io::Result<Folder>) -> String {
        let error = opened.expect_err("somebody has it");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        error.to_string()
    }

    #[test]
    fn whoever_has_a_folder_is_named_once_that_is_known() {
        let scratch = folder();
        let mut lock = File::create(scratch.path().join(LOCK)).expect("a lock");
        lock.lock().expect("it is free");
        for text in [Folder::open(scratch.path()), Folder::look(scratch.path())].map(refused) {
            assert!(text.contains("is in use by another process; stop that first"), "{text}");
        }
        writeln!(lock, "4711").expect("it can be written");
        for text in [Folder::open(scratch.path()), Folder::look(scratch.path())].map(refused) {
            assert!(text.contains("is in use by process 4711; stop that first"), "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_for_nobody_else() {
        let scratch = folder();
        let path = scratch.path().join("above/data");
        let kept = Folder::open(&path).expect("it is made");
        kept.create("notes").expect("it is not there");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode(&path) & 0o777, 0o700);
        for name in ["notes", LOCK] {
            assert_eq!(mode(&path.join(name)) & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn looking_changes_nothing_and_goes_together_with_looking() {
        let scratch = folder();
        let names = || scratch.path().read_dir().expect("a folder").count();
        drop(Folder::look(scratch.path()).expect("it can be looked into"));
        assert_eq!(names(), 0);

        let kept = Folder::open(scratch.path()).expect("it is free");
        kept.create("notes").expect("it is not there").write_at(0, b"kept").expect("there is room");
        drop(kept);
        let lock = scratch.path().join(LOCK);
        fs::write(&lock, "4711").expect("it can be written");
        let (one, other) = (Folder::look(scratch.path()), Folder::look(scratch.path()));
        let (one, _other) = (one.expect("it is free"), other.expect("others only look, too"));
        let notes = one.open("notes").expect("it is there");
        let mut read = [0; 4];
        assert_eq!((notes.read_at(0, &mut read).expect("it can be read"), &read), (4, b"kept"));
        notes.write_at(0, b"lost").expect_err("it is open to be read");
        one.create("more").expect_err("nothing is made");
        one.rename("notes", "more").expect_err("nothing is renamed");
        one.remove("notes").expect_err("nothing is removed");
        let text = refused(Folder::open(scratch.path()));
        assert!(text.contains("looks into it") && !text.contains("4711"), "{text}");
        assert_eq!((fs::read(&lock).expect("it is there"), names()), (b"4711".to_vec(), 2));
    }

    #[test]
    fn a_file_is_no_folder() {
        let scratch = folder();
        let file = scratch.path().join("file");
        File::create(&file).expect("it is not there");
        let error = Folder::open(&file).expect_err("it is a file");
        assert!(error.to_string().contains("it is a file; name a folder"), "{error}");
    }
}
