//! What a hostile peer can do: be cut off, with a reason, at a bounded cost.

use bytes::BytesMut;
use posthaste_wire::{Code, Event, Frame, Header, Hop, Outcome, Role};

use crate::support::{Pair, encode, ended, events, feed, frames, output};

#[test]
fn a_length_over_the_frame_limit_is_refused_from_the_header_alone() {
    for body_len in [256 * 1024 + 1, u32::MAX] {
        let mut pair = Pair::new();
        let header = Header { body_len, kind: 0x20, flags: 0, link: 1 };
        let mut input = BytesMut::from(&header.encode()[..]);
        pair.server.handle_input(&mut input, pair.now);
        assert_eq!(ended(&events(&mut pair.server)).0, Code::TooLarge);
        assert!(input.is_empty() && pair.server.wanted() == 0, "no more is asked for");
    }
}

#[test]
fn the_largest_frame_is_waited_for() {
    let mut pair = Pair::new();
    let header = Header { body_len: 256 * 1024, kind: 0x20, flags: 0, link: 1 };
    let mut input = BytesMut::from(&header.encode()[..]);
    pair.server.handle_input(&mut input, pair.now);
    assert_eq!(pair.server.wanted(), 256 * 1024);
    input.extend_from_slice(&[0; 100]);
    pair.server.handle_input(&mut input, pair.now);
    assert_eq!(pair.server.wanted(), 256 * 1024 - 100);
    assert_eq!(input.len(), 108, "the partial frame is left where it is");
}

#[test]
fn part_of_a_header_wants_the_rest_of_it() {
    let mut pair = Pair::new();
    pair.server.handle_input(&mut BytesMut::from(&[0; 3][..]), pair.now);
    assert_eq!(pair.server.wanted(), 5);
}

#[test]
fn what_came_before_a_violation_is_told_and_nothing_after() {
    let mut pair = Pair::new();
    let call = |id| Frame::Call { id, method: 0, body: b"" };
    let (now, bad) = (pair.now, Frame::Pong { token: 0 });
    let mut bytes = encode(&[call(1), bad, call(2)]);
    bytes[14 + 5] = 0x01; // a flag that PONG does not have
    pair.server.handle_input(&mut BytesMut::from(&bytes[..]), now);
    let told = events(&mut pair.server);
    assert!(matches!(told[..], [Event::Call { id: 1, .. }, Event::Ended { .. }]), "{told:?}");
    let said = output(&mut pair.server);
    assert!(matches!(frames(&said)[..], [Frame::Goodbye { code: Code::Protocol, .. }]));
}

#[test]
fn a_flood_of_pings_that_nobody_reads_the_answers_of_ends_the_connection() {
    let mut pair = Pair::new();
    let flood = encode(&[Frame::Ping { token: 0 }; 1_000]);
    let mut most = 0;
    // A round is 16 kB of answers, so the bound is reached after some 260.
    for _ in 0..400 {
        pair.server.handle_input(&mut BytesMut::from(&flood[..]), pair.now);
        most = most.max(pair.server.output_len());
    }
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Limit);
    assert!(most < (4 << 20) + 1_024, "{most}");
}

#[test]
fn pings_whose_answers_are_taken_go_on() {
    let mut pair = Pair::new();
    let flood = encode(&[Frame::Ping { token: 0 }; 1_000]);
    for _ in 0..500 {
        pair.server.handle_input(&mut BytesMut::from(&flood[..]), pair.now);
        output(&mut pair.server);
    }
    assert!(pair.server.is_established());
}

#[test]
fn empty_messages_cost_credit_like_any_other() {
    let mut pair = Pair::new();
    let (_, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, 10, 1);
    pair.pump();
    let empty =
        Frame::Transfer { link: 1, hop: Hop::default(), total: None, head: b"", payload: b"" };
    let now = pair.now;
    feed(&mut pair.server, now, &[empty; 11]);
    let told = events(&mut pair.server);
    assert_eq!(crate::support::transfers(&told).len(), 10);
    assert_eq!(ended(&told).0, Code::Protocol);
}

#[test]
fn a_flood_of_credit_is_one_event() {
    let mut pair = Pair::new();
    let (_, at_server) = pair.open(Role::Receiver);
    let now = pair.now;
    for messages in 1..1_000 {
        feed(&mut pair.server, now, &[Frame::Credit { link: 1, messages, bytes: 0 }]);
    }
    assert_eq!(events(&mut pair.server), [Event::Credit { link: at_server }]);
}

#[test]
fn links_that_are_opened_and_closed_all_the_time_take_one_place() {
    let mut pair = Pair::new();
    for _ in 0..1_000 {
        let (link, at_server) = pair.open(Role::Sender);
        assert_eq!(link.id(), 1);
        pair.client.close(link);
        pair.pump();
        pair.server.closed(at_server, Code::Ok, "");
        pair.pump();
        events(&mut pair.client);
        events(&mut pair.server);
    }
}

#[test]
fn each_frame_from_the_wrong_side_is_a_violation() {
    let from_server = [
        Frame::Opened { link: 1, info: b"" },
        Frame::Closed { link: 1, code: Code::Ok, reason: "" },
        Frame::Refused { link: 1, code: Code::Ok, reason: "" },
        Frame::Stopped { link: 1 },
        Frame::Confirm { link: 1, upto: 1, matched: 0, level: 0, nodes: 0 },
        Frame::Return { link: 1, seq: 1, code: Code::Ok, level: 0, reason: "" },
        Frame::Synced { link: 1, token: 0, code: Code::Ok, reason: "" },
        Frame::Result { id: 1, code: Code::Ok, body: b"" },
        Frame::Notice { code: Code::Ok, body: b"" },
        Frame::Welcome { fields: b"" },
    ];
    for frame in from_server {
        let mut pair = Pair::new();
        pair.open(Role::Sender);
        let now = pair.now;
        feed(&mut pair.server, now, &[frame]);
        assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol, "{frame:?}");
    }
    let settle =
        Frame::Settle { link: 1, outcome: Outcome::Ack, first: 1, last: 1, after: None, why: "" };
    let from_client = [
        Frame::Open { link: 2, role: Role::Sender, options: b"" },
        Frame::Close { link: 1 },
        Frame::Stop { link: 1 },
        settle,
        Frame::Sync { link: 1, token: 0 },
        Frame::Call { id: 1, method: 0, body: b"" },
        Frame::Hello { fields: b"" },
    ];
    for frame in from_client {
        let mut pair = Pair::new();
        pair.open(Role::Receiver);
        let now = pair.now;
        feed(&mut pair.client, now, &[frame]);
        assert_eq!(ended(&events(&mut pair.client)).0, Code::Protocol, "{frame:?}");
    }
}

#[test]
fn each_frame_on_a_link_of_the_wrong_role_is_a_violation() {
    let transfer =
        Frame::Transfer { link: 1, hop: Hop::default(), total: None, head: b"", payload: b"" };
    let on_sender = [
        Frame::Credit { link: 1, messages: 9, bytes: 9 },
        Frame::Stop { link: 1 },
        Frame::Sync { link: 1, token: 0 },
    ];
    for frame in on_sender {
        let mut pair = Pair::new();
        pair.open(Role::Sender);
        let now = pair.now;
        feed(&mut pair.server, now, &[frame]);
        assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol, "{frame:?}");
    }
    let on_receiver = [transfer, Frame::Fragment { link: 1, more: false, piece: b"x" }];
    for frame in on_receiver {
        let mut pair = Pair::new();
        pair.open(Role::Receiver);
        let now = pair.now;
        feed(&mut pair.server, now, &[frame]);
        assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol, "{frame:?}");
    }
}

#[test]
fn each_frame_on_a_link_that_was_never_open_is_a_violation() {
    let transfer =
        Frame::Transfer { link: 9, hop: Hop::default(), total: None, head: b"", payload: b"" };
    for frame in [transfer, Frame::Close { link: 9 }, Frame::Sync { link: 65_535, token: 0 }] {
        let mut pair = Pair::new();
        let now = pair.now;
        feed(&mut pair.server, now, &[frame]);
        assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol, "{frame:?}");
    }
}

#[test]
fn a_frame_of_a_later_version_is_skipped_if_it_may_be() {
    let mut pair = Pair::new();
    let later = Frame::Unknown { kind: 0x7f, flags: Header::IGNORABLE, link: 3, body: b"new" };
    let now = pair.now;
    feed(&mut pair.server, now, &[later, Frame::Call { id: 1, method: 0, body: b"" }]);
    assert!(matches!(events(&mut pair.server)[..], [Event::Call { .. }]));
}
