//! Connecting to Unix sockets: who is there, who is not, and who is busy.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::pin;
use std::task::{Context, Waker};

use futures::{AsyncReadExt, AsyncWriteExt};
use posthaste_core::transport::{Connection, Credentials, Transport};
use posthaste_unix::Unix;

use crate::support::{endpoint, folder, on_every_runtime, pair, refusal};

#[test]
fn each_end_knows_the_credentials_of_the_other() {
    let own = Credentials {
        pid: Some(i32::try_from(std::process::id()).unwrap()),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        let mut listener = unix.bind(&endpoint(&path)).await.unwrap();
        let (client, server) = pair(&unix, &mut *listener).await;
        assert_eq!(server.peer().credentials, Some(own));
        assert_eq!(server.peer().address, None);
        assert_eq!(client.peer().credentials, Some(own));
        assert_eq!(client.peer().address.as_deref(), path.to_str());
    });
}

#[test]
fn the_credentials_of_a_peer_that_hung_up_are_still_those_it_connected_with() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        let mut listener = unix.bind(&endpoint(&path)).await.unwrap();
        drop(UnixStream::connect(&path).unwrap());
        let server = listener.accept().await.unwrap().await.unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(server.peer().credentials.map(|found| found.uid), Some(uid));
    });
}

#[test]
fn a_connect_to_nothing_names_the_path() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        let error = refusal(unix.connect(&endpoint(&path)).await);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let named = format!("cannot connect to {}: ", path.display());
        assert!(error.to_string().starts_with(&named), "{error}");
    });
}

#[test]
fn a_connect_to_a_stale_socket_is_refused() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let error = refusal(unix.connect(&endpoint(&path)).await);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let named = format!("cannot connect to {}: ", path.display());
        assert!(error.to_string().starts_with(&named), "{error}");
    });
}

#[test]
fn a_connect_waits_for_room_in_the_backlog() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime).backlog(0));
        let mut listener = unix.bind(&endpoint(folder.path().join("s"))).await.unwrap();
        let to = listener.endpoint();
        let first = unix.connect(&to).await.unwrap();
        let mut second = pin!(unix.connect(&to));
        assert!(futures::poll!(second.as_mut()).is_pending(), "the backlog has room for two");
        let accepted = listener.accept().await.unwrap().await.unwrap();
        let mut second = second.await.unwrap();
        second.write_all(b"second").await.unwrap();
        let mut server = listener.accept().await.unwrap().await.unwrap();
        server.read_exact(&mut [0; 6]).await.unwrap();
        drop((first, accepted));
    });
}

#[test]
fn a_backlog_that_stays_full_is_an_error_in_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (folder, unix) = (folder(), Unix::new(posthaste_tokio::Tokio::current()).backlog(0));
        let mut listener = unix.bind(&endpoint(folder.path().join("s"))).await.unwrap();
        let to = listener.endpoint();
        let first = unix.connect(&to).await.unwrap();
        let began = tokio::time::Instant::now();
        let error = refusal(unix.connect(&to).await);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("the backlog stayed full for 2 s"), "{error}");
        assert_eq!(began.elapsed().as_millis() / 100, 20);
        drop(first);
        // The attempt that was given up left nothing in the backlog.
        listener.accept().await.unwrap().await.unwrap();
        let next = pin!(listener.accept());
        assert!(next.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
}
