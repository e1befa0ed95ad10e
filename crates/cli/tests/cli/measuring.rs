//! `bench`.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Broker, folder, posthaste, run, wait_for};

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
    assert_eq!((&stat["queues"], &stat["subscriptions"]), (&json!([]), &0.into()));
    assert_eq!(stat["ledger"]["balanced"], true);
}

#[test]
fn the_fields_of_the_contract_come_first() {
    let measured = run(["bench", "--url", "memory:", "--messages", "50", "--json"]).done();
    let first = r#"{"url":"memory:","pattern":"queue","size":64,"messages":50,"seconds":"#;
    assert!(measured.text().starts_with(first), "{}", measured.text());
    let keys = ["seconds", "msgs_per_s", "mb_per_s", "p50_us", "p99_us", "p999_us", "max_us"];
    let places = keys.map(|key| measured.text().find(&format!("\"{key}\":")).unwrap());
    assert!(places.is_sorted(), "{}", measured.text());
}

#[test]
fn rounds_and_ratios_are_told() {
    let mut arguments = vec!["bench", "--json", "--messages", "90", "--rounds", "3"];
    arguments.extend(["--url", "memory:", "--url", "memory:"]);
    let measured = run(&arguments).done();
    let records = records(measured.text());
    assert_eq!((&records[0]["ratio"], &records[0]["ratio_spread"]), (&1.0.into(), &0.0.into()));
    assert!(records[1]["ratio"].as_f64().unwrap() > 0.0);
    for record in &records {
        assert_eq!(record["rounds"], 3);
        let rates = ["lowest_msgs_per_s", "msgs_per_s", "highest_msgs_per_s"];
        assert!(rates.map(|key| record[key].as_f64().unwrap()).is_sorted(), "{record}");
        assert!(record["spread"].as_f64().unwrap() >= 0.0);
        assert!(record["machine"]["cores"].as_u64().unwrap() >= 1);
        assert_eq!(record["cpu_s_per_1m"].as_f64().is_some(), cfg!(unix), "{record}");
    }
}

#[test]
fn a_time_may_be_given_instead_of_a_number() {
    let measured = run(["bench", "--url", "memory:", "--seconds", "0.06", "--json"]).done();
    let records = records(measured.text());
    assert!(records[0]["messages"].as_u64().unwrap() > 0);
    run(["bench", "--url", "memory:", "--seconds", "1", "--messages", "1"]).with(2);
}

#[test]
fn payloads_too_small_or_too_large_for_a_time_are_measured_all_the_same() {
    for (size, messages) in [("0", "50"), ("7", "50"), ("4097", "50"), ("16777216", "3")] {
        let arguments = ["bench", "--url=memory:", "--json", "--size", size];
        let measured = run(arguments.into_iter().chain(["--messages", messages])).done();
        assert!(records(measured.text())[0]["p50_us"].as_f64().unwrap() > 0.0, "{size}");
    }
}

#[test]
fn a_queue_smaller_than_the_window_is_no_obstacle() {
    let broker = Broker::tcp();
    let arguments = ["bench", "--json", "--capacity", "3", "--messages", "2000"];
    let measured = broker.run(&arguments).done();
    assert_eq!(records(measured.text())[0]["messages"], 2_000);
}

#[test]
fn people_get_a_table() {
    let measured = run(["bench", "--url", "memory:", "--messages", "10", "--ack", "auto"]).done();
    let rows: Vec<_> = measured.text().lines().collect();
    assert!(rows[0].starts_with("URL") && rows[1].starts_with("memory:"), "{rows:?}");
    assert!(rows[0].contains("SPREAD") && !rows[0].contains("RATIO"), "{rows:?}");
    let mut arguments = vec!["bench", "--messages", "10", "--url", "memory:"];
    arguments.extend(["--url", "memory:"]);
    let measured = run(&arguments).done();
    let rows: Vec<_> = measured.text().lines().collect();
    assert!(rows[0].ends_with("RATIO") && rows[1].ends_with("1.00x"), "{rows:?}");
    assert_eq!(rows.len(), 3);
}

#[test]
fn a_plot_shows_every_url() {
    let (_folder, path) = folder();
    let (broker, file) = (Broker::unix(), path.join("rates.svg"));
    // Also over an older and longer one.
    fs::write(&file, "x".repeat(100_000)).unwrap();
    let mut arguments = vec!["bench", "--messages", "30", "--url", "memory:"];
    arguments.extend(["--url", &broker.url, "--plot", file.to_str().unwrap()]);
    let measured = run(&arguments).done();
    assert_eq!(measured.text().lines().count(), 3);
    let plot = fs::read_to_string(&file).unwrap();
    assert!(plot.starts_with("<svg") && plot.ends_with("</svg>\n"), "{plot}");
    for text in ["memory:", broker.url.get(..20).unwrap(), "per second", "p99.9", "3 rounds"] {
        assert!(plot.contains(text), "{text} in {plot}");
    }
}

#[test]
fn a_plot_that_cannot_be_written_is_refused_before_anything_is_measured() {
    let (_folder, path) = folder();
    let nowhere = path.join("no-such-folder").join("rates.svg");
    // It would be measured for a day.
    let mut arguments = vec!["bench", "--url", "memory:", "--seconds", "86400", "--plot"];
    arguments.push(nowhere.to_str().unwrap());
    let ended = run(&arguments).with(1);
    assert!(ended.stderr.contains("no-such-folder"), "{}", ended.stderr);
    arguments.pop();
    arguments.push("rates.png");
    let ended = run(&arguments).with(2);
    assert!(ended.stderr.contains(".svg"), "{}", ended.stderr);
}

#[test]
fn a_measurement_that_fails_leaves_files_as_they_were() {
    let (_folder, path) = folder();
    let (old, new) = (path.join("old.svg"), path.join("new.svg"));
    fs::write(&old, "an older plot").unwrap();
    let nobody = format!("unix:{}", path.join("nobody.sock").display());
    for file in [&old, &new] {
        let mut arguments = vec!["bench", "--url", &nobody, "--connect-timeout", "1ms"];
        arguments.extend(["--plot", file.to_str().unwrap()]);
        run(&arguments).with(1);
    }
    assert_eq!(fs::read_to_string(&old).unwrap(), "an older plot");
    assert!(!new.exists());
}

#[test]
fn what_is_wrong_is_said_in_one_sentence() {
    for wrong in [
        &["--size", "16777217"][..],
        &["--size", "-1"],
        &["--messages", "0"],
        &["--seconds", "0"],
        &["--seconds", "soon"],
        &["--senders", "0"],
        &["--in-flight", "0"],
        &["--capacity", "0"],
        &["--rounds", "0"],
        &["--pattern", "stream"],
        &["--url", "carrier-pigeon:"],
        &["--plot", ""],
    ] {
        run([&["bench"], wrong].concat()).with(2);
    }
}

#[test]
fn an_interrupted_measurement_tidies_up() {
    let broker = Broker::tcp();
    let measuring = broker.spawn(&["bench", "--seconds", "86400"]);
    wait_for("the messages", || {
        let accepted = broker.stat()["ledger"]["accepted"].as_u64().unwrap();
        (accepted > 0).then_some(())
    });
    measuring.signal(Signal::INT);
    let ended = measuring.end().with(1);
    assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
    assert!(ended.stdout.is_empty());
    assert_eq!(broker.stat()["queues"], json!([]));
}

#[test]
fn a_broker_that_goes_away_is_named() {
    let (gone, stays) = (Broker::tcp(), Broker::tcp());
    let arguments = ["bench", "--seconds", "86400", "--url", &stays.url, "--url", &gone.url];
    let measuring = crate::support::Running::of(posthaste().args(arguments));
    wait_for("the messages", || {
        let accepted = gone.stat()["ledger"]["accepted"].as_u64().unwrap();
        (accepted > 0).then_some(())
    });
    let (url, _folder) = gone.kill();
    let ended = measuring.end().with(1);
    assert!(ended.stderr.contains(&url), "{}", ended.stderr);
    assert_eq!(stays.stat()["queues"], json!([]));
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::process::Stdio;

    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs: OwnedFd = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();

    let mut command = posthaste();
    command.args(["bench", "--url", "memory:", "--seconds", "0.3", "--rounds", "2"]);
    command.env("TERM", "xterm").env_remove("NO_COLOR").stderr(Stdio::from(theirs));
    let mut child = command.spawn().unwrap();
    // The command holds the last handle of its side, so that its end is the end of the text.
    drop(command);
    let (mut terminal, mut shown) = (fs::File::from(ours), Vec::new());
    let mut piece = [0; 1_024];
    while let Ok(read @ 1..) = terminal.read(&mut piece) {
        shown.extend_from_slice(&piece[..read]);
    }
    assert!(child.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    for text in ["warming up memory:", "round 1 of 2: memory:", "round 2 of 2: memory:", " %"] {
        assert!(shown.contains(text), "{text} in {shown:?}");
    }
}
