//! `queue declare --retain...` and `recv --from`: queues that are read and not consumed.

use serde_json::json;

use crate::support::{Broker, folder};

fn keeping(data: &std::path::Path) -> Broker {
    Broker::start(&["tcp://127.0.0.1:0", "--data", data.to_str().unwrap()])
}

/// The payloads and offsets that a reader prints from there on.
fn read(broker: &Broker, from: &str, count: &str) -> Vec<(String, u64)> {
    let lines = broker.run(&["recv", "history", "--from", from, "--count", count, "--json"]).done();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["queue"], &line["attempt"]), (&json!("history"), &json!(1)));
        (line["payload"].as_str().unwrap().to_owned(), line["offset"].as_u64().unwrap())
    };
    lines.text().lines().map(line).collect()
}

#[test]
fn a_history_is_read_again_and_again_from_anywhere_also_after_a_kill() {
    let (_folder, path) = folder();
    let broker = keeping(&path);
    let declared = broker.run(&["queue", "declare", "history", "--retain", "--bind", "a.*"]).done();
    assert!(declared.text().contains("for ever"), "{}", declared.text());
    for number in 0..6 {
        broker.run(&["pub", "a.b", &number.to_string()]).done();
    }
    let whole: Vec<_> = (0..6).map(|number| (number.to_string(), number)).collect();
    assert_eq!(read(&broker, "beginning", "6"), whole);
    assert_eq!(read(&broker, "4", "2"), whole[4..]);
    let (url, _) = broker.kill();
    let broker = Broker::start(&[&url, "--data", path.to_str().unwrap()]);
    assert_eq!(read(&broker, "0", "6"), whole);
    assert_eq!(read(&broker, "1h", "6"), whole);
    assert_eq!(read(&broker, "2001-01-01T00:00:00+01:00", "6"), whole);
    let late = broker.run(&["recv", "history", "--from", "new", "--timeout", "50ms"]).done();
    assert_eq!(late.text(), "");
    assert_eq!(broker.messages("history"), 6);
}

#[test]
fn retention_shows_in_the_info_and_can_be_changed() {
    let broker = Broker::tcp();
    let options = ["--retain-messages", "2", "--retain-age", "1h", "--retain-bytes", "1000"];
    let declare = ["queue", "declare", "history", "--json"];
    let info = broker.run(&[&declare[..], &options].concat()).done().json();
    let retain = json!({"age_ms": 3_600_000, "messages": 2, "bytes": 1000, "last_per_key": false});
    assert_eq!(info["retain"], retain);
    broker.run_with(&["send", "history", "--lines"], b"1\n2\n3\n").done();
    let left = broker.run(&["recv", "history", "--from", "beginning", "--count", "2"]).done();
    assert_eq!(left.text(), "2\n3\n");
    let changed = broker.run(&[&declare[..], &["--retain-last"]].concat()).done().json();
    let retain = json!({"age_ms": null, "messages": null, "bytes": null, "last_per_key": true});
    assert_eq!((&changed["retain"], &changed["messages"]), (&retain, &json!(1)));
    assert_eq!(
        broker.run(&["queue", "declare", "plain", "--json"]).done().json()["retain"],
        json!(null)
    );
    let conflict = broker.run(&["queue", "declare", "plain", "--retain"]).with(1);
    assert!(conflict.stderr.contains("retain"), "{}", conflict.stderr);
    broker.run(&["queue", "declare", "history", "--capacity", "9"]).with(1);
}

#[test]
fn reading_and_consuming_do_not_mix() {
    let broker = Broker::tcp();
    broker.run(&["queue", "declare", "history", "--retain"]).done();
    broker.run(&["queue", "declare", "plain"]).done();
    let consumed = broker.run(&["recv", "history", "--count", "1"]).with(1);
    assert!(consumed.stderr.contains("with --from beginning"), "{}", consumed.stderr);
    let read = broker.run(&["recv", "plain", "--from", "new"]).with(1);
    assert!(read.stderr.contains("leave --from out"), "{}", read.stderr);
    broker.run(&["recv", "history", "--from", "new", "--ack", "manual"]).with(2);
    for strange in ["", "yesterday", "-1", "2026-11-29", "99999999999999999999"] {
        broker.run(&["recv", "history", "--from", strange]).with(2);
    }
}
