//! Mechanisms.

use std::time::Duration;

use posthaste_core::{Ack, Broker, ErrorKind, Subscription};
use posthaste_zmtp::codec::{Credentials, CurveKeys, Security};
use posthaste_zmtp::{Lane, Zmtp, ZmtpOptions};

use serde_json::json;

use crate::Env;
use crate::pairs::{consumer, next, within};
use crate::peer::Peer;

const KNOWN: &str = r#"["till-4", "secret"]"#;

fn known() -> Credentials {
    Credentials::new("till-4", "secret")
}

/// A node and a socket that pushes to it, the other side of `PLAIN` with these credentials.
async fn meet(env: &Env, theirs: &str, ours: Security) -> (Zmtp, Peer) {
    let settings = match ours.is_server() {
        true => format!(r#"{{"client": {theirs}}}"#),
        false => format!(r#"{{"server": {theirs}}}"#),
    };
    meet_with(env, &settings, ours).await
}

async fn meet_with(env: &Env, settings: &str, ours: Security) -> (Zmtp, Peer) {
    let path = env.folder.join(if ours.is_server() { "server" } else { "client" });
    let is_server = ours.is_server();
    let options = ZmtpOptions::new().security(ours);
    let (over_tcp, we_bind) = (env.meeting.over_tcp, env.meeting.we_bind);
    let here = match over_tcp {
        true => String::from("tcp://127.0.0.1:0"),
        false => format!("unix:{}", path.display()),
    };
    if we_bind {
        // A client cannot wait and see what its peer is.
        let options = match is_server {
            true => options.bind(here.parse().unwrap()),
            false => options.bind_lane(Lane::Pull, here.parse().unwrap()),
        };
        let node = Zmtp::start(env.runtime.clone(), options).await.unwrap();
        let at = node.endpoints()[0].to_string().replace("unix:", "ipc://");
        (node, Peer::start("PUSH", "connect", &at, settings).await)
    } else {
        let at =
            if over_tcp { "tcp://127.0.0.1:*".into() } else { format!("ipc://{}", path.display()) };
        let peer = Peer::start("PUSH", "bind", &at, settings).await;
        let options = options.connect(&peer.at().replace("ipc://", "unix:").parse().unwrap());
        (Zmtp::start(env.runtime.clone(), options).await.unwrap(), peer)
    }
}

pub(crate) async fn plain_lets_in_who_is_known(env: Env) {
    let server = || Security::plain_server(|offered| offered.matches(&known()));
    for ours in [Security::plain(known()), server()] {
        let (node, mut peer) = meet(&env, KNOWN, ours).await;
        let mut jobs = consumer(&node, "jobs").await;
        peer.send(&[b"jobs", b"1"]).await;
        assert_eq!(*next(&env.runtime, &mut jobs).await.payload(), "1");
    }
}

pub(crate) async fn curve_lets_in_who_is_known(env: Env) {
    let (server, client) = (CurveKeys::generate().unwrap(), CurveKeys::generate().unwrap());
    let known = client.public();
    let they_are_client = json!({
        "curve_client": [server.public().to_string(), client.public().to_string(), client.secret()]
    });
    let they_are_server = json!({ "curve_server": server.secret() });
    for (settings, ours) in [
        (they_are_server, Security::curve(server.public(), client)),
        (they_are_client, Security::curve_server(server, move |key| *key == known)),
    ] {
        let (node, mut peer) = meet_with(&env, &settings.to_string(), ours).await;
        let mut jobs = consumer(&node, "jobs").await;
        for number in 0..100 {
            peer.send(&[b"jobs", number.to_string().as_bytes()]).await;
        }
        peer.send(&[b"jobs", &[b'x'; 100_000]]).await;
        for number in 0..100 {
            let delivery = next(&env.runtime, &mut jobs).await;
            assert_eq!(*delivery.payload(), number.to_string());
        }
        assert_eq!(next(&env.runtime, &mut jobs).await.payload().len(), 100_000);
    }
}

pub(crate) async fn curve_keeps_out_who_is_not(env: Env) {
    let keys = || CurveKeys::generate().unwrap();
    let (server, client) = (keys(), keys());
    if env.meeting.we_bind {
        // Of a client that is refused this side knows nothing, and nothing of it comes.
        let settings = json!({
            "hwm": 1,
            "curve_client":
                [server.public().to_string(), client.public().to_string(), client.secret()]
        });
        let ours = Security::curve_server(server, |_| false);
        let (node, _peer) = meet_with(&env, &settings.to_string(), ours).await;
        let mut jobs = consumer(&node, "jobs").await;
        let came = within(&env.runtime, &mut jobs, Duration::from_millis(300)).await;
        assert!(came.is_none());
        return;
    }
    let settings = json!({ "curve_server": server.secret() });
    // Another server than the one that is there.
    let ours = Security::curve(keys().public(), client);
    let (node, _peer) = meet_with(&env, &settings.to_string(), ours).await;
    let of = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
    let error = node.receiver(of).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
}

pub(crate) async fn plain_keeps_out_who_is_not(env: Env) {
    // Of a client that is refused the server knows nothing, so that this can be told where this
    // side is the client, and connects.
    let stranger = Credentials::new("till-4", "guess");
    let (node, _peer) = meet(&env, KNOWN, Security::plain(stranger)).await;
    if env.meeting.we_bind {
        return;
    }
    let of = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
    let error = node.receiver(of).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

pub(crate) async fn another_mechanism_is_refused(env: Env) {
    let (node, peer) = meet(&env, KNOWN, Security::plain(known())).await;
    if env.meeting.we_bind {
        return;
    }
    // Without credentials the same place lets nobody in.
    let options =
        ZmtpOptions::new().connect(&peer.at().replace("ipc://", "unix:").parse().unwrap());
    let open = Zmtp::start(env.runtime.clone(), options).await.unwrap();
    let of = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
    let error = open.receiver(of).await.err().unwrap();
    // libzmq hangs up without a word, as it does for every other reason.
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(error.to_string().contains("mechanism"), "{error}");
    drop(node);
}
