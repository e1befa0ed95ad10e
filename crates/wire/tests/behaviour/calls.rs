//! Calls, their results, and notices.

use bytes::Bytes;
use posthaste_wire::{Code, CommandError, Event, Frame};

use crate::support::{Pair, ended, events, feed};

#[test]
fn a_call_is_answered_once_by_its_number() {
    let mut pair = Pair::new();
    pair.client.call(7, 3, b"arguments").unwrap();
    pair.pump();
    let body = Bytes::from_static(b"arguments");
    assert_eq!(events(&mut pair.server), [Event::Call { id: 7, method: 3, body }]);
    pair.server.result(7, Code::Ok, b"value");
    pair.server.result(7, Code::Ok, b"again");
    pair.server.result(8, Code::Ok, b"never asked");
    pair.pump();
    let body = Bytes::from_static(b"value");
    assert_eq!(events(&mut pair.client), [Event::Result { id: 7, code: Code::Ok, body }]);
}

#[test]
fn results_may_come_in_any_order_and_numbers_are_free_again_after() {
    let mut pair = Pair::new();
    pair.client.call(1, 0, b"").unwrap();
    pair.client.call(2, 0, b"").unwrap();
    assert_eq!(pair.client.call(1, 0, b""), Err(CommandError::Limit), "it is outstanding");
    pair.pump();
    pair.server.result(2, Code::Ok, b"");
    pair.server.result(1, Code::NotFound, b"why");
    pair.pump();
    let told = events(&mut pair.client);
    assert!(matches!(told[..], [Event::Result { id: 2, .. }, Event::Result { id: 1, .. }]));
    assert_eq!(pair.client.call(1, 0, b""), Ok(()));
}

#[test]
fn no_more_than_1024_calls_are_outstanding() {
    let mut pair = Pair::new();
    for id in 0..1_024 {
        pair.client.call(id, 0, b"").unwrap();
    }
    assert_eq!(pair.client.call(5_000, 0, b""), Err(CommandError::Limit));
    pair.pump();
    let now = pair.now;
    feed(&mut pair.server, now, &[Frame::Call { id: 5_000, method: 0, body: b"" }]);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Limit);
}

#[test]
fn a_call_with_a_number_that_is_outstanding_is_a_violation() {
    let mut pair = Pair::new();
    let (now, call) = (pair.now, Frame::Call { id: 1, method: 0, body: b"" });
    feed(&mut pair.server, now, &[call, call]);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol);
}

#[test]
fn a_result_without_a_call_is_a_violation() {
    let mut pair = Pair::new();
    let now = pair.now;
    feed(&mut pair.client, now, &[Frame::Result { id: 1, code: Code::Ok, body: b"" }]);
    assert_eq!(ended(&events(&mut pair.client)).0, Code::Protocol);
}

#[test]
fn a_notice_arrives_unasked() {
    let mut pair = Pair::new();
    pair.server.notice(Code::GoingAway, b"in 5 s").unwrap();
    pair.pump();
    let body = Bytes::from_static(b"in 5 s");
    assert_eq!(events(&mut pair.client), [Event::Notice { code: Code::GoingAway, body }]);
}
