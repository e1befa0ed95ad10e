//! Every pair of sockets.

use std::time::Duration;

use bytes::Bytes;
use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    Ack, BoxReceiver, BoxSender, Broker, Bus, Delivery, ErrorKind, Message, ReceiverExt, Request,
    SenderExt, SenderOptions, SharedRuntime, Subscription, Topic,
};
use posthaste_zmtp::Zmtp;

use crate::Env;
use crate::peer::Peer;

pub(crate) fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

pub(crate) async fn sender(node: &Zmtp) -> BoxSender {
    node.sender(SenderOptions::new()).await.unwrap()
}

pub(crate) async fn consumer(node: &Zmtp, queue: &str) -> BoxReceiver {
    node.receiver(Subscription::queue(queue).unwrap().ack(Ack::Auto)).await.unwrap()
}

/// The next delivery, which has to come.
pub(crate) async fn next(runtime: &SharedRuntime, receiver: &mut BoxReceiver) -> Delivery {
    within(runtime, receiver, Duration::from_secs(15)).await.expect("nothing came")
}

/// The next delivery, if it comes in time.
pub(crate) async fn within(
    runtime: &SharedRuntime,
    receiver: &mut BoxReceiver,
    time: Duration,
) -> Option<Delivery> {
    let deadline = runtime.now() + time;
    let came = timeout_at(&**runtime, deadline, receiver.recv()).await?;
    Some(came.unwrap().expect("the receiver has ended"))
}

/// Publishes until the peer has subscribed. It does so when its process looks at its socket.
async fn until_matched(sender: &mut BoxSender, peer: &mut Peer, topic: &Topic) {
    for _ in 0..100_000 {
        let receipt = sender.send(Message::new(topic.clone(), "is anybody there")).await.unwrap();
        if receipt.matched > 0 {
            return;
        }
        peer.recv_within(0).await;
    }
    panic!("nobody subscribed");
}

/// Has a publisher publish until a subscription hears it: libzmq says that it has read a
/// subscription before the socket knows of it.
pub(crate) async fn until_heard(runtime: &SharedRuntime, peer: &mut Peer, sub: &mut BoxReceiver) {
    for _ in 0..300 {
        peer.send(&[b"probe", b"is anybody there"]).await;
        if within(runtime, sub, Duration::from_millis(50)).await.is_some() {
            return;
        }
    }
    panic!("nothing that was published came");
}

pub(crate) async fn we_push_and_they_pull(env: Env) {
    let (node, mut peer) = env.meet("PULL", "push", "").await;
    let mut sender = sender(&node).await;
    for number in 0..100 {
        let message = Message::to_queue(topic("jobs"), number.to_string());
        assert_eq!(sender.send(message).await.unwrap().matched, 1);
    }
    let whole = Message::builder(topic("jobs")).to_queue().key("k 7").header("origin", "till 4");
    sender.send(whole.payload("last").build().unwrap()).await.unwrap();
    for number in 0..100 {
        assert_eq!(peer.recv().await, ["jobs".to_owned(), number.to_string()]);
    }
    assert_eq!(peer.recv().await, ["jobs", "ph-key: k%207\norigin: till 4\n", "last"]);
}

pub(crate) async fn they_push_and_we_pull(env: Env) {
    let (node, mut peer) = env.meet("PUSH", "pull", "").await;
    let mut jobs = consumer(&node, "jobs").await;
    for number in 0..50 {
        peer.send(&[b"jobs", number.to_string().as_bytes()]).await;
    }
    peer.send(&[b"a payload alone"]).await;
    peer.send(&[b"other", b"origin: till 4\nph-key: 7\n", b"\xff\0"]).await;
    for number in 0..50 {
        let delivery = next(&env.runtime, &mut jobs).await;
        assert_eq!(delivery.message().topic(), topic("jobs"));
        assert_eq!(*delivery.payload(), number.to_string());
    }
    let alone = next(&env.runtime, &mut jobs).await;
    assert_eq!(
        (alone.message().topic(), &alone.payload()[..]),
        (topic("jobs"), &b"a payload alone"[..])
    );
    let whole = next(&env.runtime, &mut jobs).await;
    assert_eq!(whole.message().topic(), topic("other"));
    assert_eq!(
        (whole.message().key(), whole.message().header("origin")),
        (Some("7"), Some("till 4"))
    );
    assert_eq!(whole.payload()[..], b"\xff\0"[..]);
}

pub(crate) async fn we_publish_and_they_subscribe(env: Env) {
    let (node, mut peer) = env.meet("SUB", "pub", r#"{"subscribe": "px.eu"}"#).await;
    let mut sender = sender(&node).await;
    until_matched(&mut sender, &mut peer, &topic("px.eu.probe")).await;
    while peer.recv().await[0] != "px.eu.probe" {}
    for (name, matched) in [("px.us", 0), ("px.eu.a", 1), ("px", 0), ("px.europe", 1)] {
        let receipt = sender.send(Message::new(topic(name), "1")).await.unwrap();
        assert_eq!(receipt.matched, matched, "who subscribed to {name}");
    }
    assert_eq!(peer.recv().await, ["px.eu.a", "1"]);
    assert_eq!(peer.recv().await, ["px.europe", "1"]);
    // What is taken back is not sent any more, and what is added is.
    peer.unsubscribe(b"px.eu").await;
    peer.subscribe(b"news").await;
    until_matched(&mut sender, &mut peer, &topic("news.probe")).await;
    let receipt = sender.send(Message::new(topic("px.eu.a"), "2")).await.unwrap();
    assert_eq!(receipt.matched, 0);
    assert_eq!(peer.recv().await[0], "news.probe");
}

pub(crate) async fn they_publish_and_we_subscribe(env: Env) {
    let (node, mut peer) = env.meet("PUB", "sub", "").await;
    let of = |pattern| node.receiver(Subscription::topic(pattern).unwrap());
    let mut probes = of("probe").await.unwrap();
    let mut prices = of("px.*.a").await.unwrap();
    until_heard(&env.runtime, &mut peer, &mut probes).await;
    peer.send(&[b"px.eu.b", b"1"]).await;
    peer.send(&[b"px.eu.a", b"2"]).await;
    peer.send(&[b"px.eu.a.more", b"3"]).await;
    peer.send(&[b"px.us.a a single frame"]).await;
    peer.send(&[b"px.us.a", b"no: properties", b"4"]).await;
    peer.send(&[b"px.us.a", b"trace: 7\n", b"5"]).await;
    let first = next(&env.runtime, &mut prices).await;
    assert_eq!((first.message().topic(), &first.payload()[..]), (topic("px.eu.a"), &b"2"[..]));
    let single = next(&env.runtime, &mut prices).await;
    assert_eq!(single.message().topic(), topic("px.us.a"));
    assert_eq!(*single.payload(), "a single frame");
    let last = next(&env.runtime, &mut prices).await;
    assert_eq!((last.message().header("trace"), &last.payload()[..]), (Some("7"), &b"5"[..]));
    assert_eq!(node.malformed(), 1);
}

/// Answers so many requests with their topic and their payload, and fails the one that asks for it.
async fn serve(bus: &Bus, count: usize) {
    let mut responder = bus.serve("sum").open().await.unwrap();
    for _ in 0..count {
        let request: Request = responder.recv().await.unwrap().unwrap();
        match &request.payload()[..] {
            b"fail" => request.fail("no such sum").await.unwrap(),
            payload => {
                let answer = Bytes::from([b"sum of ", payload].concat());
                request.reply(answer).await.unwrap();
            }
        }
    }
}

/// Asks, with something else to be done meanwhile.
async fn beside<T>(one: impl Future<Output = ()>, other: impl Future<Output = T>) -> T {
    futures::future::join(one, other).await.1
}

pub(crate) async fn they_ask_with_req(env: Env) {
    let (node, mut peer) = env.meet("REQ", "rep", "").await;
    let bus = Bus::with_runtime(node, env.runtime.clone());
    beside(serve(&bus, 22), async {
        for number in 0..20 {
            peer.send(&[b"sum", number.to_string().as_bytes()]).await;
            assert_eq!(peer.recv().await, [format!("sum of {number}")]);
        }
        peer.send(&[b"sum", b"fail"]).await;
        assert_eq!(peer.recv().await, ["ph-kind: status\nph-status: failed\n", "no such sum"]);
        peer.send(&[b"a payload alone"]).await;
        assert_eq!(peer.recv().await, ["sum of a payload alone"]);
    })
    .await;
}

pub(crate) async fn they_ask_with_dealer(env: Env) {
    let (node, mut peer) = env.meet("DEALER", "rep", "").await;
    let bus = Bus::with_runtime(node, env.runtime.clone());
    beside(serve(&bus, 21), async {
        // Many at a time, each with an envelope of its own.
        for number in 0..20 {
            let number = number.to_string();
            peer.send(&[b"envelope", number.as_bytes(), b"", b"sum", number.as_bytes()]).await;
        }
        for number in 0..20 {
            let envelope = ["envelope".to_owned(), number.to_string(), String::new()];
            let answer = peer.recv().await;
            assert_eq!(answer[..3], envelope);
            assert_eq!(answer[3..], [format!("sum of {number}")]);
        }
        peer.send(&[b"sum", b"without a delimiter"]).await;
        assert_eq!(peer.recv().await, ["sum of without a delimiter"]);
    })
    .await;
}

pub(crate) async fn they_answer_with_rep(env: Env) {
    let (node, mut peer) = env.meet("REP", "req", "").await;
    let bus = Bus::with_runtime(node, env.runtime.clone());
    let answering = async {
        for number in 0..20 {
            assert_eq!(peer.recv().await, ["sum".to_owned(), number.to_string()]);
            peer.send(&[format!("{number} it is").as_bytes()]).await;
        }
        assert_eq!(peer.recv().await, ["sum", "trace: 7\n", "with a header"]);
        peer.send(&[b"ph-kind: status\nph-status: failed\n", b"no such sum"]).await;
    };
    beside(answering, async {
        for number in 0..20 {
            until_answered(&bus, number).await;
        }
        let failed = bus.request("sum", "with a header").header("trace", "7").await.unwrap_err();
        assert_eq!((failed.kind(), failed.to_string()), (ErrorKind::Failed, "no such sum".into()));
    })
    .await;
}

/// Asks again while nobody is there yet: a socket that connects to us may take its time.
async fn until_answered(bus: &Bus, number: usize) {
    loop {
        match bus.request("sum", number.to_string()).await {
            Ok(reply) => return assert_eq!(*reply.payload(), format!("{number} it is")),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoResponders),
        }
    }
}

pub(crate) async fn they_answer_with_router(env: Env) {
    let (node, mut peer) = env.meet("ROUTER", "req", "").await;
    let bus = Bus::with_runtime(node, env.runtime.clone());
    let answering = async {
        // In another order than asked, by the envelope of each.
        let mut asked = Vec::new();
        for _ in 0..8 {
            asked.push(peer.recv().await);
        }
        while let Some(frames) = asked.pop() {
            let [identity, ticket, empty, topic, payload] = &frames[..] else {
                panic!("a request came as {frames:?}")
            };
            assert_eq!((&empty[..], &topic[..]), (&b""[..], &b"sum"[..]));
            let answer = [payload, &b" it is"[..]].concat();
            peer.send(&[identity, ticket, b"", &answer]).await;
        }
    };
    let asking = (0..8).map(|number| until_answered(&bus, number));
    beside(answering, futures::future::join_all(asking)).await;
}

pub(crate) async fn large_messages_pass(env: Env) {
    let (node, mut peer) = env.meet("PULL", "push", "").await;
    let mut sender = sender(&node).await;
    for length in [0, 1, 255, 256, 65_535, 65_536, 1 << 20] {
        let payload = Bytes::from(vec![b'x'; length]);
        let message = Message::to_queue(topic("jobs"), payload.clone());
        sender.send(message).await.unwrap();
        let frames = peer.recv().await;
        assert_eq!(frames.len(), 2);
        assert!(frames[1] == payload, "{length} bytes came as {}", frames[1].len());
    }
}

pub(crate) async fn nobody_answers(env: Env) {
    let (_node, mut peer) = env.meet("REQ", "rep", "").await;
    if !env.meeting.we_bind {
        // A node connects where it answers when it answers.
        return;
    }
    peer.send(&[b"sum", b"1"]).await;
    let status = "ph-kind: status\nph-status: no-responders\n";
    assert_eq!(peer.recv().await, [status, ""]);
}

pub(crate) async fn groups_are_refused(env: Env) {
    let (node, _peer) = env.meet("PUB", "sub", "").await;
    if env.meeting.we_bind {
        // Who publishes to it later publishes to no group.
        return;
    }
    let of = Subscription::shared("px.>", "group").unwrap();
    let error = node.receiver(of).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("ZeroMQ"), "{error}");
}
