//! Paths of sockets: what may be one, and how errors name it.

use std::io;
use std::path::{Path, PathBuf};

use posthaste_core::transport::Endpoint;
use socket2::SockAddr;

/// What is attempted, as errors say it.
pub(crate) const CONNECT: &str = "connect to";
/// See [`CONNECT`].
pub(crate) const LISTEN: &str = "listen on";

/// The longest path that fits into a socket address, in bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PATH_BYTES_MAX: usize = 107;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const PATH_BYTES_MAX: usize = 103;

/// A path that can be a socket's.
pub(crate) struct SocketPath {
    written: String,
    absolute: PathBuf,
    address: SockAddr,
}

impl SocketPath {
    /// Reads the path of a `unix:` endpoint.
    pub(crate) fn parse(endpoint: &Endpoint) -> io::Result<Self> {
        let invalid = |why: &str| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{:?} is no path of a Unix socket: {why}", endpoint.to_string()),
            )
        };
        if endpoint.scheme() != "unix" {
            return Err(invalid("its scheme is not unix; write unix:/PATH"));
        }
        let written = endpoint.address();
        if written.is_empty() {
            return Err(invalid("it is empty; write unix:/PATH"));
        }
        if written.starts_with(['\0', '@']) {
            return Err(invalid(
                "abstract names are not supported, because they have no permissions \
                 (a file whose name begins with @ is written ./@NAME)",
            ));
        }
        if written.contains('\0') {
            return Err(invalid("it has a NUL byte in it"));
        }
        if written.len() > PATH_BYTES_MAX {
            return Err(invalid(&format!(
                "it is {} bytes long and the system takes {PATH_BYTES_MAX} at most",
                written.len()
            )));
        }
        Ok(Self {
            written: written.to_owned(),
            // The file is removed where it was made, also after the process changed its folder.
            absolute: std::path::absolute(written)?,
            address: SockAddr::unix(written)?,
        })
    }

    /// The path as it was written.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// The same path from the root.
    pub(crate) fn absolute(&self) -> &Path {
        &self.absolute
    }

    /// The socket address of the path.
    pub(crate) fn address(&self) -> &SockAddr {
        &self.address
    }

    /// `error`, with what was attempted and where, and what to do about it.
    pub(crate) fn failure(&self, attempt: &str, error: &io::Error) -> io::Error {
        let advice = match error.kind() {
            io::ErrorKind::NotFound if attempt == CONNECT => ": nothing listens there",
            io::ErrorKind::ConnectionRefused => ": nothing listens there any more",
            _ => "",
        };
        let written = &self.written;
        io::Error::new(error.kind(), format!("cannot {attempt} {written}: {error}{advice}"))
    }
}
