//! `pub` and `send`: payloads, counts, summaries.

use std::io::Write;
use std::process::Stdio;

use crate::support::{Broker, Running, wait_for};

#[test]
fn lines_come_out_byte_for_byte() {
    // Not UTF-8, an empty line, a carriage return, a NUL, and no newline at the end.
    let input = b"plain\n\xff\xfe not text\n\nwindows\r\n\0\nlast";
    for broker in [Broker::tcp(), Broker::unix()] {
        let sent = broker.run_with(&["send", "jobs", "--lines"], input).done();
        assert_eq!(sent.text(), "sent 6 level held\n");
        let received = broker.run(&["recv", "jobs", "--count", "6"]).done();
        assert_eq!(received.stdout, [input.as_slice(), b"\n"].concat());
    }
}

#[test]
fn a_hundred_thousand_lines_keep_their_order() {
    let broker = Broker::tcp();
    let lines: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let sent = broker.run_with(&["send", "jobs", "--lines"], lines.as_bytes()).done();
    assert_eq!(sent.text(), "sent 100000 level held\n");
    let received = broker.run(&["recv", "jobs", "--count", "100000"]).done();
    assert!(received.text() == lines, "the lines differ");
    assert_eq!(broker.stat()["ledger"]["acked"], 100_000);
}

#[test]
fn a_payload_is_an_argument_or_all_of_stdin() {
    let broker = Broker::tcp();
    broker.run(&["send", "jobs", "from an argument"]).done();
    broker.run_with(&["send", "jobs"], b"from\nstdin\n").done();
    broker.run(&["send", "jobs", "-7"]).done();
    broker.run(&["send", "jobs", ""]).done();
    let received = broker.run(&["recv", "jobs", "--count", "4"]).done();
    assert_eq!(received.text(), "from an argument\nfrom\nstdin\n\n-7\n\n");
}

#[test]
fn an_argument_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let broker = Broker::tcp();
    let mut command = broker.command(&["send", "jobs"]);
    Running::of(command.arg(std::ffi::OsStr::from_bytes(b"\xff!"))).end().done();
    let received = broker.run(&["recv", "jobs", "--count", "1"]).done();
    assert_eq!(received.stdout, b"\xff!\n");
}

#[test]
fn count_repeats_the_payload_or_ends_the_lines() {
    let broker = Broker::tcp();
    let sent = broker.run(&["send", "jobs", "again", "--count", "3"]).done();
    assert_eq!(sent.text(), "sent 3 level held\n");
    let sent = broker.run_with(&["send", "jobs", "--lines", "--count", "2"], b"a\nb\nc\n").done();
    assert_eq!(sent.text(), "sent 2 level held\n");
    let received = broker.run(&["recv", "jobs", "--count", "5"]).done();
    assert_eq!(received.text(), "again\nagain\nagain\na\nb\n");
}

#[test]
fn count_does_not_wait_for_the_end_of_stdin() {
    let broker = Broker::tcp();
    let mut command = broker.command(&["send", "jobs", "--lines", "--count", "1"]);
    let mut sending = Running::of(command.stdin(Stdio::piped()));
    let mut stdin = sending.stdin();
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(sending.end().done().text(), "sent 1 level held\n");
    drop(stdin);
}

#[test]
fn lines_leave_as_they_come() {
    let broker = Broker::tcp();
    let mut receiving = broker.spawn_ready(&["sub", "news", "--count", "2"]);
    let mut command = broker.command(&["pub", "news", "--lines"]);
    let mut publishing = Running::of(command.stdin(Stdio::piped()));
    let mut stdin = publishing.stdin();
    stdin.write_all(b"first\n").unwrap();
    assert_eq!(receiving.line(), "first");
    stdin.write_all(b"second\n").unwrap();
    assert_eq!(receiving.line(), "second");
    drop(stdin);
    assert_eq!(publishing.end().done().text(), "published 2 matched 2 level held\n");
    receiving.end().done();
}

#[test]
fn a_signal_is_the_end_of_the_lines() {
    let broker = Broker::tcp();
    let mut receiving = broker.spawn_ready(&["sub", "news", "--count", "1"]);
    let mut command = broker.command(&["pub", "news", "--lines"]);
    let mut publishing = Running::of(command.stdin(Stdio::piped()));
    let mut stdin = publishing.stdin();
    stdin.write_all(b"only\nhalf a line").unwrap();
    assert_eq!(receiving.line(), "only");
    publishing.signal(rustix::process::Signal::INT);
    assert_eq!(publishing.end().done().text(), "published 1 matched 1 level held\n");
}

#[test]
fn matched_is_summed_over_messages_and_receivers() {
    let broker = Broker::tcp();
    let subscribers: Vec<_> =
        (0..3).map(|_| broker.spawn_ready(&["sub", "orders.>", "--count", "4"])).collect();
    broker.run(&["queue", "declare", "audit", "--bind", "orders.*"]).done();
    let published = broker.run(&["pub", "orders.eu", "x", "--count", "4"]).done();
    assert_eq!(published.text(), "published 4 matched 16 level held\n");
    for subscriber in subscribers {
        assert_eq!(subscriber.end().done().text(), "x\nx\nx\nx\n");
    }
    assert_eq!(broker.messages("audit"), 4);
}

#[test]
fn require_match_exits_with_3_when_a_message_matched_nobody() {
    let broker = Broker::tcp();
    let published = broker.run(&["pub", "news", "x"]).done();
    assert_eq!(published.text(), "published 1 matched 0 level held\n");
    let published = broker.run(&["pub", "news", "x", "--require-match"]).with(3);
    assert_eq!(published.text(), "published 1 matched 0 level held\n");
    broker.run(&["queue", "declare", "archive", "--bind", "news"]).done();
    let published = broker.run(&["pub", "news", "x", "--count", "2", "--require-match"]);
    assert_eq!(published.done().text(), "published 2 matched 2 level held\n");
}

#[test]
fn nothing_to_send_is_a_summary_of_nothing() {
    let broker = Broker::tcp();
    let sent = broker.run_with(&["send", "jobs", "--lines"], b"").done();
    assert_eq!(sent.text(), "sent 0 level held\n");
    let published = broker.run(&["pub", "news", "x", "--count", "0"]).done();
    assert_eq!(published.text(), "published 0 matched 0 level held\n");
}

#[test]
fn a_payload_of_16_mib_passes_and_one_byte_more_is_refused() {
    let broker = Broker::unix();
    let mut payload = vec![7; 16 << 20];
    broker.run_with(&["send", "jobs"], &payload).done();
    let received = broker.run(&["recv", "jobs", "--count", "1"]).done();
    assert_eq!(received.stdout.len(), payload.len() + 1);
    payload.push(7);
    let refused = broker.run_with(&["send", "jobs"], &payload).with(1);
    assert!(refused.stderr.contains("16777216"), "{}", refused.stderr);
    let lines = [b"short\n".as_slice(), &payload, b"\n"].concat();
    let refused = broker.run_with(&["send", "jobs", "--lines"], &lines).with(1);
    assert!(refused.stderr.contains("line 2"), "{}", refused.stderr);
    assert_eq!(broker.messages("jobs"), 1, "the line before it was sent");
}

#[test]
fn a_full_queue_makes_its_sender_wait_and_a_signal_says_how_far_it_came() {
    let broker = Broker::tcp();
    broker.run(&["queue", "declare", "small", "--capacity", "3"]).done();
    let sending = broker.spawn(&["send", "small", "x", "--count", "5"]);
    let full = || (broker.messages("small") == 3).then_some(());
    wait_for("a full queue", full);
    sending.signal(rustix::process::Signal::TERM);
    let interrupted = sending.end().with(1);
    assert!(interrupted.stderr.contains("confirmed 3 of 5"), "{}", interrupted.stderr);
    assert_eq!(interrupted.text(), "");
}
