//! What depends on the umask and the current folder, which belong to the whole process: hence a
//! process of its own, and one test at a time.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, PoisonError};

use posthaste_core::transport::{Endpoint, Transport};
use posthaste_smol::Smol;
use posthaste_unix::Unix;
use rustix::fs::Mode;

static PROCESS: Mutex<()> = Mutex::new(());

#[test]
fn the_mode_is_what_was_asked_for_under_any_umask() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let at = Endpoint::new("unix", path.to_str().unwrap());
    let unix = Unix::new(Smol::global());
    let before = rustix::process::umask(Mode::empty());
    for umask in [0o000, 0o022, 0o077, 0o777] {
        rustix::process::umask(Mode::from_raw_mode(umask));
        for (unix, mode) in [
            (unix.clone(), 0o600),
            (unix.clone().mode(0o660), 0o660),
            (unix.clone().mode(0o666), 0o666),
            (unix.clone().mode(0o700), 0o700),
        ] {
            smol::block_on(async {
                let mut listener = unix.bind(&at).await.unwrap();
                let made = std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777;
                assert_eq!(made, mode, "umask {umask:o}: {made:o}, not {mode:o}");
                unix.connect(&at).await.unwrap();
                listener.accept().await.unwrap().await.unwrap();
            });
        }
    }
    rustix::process::umask(before);
}

#[test]
fn a_relative_path_is_cleaned_up_where_it_was_bound() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let before = std::env::current_dir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    smol::block_on(async {
        let unix = Unix::new(Smol::global());
        let listener = unix.bind(&Endpoint::new("unix", "s")).await.unwrap();
        unix.connect(&listener.endpoint()).await.unwrap();
        std::env::set_current_dir(elsewhere.path()).unwrap();
        drop(listener);
    });
    std::env::set_current_dir(before).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
