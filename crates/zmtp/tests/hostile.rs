//! Peers that are none, or that die at the worst time: nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use posthaste_conformance::Executor;
use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    Ack, BoxReceiver, Broker, ErrorKind, Message, ReceiverExt, SenderExt, SenderOptions,
    SharedRuntime, Subscription, Topic,
};
use posthaste_servers::executors::{OnSmol, OnTokio};
use posthaste_zmtp::codec::{Command, Greeting, Properties, SocketType, encode_frame};
use posthaste_zmtp::{Zmtp, ZmtpOptions};

/// Runs a test on tokio and on smol, with a node that has bound and one that is connected to it.
fn on_both(test: impl AsyncFn(SharedRuntime, Zmtp, Zmtp)) {
    let (tokio, smol) = (OnTokio::threads(), OnSmol::default());
    for executor in [&tokio as &dyn Executor, &smol] {
        let runtime = executor.runtime().unwrap();
        executor.block_on(Box::pin(async {
            let options = ZmtpOptions::new()
                .bind("tcp://127.0.0.1:0".parse().unwrap())
                .handshake(Duration::from_millis(300));
            let bound = Zmtp::start(runtime.clone(), options).await.unwrap();
            let url = format!("zmtp+{}", bound.endpoints()[0]);
            let connected = Zmtp::open(runtime.clone(), &url).await.unwrap();
            test(runtime.clone(), bound, connected).await;
        }));
    }
}

fn dial(node: &Zmtp) -> TcpStream {
    let stream = TcpStream::connect(node.endpoints()[0].address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Everything that a socket of this type says until messages may be sent.
fn hello(socket_type: SocketType) -> BytesMut {
    let mut bytes = BytesMut::from(&Greeting::new("NULL", false).encode()[..]);
    Command::Ready(Properties::new(socket_type).encode()).encode(&mut bytes);
    bytes
}

async fn consumer(node: &Zmtp) -> BoxReceiver {
    node.receiver(Subscription::queue("jobs").unwrap().ack(Ack::Auto)).await.unwrap()
}

/// The node still serves who speaks its language.
async fn check_is_well(bound: &Zmtp, connected: &Zmtp) {
    let mut jobs = consumer(connected).await;
    let mut sender = bound.sender(SenderOptions::new()).await.unwrap();
    let message = Message::to_queue(Topic::new("jobs").unwrap(), "work");
    sender.send(message).await.unwrap();
    assert_eq!(jobs.recv().await.unwrap().unwrap().payload(), "work");
}

/// Waits on a thread of its own until the node has closed the connection; says what it sent.
async fn until_closed(runtime: &SharedRuntime, mut stream: TcpStream) -> Vec<u8> {
    posthaste_core::runtime::blocking(&**runtime, move || {
        let mut said = Vec::new();
        // A reset ends it as well as an end does; a time-out would not.
        if let Err(error) = stream.read_to_end(&mut said) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        said
    })
    .await
}

#[test]
fn garbage_is_hung_up_on() {
    on_both(async |runtime, bound, connected| {
        let mut streams = Vec::new();
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xFF; 64], b"\xff\0\0\0\0"] {
            let mut stream = dial(&bound);
            stream.write_all(garbage).unwrap();
            streams.push(stream);
        }
        check_is_well(&bound, &connected).await;
        for stream in streams {
            until_closed(&runtime, stream).await;
        }
    });
}

#[test]
fn who_stalls_in_the_handshake_is_hung_up_on() {
    on_both(async |runtime, bound, connected| {
        // At every byte, as far as it makes a difference.
        let whole = hello(SocketType::Push);
        let stalled: Vec<_> = [0, 1, 10, 12, 32, 63, 64, 66, whole.len() - 1]
            .into_iter()
            .map(|upto| {
                let mut stream = dial(&bound);
                stream.write_all(&whole[..upto]).unwrap();
                stream
            })
            .collect();
        check_is_well(&bound, &connected).await;
        for stream in stalled {
            until_closed(&runtime, stream).await;
        }
    });
}

#[test]
fn huge_lengths_are_refused_before_they_come() {
    on_both(async |runtime, bound, connected| {
        for frame in [
            // Too large for a message, for a command in the handshake, and for anything.
            (true, vec![2, 0, 0, 0, 0, 2, 0, 0, 0]),
            (false, vec![6, 0, 0, 0, 0, 0, 1, 0, 0]),
            (true, vec![2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            // Flags that nobody has.
            (true, vec![0xF8, 1, 0]),
        ] {
            let (after_hello, frame) = frame;
            let mut stream = dial(&bound);
            let whole = hello(SocketType::Push);
            let upto = if after_hello { whole.len() } else { 64 };
            stream.write_all(&whole[..upto]).unwrap();
            stream.write_all(&frame).unwrap();
            until_closed(&runtime, stream).await;
        }
        check_is_well(&bound, &connected).await;
    });
}

#[test]
fn who_dies_in_the_middle_of_a_frame_leaves_nothing() {
    on_both(async |_, bound, connected| {
        let mut jobs = consumer(&bound).await;
        for cut in 1..12 {
            let mut stream = dial(&bound);
            let mut bytes = hello(SocketType::Push);
            encode_frame(false, false, b"whole", &mut bytes);
            let mut part = BytesMut::new();
            encode_frame(true, false, b"jobs", &mut part);
            encode_frame(false, false, b"half", &mut part);
            stream.write_all(&bytes).unwrap();
            stream.write_all(&part[..cut]).unwrap();
            // The end follows what was written.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(jobs.recv().await.unwrap().unwrap().payload(), "whole", "cut at {cut}");
        }
        drop(jobs);
        check_is_well(&bound, &connected).await;
        assert_eq!(bound.malformed(), 0);
    });
}

#[test]
fn sockets_that_do_not_fit_are_told_so() {
    on_both(async |runtime, bound, connected| {
        let mut stream = dial(&bound);
        stream.write_all(&hello(SocketType::Pair)).unwrap();
        let said = until_closed(&runtime, stream).await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("ERROR") && said.contains("PAIR"), "{said:?}");
        check_is_well(&bound, &connected).await;
    });
}

#[test]
fn a_subscriber_that_asks_for_too_much_is_cut_off() {
    on_both(async |runtime, bound, connected| {
        let mut stream = dial(&bound);
        stream.write_all(&hello(SocketType::Sub)).unwrap();
        let mut bytes = BytesMut::new();
        for number in 0..10_001_u32 {
            Command::Subscribe(number.to_string().into()).encode(&mut bytes);
        }
        // It may be cut off before it has said everything.
        let _cut = stream.write_all(&bytes);
        until_closed(&runtime, stream).await;
        check_is_well(&bound, &connected).await;
    });
}

#[test]
fn a_subscriber_that_reads_nothing_holds_up_for_a_while_and_is_cut_off() {
    let smol = OnSmol::default();
    let runtime = smol.runtime().unwrap();
    smol.block_on(Box::pin(async {
        let options = ZmtpOptions::new()
            .bind("tcp://127.0.0.1:0".parse().unwrap())
            .stall_limit(Duration::from_millis(200));
        let bound = Zmtp::start(runtime.clone(), options).await.unwrap();
        let mut stream = dial(&bound);
        let mut bytes = hello(SocketType::Sub);
        Command::Subscribe("".into()).encode(&mut bytes);
        stream.write_all(&bytes).unwrap();
        let mut sender = bound.sender(SenderOptions::new()).await.unwrap();
        let topic = Topic::new("news").unwrap();
        // Until it has subscribed, and then until nothing of it is left.
        let mut matched = 0;
        for _ in 0..100_000 {
            let message = Message::new(topic.clone(), vec![b'x'; 64 << 10]);
            let receipt = sender.send(message).await.unwrap();
            if receipt.matched == 0 && matched > 0 {
                return;
            }
            matched += receipt.matched;
        }
        panic!("it was never cut off, after {matched} messages");
    }));
}

#[test]
fn nobody_there_is_an_error_in_time() {
    on_both(async |runtime, bound, connected| {
        drop(connected);
        let at = bound.endpoints()[0].clone();
        drop(bound);
        let options = ZmtpOptions::new().connect(&at).patience(Duration::from_millis(300));
        let node = Zmtp::start(runtime.clone(), options).await.unwrap();
        let opening = node.receiver(Subscription::topic("news").unwrap());
        let deadline = runtime.now() + Duration::from_secs(20);
        let opened = timeout_at(&*runtime, deadline, opening).await.expect("it hangs");
        let error = opened.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    });
}
