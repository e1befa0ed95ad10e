//! What servers that are programs of their own have in common: where they are, and addresses.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Where `install` puts what is no package of the system.
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers");

/// A loopback address that was free a moment ago, for programs that cannot say which port they got.
pub(crate) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The port of an address.
pub(crate) fn port_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}

/// Where a program is: among what `install` got, else where the system has programs.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from(OWN)).chain(std::env::split_paths(&path));
    let mut places = folders.map(|folder| folder.join(program));
    places.find(|place| place.is_file()).with_context(|| format!("there is no {program}"))
}

/// Why a peer cannot be measured, if one of its programs is not there.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let lacking = programs.iter().find(|program| {
        let path = Path::new(program);
        if path.is_absolute() { !path.is_file() } else { find(program).is_err() }
    })?;
    Some(format!("there is no {lacking}; run benches/peers/install"))
}

/// What a program says of its version, in one line.
pub(crate) fn version(program: &str, ask: &[&str]) -> Option<String> {
    let answer = Command::new(find(program).ok()?).args(ask).output().ok()?;
    let answer = String::from_utf8(answer.stdout).ok()?;
    Some(answer.lines().next()?.trim().to_owned())
}
