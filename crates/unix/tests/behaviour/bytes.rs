//! Bytes over Unix sockets: slices leave together, and runtimes of one program talk to each other.

use std::io::IoSlice;

use crate::support::{endpoint, folder, on_every_runtime, pair};
use futures::{AsyncReadExt, AsyncWriteExt};
use posthaste_core::transport::{BoxConnection, Transport};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;
use posthaste_unix::Unix;

const MANY: usize = 3 << 20;

/// Bytes whose order shows: no two neighbourhoods are alike within a connection's buffers.
fn pattern(seed: u32) -> Vec<u8> {
    (0..MANY as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8)
        .collect()
}

/// Sends `bytes`, ends its direction, and reads the other one to its end, at the same time.
async fn exchange(connection: BoxConnection, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = connection.split();
    let mut received = Vec::new();
    let (sent, got) = futures::join!(
        async {
            write.write_all(bytes).await?;
            write.close().await
        },
        read.read_to_end(&mut received)
    );
    sent.unwrap();
    got.unwrap();
    received
}

#[test]
fn a_vectored_write_takes_more_than_its_first_slice() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let mut listener = unix.bind(&endpoint(folder.path().join("s"))).await.unwrap();
        let (mut client, mut server) = pair(&unix, &mut *listener).await;
        let slices = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(b"payload")];
        assert_eq!(client.write_vectored(&slices).await.unwrap(), 11);
        let mut received = [0; 11];
        server.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"headpayload");
    });
}

#[test]
fn two_runtimes_of_one_program_talk_to_each_other() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let folder = folder();
    let on_tokio = Unix::new(Tokio::new(tokio.handle().clone()));
    let on_smol = Unix::new(Smol::global());
    // Everything is polled from outside of tokio: the sockets alone belong to it.
    smol::block_on(async {
        let mut listener = on_tokio.bind(&endpoint(folder.path().join("one"))).await.unwrap();
        let to = listener.endpoint();
        let (client, server) = futures::join!(on_smol.connect(&to), listener.accept());
        let (up, down) = (pattern(3), pattern(4));
        let (at_client, at_server) = futures::join!(
            exchange(client.unwrap(), &up),
            exchange(server.unwrap().await.unwrap(), &down)
        );
        assert!(at_server == up && at_client == down);
    });
    // And the other way round, as a task of tokio's.
    tokio.block_on(async {
        let mut listener = on_smol.bind(&endpoint(folder.path().join("two"))).await.unwrap();
        let to = listener.endpoint();
        let (client, server) = futures::join!(on_tokio.connect(&to), listener.accept());
        let (up, down) = (pattern(5), pattern(6));
        let (at_client, at_server) = futures::join!(
            exchange(client.unwrap(), &up),
            exchange(server.unwrap().await.unwrap(), &down)
        );
        assert!(at_server == up && at_client == down);
    });
}
