//! A folder in memory that can lose power.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Blob, Storage};

/// What a disk writes whole or not at all.
const ATOM: usize = 512;

/// A folder in memory, with a cache in front of a platter: what was not synced may be on the platter
/// or not when the power goes, atom by atom and name by name, in any combination.
///
/// ```
/// use posthaste_log::storage::{Simulated, Storage};
///
/// let disk = Simulated::new();
/// disk.create("a")?.write_at(0, b"gone")?;
/// // Nothing was synced, and a disk that keeps nothing of that is a disk that may be.
/// assert_eq!(disk.power_cut(&mut || 0).names()?, Vec::<String>::new());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Simulated(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    files: Vec<Content>,
    /// Names as programs see them, and as they are on the platter.
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    /// How many bytes the files may have together.
    capacity: Option<u64>,
    /// Whether what is written has no room, also where there is something already.
    refuses: bool,
    /// How many syncs and how many writes are done until one fails.
    sync_fails_in: Option<u64>,
    write_fails_in: Option<u64>,
    /// Nothing is synced, though it is said to be: what a harness has to find out.
    lies: bool,
}

#[derive(Debug, Default)]
struct Content {
    cache: Vec<u8>,
    platter: Vec<u8>,
    /// The atoms in which the two may differ.
    dirty: BTreeSet<usize>,
}

impl Simulated {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is found when the power comes back. `random` decides of each atom, length and name that
    /// was not synced whether the platter has it: an odd number says yes.
    #[must_use]
    pub fn power_cut(&self, random: &mut dyn FnMut() -> u64) -> Self {
        let disk = self.lock();
        let mut after = Disk { capacity: disk.capacity, ..Disk::default() };
        let names: BTreeSet<&String> = disk.names.keys().chain(disk.safe_names.keys()).collect();
        for name in names {
            let (new, old) = (disk.names.get(name), disk.safe_names.get(name));
            let survivor = if new == old || random() % 2 == 1 { new } else { old };
            if let Some(file) = survivor {
                let content = disk.files[*file].after_power_cut(random);
                after.files.push(content);
                after.names.insert(name.clone(), after.files.len() - 1);
            }
        }
        after.safe_names.clone_from(&after.names);
        drop(disk);
        Self(Arc::new(Mutex::new(after)))
    }

    /// What another process finds after this one was killed: everything that was written.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.power_cut(&mut || 1)
    }

    /// From now on the files have room for so many bytes together; `None` for any number.
    pub fn limit(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// How many bytes the files have together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// From now on nothing that is written has room, or everything has again: also where there is
    /// something already, as on a full disk that copies what it writes.
    pub fn refuse_writes(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    /// Lets a sync fail after `syncs` more. What was not synced by then never will be: systems drop
    /// what they could not write, and say so once.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.lock().sync_fails_in = Some(syncs);
    }

    /// Lets a write fail after `writes` more, half-way.
    pub fn fail_write_after(&self, writes: u64) {
        self.lock().write_fails_in = Some(writes);
    }

    /// From now on syncs do nothing, as on disks that lie.
    pub fn lie(&self) {
        self.lock().lies = true;
    }

    /// Changes the content of a file on cache and platter alike, as rot does.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn rot(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut disk = self.lock();
        let file = disk.find(name)?;
        let content = &mut disk.files[file];
        change(&mut content.cache);
        content.platter.clone_from(&content.cache);
        content.dirty.clear();
        Ok(())
    }

    /// The content of a file, as programs see it.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn content(&self, name: &str) -> io::Result<Vec<u8>> {
        let disk = self.lock();
        let file = disk.find(name)?;
        Ok(disk.files[file].cache.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blob(&self, file: usize) -> Box<dyn Blob> {
        Box::new(SimulatedBlob { disk: self.clone(), file })
    }
}

impl Disk {
    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].cache.len() as u64).sum()
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }
}

/// Whether the call is the one that fails.
fn fails(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl Content {
    fn after_power_cut(&self, random: &mut dyn FnMut() -> u64) -> Self {
        let mut platter = self.platter.clone();
        if self.cache.len() != self.platter.len() && random() % 2 == 1 {
            platter.resize(self.cache.len(), 0);
        }
        for atom in &self.dirty {
            let from = atom * ATOM;
            let to = (from + ATOM).min(self.cache.len()).min(platter.len());
            if from < to && random() % 2 == 1 {
                platter[from..to].copy_from_slice(&self.cache[from..to]);
            }
        }
        Self { cache: platter.clone(), platter, dirty: BTreeSet::new() }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.cache.len() < at + bytes.len() {
            self.cache.resize(at + bytes.len(), 0);
        }
        self.cache[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(at / ATOM..(at + bytes.len()).div_ceil(ATOM));
    }
}

impl Storage for Simulated {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        let mut disk = self.lock();
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.files.push(Content::default());
        let file = disk.files.len() - 1;
        disk.names.insert(name.to_owned(), file);
        drop(disk);
        Ok(self.blob(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        let file = self.lock().find(name)?;
        Ok(self.blob(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.lock();
        let file = disk.find(from)?;
        disk.names.remove(from);
        disk.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.lock();
        disk.find(name)?;
        disk.names.remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.lock();
        if fails(&mut disk.sync_fails_in) {
            return Err(io::Error::other("the disk failed"));
        }
        if !disk.lies {
            let names = disk.names.clone();
            disk.safe_names = names;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimulatedBlob {
    disk: Simulated,
    file: usize,
}

impl SimulatedBlob {
    fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.disk.lock().files[self.file])
    }
}

fn place(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Blob for SimulatedBlob {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = place(at)?;
        let mut disk = self.disk.lock();
        let failing = fails(&mut disk.write_fails_in);
        let bytes = if failing { &bytes[..bytes.len() / 2] } else { bytes };
        let grows = (at + bytes.len()).saturating_sub(disk.files[self.file].cache.len()) as u64;
        if grows > disk.room() || (disk.refuses && !bytes.is_empty()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.files[self.file].write(at, bytes);
        if failing { Err(io::Error::other("the disk failed")) } else { Ok(()) }
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let at = place(at)?;
        self.with(|content| {
            let from = at.min(content.cache.len());
            let count = into.len().min(content.cache.len() - from);
            into[..count].copy_from_slice(&content.cache[from..from + count]);
            Ok(count)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let failing = fails(&mut disk.sync_fails_in);
        let lies = disk.lies;
        let content = &mut disk.files[self.file];
        if failing {
            // They look written to whoever reads them, and are on no platter.
            content.dirty.clear();
            return Err(io::Error::other("the disk failed"));
        }
        if !lies {
            content.platter.resize(content.cache.len(), 0);
            for atom in std::mem::take(&mut content.dirty) {
                let from = (atom * ATOM).min(content.cache.len());
                let to = (from + ATOM).min(content.cache.len());
                content.platter[from..to].copy_from_slice(&content.cache[from..to]);
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|content| Ok(content.cache.len() as u64))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = place(len)?;
        let mut disk = self.disk.lock();
        let from = disk.files[self.file].cache.len();
        if len.saturating_sub(from) as u64 > disk.room() || (disk.refuses && len > from) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if len > from {
            disk.files[self.file].write(from, &vec![0; len - from]);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let len = place(len)?;
        self.with(|content| {
            content.cache.truncate(len);
            Ok(())
        })
    }
}
