//! Hostile peers leave no memory behind. Alone in its binary, because the memory that is measured
//! is the process's.

use posthaste::{Memory, SharedRuntime};
use posthaste_conformance::Books;
use posthaste_tokio::Tokio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A good preface, and nothing good behind it.
const PREFACE: &[u8] = b"\x89PHW\r\n\x01\0";

#[tokio::test]
async fn hostile_peers_cost_no_memory_that_stays() {
    let runtime: SharedRuntime = Tokio::current().into();
    let broker = Memory::with_runtime(runtime.clone());
    let _books = Books::watch(broker.clone());
    let server = posthaste::serve(runtime.clone(), broker, "tcp://127.0.0.1:0").await.unwrap();
    let address = server.endpoints()[0].address().to_owned();
    let flood = [PREFACE, &[0x5a; 50_000]].concat();
    let attack = async || {
        for _ in 0..200 {
            for bytes in [&flood[..], &flood[..9], &[0xff; 3_000]] {
                let mut stream = TcpStream::connect(&address).await.unwrap();
                // The server closes as soon as it has seen enough: that is an answer too.
                let _closed = stream.write_all(bytes).await;
                let _closed = stream.shutdown().await;
                let _closed = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    };
    attack().await;
    let before = resident_kib();
    attack().await;
    attack().await;
    let growth = resident_kib().saturating_sub(before);
    assert!(growth < 4 << 10, "{growth} KiB more after twelve hundred hostile peers");
    let bus = posthaste::connect(runtime, format!("tcp://{address}")).await.unwrap();
    assert_eq!(bus.publish("still.here", "yes").await.unwrap().confirmed, 1);
    assert_eq!(server.connections(), 1);
}

/// The resident memory of this process, from the second number of `/proc/self/statm`, in pages.
fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4
}
