//! Connections that cannot be made, or are lost.

use std::io::Write;
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Broker, Running, run, wait_for};

/// Kills the broker and starts it again.
fn restart(broker: Broker) -> Broker {
    let (url, folder) = broker.kill();
    start_again(&url, folder)
}

/// Asks the broker to end, and starts it again.
fn restart_in_good_order(mut broker: Broker) -> Broker {
    let (url, folder) = (broker.url.clone(), broker.folder.take());
    broker.signal(Signal::TERM);
    broker.end().with(0);
    start_again(&url, folder)
}

fn start_again(url: &str, folder: Option<TempDir>) -> Broker {
    let mut broker = Broker::start(&[url]);
    broker.folder = folder;
    broker
}

#[test]
fn no_broker_is_a_failure_after_the_connect_timeout() {
    let nowhere = ["--url", "unix:/nowhere/ph.sock", "--connect-timeout", "50ms"];
    for command in [
        ["pub", "news", "x"].as_slice(),
        &["sub", "news"],
        &["send", "jobs", "x"],
        &["recv", "jobs"],
        &["request", "who", "x"],
        &["reply", "who", "--echo"],
        &["queue", "ls"],
        &["dlq", "ls", "dead"],
        &["stat"],
        &["bench"],
        &["conformance"],
        &["caps"],
    ] {
        let failed = run(command.iter().chain(&nowhere)).with(1);
        assert!(failed.stderr.contains("/nowhere/ph.sock"), "{}", failed.stderr);
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
fn subscribers_consumers_and_responders_survive_a_restart_of_the_broker() {
    for restart in [restart, restart_in_good_order] {
        let broker = Broker::unix();
        let mut subscriber = broker.spawn_ready(&["sub", "news"]);
        let mut consumer = broker.spawn_ready(&["recv", "jobs"]);
        let _responder = broker.spawn_ready(&["reply", "who", "--echo"]);
        broker.run(&["pub", "news", "before"]).done();
        assert_eq!(subscriber.line(), "before");
        let broker = restart(broker);
        let back = || {
            let stat = broker.stat();
            let consumers = &stat["queues"][0]["consumers"];
            (stat["subscriptions"] == 2 && consumers == 1).then_some(())
        };
        wait_for("everybody to be back", back);
        broker.run(&["pub", "news", "after"]).done();
        assert_eq!(subscriber.line(), "after");
        broker.run(&["send", "jobs", "after"]).done();
        assert_eq!(consumer.line(), "after");
        assert_eq!(broker.run(&["request", "who", "me"]).done().text(), "me\n");
    }
}

#[test]
fn a_consumer_whose_work_is_done_ends_well_although_the_broker_was_killed_meanwhile() {
    for keeps in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let url = format!("unix:{}", folder.path().join("ph.sock").display());
        let mut args = vec![url.as_str()];
        if keeps {
            args.extend(["--data", data.to_str().unwrap()]);
        }
        let broker = Broker::start(&args);
        let mut consumer = broker.spawn_ready(&["recv", "jobs"]);
        broker.run(&["send", "jobs", "before"]).done();
        assert_eq!(consumer.line(), "before");
        wait_for("it to be settled", || (broker.messages("jobs") == 0).then_some(()));
        broker.kill();
        let broker = Broker::start(&args);
        let back = || {
            let stat = broker.stat();
            (stat["queues"][0]["consumers"] == 1).then_some(())
        };
        wait_for("the consumer to be back", back);
        broker.run(&["send", "jobs", "after"]).done();
        // What was not stored in time comes again.
        while consumer.line() != "after" {}
        consumer.signal(Signal::TERM);
        consumer.end().done();
        assert_eq!(broker.messages("jobs"), 0);
    }
}

#[test]
fn a_consumer_that_settles_nothing_has_nothing_to_lose_with_the_broker() {
    let broker = Broker::unix();
    broker.run(&["send", "jobs", "x"]).done();
    let mut consumer =
        broker.spawn_ready(&["recv", "jobs", "--ack", "never", "--timeout", "300ms"]);
    assert_eq!(consumer.line(), "x");
    broker.kill();
    consumer.end().done();
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
    let broker = restart(broker);
    stdin.write_all(b"after\n").unwrap();
    wait_for("the second line", || held(&broker));
    drop(stdin);
    let ended = sending.end();
    // The first line's confirm may have been on its way when the broker was killed.
    match ended.code {
        Some(0) => assert_eq!(ended.text(), "sent 2 level held\n"),
        _ => assert!(ended.stderr.contains("confirmed 1 of 2"), "{}", ended.stderr),
    }
}

#[test]
fn lines_that_a_draining_broker_does_not_take_go_to_its_successor() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", folder.path().join("ph.sock").display());
    let broker = Broker::start(&[&url, "--drain", "20s"]);
    broker.run(&["send", "jobs", "x"]).done();
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
    assert_eq!(consumer.line(), "x");
    consumer.signal(Signal::STOP);
    let mut command = broker.command(&["send", "other", "--lines"]);
    let mut sending = Running::of(command.stdin(Stdio::piped()));
    let mut stdin = sending.stdin();
    stdin.write_all(b"before\n").unwrap();
    wait_for("the first line", || (broker.stat()["ledger"]["accepted"] == 2).then_some(()));
    // The consumer keeps its message, so the broker is draining until that is gone.
    broker.signal(Signal::TERM);
    wait_for("the drain", || {
        let refused = broker.run(&["stat", "--connect-timeout", "0s"]);
        (refused.code == Some(1)).then_some(())
    });
    stdin.write_all(b"during\n").unwrap();
    consumer.kill();
    broker.end().with(0);
    let successor = Broker::start(&[&url]);
    stdin.write_all(b"after\n").unwrap();
    drop(stdin);
    let sent = sending.end();
    if sent.code == Some(0) {
        assert_eq!(sent.text(), "sent 3 level held\n");
        let received = successor.run(&["recv", "other", "--count", "2"]).done();
        assert_eq!(received.text(), "during\nafter\n");
    } else {
        // It was on its way once more at the very moment at which the broker ended.
        let sent = sent.with(1);
        assert!(sent.stderr.contains("confirmed 2 of 3, and 1 may"), "{}", sent.stderr);
    }
}

#[test]
fn a_sender_whose_broker_is_gone_gives_up_and_says_how_far_it_came() {
    let broker = Broker::unix();
    broker.run(&["queue", "declare", "small", "--capacity", "2"]).done();
    let sending = broker.spawn(&["send", "small", "x", "--count", "5", "--reconnect", "50ms"]);
    let full = || (broker.messages("small") == 2).then_some(());
    wait_for("a full queue", full);
    let _folder = broker.kill();
    let failed = sending.end().with(1);
    let text = "the connection was lost before the confirm came; confirmed 2 of 5";
    assert!(failed.stderr.contains(text), "{}", failed.stderr);
}

#[test]
fn what_is_no_broker_is_named_as_such() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let asking = Running::of(crate::support::posthaste().args(["stat", "--url", &url]));
    let (mut connection, _) = listener.accept().unwrap();
    connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    asking.end().with(1);
}
