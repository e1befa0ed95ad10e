//! `queue` and `stat`.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Broker, run, wait_for};

#[test]
fn a_declared_queue_is_listed_and_inspected() {
    let broker = Broker::tcp();
    let mut arguments = vec!["queue", "declare", "audit", "--capacity", "10"];
    arguments.extend(["--capacity-bytes", "5000", "--bind", "orders.>", "--bind", "bills.*"]);
    broker.run(&arguments).done();
    broker.run(&["pub", "orders.eu", "seven b"]).done();
    broker.run(&["send", "other", "x"]).done();
    let info = broker.run(&["queue", "info", "audit", "--json"]).done().json();
    assert_eq!(info["name"], "audit");
    assert_eq!(info["messages"], 1);
    assert_eq!(info["unsettled"], 0);
    assert_eq!(info["consumers"], 0);
    assert_eq!(info["durable"], false);
    assert_eq!(info["capacity"], 10);
    assert_eq!(info["capacity_bytes"], 5000);
    assert_eq!(info["bindings"], json!(["orders.>", "bills.*"]));
    let list = broker.run(&["queue", "ls", "--json"]).done().json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|info| &info["name"]).collect();
    assert_eq!(names, ["audit", "other"]);
    let table = broker.run(&["queue", "ls"]).done();
    let rows: Vec<_> = table.text().lines().collect();
    assert!(rows[0].starts_with("NAME") && rows[1].starts_with("audit"), "{rows:?}");
    assert_eq!(rows.len(), 3);
    assert!(broker.run(&["queue", "info", "audit"]).done().text().contains("orders.>"));
}

#[test]
fn declaring_again_changes_what_is_named() {
    let broker = Broker::tcp();
    broker.run(&["queue", "declare", "jobs", "--capacity", "10"]).done();
    broker.run(&["queue", "declare", "jobs", "--bind", "jobs.*"]).done();
    let info = broker.run(&["queue", "declare", "jobs", "--json"]).done().json();
    assert_eq!((&info["capacity"], &info["bindings"]), (&json!(10), &json!(["jobs.*"])));
}

#[test]
fn every_setting_is_declared_and_shown() {
    let broker = Broker::tcp();
    let mut arguments = vec!["queue", "declare", "jobs", "--json", "--keyed"];
    arguments.extend(["--overflow", "reject", "--max-attempts", "3", "--backoff", "200ms"]);
    arguments.extend(["--dead-letter", "jobs.dead", "--ttl", "1h", "--dedup-window", "2m"]);
    arguments.extend(["--consumer-timeout", "30s", "--expiry", "24h"]);
    let declared = broker.run(&arguments).done().json();
    for (name, value) in [
        ("keyed", json!(true)),
        ("overflow", json!("reject")),
        ("max_attempts", json!(3)),
        ("backoff_ms", json!(200)),
        ("dead_letter", json!("jobs.dead")),
        ("ttl_ms", json!(3_600_000)),
        ("dedup_window_ms", json!(120_000)),
        ("consumer_timeout_ms", json!(30_000)),
        ("expiry_ms", json!(86_400_000)),
        ("durable", json!(false)),
    ] {
        assert_eq!(declared[name], value, "{name}");
    }
    let text = broker.run(&["queue", "info", "jobs"]).done();
    for line in ["backoff           200ms", "dead letters      to jobs.dead"] {
        assert!(text.text().contains(line), "{}", text.text());
    }
    // What is named is changed, and nothing else.
    let changed = ["queue", "declare", "jobs", "--json", "--ttl", "0s", "--overflow", "block"];
    let changed = broker.run(&changed).done().json();
    assert_eq!((&changed["ttl_ms"], &changed["overflow"]), (&json!(0), &json!("block")));
    assert_eq!((&changed["max_attempts"], &changed["keyed"]), (&json!(3), &json!(true)));
}

#[test]
fn what_cannot_be_changed_is_a_conflict_that_names_it() {
    let broker = Broker::tcp();
    broker.run(&["queue", "declare", "jobs"]).done();
    let refused = broker.run(&["queue", "declare", "jobs", "--keyed", "--capacity", "7"]).with(1);
    assert!(refused.stderr.contains("keyed"), "{}", refused.stderr);
    let info = broker.run(&["queue", "info", "jobs", "--json"]).done().json();
    assert_eq!((&info["keyed"], &info["capacity"]), (&json!(false), &json!(1_000_000)));
    let refused = broker.run(&["queue", "declare", "jobs", "--dead-letter", "jobs"]).with(1);
    assert!(refused.stderr.contains("jobs"), "{}", refused.stderr);
}

#[test]
fn purge_drops_what_is_not_handed_out() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "5"]).done();
    let held = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
    let all = || {
        let info = broker.run(&["queue", "info", "jobs", "--json"]).done().json();
        (info["unsettled"] == 5).then_some(())
    };
    wait_for("the consumer", all);
    assert_eq!(broker.run(&["queue", "purge", "jobs"]).done().text(), "purged 0\n");
    held.signal(Signal::TERM);
    held.end().done();
    assert_eq!(broker.run(&["queue", "purge", "jobs"]).done().text(), "purged 5\n");
    let ledger = broker.stat()["ledger"].clone();
    assert_eq!(ledger["dropped_by"], json!({"purged": 5}));
    assert_eq!(broker.messages("jobs"), 0);
}

#[test]
fn a_queue_that_is_not_there_is_a_failure() {
    let broker = Broker::tcp();
    for verb in ["info", "purge", "rm"] {
        let failed = broker.run(&["queue", verb, "missing"]).with(1);
        assert!(failed.stderr.contains("missing"), "{}", failed.stderr);
    }
}

#[test]
fn a_removed_queue_is_gone_and_its_messages_are_accounted_for() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "3"]).done();
    broker.run(&["queue", "rm", "jobs"]).done();
    broker.run(&["queue", "info", "jobs"]).with(1);
    let ledger = broker.stat()["ledger"].clone();
    assert_eq!((&ledger["dropped"], &ledger["balanced"]), (&json!(3), &json!(true)));
    let reasons = ledger["dropped_by"].as_object().unwrap();
    assert_eq!(reasons.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 3);
}

#[test]
fn the_ledger_has_every_key_and_balances() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "x", "--count", "5"]).done();
    broker.run(&["recv", "jobs", "--count", "2"]).done();
    broker.run(&["recv", "jobs", "--count", "1", "--ack", "auto"]).done();
    broker.run(&["pub", "nowhere", "x"]).done();
    let stat = broker.stat();
    let expected = json!({
        "accepted": 5, "acked": 2, "auto": 1, "dead_lettered": 0, "expired": 0, "dropped": 0,
        "held": 2, "dropped_by": {}, "unmatched": 1, "returned": 0,
        "duplicates": 0, "balanced": true,
    });
    assert_eq!(stat["ledger"], expected);
    assert_eq!(stat["queues"][0]["name"], "jobs");
    assert_eq!(stat["queues"][0]["messages"], 2);
    let text = broker.run(&["stat"]).done();
    assert!(text.text().contains("accepted 5 = acked 2 + auto 1"), "{}", text.text());
}

#[test]
fn connections_are_counted() {
    let broker = Broker::tcp();
    let _one = broker.spawn_ready(&["sub", "news"]);
    let _two = broker.spawn_ready(&["sub", "news"]);
    let stat = broker.stat();
    // Whoever asks is connected as well.
    assert_eq!((&stat["connections"], &stat["subscriptions"]), (&json!(3), &json!(2)));
}

#[test]
fn the_url_may_stand_before_the_command() {
    let broker = Broker::unix();
    for arguments in [
        &["--url", &broker.url, "queue", "ls"][..],
        &[&format!("--url={}", broker.url), "pub", "a.topic", "--", "--payload"],
        &["--url", &broker.url, "bench", "--messages", "10", "--pattern", "queue"],
    ] {
        run(arguments).done();
    }
}
