//! `recv`: acknowledgements, and what becomes of messages without them.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Broker, wait_for};

/// The attempts of what is in the queue, which this takes out.
fn attempts(broker: &Broker, queue: &str, count: usize) -> Vec<u64> {
    let count = count.to_string();
    let received = broker.run(&["recv", queue, "--json", "--count", &count]).done();
    let records = received.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.map(|record| record["attempt"].as_u64().unwrap()).collect()
}

#[test]
fn manual_acknowledges_what_was_printed() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "5"]).done();
    broker.run(&["recv", "jobs", "--count", "5"]).done();
    let stat = broker.stat();
    assert_eq!((&stat["ledger"]["acked"], &stat["ledger"]["held"]), (&5.into(), &0.into()));
}

#[test]
fn auto_is_counted_as_auto() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "5"]).done();
    broker.run(&["recv", "jobs", "--count", "5", "--ack", "auto"]).done();
    let ledger = broker.stat()["ledger"].clone();
    assert_eq!((&ledger["auto"], &ledger["acked"]), (&5.into(), &0.into()));
}

#[test]
fn never_leaves_messages_unsettled_and_gives_them_back_at_the_end() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "3000"]).done();
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
    // More than any prefetch would have let through.
    (0..3_000).for_each(|_| assert_eq!(consumer.line(), "x"));
    let info = broker.run(&["queue", "info", "jobs", "--json"]).done().json();
    assert_eq!((&info["messages"], &info["unsettled"]), (&3_000.into(), &3_000.into()));
    consumer.signal(Signal::TERM);
    consumer.end().done();
    // They are back by the time it has ended, and have been seen once.
    assert_eq!(attempts(&broker, "jobs", 3_000), [2; 3_000]);
    assert_eq!(broker.stat()["ledger"]["balanced"], true);
}

#[test]
fn never_with_a_count_takes_that_many() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "3"]).done();
    let received = broker.run(&["recv", "jobs", "--ack", "never", "--count", "2"]).done();
    assert_eq!(received.text(), "x\nx\n");
    assert_eq!(broker.messages("jobs"), 3);
}

#[test]
fn a_killed_consumer_loses_nothing() {
    for broker in [Broker::tcp(), Broker::unix()] {
        broker.run(&["send", "jobs", "x", "--count", "3"]).done();
        let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
        (0..3).for_each(|_| assert_eq!(consumer.line(), "x"));
        consumer.kill();
        assert_eq!(attempts(&broker, "jobs", 3), [2, 2, 2]);
    }
}

#[test]
fn what_was_not_printed_was_not_seen() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "10"]).done();
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--prefetch", "1", "--ack", "manual"]);
    assert_eq!(consumer.line(), "x");
    consumer.signal(Signal::TERM);
    let printed = 1 + consumer.end().done().text().lines().count();
    let left = 10 - printed;
    if left > 0 {
        assert_eq!(attempts(&broker, "jobs", left), vec![1; left]);
    }
    let drained = || (broker.stat()["ledger"]["acked"] == 10).then_some(());
    wait_for("every acknowledgement", drained);
}

#[test]
fn a_removed_queue_ends_its_consumer_with_a_reason() {
    let broker = Broker::tcp();
    let consumer = broker.spawn_ready(&["recv", "jobs"]);
    broker.run(&["queue", "rm", "jobs"]).done();
    let ended = consumer.end().with(1);
    assert!(ended.stderr.contains("queue"), "{}", ended.stderr);
}

#[test]
fn what_could_not_be_written_goes_back() {
    let broker = Broker::tcp();
    let mut consumer = broker.spawn_ready(&["recv", "jobs"]);
    consumer.stop_reading();
    // Again and again: a process that another test starts just now may hold the pipe for a moment.
    wait_for("the end", || {
        broker.run(&["send", "jobs", "x"]).done();
        consumer.has_ended().then_some(())
    });
    consumer.end().done();
    let stat = broker.stat();
    let held = stat["ledger"]["held"].as_u64().unwrap();
    assert!(held > 0 && stat["queues"][0]["unsettled"] == 0, "{stat}");
}
