//! Who owns a path: the living keep it, the dead lose it, and what is no socket stays.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use posthaste_core::transport::Transport;
use posthaste_smol::Smol;
use posthaste_unix::Unix;

use crate::support::{endpoint, folder, on_every_runtime, pair, refusal};

/// Tells the child process of a test where to listen.
const CHILD_PATH: &str = "POSTHASTE_TEST_CHILD_PATH";

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_dropped_listener_leaves_no_file_behind() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let at = endpoint(folder.path().join("s"));
        for _ in 0..3 {
            let mut listener = unix.bind(&at).await.unwrap();
            assert_eq!(names_in(folder.path()), ["s", "s.lock"]);
            pair(&unix, &mut *listener).await;
            drop(listener);
            assert_eq!(names_in(folder.path()), [""; 0]);
        }
    });
}

#[test]
fn a_path_with_a_listener_is_in_use() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        let mut listener = unix.bind(&endpoint(&path)).await.unwrap();
        let error = refusal(unix.bind(&endpoint(&path)).await);
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot listen on {}: ", path.display())), "{text}");
        assert!(text.contains("the address is in use"), "{text}");
        pair(&unix, &mut *listener).await;
    });
}

#[test]
fn a_stale_socket_file_is_replaced() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        let mut listener = unix.bind(&endpoint(&path)).await.unwrap();
        pair(&unix, &mut *listener).await;
    });
}

#[test]
fn a_living_socket_without_a_lock_is_never_unlinked() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        let stranger = UnixListener::bind(&path).unwrap();
        let error = refusal(unix.bind(&endpoint(&path)).await);
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("someone listens there"), "{error}");
        assert_eq!(names_in(folder.path()), ["s"]);
        unix.connect(&endpoint(&path)).await.unwrap();
        drop(stranger);

        fs::remove_file(&path).unwrap();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        let error = refusal(unix.bind(&endpoint(&path)).await);
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(names_in(folder.path()), ["s"]);
    });
}

#[test]
fn what_is_no_socket_is_left_alone() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        let (dangling, sub) = (folder.path().join("dangling"), folder.path().join("sub"));
        let stale = folder.path().join("stale");
        fs::write(&file, "precious").unwrap();
        fs::create_dir(&sub).unwrap();
        drop(UnixListener::bind(&stale).unwrap());
        symlink(&stale, &link).unwrap();
        symlink("nowhere", &dangling).unwrap();
        let before = names_in(folder.path());
        for path in [&file, &sub, &link, &dangling] {
            let error = refusal(unix.bind(&endpoint(path)).await);
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}: {error}", path.display());
            assert!(error.to_string().contains("no socket"), "{error}");
        }
        assert_eq!(names_in(folder.path()), before);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    });
}

#[test]
fn a_lock_file_that_is_a_symbolic_link_is_not_followed() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        let victim = folder.path().join("victim");
        symlink(&victim, folder.path().join("s.lock")).unwrap();
        let error = refusal(unix.bind(&endpoint(&path)).await);
        assert!(error.to_string().contains("s.lock: "), "{error}");
        assert!(!victim.exists());
    });
}

#[test]
fn a_left_over_lock_file_keeps_nobody_out() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        fs::write(folder.path().join("s.lock"), "").unwrap();
        let mut listener = unix.bind(&endpoint(folder.path().join("s"))).await.unwrap();
        pair(&unix, &mut *listener).await;
        drop(listener);
        assert_eq!(names_in(folder.path()), [""; 0]);
    });
}

#[test]
fn a_socket_that_took_the_path_meanwhile_is_not_removed() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        let listener = unix.bind(&endpoint(&path)).await.unwrap();
        // Kept under another name, so that its inode cannot be used again.
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        let _stranger = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert_eq!(names_in(folder.path()), ["elsewhere", "s"]);
        unix.connect(&endpoint(&path)).await.unwrap();
    });
}

#[test]
fn a_bind_that_nobody_waits_for_leaves_nothing_behind() {
    // The blocking work is held back until the future is gone.
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let folder = folder();
    let path = folder.path().join("s");
    let unix = Unix::new(posthaste_tokio::Tokio::new(tokio.handle().clone()));
    tokio.block_on(async {
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(0);
        let held = tokio::task::spawn_blocking(move || wait.recv().unwrap());
        let at = endpoint(&path);
        let mut bind = Box::pin(unix.bind(&at));
        assert!(futures::poll!(bind.as_mut()).is_pending());
        drop(bind);
        go.send(()).unwrap();
        held.await.unwrap();
        // One thread, first in first out: what comes back was behind the bind.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    });
    assert_eq!(names_in(folder.path()), [""; 0]);
}

#[test]
fn a_server_starts_again_however_often_it_is_killed() {
    let folder = folder();
    let path = folder.path().join("s");
    for _ in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ownership::child_listens_until_it_is_killed", "--nocapture"])
            .env(CHILD_PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listens = lines.map_while(Result::ok).any(|line| line.contains("child listens"));
        assert!(listens, "the child process could not listen");
        smol::block_on(async {
            let unix = Unix::new(Smol::global());
            unix.connect(&endpoint(&path)).await.unwrap();
            let error = refusal(unix.bind(&endpoint(&path)).await);
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(names_in(folder.path()), ["s", "s.lock"]);
    }
    smol::block_on(async {
        let unix = Unix::new(Smol::global());
        let mut listener = unix.bind(&endpoint(&path)).await.unwrap();
        pair(&unix, &mut *listener).await;
    });
    assert_eq!(names_in(folder.path()), [""; 0]);
}

#[test]
#[allow(clippy::print_stdout, reason = "this is how the child tells its parent that it listens")]
fn child_listens_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_PATH).map(PathBuf::from) else {
        return;
    };
    smol::block_on(async {
        let unix = Unix::new(Smol::global());
        let _listener = unix.bind(&endpoint(&path)).await.unwrap();
        println!("child listens");
        std::future::pending::<()>().await;
    });
}

#[test]
fn of_many_who_bind_at_once_exactly_one_listens() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        for _ in 0..20 {
            drop(UnixListener::bind(&path).unwrap());
            let at = endpoint(&path);
            let bound = futures::future::join_all((0..8).map(|_| unix.bind(&at))).await;
            let (won, lost): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1);
            for error in lost {
                assert_eq!(refusal(error).kind(), ErrorKind::AddrInUse);
            }
            let mut listener = won.into_iter().next().unwrap().unwrap();
            pair(&unix, &mut *listener).await;
            drop(listener);
            assert_eq!(names_in(folder.path()), [""; 0]);
        }
    });
}

#[test]
fn a_path_that_changes_hands_all_the_time_has_one_owner_at_a_time() {
    let folder = folder();
    let at = endpoint(folder.path().join("s"));
    let owners = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let unix = Unix::new(Smol::global());
                let mut owned = 0;
                while owned < 250 {
                    let listener = match smol::block_on(unix.bind(&at)) {
                        Ok(listener) => listener,
                        Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
                        Err(error) => panic!("{error}"),
                    };
                    assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0, "two own the path");
                    smol::block_on(unix.connect(&at)).unwrap();
                    owners.fetch_sub(1, Ordering::SeqCst);
                    drop(listener);
                    owned += 1;
                }
            });
        }
    });
    assert_eq!(names_in(folder.path()), [""; 0]);
}
