//! Ownership of a path: who holds `PATH.lock` may replace and remove the socket at `PATH`.
//!
//! Asking a socket whether it is alive and then removing it is a race that loses living sockets. A
//! lock that the kernel releases when its process dies decides it: with the lock in hand nobody
//! else is between those two steps.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use socket2::{Domain, Socket, Type};

use crate::path::SocketPath;

/// How often the lock file may be removed by its last holder while it is being locked.
const LOCK_ATTEMPTS_MAX: u32 = 100;

/// The files of a listener, which are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Owner {
    socket: Option<OwnedFile>,
    lock: OwnedFile,
    // Held, and with it the path, for as long as this lives.
    locked: File,
}

/// A file that is removed only while it is the one that was made.
#[derive(Debug)]
struct OwnedFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Takes ownership of `path` and listens there.
pub(crate) fn bind(
    path: &SocketPath,
    mode: u32,
    backlog: u16,
) -> io::Result<(Owner, UnixListener)> {
    let mut owner = Owner::lock(path.absolute())?;
    clear_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // On Linux the socket file takes its mode from the socket, less the umask, so it is at no
    // moment wider than asked. Elsewhere this may fail and is not needed: see below.
    let _ = rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode as _));
    socket.bind(path.address())?;
    let made = fs::symlink_metadata(path.absolute())?;
    owner.socket = Some(OwnedFile::new(path.absolute(), &made));
    // What the umask took away is given back before anyone can connect: a socket that is bound
    // and does not listen yet refuses.
    if made.mode() & 0o777 != mode {
        set_mode(path.absolute(), &made, mode)?;
    }
    socket.listen(i32::from(backlog))?;
    Ok((owner, UnixListener::from(OwnedFd::from(socket))))
}

impl Owner {
    fn lock(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock_path = PathBuf::from(name);
        for _ in 0..LOCK_ATTEMPTS_MAX {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits() as _)
                .open(&lock_path)
                .map_err(|error| named(&error, &lock_path))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(in_use("another listener holds its lock file"));
                }
                Err(error) => return Err(named(&error.into(), &lock_path)),
            }
            // Its last holder may have removed the file between the two calls; a lock on a file
            // that no longer has the name is worth nothing.
            let lock = OwnedFile::new(&lock_path, &file.metadata()?);
            if lock.is_there() {
                return Ok(Self { socket: None, lock, locked: file });
            }
        }
        Err(in_use("its lock file is removed as fast as it is made"))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // In this order, and before the lock goes: the next owner finds either everything or
        // nothing. A failure leaves a stale file, which the next owner replaces.
        if let Some(socket) = &self.socket {
            socket.remove();
        }
        self.lock.remove();
        let _ = rustix::fs::flock(&self.locked, FlockOperation::NonBlockingUnlock);
    }
}

impl OwnedFile {
    fn new(path: &Path, made: &Metadata) -> Self {
        Self { path: path.to_owned(), identity: identity(made) }
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }

    fn remove(&self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Removes a socket file that nobody listens on. The caller holds the lock.
fn clear_stale(path: &SocketPath) -> io::Result<()> {
    let found = match fs::symlink_metadata(path.absolute()) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket, which is left alone",
        ));
    }
    // A listener that takes no part in the locking shows itself by answering.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(path.address()) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path.absolute())
        }
        // It went away by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(io::Error::new(
            error.kind(),
            "there is a socket that this user may not ask whether it is alive, so it is left alone",
        )),
        // Connected, its backlog is full, or it is a socket of another type.
        _ => Err(in_use("someone listens there")),
    }
}

/// Sets the mode of the socket file that was `made`, and of no other that took its name.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_mode(path: &Path, made: &Metadata, mode: u32) -> io::Result<()> {
    // A socket cannot be opened, but its place in the file system can be held.
    let held =
        rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let held = File::from(held);
    if identity(&held.metadata()?) != identity(made) {
        return Err(in_use("someone replaced the socket file"));
    }
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&held);
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(format!("/proc/self/fd/{descriptor}"), permissions)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_mode(path: &Path, _made: &Metadata, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn in_use(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("the address is in use, so stop what listens there or choose another path: {why}"),
    )
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
