//! File systems on images, which can be copied as they are at an instant, as if the power had gone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;
use crate::ending::{Scratch, there};

/// How often an image is copied until a copy is like the one before.
const COPIES_MAX: usize = 50;

/// A file system on an image in a file.
#[derive(Debug)]
pub(crate) struct Image {
    /// Unmounted before what is below is removed.
    mounted: Option<Mounted>,
    folder: Scratch,
    /// How many copies were made of it.
    copies: usize,
}

impl Image {
    /// Makes one of so many bytes, and mounts it.
    pub(crate) fn new(scratch: &Path, kind: &str, bytes: u64) -> Result<Self, Failure> {
        let folder = Scratch::new(scratch)?;
        let mut image = Self { mounted: None, folder, copies: 0 };
        let path = image.path();
        File::create(&path)?.set_len(bytes)?;
        let force = if kind == "ext4" { "-F" } else { "-f" };
        run(Command::new(format!("mkfs.{kind}")).args(["-q", force]).arg(&path))?;
        image.mount()?;
        Ok(image)
    }

    /// Where its files are.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(format!("image-{}", self.copies))
    }

    fn mount(&mut self) -> Result<(), Failure> {
        let (image, at) = (self.path(), self.files());
        fs::create_dir_all(&at)?;
        self.mounted =
            Some(Mounted::new(Command::new("mount").args(["-o", "loop"]).arg(image), &at)?);
        Ok(())
    }

    /// Copies what is on the disk, and not what the system has in its memory. Whoever writes there has
    /// been stopped; the system may still write out what it has, so it is copied until that ends.
    pub(crate) fn copy(&self) -> Result<Copy, Failure> {
        let (from, copy) = (self.path(), self.folder.path().join("copy"));
        let again = self.folder.path().join("again");
        sparse(&from, &copy)?;
        for _ in 0..COPIES_MAX {
            sparse(&from, &again)?;
            if same(&copy, &again)? {
                fs::remove_file(&again)?;
                return Ok(Copy(copy));
            }
            fs::rename(&again, &copy)?;
        }
        Err(format!("the image still changed after {COPIES_MAX} copies").into())
    }

    /// Goes on with a copy. Nobody may use the files.
    pub(crate) fn replace(&mut self, copy: &Copy) -> Result<(), Failure> {
        if let Some(mut mounted) = self.mounted.take() {
            mounted.unmount()?;
        }
        fs::remove_file(self.path())?;
        self.copies += 1;
        fs::rename(&copy.0, self.path())?;
        self.mount()
    }
}

/// A copy of an image.
#[derive(Debug)]
pub(crate) struct Copy(PathBuf);

/// Something mounted, which is unmounted when this is dropped.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a file system in memory, of so many bytes.
    pub(crate) fn memory(at: &Path, bytes: u64) -> Result<Self, Failure> {
        let size = format!("size={bytes}");
        Self::new(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]), at)
    }

    fn new(mount: &mut Command, at: &Path) -> Result<Self, Failure> {
        let mut there = there();
        run(mount.arg(at))?;
        there.mounted(at);
        Ok(Self(at.to_owned()))
    }

    fn unmount(&mut self) -> Result<(), Failure> {
        if self.0.as_os_str().is_empty() {
            return Ok(());
        }
        run(Command::new("umount").arg(&self.0))?;
        there().unmounted(&self.0);
        self.0 = PathBuf::new();
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            // Somebody is in there still: it goes as soon as they do.
            let _ = run(Command::new("umount").arg("-l").arg(&self.0));
            there().unmounted(&self.0);
        }
    }
}

fn sparse(from: &Path, to: &Path) -> Result<(), Failure> {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to))
}

fn same(one: &Path, other: &Path) -> Result<bool, Failure> {
    let status = Command::new("cmp").arg("-s").args([one, other]).status()?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("cmp failed: {status}").into()),
    }
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).stdout(Stdio::null()).output().map_err(|error| match error
            .kind()
        {
            io::ErrorKind::NotFound => format!("there is no {name} here"),
            _ => format!("cannot run {name}: {error}"),
        })?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(format!("{name} failed: {said}").into())
        }
    }
}
