//! Settlements and their synchronisation arrive as they were, and only for what was delivered.

use std::time::Duration;

use posthaste_wire::{Code, Event, Frame, Outcome};

use crate::support::{Pair, ended, events, feed, send};

#[test]
fn a_settlement_carries_its_delay_and_reason() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    send(&mut pair.server, at_server, b"x");
    pair.pump();
    let after = Some(Duration::from_millis(250));
    pair.client.settle(link, 1, 1, Outcome::Retry, after, "later");
    pair.pump();
    let settle = Event::Settle {
        link: at_server,
        first: 1,
        last: 1,
        outcome: Outcome::Retry,
        after,
        why: "later".to_owned(),
    };
    assert_eq!(events(&mut pair.server), [settle]);
}

#[test]
fn every_outcome_arrives_as_itself() {
    use Outcome::{Ack, Dropped, Lost, Reject, Release, Retry, Taken};
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    for outcome in [Ack, Retry, Reject, Release, Dropped, Taken, Lost] {
        let seq = send(&mut pair.server, at_server, b"x");
        pair.pump();
        pair.client.settle(link, seq, seq, outcome, None, "");
        pair.pump();
        let told = events(&mut pair.server);
        assert!(matches!(told[..], [Event::Settle { outcome: o, .. }] if o == outcome));
    }
}

#[test]
fn only_what_has_come_can_be_settled() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    send(&mut pair.server, at_server, b"x");
    pair.client.settle(link, 1, 1, Outcome::Ack, None, "");
    assert!(!pair.client.wants_output(), "it has not come yet");
    pair.pump();
    for (first, last) in [(0, 1), (1, 2), (2, 1), (1, u64::MAX)] {
        pair.client.settle(link, first, last, Outcome::Ack, None, "");
        assert!(!pair.client.wants_output(), "{first} to {last}");
        let mut pair = Pair::new();
        let (_, at_server) = pair.receiver();
        send(&mut pair.server, at_server, b"x");
        let settle =
            Frame::Settle { link: 1, outcome: Outcome::Ack, first, last, after: None, why: "" };
        let now = pair.now;
        feed(&mut pair.server, now, &[settle]);
        assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol, "{first} to {last}");
    }
}

#[test]
fn sync_is_answered_with_its_token_and_the_result() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    pair.client.sync(link, 11);
    pair.pump();
    assert_eq!(events(&mut pair.server), [Event::Sync { link: at_server, token: 11 }]);
    pair.server.synced(at_server, 11, Code::Internal, "disk full");
    pair.pump();
    let reason = "disk full".to_owned();
    let synced = Event::Synced { link, token: 11, code: Code::Internal, reason };
    assert_eq!(events(&mut pair.client), [synced]);
}

#[test]
fn a_return_says_which_message_why_and_how_far_it_got() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    send(&mut pair.client, link, b"x");
    pair.pump();
    pair.server.return_(at_server, 1, Code::Unconfirmed, 2, "written, not stored");
    pair.pump();
    let returned = Event::Returned {
        link,
        seq: 1,
        code: Code::Unconfirmed,
        level: 2,
        reason: "written, not stored".to_owned(),
    };
    assert_eq!(events(&mut pair.client), [returned]);
}

#[test]
fn confirms_and_returns_of_what_was_not_sent_or_was_confirmed_are_violations() {
    let confirm = |upto| Frame::Confirm { link: 1, upto, matched: 0, level: 1, nodes: 1 };
    let give_back = |seq| Frame::Return { link: 1, seq, code: Code::Full, level: 0, reason: "" };
    for frames in [
        &[confirm(2)][..],
        &[confirm(1), confirm(1)][..],
        &[confirm(0)][..],
        &[give_back(2)][..],
        &[confirm(1), give_back(1)][..],
    ] {
        let mut pair = Pair::new();
        let (link, _) = pair.sender();
        send(&mut pair.client, link, b"x");
        let now = pair.now;
        feed(&mut pair.client, now, frames);
        assert_eq!(ended(&events(&mut pair.client)).0, Code::Protocol, "{frames:?}");
    }
}

#[test]
fn what_is_worked_on_and_what_is_cancelled_is_told_by_number() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    send(&mut pair.server, at_server, b"x");
    pair.client.extend(link, 1);
    assert!(!pair.client.wants_output(), "it has not come yet");
    pair.pump();
    events(&mut pair.client);
    pair.client.extend(link, 1);
    assert!(pair.server.cancelled(at_server, 1));
    pair.client.cancel(b"that").unwrap();
    pair.pump();
    let extend = Event::Extend { link: at_server, number: 1 };
    let cancel = Event::Cancel { body: b"that"[..].into() };
    assert_eq!(events(&mut pair.server), [extend, cancel]);
    assert_eq!(events(&mut pair.client), [Event::Cancelled { link, number: 1 }]);
}

#[test]
fn a_message_is_cancelled_only_once_it_is_out() {
    let mut pair = Pair::new();
    let (_, at_server) = pair.receiver();
    send(&mut pair.server, at_server, &vec![0; 300_000]);
    assert!(!pair.server.cancelled(at_server, 1), "its last piece is still to go");
    pair.pump();
    assert!(pair.server.cancelled(at_server, 1));
    pair.pump();
    assert!(pair.client.is_established() && pair.server.is_established());
}

#[test]
fn what_was_not_sent_is_neither_worked_on_nor_cancelled() {
    for number in [0, 2] {
        let mut pair = Pair::new();
        let (_, at_server) = pair.receiver();
        send(&mut pair.server, at_server, b"x");
        pair.pump();
        events(&mut pair.client);
        let now = pair.now;
        feed(&mut pair.server, now, &[Frame::Extend { link: 1, number }]);
        feed(&mut pair.client, now, &[Frame::Cancelled { link: 1, number }]);
        assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol);
        assert_eq!(ended(&events(&mut pair.client)).0, Code::Protocol);
    }
}

#[test]
fn an_offset_comes_right_before_the_message_that_it_is_about() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    for (offset, body) in [(Some(7), "a"), (None, "b"), (Some(40), "c")] {
        if let Some(offset) = offset {
            pair.server.offset(at_server, offset);
        }
        send(&mut pair.server, at_server, body.as_bytes());
    }
    pair.pump();
    let told = events(&mut pair.client);
    let [
        Event::Offset { link: on, offset: 7 },
        Event::Transfer { seq: 1, .. },
        Event::Transfer { seq: 2, .. },
        Event::Offset { offset: 40, .. },
        Event::Transfer { seq: 3, .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(*on, link);
}

#[test]
fn while_a_message_is_under_way_no_offset_is_told() {
    let mut pair = Pair::new();
    let (_, at_server) = pair.receiver();
    send(&mut pair.server, at_server, &vec![0; 300_000]);
    pair.server.offset(at_server, 1);
    pair.pump();
    let told = events(&mut pair.client);
    assert!(!told.iter().any(|event| matches!(event, Event::Offset { .. })), "{told:?}");
    assert!(pair.client.is_established());
}

#[test]
fn an_offset_on_a_link_that_sends_is_a_violation() {
    let mut pair = Pair::new();
    pair.sender();
    let now = pair.now;
    feed(&mut pair.client, now, &[Frame::Offset { link: 1, offset: 1 }]);
    assert_eq!(ended(&events(&mut pair.client)).0, Code::Protocol);
}
