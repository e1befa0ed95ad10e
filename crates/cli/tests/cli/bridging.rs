//! `bridge` between brokers, and `serve --backend`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rustix::process::Signal;

use crate::support::{Broker, Running, folder, posthaste, run, wait_for};

fn lines(numbers: std::ops::Range<u32>) -> Vec<u8> {
    numbers.map(|number| format!("{number}\n")).collect::<String>().into_bytes()
}

fn bridge(from: &Broker, to: &Broker, args: &[&str]) -> Running {
    Running::of(posthaste().args(["bridge", &from.url, &to.url]).args(args))
}

fn taken(broker: &Broker, queue: &str) -> Vec<u32> {
    let taken = broker.run(&["recv", queue, "--timeout", "300ms"]).done();
    taken.text().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_queue_moves_in_order_and_the_counts_are_printed() {
    let (from, to) = (Broker::tcp(), Broker::unix());
    from.run_with(&["send", "jobs", "--lines"], &lines(0..5_000)).done();
    let bridged = bridge(&from, &to, &["--queue", "jobs", "--count", "5000"]).end().done();
    assert_eq!(bridged.text(), "forwarded 5000 again 0 level held\n");
    assert_eq!(taken(&to, "jobs"), (0..5_000).collect::<Vec<_>>());
    assert_eq!(from.messages("jobs"), 0);
}

#[test]
fn a_bridge_that_is_killed_loses_nothing_and_the_next_one_goes_on() {
    let (from, to) = (Broker::unix(), Broker::tcp());
    from.run_with(&["send", "jobs", "--lines"], &lines(0..20_000)).done();
    for part in 1..=3 {
        let mut killed = bridge(&from, &to, &["--queue", "jobs"]);
        wait_for("some to have crossed", || {
            let info = to.run(&["queue", "info", "jobs", "--json"]);
            let crossed = (info.code == Some(0)).then(|| info.json()["messages"].as_u64())??;
            (crossed >= part * 2_000).then_some(())
        });
        killed.kill();
    }
    bridge(&from, &to, &["--queue", "jobs", "--timeout", "6s"]).end().done();
    let mut arrived = BTreeMap::new();
    for number in taken(&to, "jobs") {
        *arrived.entry(number).or_insert(0) += 1;
    }
    assert_eq!(arrived.len(), 20_000, "some were lost");
    // Without ids, what was under way when a bridge died may have gone twice: a batch for each.
    let twice: u32 = arrived.values().map(|count| count - 1).sum();
    assert!(twice <= 3 * 1_024, "{twice} went twice");
    assert_eq!(from.messages("jobs"), 0);
}

#[test]
fn topics_cross_and_requests_do_not() {
    let (from, to) = (Broker::tcp(), Broker::tcp());
    let bridge = bridge(&from, &to, &["--pattern", "news.>", "--name", "to.other"]);
    wait_for("the bridge to listen", || {
        (from.run(&["queue", "info", "to.other"]).code == Some(0)).then_some(())
    });
    let mut sub = to.spawn_ready(&["sub", ">", "--json", "--count", "2"]);
    from.run(&["pub", "weather", "no"]).done();
    from.run(&["request", "news.who", "x", "--timeout", "100ms"]);
    from.run(&["pub", "news.a", "one", "--header", "x=y", "--key", "k"]).done();
    from.run(&["pub", "news.b.c", "two"]).done();
    let first: serde_json::Value = serde_json::from_str(&sub.line()).unwrap();
    assert_eq!((&first["topic"], &first["payload"]), (&"news.a".into(), &"one".into()));
    assert_eq!((&first["headers"]["x"], &first["key"]), (&"y".into(), &"k".into()));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&sub.line()).unwrap()["topic"],
        "news.b.c"
    );
    sub.end().with(0);
    bridge.signal(Signal::TERM);
    let ended = bridge.end().done();
    assert_eq!(ended.text(), "forwarded 2 again 0 level held\n");
}

#[test]
fn what_cannot_be_meant_is_wrong_usage() {
    for args in [
        &["bridge", "tcp://127.0.0.1:1"][..],
        &["bridge", "tcp://127.0.0.1:1", "gopher://x"],
        &["bridge", "tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "--queue", "a", "--pattern", "b"],
        &["serve", "tcp://127.0.0.1:0", "--backend", "gopher://x"],
    ] {
        run(args).with(2);
    }
}

#[test]
fn a_bridge_to_nowhere_is_a_failure() {
    let from = Broker::unix();
    let nowhere = ["bridge", &from.url, "unix:/nowhere/ph.sock", "--connect-timeout", "50ms"];
    let failed = run(nowhere.iter().chain(&["--queue", "jobs"])).with(1);
    assert!(failed.stderr.contains("/nowhere/ph.sock"), "{}", failed.stderr);
}

#[test]
fn a_gateway_serves_another_broker() {
    let behind = Broker::tcp();
    let gateway = Broker::start(&["tcp://127.0.0.1:0", "--backend", &behind.url]);
    gateway.run(&["send", "jobs", "through"]).done();
    assert_eq!(behind.messages("jobs"), 1);
    let replying = behind.spawn_ready(&["reply", "echo", "--echo"]);
    assert_eq!(gateway.run(&["request", "echo", "hi"]).done().text(), "hi\n");
    drop(replying);
    gateway.run(&["request", "nobody", "hi"]).with(5);
    assert_eq!(gateway.run(&["recv", "jobs", "--count", "1"]).done().text(), "through\n");
}

/// A broker on a Unix socket that keeps its queues.
fn keeping(folder: &Path) -> Broker {
    let url = format!("unix:{}", folder.join("ph.sock").display());
    Broker::start(&[&url, "--data", folder.join("data").to_str().unwrap()])
}

/// Ends a bridge once its source is empty, and says what has arrived.
fn cross(bridge: Running, from: &Broker, to: &Broker) -> Vec<u32> {
    wait_for("everything to have crossed", || (from.messages("jobs") == 0).then_some(()));
    bridge.signal(Signal::TERM);
    bridge.end().done();
    assert_eq!(from.messages("jobs"), 0);
    taken(to, "jobs")
}

#[test]
fn a_bridge_goes_on_when_its_source_is_killed_while_nothing_crosses() {
    let (_folder, path) = folder();
    let (from, to) = (keeping(&path), Broker::unix());
    from.run_with(&["send", "jobs", "--lines"], &lines(0..100)).done();
    let bridge = bridge(&from, &to, &["--queue", "jobs"]);
    wait_for("the first to have crossed", || (from.messages("jobs") == 0).then_some(()));
    from.kill();
    let from = keeping(&path);
    from.run_with(&["send", "jobs", "--lines"], &lines(100..200)).done();
    let arrived: BTreeSet<u32> = cross(bridge, &from, &to).into_iter().collect();
    assert_eq!(arrived, (0..200).collect());
}

#[test]
fn a_bridge_loses_nothing_although_its_source_is_killed_meanwhile() {
    let (_folder, path) = folder();
    let (mut from, to) = (keeping(&path), Broker::unix());
    from.run_with(&["send", "jobs", "--lines"], &lines(0..20_000)).done();
    let bridge = bridge(&from, &to, &["--queue", "jobs"]);
    for part in 1..=3 {
        wait_for("some to have crossed", || {
            let info = to.run(&["queue", "info", "jobs", "--json"]);
            let crossed = (info.code == Some(0)).then(|| info.json()["messages"].as_u64())??;
            (crossed >= part * 4_000).then_some(())
        });
        from.kill();
        from = keeping(&path);
    }
    let arrived = cross(bridge, &from, &to);
    let once: BTreeSet<u32> = arrived.iter().copied().collect();
    assert_eq!(once, (0..20_000).collect());
    // What was under way at a kill, and not yet settled, goes twice.
    assert!(arrived.len() <= 20_000 + 3 * 8 * 1_024, "{} arrived", arrived.len());
}
