//! `sub` and `recv`: when they end, and what they print.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Broker, folder, touch, wait_for};

#[test]
fn a_subscription_is_live_once_the_ready_file_is_there() {
    let broker = Broker::tcp();
    let subscriber = broker.spawn_ready(&["sub", "news.*", "--count", "1"]);
    let published = broker.run(&["pub", "news.local", "hello"]).done();
    assert_eq!(published.text(), "published 1 matched 1 level held\n");
    assert_eq!(subscriber.end().done().text(), "hello\n");
}

#[test]
fn a_ready_file_that_cannot_be_made_is_a_failure() {
    let broker = Broker::tcp();
    let (_folder, path) = folder();
    let inside = path.join("missing/ready");
    let inside = inside.to_str().unwrap();
    let failed = broker.run(&["sub", "news", "--ready-file", inside]).with(1);
    assert!(failed.stderr.contains(inside), "{}", failed.stderr);
    touch(&path.join("ready"));
    let there = path.join("ready");
    let there = there.to_str().unwrap();
    broker.run(&["sub", "news", "--ready-file", there, "--timeout", "1ms"]).done();
}

#[test]
fn without_a_count_silence_is_a_good_end() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "2"]).done();
    let received = broker.run(&["recv", "jobs", "--timeout", "50ms"]).done();
    assert_eq!(received.text(), "x\nx\n");
    assert_eq!(broker.run(&["sub", "news", "--timeout", "1ms"]).done().text(), "");
}

#[test]
fn with_a_count_silence_exits_with_4_if_fewer_came() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "2"]).done();
    let received = broker.run(&["recv", "jobs", "--count", "3", "--timeout", "50ms"]).with(4);
    assert_eq!(received.text(), "x\nx\n");
    assert!(received.stderr.contains("2 of 3"), "{}", received.stderr);
    broker.run(&["sub", "news", "--count", "1", "--timeout", "1ms"]).with(4);
}

#[test]
fn a_count_takes_no_more_than_that_from_the_queue() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "10"]).done();
    broker.run(&["recv", "jobs", "--count", "4"]).done();
    broker.run(&["recv", "jobs", "--count", "0"]).done();
    let left = broker.run(&["recv", "jobs", "--json", "--timeout", "50ms"]).done();
    let attempts = left.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let attempts: Vec<_> = attempts.map(|record| record["attempt"].clone()).collect();
    assert_eq!(attempts, vec![json!(1); 6]);
}

#[test]
fn a_signal_is_a_good_end_without_a_count_and_too_few_with_one() {
    let broker = Broker::tcp();
    for signal in [Signal::INT, Signal::TERM] {
        let subscriber = broker.spawn_ready(&["sub", "news"]);
        subscriber.signal(signal);
        subscriber.end().done();
        let consumer = broker.spawn_ready(&["recv", "jobs", "--count", "1"]);
        consumer.signal(signal);
        consumer.end().with(4);
    }
}

#[test]
fn messages_are_printed_as_they_come() {
    let broker = Broker::tcp();
    let mut subscriber = broker.spawn_ready(&["sub", "news"]);
    for n in 0..3 {
        broker.run(&["pub", "news", &n.to_string()]).done();
        assert_eq!(subscriber.line(), n.to_string());
    }
}

#[test]
fn members_of_a_group_share_the_messages() {
    let broker = Broker::tcp();
    let members: Vec<_> =
        (0..2).map(|_| broker.spawn_ready(&["sub", "news", "--group", "readers"])).collect();
    let published = broker.run(&["pub", "news", "x", "--count", "100"]).done();
    assert_eq!(published.text(), "published 100 matched 100 level held\n");
    let auto = || (broker.stat()["ledger"]["auto"] == 100).then_some(());
    wait_for("the messages to be taken", auto);
    let lines = members.into_iter().map(|member| {
        member.signal(Signal::TERM);
        member.end().done().text().lines().count()
    });
    assert_eq!(lines.sum::<usize>(), 100);
}

#[test]
fn json_says_everything_about_a_message() {
    let broker = Broker::tcp();
    let subscriber = broker.spawn_ready(&["sub", "orders.>", "--json", "--count", "1"]);
    let mut arguments = vec!["pub", "orders.eu", "gr\u{fc}n \"7\""];
    arguments.extend(["--header", "trace=a=b", "--header", "tag=1", "--header", "tag=2"]);
    arguments.extend(["--key", "customer-7"]);
    broker.run(&arguments).done();
    let expected = json!({
        "topic": "orders.eu", "queue": null, "payload": "gr\u{fc}n \"7\"",
        "headers": {"trace": "a=b", "tag": ["1", "2"]},
        "key": "customer-7", "id": null, "attempt": 1,
    });
    assert_eq!(subscriber.end().done().json(), expected);
}

#[test]
fn json_of_what_is_not_utf8_is_base64() {
    let broker = Broker::tcp();
    broker.run_with(&["send", "jobs"], b"\xff\xfe").done();
    let received = broker.run(&["recv", "jobs", "--json", "--count", "1"]).done();
    let expected = json!({
        "topic": "jobs", "queue": "jobs", "payload_base64": "//4=", "headers": {},
        "key": null, "id": null, "attempt": 1,
    });
    assert_eq!(received.json(), expected);
}

#[test]
fn json_names_the_topic_and_the_queue_of_a_bound_queue() {
    let broker = Broker::tcp();
    broker.run(&["queue", "declare", "audit", "--bind", "orders.*"]).done();
    broker.run(&["pub", "orders.eu", "x"]).done();
    let received = broker.run(&["recv", "audit", "--json", "--count", "1"]).done().json();
    assert_eq!((&received["topic"], &received["queue"]), (&json!("orders.eu"), &json!("audit")));
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let broker = Broker::tcp();
    let mut subscriber = broker.spawn_ready(&["sub", "news"]);
    broker.run(&["pub", "news", "one"]).done();
    assert_eq!(subscriber.line(), "one");
    subscriber.stop_reading();
    // Again and again: a process that another test starts just now may hold the pipe for a moment.
    wait_for("the end", || {
        broker.run(&["pub", "news", "two"]).done();
        subscriber.has_ended().then_some(())
    });
    subscriber.end().done();
}

#[test]
fn a_reader_that_stalls_keeps_its_connection() {
    let broker = Broker::tcp();
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--prefetch", "1000"]);
    // More than a pipe holds, so that the write stops.
    let line = "x".repeat(1_000);
    broker.run(&["send", "jobs", &line, "--count", "2000"]).done();
    assert_eq!(consumer.line(), line);
    let unsettled = || {
        let stat = broker.stat();
        (stat["queues"][0]["consumers"] == 1).then_some(stat)
    };
    let stat = wait_for("the consumer", unsettled);
    assert_eq!(stat["ledger"]["balanced"], true);
    // A signal ends it although nobody reads.
    consumer.signal(Signal::TERM);
    consumer.end().with(0);
}
