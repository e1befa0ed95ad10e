//! Whatever a peer sends, the server answers with a clear sentence or a closed connection, and goes
//! on serving everybody else.
#![expect(clippy::disallowed_methods, reason = "a test drives tokio itself")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use posthaste::prelude::*;
use posthaste::{Memory, Server, ServerOptions, SharedRuntime};
use posthaste_conformance::Books;
use posthaste_fuzz_cases::frames::{Operator, samples};
use posthaste_tokio::Tokio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a connection begins with, and what each frame does, in bytes.
const PREFACE: usize = 8;
const HEADER: usize = 8;

/// A server of its own, and a good client that was there before anything bad happened.
struct World {
    runtime: SharedRuntime,
    broker: Memory,
    _server: Server,
    address: String,
    good: Bus,
    _books: Books,
}

impl World {
    async fn new(handshake: Duration) -> Self {
        let runtime: SharedRuntime = Tokio::current().into();
        let broker = Memory::with_runtime(runtime.clone());
        let books = Books::watch(broker.clone());
        let options = ServerOptions::new().handshake(handshake);
        let server = Server::new(runtime.clone(), broker.clone(), options);
        let endpoint = posthaste::endpoint("tcp://127.0.0.1:0").unwrap();
        let transport = posthaste::transport(runtime.clone(), &endpoint).unwrap();
        let address = server.listen(transport, endpoint).await.unwrap().address().to_owned();
        let good = posthaste::connect(runtime.clone(), format!("tcp://{address}")).await.unwrap();
        Self { runtime, broker, _server: server, address, good, _books: books }
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// Sends `bytes`, ends the sending half, and collects what the server says until it closes.
    async fn tell(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.dial().await;
        // The server may have closed already: that is an answer too.
        let _closed = stream.write_all(bytes).await;
        let _closed = stream.shutdown().await;
        hear(&mut stream).await
    }

    /// The client that was there before still works, and so does a new one.
    async fn assert_serving(&self) {
        let new = posthaste::connect(self.runtime.clone(), format!("tcp://{}", self.address));
        let new = new.await.unwrap();
        for (bus, other) in [(&self.good, &new), (&new, &self.good)] {
            let mut heard = bus.subscribe("still.here").await.unwrap();
            assert_eq!(other.publish("still.here", "yes").await.unwrap().matched, 1);
            assert_eq!(heard.next_delivery().await.unwrap().payload(), "yes");
        }
        let ledger = self.broker.stats().await.unwrap().ledger;
        assert!(ledger.is_balanced(), "{ledger}");
    }
}

/// Everything until the other side closes; a reset is an end as well.
async fn hear(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _reset = stream.read_to_end(&mut heard).await;
    heard
}

/// The bytes that a real client sends in a short session: subscribe, publish, send, consume, ask.
async fn real_session(world: &World) -> Vec<u8> {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", proxy.local_addr().unwrap());
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let recording = tokio::spawn({
        let (recorded, address) = (Arc::clone(&recorded), world.address.clone());
        async move {
            let (client, _) = proxy.accept().await.unwrap();
            let server = TcpStream::connect(address).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let back = tokio::spawn(async move {
                let _closed = tokio::io::copy(&mut from_server, &mut to_client).await;
            });
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                recorded.lock().unwrap().extend_from_slice(&buffer[..count]);
                to_server.write_all(&buffer[..count]).await.unwrap();
            }
            drop(to_server);
            back.await.unwrap();
        }
    });
    let bus = posthaste::connect(world.runtime.clone(), url).await.unwrap();
    let mut heard = bus.subscribe("a.*").await.unwrap();
    let message = Message::builder(Topic::new("a.b").unwrap()).header("k", "v").payload("hello");
    bus.send_message(message.build().unwrap()).await.unwrap();
    heard.next_delivery().await.unwrap().ack();
    bus.send("q", "work").await.unwrap();
    let mut jobs = bus.consume("q").await.unwrap();
    jobs.next_delivery().await.unwrap().ack();
    jobs.settled().await.unwrap();
    assert_eq!(bus.request("nobody", "").await.unwrap_err().kind(), ErrorKind::NoResponders);
    drop((bus, heard, jobs));
    recording.await.unwrap();
    let bytes = recorded.lock().unwrap().clone();
    assert!(bytes.len() > 200, "a session of {} bytes says little", bytes.len());
    bytes
}

#[tokio::test]
async fn another_protocol_is_told_in_a_sentence_what_this_port_is() {
    let world = World::new(Duration::from_secs(5)).await;
    for hello in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ] {
        let answer = String::from_utf8_lossy(&world.tell(hello).await).into_owned();
        assert!(answer.contains("Posthaste"), "{answer:?}");
    }
    world.assert_serving().await;
}

#[tokio::test]
async fn random_bytes_hurt_nobody() {
    let world = World::new(Duration::from_secs(5)).await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in [1, 7, 8, 9, 64, 4_096, 100_000] {
        for _ in 0..20 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .take(length)
            .collect();
            world.tell(&bytes).await;
        }
    }
    world.assert_serving().await;
}

#[tokio::test]
async fn a_frame_that_claims_four_gigabytes_is_refused_before_it_is_believed() {
    let world = World::new(Duration::from_secs(5)).await;
    let session = real_session(&world).await;
    // Behind the preface, and behind the whole session: before and after it is established.
    for at in [8, session.len()] {
        for kind in 0..=255 {
            let mut bytes = session[..at].to_vec();
            bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, kind, 0, 1, 0]);
            bytes.extend_from_slice(&[0; 64]);
            world.tell(&bytes).await;
        }
    }
    world.assert_serving().await;
}

#[tokio::test]
async fn a_real_session_with_any_byte_flipped_hurts_nobody_else() {
    let world = World::new(Duration::from_secs(5)).await;
    let session = real_session(&world).await;
    for at in 0..session.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = session.clone();
            bytes[at] ^= mask;
            world.tell(&bytes).await;
        }
    }
    world.assert_serving().await;
}

#[tokio::test]
async fn frames_that_are_wrong_in_every_way_are_not_noticed_by_who_talks_meanwhile() {
    let world = World::new(Duration::from_secs(5)).await;
    let session = real_session(&world).await;
    let session = without_its_last_frame(&session);
    let over = AtomicBool::new(false);
    let spoiling = async {
        let mut classes = 0;
        for sample in samples() {
            for field in 0..sample.fields.len() {
                for operator in Operator::ALL {
                    world.tell(&[session, &sample.spoiled(field, operator)].concat()).await;
                    classes += 1;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        classes
    };
    let talking = async {
        let mut heard = world.good.subscribe("still.talking").await.unwrap();
        let mut slowest = Duration::ZERO;
        while !over.load(Ordering::Relaxed) {
            let before = Instant::now();
            assert_eq!(world.good.publish("still.talking", "yes").await.unwrap().matched, 1);
            assert_eq!(heard.next_delivery().await.unwrap().payload(), "yes");
            slowest = slowest.max(before.elapsed());
        }
        slowest
    };
    let (classes, slowest) = tokio::join!(spoiling, talking);
    assert!(classes >= 1_000, "{classes} classes");
    // Far beyond what a busy machine adds, and far below what a connection that waits would be.
    assert!(slowest < Duration::from_secs(1), "{slowest:?} from a publish to its delivery");
    world.assert_serving().await;
}

/// A session up to its goodbye, behind which nothing is heard any more.
fn without_its_last_frame(session: &[u8]) -> &[u8] {
    let (mut at, mut last) = (PREFACE, PREFACE);
    while let Some(len) = session[at..].first_chunk() {
        last = at;
        at += HEADER + u32::from_le_bytes(*len) as usize;
    }
    &session[..last]
}

#[tokio::test]
async fn a_real_session_cut_anywhere_leaves_nothing_behind() {
    let world = World::new(Duration::from_secs(5)).await;
    let session = real_session(&world).await;
    for end in 0..session.len() {
        world.tell(&session[..end]).await;
    }
    world.assert_serving().await;
    let stats = world.broker.stats().await.unwrap();
    let consumers: u64 = stats.queues.iter().map(|queue| queue.consumers).sum();
    assert_eq!(consumers, 0);
}

#[tokio::test]
async fn a_silent_or_half_sent_handshake_is_closed_when_its_time_is_up() {
    let world = World::new(Duration::from_millis(200)).await;
    let session = real_session(&world).await;
    let mut waiting = Vec::new();
    for length in [0, 1, 7, 8, 9, 15, 20] {
        let mut stream = world.dial().await;
        stream.write_all(&session[..length]).await.unwrap();
        waiting.push(stream);
    }
    for stream in &mut waiting {
        // Closed by the server, since this side stays open; `hear` ends for no other reason.
        hear(stream).await;
    }
    world.assert_serving().await;
}

#[tokio::test]
async fn what_is_too_large_or_badly_addressed_comes_back_with_the_reason() {
    let world = World::new(Duration::from_secs(5)).await;
    let largest = vec![7_u8; 16 << 20];
    let mut heard = world.good.subscribe("big").await.unwrap();
    world.good.publish("big", largest.clone()).await.unwrap();
    assert_eq!(heard.next_delivery().await.unwrap().payload().len(), largest.len());
    let mut larger = largest;
    larger.push(7);
    let refused = world.good.publish("big", larger).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    let refused = world.good.publish("no..word", "x").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidTopic, "{refused}");
    world.assert_serving().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_at_says_why() {
    let world = World::new(Duration::from_secs(5)).await;
    let serve = |url: String| posthaste::serve(world.runtime.clone(), Memory::new(), url);
    let in_use = serve(format!("tcp://{}", world.address)).await.unwrap_err();
    assert!(in_use.to_string().contains("in use"), "{in_use}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "precious").unwrap();
    let no_socket = serve(format!("unix:{}", file.display())).await.unwrap_err();
    assert!(no_socket.to_string().contains("socket"), "{no_socket}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let unknown = serve("carrier-pigeon://coop".into()).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidArgument);
}
