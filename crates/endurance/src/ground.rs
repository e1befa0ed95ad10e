//! Where a broker's data is, and how it is cut off there.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::Failure;
use crate::broker::{Broker, Starting};

/// Where the data of a broker is.
#[derive(Debug)]
pub(crate) enum Ground {
    /// In a folder: the broker is killed, what it handed to the system is there.
    Folder { scratch: PathBuf, folder: TempDir },
}

impl Ground {
    pub(crate) fn folder(scratch: PathBuf) -> Result<Self, Failure> {
        let folder = TempDir::with_prefix_in("endurance-", &scratch)?;
        Ok(Self::Folder { scratch, folder })
    }

    /// The folder of the broker.
    pub(crate) fn data(&self) -> PathBuf {
        match self {
            Self::Folder { folder, .. } => folder.path().join("data"),
        }
    }

    /// Cuts the broker off; what it had to say.
    pub(crate) async fn cut(&mut self, broker: &mut Broker) -> Result<String, Failure> {
        match self {
            Self::Folder { .. } => broker.kill(),
        }
    }

    /// Cuts a broker off that may not listen yet.
    pub(crate) async fn cut_starting(&mut self, starting: Starting) -> Result<(), Failure> {
        match self {
            Self::Folder { .. } => starting.kill(),
        }
    }

    /// Begins with an empty one. No broker may be there.
    pub(crate) fn renew(&mut self) -> Result<(), Failure> {
        match self {
            Self::Folder { scratch, .. } => *self = Self::folder(scratch.clone())?,
        }
        Ok(())
    }
}
