//! The command line itself: what is refused, and how.

use crate::support::{Running, posthaste, run};

#[test]
fn wrong_usage_is_2_and_one_sentence() {
    for arguments in [
        ["nonsense"].as_slice(),
        &["pub"],
        &["pub", "news", "x", "--nonsense"],
        &["pub", "news", "x", "--lines"],
        &["pub", "news", "x", "--count", "-1"],
        &["pub", "news", "x", "--count", "many"],
        &["pub", "news", "x", "--header", "novalue"],
        &["pub", "news", "x", "--header", "=noname"],
        &["pub", "news", "x", "--url", "nonsense"],
        &["pub", "news", "x", "--url", "gopher://127.0.0.1:70"],
        &["pub", "news", "x", "--url", "pigeon://127.0.0.1:4222"],
        &["pub", "news", "x", "--url", "memory:named"],
        &["pub", "news", "x", "--url", ""],
        &["pub", "news", "x", "--url", "tcp://127.0.0.1"],
        &["pub", "news", "x", "--url", "tcp://127.0.0.1:99999"],
        &["pub", "news", "x", "--url", "unix:"],
        &["sub", "news", "--timeout", "5"],
        &["sub", "news", "--timeout", "5 s"],
        &["sub", "news", "--timeout", "-5s"],
        &["sub", "news", "--timeout", "99999999999999999999h"],
        &["sub", "news", "--capacity", "0"],
        &["sub", "news", "--overflow", "reject"],
        &["sub", "news", "--overflow", "sometimes"],
        &["recv", "jobs", "--ack", "sometimes"],
        &["recv", "jobs", "--prefetch", "0"],
        &["send", "jobs", "x", "--priority", "4"],
        &["send", "jobs", "x", "--priority", "-1"],
        &["send", "jobs", "x", "--ttl", "soon"],
        &["send", "jobs", "x", "--delay", "1d"],
        &["send", "jobs", "x", "--id", ""],
        &["reply", "who"],
        &["reply", "who", "--echo", "--exec", "true"],
        &["queue"],
        &["queue", "declare", "jobs", "--capacity", "0"],
        &["queue", "declare", "jobs", "--overflow", "disconnect"],
        &["queue", "declare", "jobs", "--overflow", "latest-per-key"],
        &["queue", "declare", "jobs", "--max-attempts", "0"],
        &["queue", "declare", "jobs", "--backoff", "1"],
        &["queue", "purge"],
        &["dlq"],
        &["dlq", "ls"],
        &["dlq", "replay", "dead", "--count", "all"],
        &["conformance", "nonsense"],
        &["caps", "gopher://127.0.0.1:70"],
        &["serve", "nonsense"],
        &["serve", "memory:"],
        &["serve", "tcp://127.0.0.1"],
        &["serve", "--data"],
        &["serve", "--data", "/tmp", "--backend", "nats://127.0.0.1:4222"],
        &["log"],
        &["log", "verify"],
        &["bench", "--pattern", "pubsub", "--durable"],
        &["bench", "--pattern", "nonsense"],
        &["bench", "--size", "16777217"],
        &["bench", "--messages", "0"],
        &["completions", "nonsense"],
    ] {
        let refused = run(arguments);
        assert_eq!(refused.code, Some(2), "{arguments:?}: {}", refused.stderr);
        if ![["queue"], ["dlq"], ["log"]].iter().any(|group| arguments == group) {
            refused.with(2);
        }
    }
}

#[test]
fn an_unknown_scheme_is_told_which_are_known() {
    let refused = run(["stat", "--url", "gopher://127.0.0.1:70"]).with(2);
    for known in ["memory:", "tcp://HOST:PORT", "unix:/PATH"] {
        assert!(refused.stderr.contains(known), "{}", refused.stderr);
    }
}

#[test]
fn an_invalid_topic_is_a_failure_before_anything_is_connected() {
    let nowhere = ["--url", "unix:/nowhere/ph.sock", "--connect-timeout", "1h"];
    for command in [
        ["pub", "orders..created", "x"].as_slice(),
        &["pub", "orders.*", "x"],
        &["pub", "", "x"],
        &["sub", "orders.>.eu"],
        &["sub", "news", "--group", "two words"],
        &["send", "a queue", "x"],
        &["recv", "jobs.>"],
        &["request", "orders.", "x"],
        &["reply", ".orders", "--echo"],
        &["queue", "info", "a b"],
        &["queue", "declare", "jobs", "--bind", "a..b"],
        &["queue", "declare", "jobs", "--dead-letter", "a..b"],
        &["queue", "purge", "a b"],
        &["dlq", "ls", "a b"],
    ] {
        run(command.iter().chain(&nowhere)).with(1);
    }
}

#[test]
fn the_url_may_come_from_the_environment() {
    let mut command = posthaste();
    let refused = Running::of(command.arg("stat").env("POSTHASTE_URL", "gopher://x")).end();
    refused.with(2);
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [["--help"].as_slice(), &["--version"], &["help", "pub"], &["sub", "-h"]] {
        assert!(!run(arguments).done().stdout.is_empty());
    }
    assert_eq!(run(Vec::<&str>::new()).code, Some(2));
    let version = run(["--version"]).done();
    assert_eq!(version.text(), concat!("posthaste ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn help_names_every_command_and_nothing_that_is_not_there() {
    let help = run(["--help"]).done();
    let help = help.text();
    for command in [
        "serve",
        "pub",
        "sub",
        "send",
        "recv",
        "request",
        "reply",
        "queue",
        "dlq",
        "log",
        "stat",
        "bench",
        "bridge",
        "conformance",
        "caps",
        "completions",
    ] {
        let row = format!("\n  {command} ");
        assert!(help.contains(&row), "{command} is not in {help}");
    }
    for absent in ["top", "doctor", "tap"] {
        assert!(!help.contains(&format!("\n  {absent} ")), "{absent} is in {help}");
    }
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]).done();
        for word in ["posthaste", "dlq", "dead-letter"] {
            assert!(script.text().contains(word), "{shell} does not complete {word}");
        }
    }
}

#[test]
fn a_closed_pipe_is_no_panic() {
    for arguments in [["--help"].as_slice(), &["completions", "zsh"]] {
        let mut running = Running::of(posthaste().args(arguments));
        running.stop_reading();
        assert_eq!(running.end().stderr, "");
    }
}

#[test]
fn verbose_logs_go_to_stderr() {
    let published = run(["pub", "news", "x", "--url", "memory:", "-vvv"]).with(0);
    assert_eq!(published.text(), "published 1 matched 0 level held\n");
}

#[test]
fn a_number_that_makes_no_sense_is_told_what_would() {
    for (option, value, says) in [
        ("--max-attempts", "0", "one attempt at least"),
        ("--max-attempts", "x", "a whole number"),
        ("--capacity", "0", "room for one at least"),
        ("--ttl", "5", "500ms"),
    ] {
        let refused = run(["queue", "declare", "jobs", option, value]).with(2);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
}
