//! Cutting the power of a broker under load.

use crate::Failure;
use crate::cycles::{self, Options};
use crate::ground::Ground;
use crate::report::Report;

/// A file system to cut the power of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// How large its image is: the log makes segments of 64 MiB in advance, and newer XFS takes no less
    /// than 300.
    const BYTES: u64 = 512 << 20;
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It ran.
    Ran(Box<Report>),
    /// It cannot be done here, and why.
    Skipped(String),
}

/// Cuts the power under a broker at a random instant and starts it again on what is on the disk, over
/// and over: what was confirmed as stored survives that.
///
/// The disk is an image in a file. At the cut the broker is stopped, the image is copied without what
/// the system has not written out, and the broker goes on on the copy. A drive that loses or reorders
/// what it was told to sync is not in this.
///
/// # Errors
/// What kept the run from being made; what it found is in the report.
pub fn power(options: &Options, file_system: FileSystem) -> Result<Outcome, Failure> {
    let (name, bytes) = (file_system.name(), FileSystem::BYTES);
    match Ground::disk(options.scratch.clone(), name, bytes) {
        Ok(ground) => cycles::run("power", options, ground).map(Box::new).map(Outcome::Ran),
        Err(error) if !rustix::process::geteuid().is_root() => {
            let text = format!("only root can mount an image ({error})");
            Ok(Outcome::Skipped(text))
        }
        Err(error) => Ok(Outcome::Skipped(format!("no image can be mounted here: {error}"))),
    }
}
