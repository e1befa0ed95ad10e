//! `request` and `reply`.

use rustix::process::{Pid, Signal, test_kill_process};

use crate::support::{Broker, folder, touch, wait_for};

#[test]
fn a_request_prints_the_reply() {
    for broker in [Broker::tcp(), Broker::unix()] {
        let _responder = broker.spawn_ready(&["reply", "echo", "--echo"]);
        assert_eq!(broker.run(&["request", "echo", "hello"]).done().text(), "hello\n");
        let reply = broker.run_with(&["request", "echo"], b"\xff\n\0").done();
        assert_eq!(reply.stdout, b"\xff\n\0\n");
    }
}

#[test]
fn nobody_to_answer_is_5_at_once() {
    let broker = Broker::tcp();
    let refused = broker.run(&["request", "nobody", "x", "--timeout", "1h"]).with(5);
    assert!(refused.stderr.contains("no responders"), "{}", refused.stderr);
    assert_eq!(refused.text(), "");
}

#[test]
fn a_deadline_is_4() {
    let broker = Broker::tcp();
    let (_folder, path) = folder();
    let command = format!("while [ ! -e {}/go ]; do :; done", path.display());
    let responder = broker.spawn_ready(&["reply", "slow", "--exec", &command, "--count", "1"]);
    broker.run(&["request", "slow", "x", "--timeout", "50ms"]).with(4);
    touch(&path.join("go"));
    responder.end().with(0);
}

#[test]
fn exec_answers_with_the_exact_stdout_of_the_command() {
    let broker = Broker::tcp();
    let _responder =
        broker.spawn_ready(&["reply", "text.*", "--exec", "tr a-z A-Z; printf '\\n\\n'"]);
    let reply = broker.run(&["request", "text.upper", "shout"]).done();
    assert_eq!(reply.text(), "SHOUT\n\n\n");
}

#[test]
fn exec_need_not_read_its_stdin() {
    let broker = Broker::tcp();
    let _responder = broker.spawn_ready(&["reply", "date", "--exec", "echo today"]);
    let large = vec![b'x'; 1 << 20];
    assert_eq!(broker.run_with(&["request", "date"], &large).done().text(), "today\n\n");
}

#[test]
fn a_command_that_fails_is_an_error_reply_with_its_last_words() {
    let broker = Broker::tcp();
    let failing = "echo first >&2; echo 'no such customer' >&2; echo ignored; exit 3";
    let _talking = broker.spawn_ready(&["reply", "talking", "--exec", failing]);
    let failed = broker.run(&["request", "talking", "x"]).with(1);
    assert_eq!(failed.stderr, "error: no such customer\n");
    assert_eq!(failed.text(), "");
    let _silent = broker.spawn_ready(&["reply", "silent", "--exec", "exit 3"]);
    let failed = broker.run(&["request", "silent", "x"]).with(1);
    assert!(failed.stderr.contains("exited with 3"), "{}", failed.stderr);
    let _killed = broker.spawn_ready(&["reply", "killed", "--exec", "kill -9 $$"]);
    let failed = broker.run(&["request", "killed", "x"]).with(1);
    assert!(failed.stderr.contains("signal 9"), "{}", failed.stderr);
}

#[test]
fn a_reply_that_is_too_large_is_an_error_reply() {
    let broker = Broker::tcp();
    let _responder = broker.spawn_ready(&["reply", "zeros", "--exec", "cat /dev/zero"]);
    let failed = broker.run(&["request", "zeros", "x", "--timeout", "20s"]).with(1);
    assert!(failed.stderr.contains("16777216"), "{}", failed.stderr);
}

#[test]
fn responders_share_the_requests() {
    let broker = Broker::tcp();
    let one = broker.spawn_ready(&["reply", "who", "--exec", "echo one"]);
    let two = broker.spawn_ready(&["reply", "who", "--exec", "echo two"]);
    let replies: Vec<_> =
        (0..20).map(|_| broker.run(&["request", "who", "x"]).done().text().to_owned()).collect();
    for who in ["one\n\n", "two\n\n"] {
        assert!(replies.iter().any(|reply| reply == who), "{who} never answered: {replies:?}");
    }
    drop((one, two));
}

#[test]
fn another_group_answers_as_well() {
    let broker = Broker::tcp();
    let _one = broker.spawn_ready(&["reply", "who", "--echo"]);
    let _two = broker.spawn_ready(&["reply", "who", "--echo", "--group", "others"]);
    broker.run(&["request", "who", "x"]).done();
    let accepted = || (broker.stat()["ledger"]["acked"] == 2).then_some(());
    wait_for("both groups", accepted);
}

#[test]
fn count_ends_a_responder_and_leaves_the_rest_to_others() {
    let broker = Broker::tcp();
    let brief = broker.spawn_ready(&["reply", "who", "--echo", "--count", "1"]);
    broker.run(&["request", "who", "x"]).done();
    brief.end().done();
    broker.run(&["request", "who", "x"]).with(5);
}

#[test]
fn a_signal_lets_the_responder_finish_what_is_in_hand() {
    let broker = Broker::tcp();
    let (_folder, path) = folder();
    let path = path.display();
    let command = format!("touch {path}/began; while [ ! -e {path}/go ]; do :; done; echo done");
    let responder = broker.spawn_ready(&["reply", "slow", "--exec", &command]);
    let request = broker.spawn(&["request", "slow", "x", "--timeout", "20s"]);
    let file = |name: &str| std::path::PathBuf::from(format!("{path}/{name}"));
    wait_for("the command to begin", || file("began").exists().then_some(()));
    responder.signal(Signal::TERM);
    let gone = || (broker.run(&["request", "slow", "x"]).code == Some(5)).then_some(());
    wait_for("the responder to stop taking requests", gone);
    touch(&file("go"));
    assert_eq!(request.end().done().text(), "done\n\n");
    responder.end().done();
}

#[test]
fn a_message_that_asks_for_no_reply_is_handled_too() {
    let broker = Broker::tcp();
    let responder = broker.spawn_ready(&["reply", "events", "--echo", "--count", "1"]);
    let published = broker.run(&["pub", "events", "x"]).done();
    assert_eq!(published.text(), "published 1 matched 1 level held\n");
    responder.end().done();
}

/// Says its process id into a file, and then waits for ever.
fn endless(path: &std::path::Path) -> String {
    let pid = path.join("pid");
    let pid = pid.display();
    // What waits is a child of the shell, so that killing the shell alone would not end it.
    format!("tail -f /dev/null & echo $! > {pid}.part; mv {pid}.part {pid}; wait")
}

/// Waits until the command has begun, and tells which process it is.
fn began(path: &std::path::Path) -> Pid {
    wait_for("the command to begin", || {
        let pid = std::fs::read_to_string(path.join("pid")).ok()?;
        Pid::from_raw(pid.trim().parse().ok()?)
    })
}

fn wait_until_gone(pid: Pid) {
    wait_for("the command to be killed", || test_kill_process(pid).is_err().then_some(()));
}

#[test]
fn a_command_is_killed_when_the_deadline_of_its_request_passes() {
    let broker = Broker::tcp();
    let (_folder, path) = folder();
    let responder = broker.spawn_ready(&["reply", "slow", "--exec", &endless(&path)]);
    broker.run(&["request", "slow", "x", "--timeout", "500ms"]).with(4);
    wait_until_gone(began(&path));
    responder.signal(Signal::TERM);
    responder.end().done();
}

#[test]
fn a_command_is_killed_when_its_requester_gives_up() {
    let broker = Broker::tcp();
    let (_folder, path) = folder();
    let responder = broker.spawn_ready(&["reply", "slow", "--exec", &endless(&path)]);
    let request = broker.spawn(&["request", "slow", "x", "--timeout", "1h"]);
    let command = began(&path);
    request.signal(Signal::INT);
    let given_up = request.end().with(1);
    assert!(given_up.stderr.contains("interrupted"), "{}", given_up.stderr);
    wait_until_gone(command);
    // It is neither run again nor answered.
    responder.signal(Signal::TERM);
    responder.end().done();
}

#[test]
fn a_second_signal_kills_the_commands_in_hand() {
    let broker = Broker::tcp();
    let (_folder, path) = folder();
    let responder = broker.spawn_ready(&["reply", "slow", "--exec", &endless(&path)]);
    let _request = broker.spawn(&["request", "slow", "x", "--timeout", "1h"]);
    let command = began(&path);
    responder.signal(Signal::TERM);
    wait_for("the responder to stop taking requests", || {
        (broker.stat()["subscriptions"] == 1).then_some(())
    });
    responder.signal(Signal::TERM);
    responder.end().with(1);
    wait_until_gone(command);
}
