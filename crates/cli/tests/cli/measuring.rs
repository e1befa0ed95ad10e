//! `bench`.

use serde_json::Value;

use crate::support::{Broker, run};

fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_pattern_is_measured_on_every_url() {
    let (tcp, unix) = (Broker::tcp(), Broker::unix());
    for pattern in ["queue", "pubsub", "request"] {
        let mut arguments = vec!["bench", "--json", "--pattern", pattern, "--messages", "500"];
        arguments.extend(["--size", "100", "--in-flight", "16", "--senders", "2"]);
        arguments.extend(["--receivers", "2", "--url", &tcp.url, "--url", &unix.url]);
        arguments.extend(["--url", "memory:"]);
        let measured = run(&arguments).done();
        let records = records(measured.text());
        let urls: Vec<_> = records.iter().map(|record| &record["url"]).collect();
        assert_eq!(urls, [tcp.url.as_str(), unix.url.as_str(), "memory:"]);
        for record in &records {
            assert_eq!(record["pattern"], pattern);
            assert_eq!((&record["size"], &record["messages"]), (&100.into(), &500.into()));
            for key in ["seconds", "msgs_per_s", "mb_per_s", "p50_us", "p99_us", "p999_us"] {
                assert!(record[key].as_f64().unwrap() > 0.0, "{key} of {record}");
            }
        }
    }
    // It leaves nothing behind.
    let stat = tcp.stat();
    assert_eq!((&stat["queues"], &stat["subscriptions"]), (&serde_json::json!([]), &0.into()));
    assert_eq!(stat["ledger"]["balanced"], true);
}

#[test]
fn a_time_may_be_given_instead_of_a_number() {
    let measured = run(["bench", "--url", "memory:", "--seconds", "0.06", "--json"]).done();
    let records = records(measured.text());
    assert!(records[0]["messages"].as_u64().unwrap() > 0);
    run(["bench", "--url", "memory:", "--seconds", "1", "--messages", "1"]).with(2);
}

#[test]
fn payloads_too_small_for_a_time_are_measured_all_the_same() {
    let measured = run(["bench", "--url=memory:", "--size=0", "--messages=50", "--json"]).done();
    let records = records(measured.text());
    assert!(records[0]["p50_us"].as_f64().unwrap() > 0.0);
}

#[test]
fn people_get_a_table() {
    let measured = run(["bench", "--url", "memory:", "--messages", "10", "--ack", "auto"]).done();
    let rows: Vec<_> = measured.text().lines().collect();
    assert!(rows[0].starts_with("URL") && rows[1].starts_with("memory:"), "{rows:?}");
}
