//! Credit: nobody sends more than was granted, and who does is cut off.

use bytes::Bytes;
use posthaste_wire::{Code, Config, Event, Frame, Hop, Limits, Role, TransferError};

use crate::support::{Pair, config, encode, ended, events, feed, send, transfers};

#[test]
fn nothing_is_sent_without_credit() {
    let mut pair = Pair::new();
    let (link, _) = pair.open(Role::Sender);
    assert!(!pair.client.room(link));
    let refused = pair.client.transfer(link, &Hop::default(), b"", &Bytes::new());
    assert_eq!(refused, Err(TransferError::NoCredit));
    assert!(!pair.client.wants_output());
}

#[test]
fn messages_are_numbered_from_one_and_counted_against_the_grant() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, 2, 1_000);
    pair.pump();
    assert_eq!(pair.client.credit(link), (2, 1_000));
    assert_eq!(send(&mut pair.client, link, b"abc"), 1);
    assert_eq!(pair.client.credit(link), (1, 1_000 - 7));
    assert_eq!(send(&mut pair.client, link, b"abc"), 2);
    assert_eq!(
        pair.client.transfer(link, &Hop::default(), b"", &Bytes::new()),
        Err(TransferError::NoCredit)
    );
    pair.pump();
    assert_eq!(transfers(&events(&mut pair.server)), [(1, 3), (2, 3)]);
}

#[test]
fn bytes_may_be_overdrawn_by_one_message_and_no_more() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, 10, 1);
    pair.pump();
    assert_eq!(send(&mut pair.client, link, &[0; 5_000]), 1);
    assert!(!pair.client.room(link));
    pair.pump();
    assert!(pair.server.is_established());
    // The debt has to be paid off before there is credit again.
    pair.server.grant(at_server, 0, 5_003);
    pair.pump();
    assert!(!pair.client.room(link));
    pair.server.grant(at_server, 0, 1);
    pair.pump();
    assert!(pair.client.room(link));
}

#[test]
fn a_grant_tells_the_sender_once() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.open(Role::Sender);
    for _ in 0..3 {
        pair.server.grant(at_server, 1, 100);
        pair.pump();
    }
    assert_eq!(events(&mut pair.client), [Event::Credit { link }]);
    pair.server.grant(at_server, 1, 100);
    pair.pump();
    assert_eq!(events(&mut pair.client), [Event::Credit { link }]);
}

#[test]
fn credit_may_be_granted_before_the_link_is_open() {
    let mut pair = Pair::new();
    let link = pair.client.open(Role::Sender, b"").unwrap();
    pair.pump();
    let [Event::Opening { link: at_server, .. }] = events(&mut pair.server)[..] else { panic!() };
    pair.server.grant(at_server, 5, 500);
    pair.pump();
    assert_eq!(events(&mut pair.client), [], "credit does not overtake OPENED");
    pair.server.opened(at_server, b"");
    pair.pump();
    assert_eq!(pair.client.credit(link), (5, 500));

    let link = pair.client.open(Role::Receiver, b"").unwrap();
    pair.client.grant(link, 5, 500);
    pair.pump();
    let told = events(&mut pair.server);
    let [Event::Opening { link: at_server, .. }, Event::Credit { .. }] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        pair.server.transfer(at_server, &Hop::default(), b"", &Bytes::new()),
        Err(TransferError::Closed)
    );
    pair.server.opened(at_server, b"");
    assert_eq!(send(&mut pair.server, at_server, b"x"), 1);
}

fn transfer(link: u16, payload: &[u8]) -> Frame<'_> {
    Frame::Transfer { link, hop: Hop::default(), total: None, head: b"", payload }
}

#[test]
fn a_peer_that_overdraws_is_cut_off_and_told() {
    let mut pair = Pair::new();
    let (_, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, 1, 100);
    pair.pump();
    let now = pair.now;
    feed(&mut pair.server, now, &[transfer(1, b"a"), transfer(1, b"b")]);
    let told = events(&mut pair.server);
    assert_eq!(transfers(&told), [(1, 1)], "what was in order is told");
    assert_eq!(ended(&told).0, Code::Protocol);
    pair.flush_server();
    let (code, reason, by_peer) = ended(&events(&mut pair.client));
    assert_eq!((code, by_peer), (Code::Protocol, true));
    assert_eq!(reason, "a message comes without credit for it");
}

#[test]
fn an_overdraft_in_bytes_is_cut_off_too() {
    let mut pair = Pair::new();
    let (_, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, 9, 2);
    pair.pump();
    let now = pair.now;
    feed(&mut pair.server, now, &[transfer(1, b"abc"), transfer(1, b"")]);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol);
}

#[test]
fn credit_that_has_not_been_written_is_not_granted_yet() {
    let mut pair = Pair::new();
    pair.client.open(Role::Sender, b"").unwrap();
    pair.pump();
    let [Event::Opening { link: at_server, .. }] = events(&mut pair.server)[..] else { panic!() };
    pair.server.grant(at_server, 10, 1_000);
    let now = pair.now;
    feed(&mut pair.server, now, &[transfer(1, b"too early")]);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol);
}

#[test]
fn credit_cannot_be_taken_back() {
    let mut pair = Pair::new();
    pair.sender();
    let now = pair.now;
    feed(&mut pair.client, now, &[Frame::Credit { link: 1, messages: 1, bytes: 1 }]);
    assert_eq!(ended(&events(&mut pair.client)).0, Code::Protocol);
}

#[test]
fn a_head_or_payload_over_its_limit_is_refused_by_both_ends() {
    let limits = Limits { head: 10, payload: 100, ..Limits::default() };
    let mut pair = Pair::with(Config { limits, ..config() }, config());
    let (link, _) = pair.sender();
    let try_send = |pair: &mut Pair, head: &[u8], payload: usize| {
        pair.client.transfer(link, &Hop::default(), head, &Bytes::from(vec![0; payload]))
    };
    assert_eq!(try_send(&mut pair, &[0; 10], 100), Ok(1));
    assert_eq!(
        try_send(&mut pair, &[0; 11], 0),
        Err(TransferError::TooLarge { len: 11, limit: 10 })
    );
    assert_eq!(
        try_send(&mut pair, &[], 101),
        Err(TransferError::TooLarge { len: 101, limit: 100 })
    );
    pair.pump();
    assert!(pair.server.is_established());
    let now = pair.now;
    feed(&mut pair.server, now, &[transfer(1, &[0; 101])]);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::TooLarge);
}

#[test]
fn what_a_hop_carries_arrives_as_it_was() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    let hop = Hop {
        attributes: 0xa5,
        correlation: std::num::NonZeroU64::new(77),
        deadline: Some(std::time::Duration::from_micros(1_500)),
        attempt: 3,
        missed: 9,
    };
    pair.server.transfer(at_server, &hop, b"topic", &Bytes::from_static(b"body")).unwrap();
    pair.pump();
    let told = events(&mut pair.client);
    let [Event::Transfer { link: on, seq: 1, transfer }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*on, transfer.hop), (link, hop));
    assert_eq!((&transfer.head[..], &transfer.payload[..]), (&b"topic"[..], &b"body"[..]));
}

#[test]
fn messages_are_slices_of_what_was_read() {
    let mut pair = Pair::new();
    pair.sender();
    let bytes = encode(&[transfer(1, b"first"), transfer(1, b"second")]);
    let mut input = bytes::BytesMut::from(&bytes[..]);
    let range = input.as_ptr_range();
    pair.server.handle_input(&mut input, pair.now);
    for event in events(&mut pair.server) {
        let Event::Transfer { transfer, .. } = event else { panic!("{event:?}") };
        assert!(range.contains(&transfer.payload.as_ptr()));
    }
}

#[test]
fn a_peer_that_does_not_read_stops_the_sender_whatever_it_grants() {
    let mut pair = Pair::with(Config { gather: 10_000, ..config() }, config());
    let (link, _) = pair.sender();
    let payload = Bytes::from(vec![0; 1_000]);
    let mut sent = 0;
    while pair.client.transfer(link, &Hop::default(), b"", &payload).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 10);
    assert_eq!(
        pair.client.transfer(link, &Hop::default(), b"", &payload),
        Err(TransferError::Full)
    );
    assert!(!pair.client.room(link));
    pair.pump();
    assert_eq!(events(&mut pair.client), [Event::Writable { link }]);
    assert!(pair.client.room(link));
}
