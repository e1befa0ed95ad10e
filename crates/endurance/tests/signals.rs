//! A harness that a signal ends leaves nothing behind.
#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "what is skipped is said")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Whether something is mounted in a folder.
fn is_mounted(within: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at).starts_with(within)))
}

/// Runs until a broker of its own has its files on an image.
fn running(scratch: &Path) -> Option<Child> {
    let endurance = env!("CARGO_BIN_EXE_endurance");
    let mut child = Command::new(endurance)
        .args(["power", "--expect-loss", "--cycles", "1000000", "--posthaste", endurance])
        .arg("--scratch")
        .arg(scratch)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            assert!(status.success() && said.contains("skipped"), "it ended ({status}): {said}");
            println!("{said}");
            return None;
        }
        let has_data = |folder: fs::DirEntry| folder.path().join("files/data/anchor").exists();
        if is_mounted(scratch) && fs::read_dir(scratch).unwrap().flatten().any(has_data) {
            return Some(child);
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_ends_it_with_the_usual_status_and_nothing_is_left() {
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let scratch = tempfile::tempdir().unwrap();
        let Some(mut child) = running(scratch.path()) else { return };
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(status));
        assert!(!is_mounted(scratch.path()), "an image is still mounted");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "files are left");
    }
}
