//! Where a broker's data is, and how it is cut off there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Failure;
use crate::broker::{Broker, Starting};
use crate::ending::Scratch;
use crate::image::Image;

/// Where the data of a broker is.
#[derive(Debug)]
pub(crate) enum Ground {
    /// In a folder: the broker is killed, and what it handed to the system is there.
    Folder { scratch: PathBuf, folder: Scratch },
    /// On a disk of its own whose power goes: what was synced is there.
    Disk { scratch: PathBuf, kind: &'static str, bytes: u64, image: Arc<Image> },
}

impl Ground {
    pub(crate) fn folder(scratch: PathBuf) -> Result<Self, Failure> {
        let folder = Scratch::new(&scratch)?;
        Ok(Self::Folder { scratch, folder })
    }

    pub(crate) fn disk(scratch: PathBuf, kind: &'static str, bytes: u64) -> Result<Self, Failure> {
        let image = Arc::new(Image::new(&scratch, kind, bytes)?);
        Ok(Self::Disk { scratch, kind, bytes, image })
    }

    /// The folder of the broker.
    pub(crate) fn data(&self) -> PathBuf {
        match self {
            Self::Folder { folder, .. } => folder.path().join("data"),
            Self::Disk { image, .. } => image.files().join("data"),
        }
    }

    /// Cuts the broker off; what it had to say.
    pub(crate) async fn cut(&mut self, broker: &mut Broker) -> Result<String, Failure> {
        match self {
            Self::Folder { .. } => broker.kill(),
            Self::Disk { image, .. } => {
                broker.stop()?;
                let copying = Arc::clone(image);
                // Meanwhile the clients go on, and hear what was said before.
                let copy = tokio::task::spawn_blocking(move || copying.copy()).await??;
                let said = broker.kill()?;
                alone(image)?.replace(&copy)?;
                Ok(said)
            }
        }
    }

    /// Cuts a broker off that may not listen yet.
    pub(crate) fn cut_starting(&mut self, starting: Starting) -> Result<(), Failure> {
        match self {
            Self::Folder { .. } => starting.kill(),
            Self::Disk { image, .. } => {
                starting.stop()?;
                let copy = image.copy()?;
                starting.kill()?;
                alone(image)?.replace(&copy)
            }
        }
    }

    /// Begins with an empty one. No broker may be there.
    pub(crate) fn renew(&mut self) -> Result<(), Failure> {
        *self = match self {
            Self::Folder { scratch, .. } => Self::folder(scratch.clone())?,
            Self::Disk { scratch, kind, bytes, .. } => Self::disk(scratch.clone(), kind, *bytes)?,
        };
        Ok(())
    }
}

fn alone(image: &mut Arc<Image>) -> Result<&mut Image, Failure> {
    Arc::get_mut(image).ok_or_else(|| "the image is still being copied".into())
}

/// A folder in memory, where nothing is written out later, if there is one with 1 GiB to spare.
#[must_use]
pub fn memory() -> Option<&'static Path> {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
    (free >= 1 << 30).then_some(memory)
}
