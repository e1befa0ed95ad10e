//! Overflow policies of queues and subscriptions, and what the broker tells of drops.

use serde_json::{Value, json};

use crate::support::{Broker, Running, wait_for};

/// How many messages are published to somebody who does not read them: far more than pipes and
/// windows hold.
const FLOOD: usize = 5_000;

/// Numbered lines of a thousand bytes.
fn flood() -> Vec<u8> {
    (0..FLOOD).flat_map(|n| format!("{n:0>1000}\n").into_bytes()).collect()
}

/// Publishes the flood.
fn publish(broker: &Broker) {
    let published = broker.run_with(&["pub", "news", "--lines"], &flood()).done();
    assert!(published.text().starts_with("published 5000 matched "), "{}", published.text());
}

/// Subscribes, and then reads nothing.
fn stalled(broker: &Broker, policy: &str) -> Running {
    let options = ["--overflow", policy, "--capacity", "5", "--json"];
    broker.spawn_ready(&[&["sub", "news"], &options[..]].concat())
}

fn ledger(broker: &Broker) -> Value {
    broker.stat()["ledger"].clone()
}

fn declare(broker: &Broker, policy: &str) {
    let options = ["--overflow", policy, "--capacity", "2"];
    broker.run(&[&["queue", "declare", "jobs"], &options[..]].concat()).done();
}

#[test]
fn a_full_queue_that_rejects_returns_the_message() {
    let broker = Broker::tcp();
    declare(&broker, "reject");
    let refused = broker.run(&["send", "jobs", "x", "--count", "3"]).with(1);
    assert!(refused.stderr.contains("full"), "{}", refused.stderr);
    assert!(refused.stderr.contains("confirmed 2 of 3"), "{}", refused.stderr);
    assert_eq!(broker.messages("jobs"), 2);
    assert_eq!(ledger(&broker)["returned"], 1);
}

#[test]
fn more_than_a_window_that_comes_back_is_told_by_its_reason_and_counted() {
    let broker = Broker::tcp();
    declare(&broker, "reject");
    let payload = "x".repeat(100_000);
    let refused = broker.run(&["send", "jobs", &payload, "--count", "1000"]).with(1);
    let text = &refused.stderr;
    let expected = "error: the queue jobs is full; confirmed 2 of ";
    let rest = text.strip_prefix(expected).unwrap_or_else(|| panic!("{text}"));
    let (sent, rest) = rest.split_once(", and ").unwrap();
    let (back, rest) = rest.split_once(' ').unwrap();
    assert_eq!(rest, "came back; send that again once there is room\n");
    assert_eq!(back.parse::<u64>().unwrap() + 2, sent.parse::<u64>().unwrap(), "{text}");
    assert_eq!(broker.messages("jobs"), 2);
}

#[test]
fn a_full_queue_that_drops_counts_what_it_dropped() {
    for (policy, left) in [("drop-newest", "1\n2\n"), ("drop-oldest", "4\n5\n")] {
        let broker = Broker::tcp();
        declare(&broker, policy);
        let sent = broker.run_with(&["send", "jobs", "--lines"], b"1\n2\n3\n4\n5\n").done();
        assert_eq!(sent.text(), "sent 5 level held\n");
        let ledger = ledger(&broker);
        assert_eq!((&ledger["dropped"], &ledger["dropped_by"]), (&json!(3), &json!({"full": 3})));
        assert_eq!(broker.run(&["recv", "jobs", "--count", "2"]).done().text(), left);
    }
}

#[test]
fn a_stalled_subscriber_that_drops_holds_nobody_up_and_learns_what_it_missed() {
    let broker = Broker::tcp();
    let mut slow = stalled(&broker, "drop-oldest");
    let swift = broker.spawn_ready(&["sub", "news", "--count", &FLOOD.to_string()]);
    let swift = std::thread::spawn(move || swift.end().done());
    publish(&broker);
    assert_eq!(swift.join().unwrap().stdout, flood());
    // It reads on: everything was either printed or counted as missed, up to the newest one.
    let (mut seen, mut last) = (0, String::new());
    while seen < FLOOD as u64 {
        let record: Value = serde_json::from_str(&slow.line()).unwrap();
        seen += 1 + record["missed"].as_u64().unwrap_or(0);
        last = record["payload"].as_str().unwrap().to_owned();
    }
    assert_eq!(last, format!("{:0>1000}", FLOOD - 1));
    let ledger = ledger(&broker);
    let dropped = ledger["dropped"].as_u64().unwrap();
    assert!(dropped > 0 && ledger["dropped_by"]["full"] == dropped, "{ledger}");
}

#[test]
fn a_stalled_subscriber_may_keep_the_oldest() {
    let broker = Broker::tcp();
    let mut slow = stalled(&broker, "drop-newest");
    publish(&broker);
    let ledger = ledger(&broker);
    assert!(ledger["dropped_by"]["full"].as_u64().is_some_and(|dropped| dropped > 0), "{ledger}");
    for n in 0..5 {
        let record: Value = serde_json::from_str(&slow.line()).unwrap();
        assert_eq!(record["payload"], format!("{n:0>1000}"));
    }
}

#[test]
fn a_stalled_subscriber_may_keep_the_latest_of_each_key() {
    let broker = Broker::tcp();
    let mut slow = stalled(&broker, "latest-per-key");
    publish(&broker);
    broker.run(&["pub", "news", "the last", "--key", "other"]).done();
    let replaced = &ledger(&broker)["dropped_by"]["replaced"];
    assert!(replaced.as_u64().is_some_and(|count| count > 0), "{replaced}");
    let mut before = Value::Null;
    loop {
        let record: Value = serde_json::from_str(&slow.line()).unwrap();
        if record["payload"] == "the last" {
            break;
        }
        before = record["payload"].clone();
    }
    assert_eq!(before, format!("{:0>1000}", FLOOD - 1));
}

#[test]
fn a_subscriber_that_is_cut_off_exits_with_1_and_says_so() {
    let broker = Broker::tcp();
    let slow = stalled(&broker, "disconnect");
    publish(&broker);
    let gone = || (broker.stat()["subscriptions"] == 0).then_some(());
    wait_for("the subscriber to be cut off", gone);
    let ended = slow.end().with(1);
    assert!(ended.stderr.contains("cut off"), "{}", ended.stderr);
}

#[test]
fn drops_are_events() {
    let broker = Broker::tcp();
    declare(&broker, "drop-newest");
    let events = broker.spawn_ready(&["sub", "_ph.event.>", "--json", "--count", "1"]);
    broker.run(&["send", "jobs", "x", "--count", "3"]).done();
    let event = events.end().done().json();
    assert_eq!(event["topic"], "_ph.event.dropped");
    let about = json!({"subscriber": "jobs", "topic": "jobs", "reason": "full"});
    assert_eq!(event["headers"], about);
    assert!(event["payload"].as_str().unwrap().contains("dropped for jobs: full"), "{event}");
}
