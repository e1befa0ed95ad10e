//! Running out of file descriptors, in a process of its own: the limit is the whole process's.

#![cfg(unix)]

use std::fs::File;
use std::net::TcpStream;

use posthaste_core::SharedRuntime;
use posthaste_core::transport::{Connection, Transport};
use posthaste_smol::Smol;
use posthaste_tcp::Tcp;
use posthaste_tokio::Tokio;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

#[test]
fn accepting_goes_on_once_there_are_descriptors_again() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(128);
    setrlimit(Resource::Nofile, limit).unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(starve(Tokio::new(tokio.handle().clone()).into()));
    smol::block_on(starve(Smol::global().into()));
}

async fn starve(runtime: SharedRuntime) {
    let tcp = Tcp::new(runtime);
    let mut listener = tcp.bind(&"tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
    let client = TcpStream::connect(listener.endpoint().address()).unwrap();
    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    for _ in 0..3 {
        let Err(error) = listener.accept().await else { panic!("there was a descriptor left") };
        assert_eq!(Errno::from_io_error(&error), Some(Errno::MFILE));
    }
    drop(hoard);
    let server = listener.accept().await.unwrap().await.unwrap();
    assert_eq!(server.peer().address, Some(client.local_addr().unwrap().to_string()));
}
