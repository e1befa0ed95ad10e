//! `serve --data`: queues that outlive the broker, and the folder that they are kept in.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::process::Signal;

use crate::support::{Broker, folder, run, touch};

/// A broker that keeps its queues in a folder.
fn keeping(data: &Path) -> Broker {
    Broker::start(&["tcp://127.0.0.1:0", "--data", data.to_str().unwrap()])
}

#[test]
fn what_was_confirmed_is_there_after_a_kill_and_what_was_settled_is_not() {
    let (_folder, path) = folder();
    let data = path.join("data");
    let broker = keeping(&data);
    let lines: String = (0..2_000).map(|number| format!("{number}\n")).collect();
    let sent = broker.run_with(&["send", "jobs", "--lines"], lines.as_bytes()).done();
    assert_eq!(sent.text(), "sent 2000 level stored\n");
    let first = broker.run(&["recv", "jobs", "--count", "500"]).done();
    assert!(lines.starts_with(first.text()));
    let (url, _) = broker.kill();
    let broker = Broker::start(&[&url, "--data", data.to_str().unwrap()]);
    assert_eq!(broker.messages("jobs"), 1_500);
    let rest = broker.run(&["recv", "jobs", "--count", "1500"]).done();
    assert_eq!(format!("{}{}", first.text(), rest.text()), lines);
    broker.signal(Signal::TERM);
    broker.end().with(0);
    assert_eq!(keeping(&data).messages("jobs"), 0);
}

#[test]
fn what_was_handed_out_when_the_broker_died_comes_again_and_is_counted() {
    let (_folder, path) = folder();
    let broker = keeping(&path);
    broker.run(&["send", "jobs", "x"]).done();
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
    assert_eq!(consumer.line(), "x");
    // Behind this everything that was noted before is stored.
    broker.run(&["send", "others", "y"]).done();
    broker.kill();
    consumer.kill();
    let again = keeping(&path).run(&["recv", "jobs", "--count", "1", "--json"]).done().json();
    assert_eq!((&again["payload"], &again["attempt"]), (&"x".into(), &2.into()));
}

#[test]
fn settings_and_remembered_ids_outlive_the_broker() {
    let (_folder, path) = folder();
    let broker = keeping(&path);
    let declare = ["queue", "declare", "jobs", "--durable", "--json", "--dedup-window", "1h"];
    let declared = broker
        .run(
            &[&declare[..], &["--max-attempts", "3", "--dead-letter", "dead", "--bind", "a.*"]]
                .concat(),
        )
        .done()
        .json();
    assert_eq!(declared["durable"], true);
    broker.run(&["send", "jobs", "x", "--id", "1"]).done();
    broker.run(&["recv", "jobs", "--count", "1"]).done();
    broker.kill();
    let broker = keeping(&path);
    let mut found = broker.run(&["queue", "info", "jobs", "--json"]).done().json();
    found["ledger"] = declared["ledger"].clone();
    assert_eq!(found, declared);
    broker.run(&["send", "jobs", "x", "--id", "1"]).done();
    assert_eq!(broker.messages("jobs"), 0);
    broker.run(&["pub", "a.b", "y"]).done();
    assert_eq!(broker.messages("jobs"), 1);
}

#[test]
fn durable_is_refused_where_it_cannot_be_had() {
    let broker = Broker::tcp();
    for args in [
        &["send", "jobs", "x", "--durable"][..],
        &["queue", "declare", "jobs", "--durable"],
        &["bench", "--durable", "--messages", "1"],
    ] {
        let refused = broker.run(args).with(1);
        for part in ["does not support durability", "start the broker with --data DIR"] {
            assert!(refused.stderr.contains(part), "{}", refused.stderr);
        }
    }
    broker.run(&["send", "jobs", "x"]).done();
    broker.run(&["send", "jobs", "x", "--durable"]).with(1);
    assert_eq!(broker.messages("jobs"), 1, "nothing more was sent");
}

#[test]
fn a_folder_is_one_brokers_at_a_time() {
    let (_folder, path) = folder();
    let broker = keeping(&path);
    let data = path.to_str().unwrap();
    for args in [&["serve", "tcp://127.0.0.1:0", "--data", data][..], &["log", "verify", data]] {
        let refused = run(args).with(1);
        assert!(refused.stderr.contains("is in use by process"), "{}", refused.stderr);
    }
    broker.kill();
    run(["log", "verify", data]).done();
}

#[test]
fn a_folder_can_be_looked_into_and_damage_is_named() {
    let (_folder, path) = folder();
    let broker = keeping(&path);
    let data = path.to_str().unwrap();
    broker.run(&["send", "jobs", "--count", "3", "seven apples"]).done();
    broker.run(&["recv", "jobs", "--count", "1"]).done();
    broker.signal(Signal::TERM);
    broker.end().with(0);
    let lock = std::fs::read(path.join("lock")).unwrap();

    assert!(run(["log", "verify", data]).done().text().starts_with("sound: "));
    let stat = run(["log", "stat", data, "--json"]).done().json();
    assert_eq!(
        (&stat["queues"][0]["name"], &stat["queues"][0]["messages"]),
        (&"jobs".into(), &2.into())
    );
    let dumped = run(["log", "dump", data]).done();
    for kind in ["declared", "put", "handed", "gone"] {
        assert!(dumped.text().contains(kind), "{kind} in {}", dumped.text());
    }
    assert_eq!(std::fs::read(path.join("lock")).unwrap(), lock, "who only looks leaves no trace");
    run(["log", "compact", data]).done();
    let stat = run(["log", "stat", data, "--json"]).done().json();
    assert_eq!((&stat["queues"][0]["messages"], &stat["records"]), (&2.into(), &3.into()));

    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|this| this == "seg");
    let mut files = path.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let segment = files.find(is_segment).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100).unwrap();
    let damaged = run(["log", "verify", data]).with(1);
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(
        damaged.text().contains(name) && damaged.text().contains("at byte"),
        "{}",
        damaged.text()
    );
    for args in [
        &["log", "stat", data][..],
        &["log", "stat", data, "--json"],
        &["log", "dump", data],
        &["log", "dump", data, "--json"],
        &["log", "compact", data],
    ] {
        let damaged = run(args).with(1);
        for part in [name, "at byte", "position"] {
            assert!(damaged.stderr.contains(part), "{args:?}: {}", damaged.stderr);
        }
    }
    let stat = run(["log", "stat", data, "--json"]).with(1);
    assert_eq!(stat.json()["damaged"], 1, "what can be told is told all the same");
    let refused = run(["serve", "tcp://127.0.0.1:0", "--data", data]).with(1);
    assert!(refused.stderr.contains(name), "{}", refused.stderr);
}

#[test]
fn settings_are_dumped_unless_they_are_the_default() {
    let (_folder, path) = folder();
    let broker = keeping(&path);
    broker.run(&["queue", "declare", "plain"]).done();
    let options = [
        &["--capacity", "9", "--capacity-bytes", "1000", "--overflow", "reject"][..],
        &["--max-attempts", "3", "--backoff", "200ms", "--dead-letter", "plain", "--ttl", "1m"],
        &["--dedup-window", "2s", "--consumer-timeout", "3s", "--expiry", "4s", "--keyed"],
        &["--bind", "a.*", "--bind", "b.>"],
    ];
    let declare = ["queue", "declare", "jobs"];
    broker.run(&[&declare[..], &options.concat()].concat()).done();
    let retain = ["--retain-age", "1h", "--retain-messages", "7", "--retain-bytes", "8"];
    let declare = ["queue", "declare", "past", "--retain-last"];
    broker.run(&[&declare[..], &retain].concat()).done();
    broker.signal(Signal::TERM);
    broker.end().with(0);
    let dumped = run(["log", "dump", path.to_str().unwrap(), "--json"]).done();
    let texts: Vec<String> = dumped
        .text()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect();
    let jobs = "jobs, capacity 9, capacity-bytes 1000, overflow reject, max-attempts 3, \
                backoff 200ms, dead-letter plain, ttl 60s, dedup-window 2s, consumer-timeout 3s, \
                expiry 4s, keyed, bind a.*, bind b.>";
    let past = "past, retain, retain-age 3600s, retain-messages 7, retain-bytes 8, retain-last";
    // A queue is noted once more when its bindings are led to it.
    let unbound = jobs.split(", bind").next().unwrap();
    assert_eq!(texts, ["plain", unbound, jobs, past]);
}

#[test]
fn a_folder_that_nobody_may_write_can_be_looked_into() {
    let (_folder, path) = folder();
    let broker = keeping(&path);
    broker.run(&["send", "jobs", "x"]).done();
    broker.signal(Signal::TERM);
    broker.end().with(0);
    let allow = |folder: u32, files: u32| {
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        path.read_dir().unwrap().for_each(|entry| set(&entry.unwrap().path(), files));
        set(&path, folder);
    };
    let look = || {
        for verb in ["verify", "dump", "stat"] {
            run(["log", verb, path.to_str().unwrap()]).done();
        }
    };
    allow(0o555, 0o444);
    look();
    // A copy may have come without it.
    allow(0o755, 0o644);
    std::fs::remove_file(path.join("lock")).unwrap();
    allow(0o555, 0o444);
    look();
    assert!(!path.join("lock").exists(), "and none is made");
    allow(0o755, 0o644);
}

#[test]
fn a_folder_whose_broker_was_killed_right_after_its_start_is_sound_and_empty() {
    let (_folder, path) = folder();
    let data = path.to_str().unwrap();
    touch(&path.join("lock"));
    let expect = || {
        let found = run(["log", "verify", data]).done();
        assert!(found.text().starts_with("sound: 0 records"), "{}", found.text());
        run(["log", "dump", data]).done();
        run(["log", "stat", data]).done();
    };
    expect();
    // A segment that was made, and nothing in it yet.
    let name = format!("{:016x}-{:08x}.seg", 0, 1);
    std::fs::write(path.join(name), [0; 4096]).unwrap();
    expect();
}

#[test]
fn a_folder_in_which_no_broker_was_is_none() {
    let (_folder, path) = folder();
    for verb in ["verify", "dump", "stat", "compact"] {
        let refused = run(["log", verb, path.to_str().unwrap()]).with(1);
        assert!(refused.stderr.contains("no broker has kept anything"), "{}", refused.stderr);
    }
    assert_eq!(path.read_dir().unwrap().count(), 0, "and it stays as it is");
    for (name, why) in [("nowhere", "there is no folder"), ("file", "Not a directory")] {
        touch(&path.join("file"));
        let refused = run(["log", "verify", path.join(name).to_str().unwrap()]).with(1);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}

#[test]
fn a_file_is_no_folder_to_keep_anything_in() {
    let (_folder, path) = folder();
    let file = path.join("file");
    touch(&file);
    let refused = run(["serve", "tcp://127.0.0.1:0", "--data", file.to_str().unwrap()]).with(1);
    assert!(refused.stderr.contains("it is a file; name a folder"), "{}", refused.stderr);
    let below = file.join("data");
    let refused = run(["serve", "tcp://127.0.0.1:0", "--data", below.to_str().unwrap()]).with(1);
    assert!(refused.stderr.contains("choose another folder"), "{}", refused.stderr);
}

#[test]
fn a_damaged_folder_is_not_served_and_it_is_said_what_to_do() {
    let (_folder, path) = folder();
    let broker = keeping(&path);
    broker.run(&["send", "jobs", "x"]).done();
    broker.kill();
    let data = path.to_str().unwrap();
    std::fs::write(path.join("anchor"), "no anchor").unwrap();
    let refused = run(["serve", "tcp://127.0.0.1:0", "--data", data]).with(1);
    for part in ["anchor has", "posthaste log verify names", "from a copy"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
}

#[test]
fn no_folder_is_made_for_a_broker_that_cannot_listen() {
    let (_folder, path) = folder();
    let data = path.join("data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let refused = run(["serve", &url, "--data", data.to_str().unwrap()]).with(1);
    assert!(refused.stderr.contains(&url["tcp://".len()..]), "{}", refused.stderr);
    assert!(!data.exists());
}
