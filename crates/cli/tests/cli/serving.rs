//! `serve`: where it listens, how it ends, how it starts again.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use crate::support::{Broker, Running, folder, posthaste, run, touch, wait_for};

#[test]
fn every_url_is_listened_at_and_printed() {
    let (_folder, path) = folder();
    let unix = format!("unix:{}", path.join("ph.sock").display());
    let mut serving = Running::of(posthaste().args(["serve", "tcp://127.0.0.1:0", &unix]));
    let tcp = serving.line();
    let tcp = tcp.strip_prefix("listening ").unwrap();
    assert!(tcp.starts_with("tcp://127.0.0.1:") && !tcp.ends_with(":0"), "{tcp}");
    assert_eq!(serving.line(), format!("listening {unix}"));
    run(["send", "jobs", "x", "--url", tcp]).done();
    let received = run(["recv", "jobs", "--count", "1", "--url", &unix]).done();
    assert_eq!(received.text(), "x\n");
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().done().text(), "");
}

#[test]
fn both_spellings_of_a_unix_url_are_the_same() {
    let broker = Broker::unix();
    let path = broker.url.strip_prefix("unix:").unwrap();
    run(["send", "jobs", "x", "--url", &format!("unix://{path}")]).done();
    assert_eq!(broker.messages("jobs"), 1);
}

#[test]
fn a_relative_socket_is_printed_as_an_absolute_one() {
    let (_folder, path) = folder();
    let mut command = posthaste();
    let mut serving = Running::of(command.args(["serve", "unix:ph.sock"]).current_dir(&path));
    let path = path.canonicalize().unwrap().join("ph.sock");
    assert_eq!(serving.line(), format!("listening unix:{}", path.display()));
}

#[test]
fn a_signal_drains_and_exits_with_0() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut broker = Broker::unix();
        let _folder = broker.folder.take();
        broker.run(&["send", "jobs", "x"]).done();
        let path = broker.url.strip_prefix("unix:").unwrap().to_owned();
        assert!(std::path::Path::new(&path).exists());
        broker.signal(signal);
        let ended = broker.end().with(0);
        assert!(ended.stderr.contains('1'), "it says what is lost: {:?}", ended.stderr);
        assert!(!std::path::Path::new(&path).exists(), "the socket is removed");
    }
}

#[test]
fn a_drain_waits_for_what_was_handed_out() {
    let broker = Broker::start(&["tcp://127.0.0.1:0", "--drain", "20s"]);
    broker.run(&["send", "jobs", "x"]).done();
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
    assert_eq!(consumer.line(), "x");
    consumer.signal(Signal::STOP);
    broker.signal(Signal::TERM);
    consumer.kill();
    // Whoever had it is gone, so the drain ends long before its time.
    broker.end().with(0);
}

#[test]
fn a_drain_that_runs_out_of_time_says_what_is_left() {
    let broker = Broker::start(&["tcp://127.0.0.1:0", "--drain", "10ms"]);
    broker.run(&["send", "jobs", "x"]).done();
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
    assert_eq!(consumer.line(), "x");
    broker.signal(Signal::TERM);
    let ended = broker.end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("1 message was not consumed"), "{}", ended.stderr);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let broker = Broker::start(&["tcp://127.0.0.1:0", "--drain", "1h"]);
    broker.run(&["send", "jobs", "x"]).done();
    let mut consumer = broker.spawn_ready(&["recv", "jobs", "--ack", "never"]);
    assert_eq!(consumer.line(), "x");
    // It holds the message, and hears nothing of the end.
    consumer.signal(Signal::STOP);
    broker.signal(Signal::TERM);
    // Only one that is draining refuses connections.
    let draining =
        || (broker.run(&["stat", "--connect-timeout", "0s"]).code == Some(1)).then_some(());
    wait_for("the drain", draining);
    broker.signal(Signal::TERM);
    broker.end().with(1);
}

#[test]
fn a_port_in_use_is_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let failed = run(["serve", &url]).with(1);
    assert!(failed.stderr.contains("choose another port"), "{}", failed.stderr);
    let broker = Broker::unix();
    run(["serve", &broker.url]).with(1);
}

#[test]
fn nothing_is_printed_unless_every_url_can_be_had() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let failed = run(["serve", "tcp://127.0.0.1:0", &url]).with(1);
    assert_eq!(failed.text(), "");
}

#[test]
fn other_machines_are_refused_unless_asked_for() {
    for url in ["tcp://0.0.0.0:0", "tcp://[::]:0"] {
        let refused = run(["serve", url]).with(1);
        assert!(refused.stderr.contains("--insecure-listen"), "{}", refused.stderr);
    }
    let open = Broker::start(&["tcp://0.0.0.0:0", "--insecure-listen"]);
    assert!(open.url.starts_with("tcp://0.0.0.0:"), "{}", open.url);
    open.run(&["stat"]).done();
    Broker::start(&["tcp://localhost:0"]).run(&["stat"]).done();
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_or_foreign_file_is_not() {
    let broker = Broker::unix();
    let (url, _folder) = broker.kill();
    let path = url.strip_prefix("unix:").unwrap();
    assert!(std::path::Path::new(path).exists(), "kill -9 leaves the socket");
    let again = Broker::start(&[&url]);
    again.run(&["stat"]).done();
    run(["serve", &url]).with(1);
    let (_folder, folder) = folder();
    let file = folder.join("file");
    touch(&file);
    run(["serve", &format!("unix:{}", file.display())]).with(1);
    let live = folder.join("live");
    let _live = UnixListener::bind(&live).unwrap();
    run(["serve", &format!("unix:{}", live.display())]).with(1);
}

#[test]
fn a_socket_is_its_owners_alone() {
    let broker = Broker::unix();
    let path = broker.url.strip_prefix("unix:").unwrap();
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
