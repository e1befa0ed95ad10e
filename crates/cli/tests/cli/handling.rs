//! What a message or its queue asks of the broker: expiry, delay, priority, deduplication, keys.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Broker, wait_for};

fn declare(broker: &Broker, options: &[&str]) {
    broker.run(&[&["queue", "declare", "jobs"], options].concat()).done();
}

fn send(broker: &Broker, arguments: &[&str]) {
    let sent = broker.run(&[&["send", "jobs"], arguments].concat()).done();
    assert_eq!(sent.text(), "sent 1 level held\n");
}

/// Takes so many messages out of `jobs`.
fn received(broker: &Broker, count: usize) -> String {
    let received = broker.run(&["recv", "jobs", "--count", &count.to_string()]).done();
    received.text().to_owned()
}

#[test]
fn what_has_outlived_its_time_is_expired_although_nobody_looks() {
    let broker = Broker::tcp();
    declare(&broker, &[]);
    send(&broker, &["stale", "--ttl", "500ms"]);
    send(&broker, &["fresh", "--ttl", "1h"]);
    wait_for("the end of its time", || (broker.stat()["ledger"]["expired"] == 1).then_some(()));
    assert_eq!(broker.messages("jobs"), 1);
    assert_eq!(received(&broker, 1), "fresh\n");
}

#[test]
fn a_queue_may_limit_the_life_of_its_messages() {
    let broker = Broker::tcp();
    declare(&broker, &["--ttl", "10ms", "--bind", "news.*"]);
    send(&broker, &["stale", "--ttl", "1h"]);
    broker.run(&["pub", "news.local", "stale"]).done();
    wait_for("the end of their time", || (broker.stat()["ledger"]["expired"] == 2).then_some(()));
    assert_eq!(broker.messages("jobs"), 0);
}

#[test]
fn what_is_delayed_lets_others_pass_and_comes_in_its_time() {
    let broker = Broker::tcp();
    send(&broker, &["next year", "--delay", "8760h"]);
    send(&broker, &["soon", "--delay", "100ms"]);
    send(&broker, &["now"]);
    let mut both: Vec<_> = received(&broker, 2).lines().map(str::to_owned).collect();
    both.sort_unstable();
    assert_eq!(both, ["now", "soon"]);
    assert_eq!(broker.messages("jobs"), 1);
    assert_eq!(broker.run(&["recv", "jobs", "--timeout", "1ms"]).done().text(), "");
}

#[test]
fn a_delayed_publish_comes_in_its_time() {
    let broker = Broker::tcp();
    let subscriber = broker.spawn_ready(&["sub", "news", "--count", "2"]);
    broker.run(&["pub", "news", "later", "--delay", "1s"]).done();
    broker.run(&["pub", "news", "now"]).done();
    let mut both: Vec<_> = subscriber.end().done().text().lines().map(str::to_owned).collect();
    both.sort_unstable();
    assert_eq!(both, ["later", "now"]);
}

#[test]
fn a_higher_priority_comes_first() {
    let broker = Broker::tcp();
    for (payload, priority) in [("a", "0"), ("b", "3"), ("c", "1"), ("d", "3"), ("e", "2")] {
        send(&broker, &[payload, "--priority", priority]);
    }
    assert_eq!(received(&broker, 5), "b\nd\ne\nc\na\n");
}

#[test]
fn a_second_message_with_the_same_id_is_confirmed_and_not_taken() {
    let broker = Broker::tcp();
    declare(&broker, &["--dedup-window", "1h"]);
    send(&broker, &["first", "--id", "order-7"]);
    send(&broker, &["again", "--id", "order-7"]);
    send(&broker, &["other", "--id", "order-8"]);
    assert_eq!(broker.messages("jobs"), 2);
    let ledger = broker.stat()["ledger"].clone();
    assert_eq!((&ledger["accepted"], &ledger["duplicates"]), (&json!(2), &json!(1)));
    assert_eq!(received(&broker, 2), "first\nother\n");
    // Also when the first one has been settled.
    send(&broker, &["again", "--id", "order-7"]);
    assert_eq!(broker.messages("jobs"), 0);
}

#[test]
fn a_keyed_queue_hands_out_one_message_of_a_key_at_a_time() {
    let broker = Broker::tcp();
    declare(&broker, &["--keyed"]);
    for (payload, key) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        send(&broker, &[payload, "--key", key]);
    }
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
    assert_eq!((consumer.line(), consumer.line()), ("a1".to_owned(), "b1".to_owned()));
    let info = broker.run(&["queue", "info", "jobs", "--json"]).done().json();
    assert_eq!((&info["messages"], &info["unsettled"]), (&json!(3), &json!(2)));
    consumer.signal(Signal::TERM);
    consumer.end().done();
    let all = received(&broker, 3);
    assert!(all.find("a1") < all.find("a2"), "{all}");
    let refused = broker.run(&["send", "jobs", "x", "--priority", "1"]).with(1);
    assert!(refused.stderr.contains("jobs"), "{}", refused.stderr);
}

#[test]
fn a_consumer_that_takes_too_long_loses_its_message() {
    let broker = Broker::tcp();
    declare(&broker, &["--consumer-timeout", "50ms"]);
    send(&broker, &["x"]);
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never", "--json"]);
    for attempt in 1..=3 {
        let line: Value = serde_json::from_str(&consumer.line()).unwrap();
        assert_eq!(line["attempt"], attempt);
    }
}

#[test]
fn what_failed_waits_for_its_backoff() {
    let broker = Broker::tcp();
    declare(&broker, &["--backoff", "1h"]);
    send(&broker, &["x"]);
    broker.run(&["recv", "jobs", "--ack", "never", "--count", "1"]).done();
    assert_eq!(broker.messages("jobs"), 1);
    assert_eq!(broker.run(&["recv", "jobs", "--timeout", "1ms"]).done().text(), "");
    send(&broker, &["y"]);
    assert_eq!(received(&broker, 1), "y\n");
}

#[test]
fn a_queue_that_nobody_uses_expires() {
    let broker = Broker::tcp();
    declare(&broker, &["--expiry", "1s"]);
    wait_for("the end of the queue", || {
        (broker.run(&["queue", "info", "jobs"]).code == Some(1)).then_some(())
    });
}
