//! Wrong peers get a clear answer and the door, and nobody else notices.

use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::transport::{BoxConnection, Transport};
use posthaste_core::{Broker, ErrorKind, SenderExt, SenderOptions};
use posthaste_link::{Remote, RemoteOptions, ServerOptions};
use std::pin::Pin;

use crate::support::{RawPeer, World, event, on_every_runtime, on_one_runtime};

async fn write(peer: &mut BoxConnection, bytes: &[u8]) -> bool {
    let mut left = bytes;
    while !left.is_empty() {
        let count = std::future::poll_fn(|cx| Pin::new(&mut *peer).poll_write(cx, left)).await;
        match count {
            Ok(count) => left = &left[count..],
            Err(_) => return false,
        }
    }
    true
}

async fn read_to_end(peer: &mut BoxConnection) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 1_024];
    loop {
        let read = std::future::poll_fn(|cx| Pin::new(&mut *peer).poll_read(cx, &mut buffer)).await;
        match read {
            Ok(0) | Err(_) => return all,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
        }
    }
}

async fn works(world: &World) {
    let remote = world.client().await;
    let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
    sender.send(event("a", "x")).await.unwrap();
}

#[test]
fn a_web_browser_is_told_in_plain_text() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut peer = world.pipe.connect(&world.here).await.unwrap();
        write(&mut peer, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = String::from_utf8(read_to_end(&mut peer).await).unwrap();
        assert!(answer.starts_with("posthaste: "), "{answer:?}");
        works(&world).await;
    });
}

#[test]
fn silence_and_half_a_handshake_end_at_the_deadline_and_keep_nobody_out() {
    on_every_runtime(async |runtime| {
        let options = ServerOptions::new().handshake(Duration::from_millis(100));
        let world = World::with(runtime.clone(), options).await;
        let mut peers = Vec::new();
        for number in 0..100 {
            let mut peer = world.pipe.connect(&world.here).await.unwrap();
            write(&mut peer, &b"\x89PHW\r\n\x01\0\x10\0\0\0"[..number % 13]).await;
            peers.push(peer);
        }
        works(&world).await;
        for peer in &mut peers {
            read_to_end(peer).await;
        }
        works(&world).await;
    });
}

#[test]
fn random_bytes_after_a_good_beginning_are_refused() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut seed = 1_u64;
        for length in 0..200 {
            let mut peer = world.pipe.connect(&world.here).await.unwrap();
            let mut bytes = b"\x89PHW\r\n\x01\0".to_vec();
            for _ in 0..length * 40 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                bytes.push(seed.to_le_bytes()[0]);
            }
            write(&mut peer, &bytes).await;
            drop(peer);
        }
        works(&world).await;
        world.until("all are gone", async || world.server.connections() == 0).await;
    });
}

#[test]
fn a_frame_that_claims_too_much_is_refused_at_once() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut peer = world.pipe.connect(&world.here).await.unwrap();
        write(&mut peer, b"\x89PHW\r\n\x01\0\xff\xff\xff\xff\x01\0\0\0").await;
        let answer = read_to_end(&mut peer).await;
        assert_eq!(&answer[1..4], b"PHW");
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains("4294967295 bytes"), "{text:?}");
        works(&world).await;
    });
}

#[test]
fn a_peer_that_is_no_server_is_an_error_at_once() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let there = posthaste_core::transport::Endpoint::new("pipe", "web");
        let mut web = world.pipe.bind(&there).await.unwrap();
        let serving = async {
            let mut peer = web.accept().await.unwrap().await.unwrap();
            write(&mut peer, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            read_to_end(&mut peer).await;
        };
        let connecting = Remote::connect(
            runtime.clone(),
            world.pipe.clone(),
            there.clone(),
            RemoteOptions::new(),
        );
        let (connected, ()) = smol::future::zip(connecting, serving).await;
        let error = connected.expect_err("that is no server");
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("HTTP/1.1 400"), "{error}");
    });
}

#[test]
fn a_peer_that_falls_silent_is_found_out_by_the_heartbeat() {
    on_every_runtime(async |runtime| {
        let heartbeat = Duration::from_millis(100);
        let world = World::with(runtime, ServerOptions::new().heartbeat(heartbeat)).await;
        // A client whose bytes are carried this far and no further.
        let config = posthaste_wire::Config::default();
        let mut client = posthaste_wire::Session::client(config, world.runtime.now());
        let mut output = posthaste_wire::Output::new();
        client.swap_output(&mut output);
        let mut peer = world.pipe.connect(&world.here).await.unwrap();
        write(&mut peer, &output.to_vec()).await;
        world.until("it is connected", async || world.server.connections() == 1).await;
        let heard = read_to_end(&mut peer).await;
        assert!(String::from_utf8_lossy(&heard).contains("nothing was received"));
        assert_eq!(world.server.connections(), 0);
        // One that is idle and answers stays.
        let remote = world.client().await;
        let idle = world.runtime.now() + heartbeat * 5;
        world.until("time has passed", async || world.runtime.now() > idle).await;
        assert_eq!(world.server.connections(), 1);
        remote.stats().await.unwrap();
    });
}

#[test]
fn a_flood_of_calls_and_links_ends_with_the_connection_and_harms_nobody() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut calls = RawPeer::connect(&world).await;
        let body = vec![7; 200 << 10];
        let mut open = true;
        for id in 0..1_024 {
            // Most wait while 64 run; those that wait are bounded in bytes.
            open &= calls.session.call(id, 4, &body).is_ok() && calls.write().await;
            if !open {
                break;
            }
        }
        let mut links = RawPeer::connect(&world).await;
        for _ in 0..10_000 {
            let opened = links.session.open(posthaste_wire::Role::Sender, b"");
            assert!(opened.is_ok());
        }
        links.write().await;
        works(&world).await;
        drop((calls, links));
        world.until("all are gone", async || world.server.connections() == 0).await;
    });
}
