//! What is there besides the harness itself: processes, mounts and folders. Whoever made one takes it
//! away again; a signal that ends the harness takes away all of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;
use crate::broker::readable;

/// How long a killed process may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(5);
/// How often a folder is removed in which somebody may still have made a file.
const REMOVALS: usize = 5;

/// Locked while something is made, so that nothing is made once it was taken away.
static THERE: Mutex<There> =
    Mutex::new(There { processes: BTreeMap::new(), mounts: Vec::new(), folders: Vec::new() });

pub(crate) struct There {
    /// By their numbers, which may be somebody else's once they have ended; the descriptors are not.
    processes: BTreeMap<u32, OwnedFd>,
    mounts: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

pub(crate) fn there() -> MutexGuard<'static, There> {
    THERE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl There {
    /// Starts a process.
    pub(crate) fn start(&mut self, command: &mut Command) -> std::io::Result<Child> {
        let child = command.spawn()?;
        if let Ok(descriptor) = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            self.processes.insert(child.id(), descriptor);
        }
        Ok(child)
    }

    pub(crate) fn ended(&mut self, child: &Child) {
        self.processes.remove(&child.id());
    }

    pub(crate) fn mounted(&mut self, at: &Path) {
        self.mounts.push(at.to_owned());
    }

    pub(crate) fn unmounted(&mut self, at: &Path) {
        self.mounts.retain(|mount| mount != at);
    }

    /// Takes everything away.
    fn clear(&mut self) {
        for process in self.processes.values() {
            let _ended = pidfd_send_signal(process, Signal::KILL);
        }
        for process in self.processes.values() {
            let _gone = readable(process, GONE_MAX);
        }
        for mount in self.mounts.iter().rev() {
            unmount(mount);
        }
        for folder in &self.folders {
            for _ in 0..REMOVALS {
                if fs::remove_dir_all(folder).is_ok() || !folder.exists() {
                    break;
                }
            }
        }
    }
}

/// Unmounts; where somebody is in there still, it goes as soon as they do.
fn unmount(at: &Path) {
    let umount = |arguments: &[&str]| {
        let mut command = Command::new("umount");
        command.args(arguments).arg(at).stdin(Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    };
    let _gone = umount(&[]) || umount(&["-l"]);
}

/// A folder of its own in the scratch folder.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new(within: &Path) -> Result<Self, Failure> {
        let mut there = there();
        let folder = TempDir::with_prefix_in("endurance-", within)?;
        there.folders.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Removed right after this.
        there().folders.retain(|folder| folder != self.0.path());
    }
}

/// From now on a signal that asks the program to end does so with the usual status, and nothing is left
/// behind: no process, no mount, no folder.
///
/// # Errors
/// If signals cannot be heard here.
pub fn end_on_signals() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Signal::INT,
                _ = terminate.recv() => Signal::TERM,
            }
        });
        // Locked for good: whoever wants to make something waits until the program has ended.
        let mut there = there();
        there.clear();
        std::process::exit(128 + number.as_raw());
    });
    Ok(())
}
