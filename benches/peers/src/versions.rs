//! Which versions are compared.

use crate::peers;

/// The lock file that this was built with.
const LOCK: &str = include_str!("../Cargo.lock");

/// Every peer with the version of its crate, or what its server says of itself.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    let version = |peer: &&dyn crate::peer::Peer| Some((peer.name(), peer.version()?));
    peers::ALL.iter().filter_map(version).collect()
}

/// The version of a crate that this was built with: the newest, should others depend on older ones.
pub(crate) fn of_crate(name: &str) -> Option<String> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = LOCK.rsplit_once(&entry)?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::of_crate;

    #[test]
    fn the_lock_file_tells_the_newest_version_of_a_crate() {
        // Others bring an older flume.
        let flume = of_crate("flume").expect("flume is compared");
        assert!(flume.starts_with("0.12"), "{flume}");
        assert_eq!(of_crate("carrier-pigeon"), None);
    }
}
