//! Connections that cannot be made, or are lost.

use std::io::Write;
use std::process::Stdio;

use crate::support::{Broker, Running, run, wait_for};

/// Starts the broker again that was killed.
fn restart(broker: Broker) -> (Broker, Option<tempfile::TempDir>) {
    let (url, folder) = broker.kill();
    (Broker::start(&[&url]), folder)
}

#[test]
fn no_broker_is_a_failure_after_the_connect_timeout() {
    let nowhere = [
        "--url",
        "unix:/nowhere/ph.sock",
        "--connect-timeout",
        "50ms",
    ];
    for command in [
        ["pub", "news", "x"].as_slice(),
        &["sub", "news"],
        &["send", "jobs", "x"],
        &["recv", "jobs"],
        &["request", "who", "x"],
        &["reply", "who", "--echo"],
        &["queue", "ls"],
        &["stat"],
        &["bench"],
    ] {
        let failed = run(command.iter().chain(&nowhere)).with(1);
        assert!(
            failed.stderr.contains("/nowhere/ph.sock"),
            "{}",
            failed.stderr
        );
    }
}

#[test]
fn a_client_may_start_before_its_broker() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", folder.path().join("ph.sock").display());
    let sending = Running::of(crate::support::posthaste().args([
        "send",
        "jobs",
        "x",
        "--url",
        &url,
        "--connect-timeout",
        "20s",
    ]));
    let broker = Broker::start(&[&url]);
    assert_eq!(sending.end().done().text(), "sent 1 level held\n");
    assert_eq!(broker.messages("jobs"), 1);
}

#[test]
fn a_subscriber_survives_a_restart_of_the_broker() {
    let broker = Broker::unix();
    let mut subscriber = broker.spawn_ready(&["sub", "news"]);
    broker.run(&["pub", "news", "before"]).done();
    assert_eq!(subscriber.line(), "before");
    let (broker, _folder) = restart(broker);
    let back = || (broker.stat()["subscriptions"] == 1).then_some(());
    wait_for("the subscription", back);
    broker.run(&["pub", "news", "after"]).done();
    assert_eq!(subscriber.line(), "after");
}

#[test]
fn lines_go_on_after_a_restart_of_the_broker() {
    let broker = Broker::unix();
    let mut command = broker.command(&["send", "jobs", "--lines"]);
    let mut sending = Running::of(command.stdin(Stdio::piped()));
    let mut stdin = sending.stdin();
    stdin.write_all(b"before\n").unwrap();
    let held = |broker: &Broker| {
        let held = broker.stat()["ledger"]["held"] == 1;
        held.then_some(())
    };
    wait_for("the first line", || held(&broker));
    let (broker, _folder) = restart(broker);
    stdin.write_all(b"after\n").unwrap();
    wait_for("the second line", || held(&broker));
    drop(stdin);
    let ended = sending.end();
    // The first line's confirm may have been on its way when the broker was killed.
    match ended.code {
        Some(0) => assert_eq!(ended.text(), "sent 2 level held\n"),
        _ => assert!(
            ended.stderr.contains("confirmed 1 of 2"),
            "{}",
            ended.stderr
        ),
    }
}

#[test]
fn a_sender_whose_broker_is_gone_gives_up_and_says_how_far_it_came() {
    let broker = Broker::unix();
    broker
        .run(&["queue", "declare", "small", "--capacity", "2"])
        .done();
    let sending = broker.spawn(&["send", "small", "x", "--count", "5", "--reconnect", "50ms"]);
    let full = || (broker.messages("small") == 2).then_some(());
    wait_for("a full queue", full);
    let _folder = broker.kill();
    let failed = sending.end().with(1);
    assert!(
        failed.stderr.contains("confirmed 2 of 5"),
        "{}",
        failed.stderr
    );
}

#[test]
fn what_is_no_broker_is_named_as_such() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let asking = Running::of(crate::support::posthaste().args(["stat", "--url", &url]));
    let (mut connection, _) = listener.accept().unwrap();
    connection
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .unwrap();
    asking.end().with(1);
}
