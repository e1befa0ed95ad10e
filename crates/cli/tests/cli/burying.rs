//! `dlq`: dead letters, their history, and the way back.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Broker, run, wait_for};

/// Lets every message in `jobs` fail one attempt.
fn fail(broker: &Broker, messages: usize) {
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never", "--json"]);
    (0..messages).for_each(|_| drop(consumer.line()));
    consumer.signal(Signal::TERM);
    consumer.end().done();
}

/// The dead letters in `dead`, once there are so many.
fn letters(broker: &Broker, count: usize) -> Vec<Value> {
    wait_for("the dead letters", || {
        let letters = broker.run(&["dlq", "ls", "dead", "--json"]);
        let letters = (letters.code == Some(0)).then(|| letters.json())?;
        letters.as_array().filter(|letters| letters.len() == count).cloned()
    })
}

fn declare(broker: &Broker, max_attempts: &str) {
    let limits = ["--max-attempts", max_attempts, "--dead-letter", "dead"];
    broker.run(&[&["queue", "declare", "jobs"], &limits[..]].concat()).done();
}

#[test]
fn a_message_that_was_handed_out_too_often_is_a_dead_letter() {
    let broker = Broker::tcp();
    declare(&broker, "2");
    broker.run(&["send", "jobs", "work", "--id", "order-7", "--key", "customer-1"]).done();
    fail(&broker, 1);
    assert_eq!(broker.messages("jobs"), 1);
    fail(&broker, 1);
    let letter = letters(&broker, 1).remove(0);
    assert_eq!((&letter["id"], &letter["key"]), (&json!("order-7"), &json!("customer-1")));
    assert_eq!((&letter["died_in"], &letter["attempts"]), (&json!("jobs"), &json!(2)));
    assert!(letter["position"].is_u64(), "{letter}");
    assert!(letter["reason"].as_str().is_some_and(|why| !why.is_empty()), "{letter}");
    let at = letter["at"].as_str().unwrap();
    assert!(at.len() == 24 && at.starts_with("20") && at.ends_with('Z'), "{at}");
    assert_eq!(broker.messages("jobs"), 0);
    let ledger = broker.stat()["ledger"].clone();
    assert_eq!((&ledger["dead_lettered"], &ledger["held"]), (&json!(1), &json!(1)));
    let table = broker.run(&["dlq", "ls", "dead"]).done();
    let rows: Vec<_> = table.text().lines().collect();
    assert!(rows[0].starts_with("POSITION") && rows[1].contains("order-7"), "{rows:?}");
}

#[test]
fn show_tells_the_history_of_one_letter_or_of_all() {
    let broker = Broker::tcp();
    declare(&broker, "1");
    let mut arguments = vec!["send", "jobs", "first\u{1b}[31m", "--id", "one"];
    arguments.extend(["--header", "trace=7"]);
    broker.run(&arguments).done();
    broker.run_with(&["send", "jobs", "--id", "two"], b"\xff\xfe").done();
    fail(&broker, 2);
    let position = letters(&broker, 2)[0]["position"].to_string();
    for which in ["one", &position] {
        let letter = broker.run(&["dlq", "show", "dead", which, "--json"]).done().json();
        assert_eq!((&letter["id"], &letter["payload"]), (&json!("one"), &json!("first\u{1b}[31m")));
        assert_eq!(
            (&letter["headers"], &letter["payload_bytes"]),
            (&json!({"trace": "7"}), &json!(10))
        );
        let deaths = letter["deaths"].as_array().unwrap();
        assert_eq!((deaths.len(), &deaths[0]["queue"]), (1, &json!("jobs")));
        assert_eq!(
            (&deaths[0]["attempts"], deaths[0]["reasons"].as_array().unwrap().len()),
            (&json!(1), 1)
        );
    }
    let two = broker.run(&["dlq", "show", "dead", "two", "--json"]).done().json();
    assert_eq!((&two["payload_base64"], &two["payload"]), (&json!("//4="), &Value::Null));
    let all = broker.run(&["dlq", "show", "dead"]).done();
    assert!(all.text().contains("in jobs after 1 attempt"), "{}", all.text());
    assert!(!all.text().contains('\u{1b}'), "a payload commands the terminal");
    assert_eq!(broker.run(&["dlq", "show", "dead", "--json"]).done().text().lines().count(), 2);
    let missing = broker.run(&["dlq", "show", "dead", "three"]).with(1);
    assert!(missing.stderr.contains("three"), "{}", missing.stderr);
}

#[test]
fn a_large_payload_is_shown_in_part() {
    let broker = Broker::tcp();
    declare(&broker, "1");
    // Of three bytes each, so that the part ends within a character.
    let payload = "\u{20ac}".repeat(5_000);
    broker.run(&["send", "jobs", &payload]).done();
    fail(&broker, 1);
    letters(&broker, 1);
    let letter = broker.run(&["dlq", "show", "dead", "--json"]).done().json();
    assert_eq!(letter["payload_bytes"], 15_000);
    let shown = letter["payload"].as_str().unwrap();
    assert!(!shown.is_empty() && shown.len() < 5_000 && payload.starts_with(shown));
}

#[test]
fn replay_sends_letters_back_to_where_they_died() {
    let broker = Broker::tcp();
    declare(&broker, "1");
    broker.run(&["send", "jobs", "work", "--count", "3"]).done();
    fail(&broker, 3);
    letters(&broker, 3);
    let replayed = broker.run(&["dlq", "replay", "dead", "--count", "1"]).done();
    assert_eq!(replayed.text(), "replayed 1 kept 0\n");
    assert_eq!((broker.messages("dead"), broker.messages("jobs")), (json!(2), json!(1)));
    assert_eq!(broker.run(&["dlq", "replay", "dead"]).done().text(), "replayed 2 kept 0\n");
    let back = broker.run(&["recv", "jobs", "--json", "--count", "3"]).done();
    for line in back.text().lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["attempt"], 1);
    }
    assert_eq!(broker.run(&["dlq", "ls", "dead", "--json"]).done().json(), json!([]));
}

#[test]
fn letters_of_a_queue_that_is_gone_are_kept_and_why_is_said() {
    let broker = Broker::tcp();
    declare(&broker, "1");
    broker.run(&["send", "jobs", "work", "--count", "2"]).done();
    fail(&broker, 2);
    letters(&broker, 2);
    broker.run(&["queue", "rm", "jobs"]).done();
    let kept = broker.run(&["dlq", "replay", "dead"]);
    assert_eq!((kept.code, kept.text()), (Some(0), "replayed 0 kept 2\n"));
    assert!(kept.stderr.contains("jobs"), "{}", kept.stderr);
    assert_eq!(letters(&broker, 2).len(), 2);
}

#[test]
fn a_message_that_did_not_die_is_listed_without_a_history() {
    let broker = Broker::tcp();
    broker.run(&["send", "dead", "alive", "--count", "2"]).done();
    let letter = letters(&broker, 2).remove(0);
    assert_eq!((&letter["died_in"], &letter["at"]), (&Value::Null, &Value::Null));
    let first = broker.run(&["dlq", "ls", "dead", "--json", "--count", "1"]).done().json();
    assert_eq!(first.as_array().unwrap().len(), 1);
    let replayed = broker.run(&["dlq", "replay", "dead"]);
    assert_eq!((replayed.code, replayed.text()), (Some(0), "replayed 0 kept 2\n"));
}

#[test]
fn more_letters_than_a_page_holds_are_all_listed() {
    let broker = Broker::tcp();
    broker.run(&["send", "dead", "alive", "--count", "1000"]).done();
    let letters = letters(&broker, 1_000);
    let positions: Vec<_> = letters.iter().map(|this| this["position"].as_u64().unwrap()).collect();
    assert!(positions.is_sorted_by(|one, other| one < other), "{positions:?}");
    let first = broker.run(&["dlq", "ls", "dead", "--json", "--count", "300"]).done().json();
    assert_eq!(first.as_array().unwrap().len(), 300);
}

#[test]
fn a_dead_letter_queue_that_is_not_there_is_a_failure() {
    let broker = Broker::tcp();
    for verb in ["ls", "show", "replay"] {
        let failed = broker.run(&["dlq", verb, "missing"]).with(1);
        assert!(failed.stderr.contains("missing"), "{}", failed.stderr);
        run(["dlq", verb, "a..b"]).with(1);
    }
}
