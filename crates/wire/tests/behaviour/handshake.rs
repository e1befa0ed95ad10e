//! The handshake: what is negotiated, and who is turned away, with which words.

use std::time::Duration;

use bytes::BytesMut;
use posthaste_wire::fields::Writer;
use posthaste_wire::{
    Auth, Code, Config, Event, FOREIGN_LINE, Frame, Limits, PREFACE_LEN, Session,
};

use crate::support::{Pair, config, encode, ended, events, frames, output, start};

const PREFACE: [u8; 8] = *b"\x89PHW\r\n\x01\x00";

/// A server that has seen these bytes, what it says, and how it ended.
fn server_after(bytes: &[u8]) -> (Vec<u8>, (Code, String, bool)) {
    let mut server = Session::server(config(), start());
    server.handle_input(&mut BytesMut::from(bytes), start());
    assert!(server.is_ended());
    let end = ended(&events(&mut server));
    (output(&mut server), end)
}

fn client_after(bytes: &[u8]) -> (Vec<u8>, (Code, String, bool)) {
    let mut client = Session::client(config(), start());
    output(&mut client);
    client.handle_input(&mut BytesMut::from(bytes), start());
    assert!(client.is_ended());
    let end = ended(&events(&mut client));
    (output(&mut client), end)
}

/// A HELLO whose fields are the client's own, with one more field at the end.
fn hello_with(field: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let bytes = output(&mut Session::client(config(), start()));
    let [Frame::Hello { fields }] = frames(&bytes[PREFACE_LEN..])[..] else { panic!("a HELLO") };
    let mut fields = fields.to_vec();
    field(&mut Writer::new(&mut fields));
    [&PREFACE[..], &encode(&[Frame::Hello { fields: &fields }])].concat()
}

#[test]
fn both_sides_learn_what_the_other_states() {
    let client = Config { session: [1; 16], software: "shop/2".into(), ..config() };
    let server = Config { session: [2; 16], software: "broker/3".into(), ..config() };
    let mut pair = Pair::fresh(client, server);
    pair.pump();
    assert!(pair.client.is_established() && pair.server.is_established());
    let [Event::Established { peer }] = &events(&mut pair.client)[..] else { panic!() };
    assert_eq!((peer.session, peer.software.as_str()), ([2; 16], "broker/3"));
    let [Event::Established { peer }] = &events(&mut pair.server)[..] else { panic!() };
    assert_eq!((peer.session, peer.software.as_str()), ([1; 16], "shop/2"));
    assert_eq!(peer.versions, (1, 1));
}

#[test]
fn the_smaller_limit_and_heartbeat_hold_on_both_sides() {
    let ours = Limits { frame: 8_192, payload: 1_000, links: 7, ..Limits::default() };
    let theirs = Limits { head: 500, reassembly: 1 << 20, links: 9, ..Limits::default() };
    let client = Config { limits: ours, heartbeat: Duration::from_secs(3), ..config() };
    let server = Config { limits: theirs, heartbeat: Duration::from_secs(60), ..config() };
    let pair = Pair::with(client, server);
    let limits = pair.client.limits();
    assert_eq!(limits, pair.server.limits());
    assert_eq!((limits.frame, limits.payload, limits.head), (8_192, 1_000, 500));
    assert_eq!((limits.links, limits.reassembly), (7, 1 << 20));
    assert_eq!(pair.client.heartbeat(), Duration::from_secs(3));
    assert_eq!(pair.server.heartbeat(), Duration::from_secs(3));
}

#[test]
fn a_head_always_fits_into_a_frame_and_a_message_into_the_reassembly_budget() {
    let tight = Limits { frame: 4_096, reassembly: 10_000, ..Limits::default() };
    let limits = Pair::with(Config { limits: tight, ..config() }, config()).server.limits();
    assert_eq!(limits.head, 4_096 - 64);
    assert_eq!(limits.payload, 10_000 - limits.head);
}

#[test]
fn an_interval_below_the_shortest_is_raised_to_it() {
    let hasty = Config { heartbeat: Duration::from_millis(1), ..config() };
    assert_eq!(Pair::with(hasty, config()).server.heartbeat(), Config::HEARTBEAT_MIN);
}

#[test]
fn an_http_request_is_answered_by_one_line_of_text() {
    let (said, (code, reason, by_peer)) = server_after(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(said, FOREIGN_LINE.as_bytes());
    assert_eq!((code, by_peer), (Code::Protocol, false));
    assert!(reason.ends_with(r#"it began with "GET / HTTP/1.1\r\n""#), "{reason}");
}

#[test]
fn the_first_byte_that_differs_is_enough() {
    for differs in 0..6 {
        let mut bytes = PREFACE[..=differs].to_vec();
        let mut server = Session::server(config(), start());
        server.handle_input(&mut BytesMut::from(&bytes[..differs]), start());
        assert!(!server.is_ended(), "all {differs} bytes are right so far");
        bytes[differs] ^= 0x20;
        let (said, _) = server_after(&bytes);
        assert_eq!(said, FOREIGN_LINE.as_bytes());
    }
}

#[test]
fn a_client_says_what_a_foreign_server_began_with() {
    let (said, (code, reason, _)) = client_after(b"SSH-2.0-OpenSSH_9.6\r\n");
    assert_eq!(said, b"", "a foreign server is told nothing");
    assert_eq!(code, Code::Protocol);
    assert!(reason.contains("SSH-2.0"), "{reason}");
}

#[test]
fn another_version_is_answered_by_a_goodbye_that_names_ours() {
    let (said, (code, ..)) = server_after(b"\x89PHW\r\n\x02\x00");
    assert_eq!(code, Code::Version);
    assert_eq!(said[..PREFACE_LEN], PREFACE);
    let [Frame::Goodbye { code, reason }] = frames(&said[PREFACE_LEN..])[..] else { panic!() };
    assert_eq!(code, Code::Version);
    assert_eq!(reason, "version 2 was offered; version 1 is spoken");

    let (said, (code, ..)) = client_after(b"\x89PHW\r\n\x02\x00");
    assert_eq!(code, Code::Version);
    assert!(matches!(frames(&said)[..], [Frame::Goodbye { code: Code::Version, .. }]));
}

#[test]
fn a_hello_that_offers_only_later_versions_is_refused() {
    let hello = hello_with(|fields| {
        fields.u8(1, 2).u8(2, 5);
    });
    assert_eq!(server_after(&hello).1.0, Code::Version);
}

#[test]
fn a_hello_that_offers_later_versions_too_is_accepted_and_later_fields_are_skipped() {
    let hello = hello_with(|fields| {
        fields.u8(2, 5).str(200, "from the future");
    });
    let mut server = Session::server(config(), start());
    server.handle_input(&mut BytesMut::from(&hello[..]), start());
    assert!(server.is_established());
}

#[test]
fn a_hello_that_lacks_a_field_or_states_the_impossible_is_refused() {
    let bare = [&PREFACE[..], &encode(&[Frame::Hello { fields: &[] }])].concat();
    let small = hello_with(|fields| {
        fields.u32(3, 4_095);
    });
    let no_links = hello_with(|fields| {
        fields.u16(6, 0);
    });
    let wrong_type = hello_with(|fields| {
        fields.u8(3, 1);
    });
    let long_name = hello_with(|fields| {
        fields.str(10, &"x".repeat(257));
    });
    for hello in [bare, small, no_links, wrong_type, long_name] {
        assert_eq!(server_after(&hello).1.0, Code::Protocol);
    }
}

#[test]
fn nothing_but_hello_may_come_first() {
    let bytes = [&PREFACE[..], &encode(&[Frame::Ping { token: 1 }])].concat();
    assert_eq!(server_after(&bytes).1.0, Code::Protocol);
    let bytes = [&PREFACE[..], &encode(&[Frame::Hello { fields: &[] }])].concat();
    assert_eq!(client_after(&bytes).1.0, Code::Protocol);
}

#[test]
fn hello_may_not_come_twice() {
    let mut pair = Pair::new();
    let bytes = encode(&[Frame::Hello { fields: &[] }]);
    pair.server.handle_input(&mut BytesMut::from(&bytes[..]), pair.now);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol);
}

#[test]
fn a_server_that_asks_for_credentials_refuses_a_client_without() {
    let asks = Config { auth: Auth::PeerCredentials, ..config() };
    let mut pair = Pair::fresh(config(), asks.clone());
    pair.pump();
    assert_eq!(ended(&events(&mut pair.client)).0, Code::Refused);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Refused);
    let pair = Pair::with(asks.clone(), asks.clone());
    assert!(pair.server.is_established());
    assert!(Pair::with(asks, config()).server.is_established(), "more than is asked for is fine");
}

#[test]
fn an_unknown_way_of_authentication_is_unsupported() {
    let hello = hello_with(|fields| {
        fields.u8(11, 9);
    });
    assert_eq!(server_after(&hello).1.0, Code::Unsupported);
}

#[test]
fn more_than_four_kib_before_hello_is_refused_before_it_comes() {
    let header = posthaste_wire::Header { body_len: 4_089, kind: 1, flags: 0, link: 0 };
    let bytes = [&PREFACE[..], &header.encode()].concat();
    assert_eq!(server_after(&bytes).1.0, Code::TooLarge);
    let header = posthaste_wire::Header { body_len: 4_088, ..header };
    let bytes = [&PREFACE[..], &header.encode()].concat();
    let mut server = Session::server(config(), start());
    server.handle_input(&mut BytesMut::from(&bytes[..]), start());
    assert!(!server.is_ended());
    assert_eq!(server.wanted(), 4_088);
}

#[test]
fn a_handshake_that_takes_more_than_five_seconds_ends() {
    let now = start();
    let five = Duration::from_secs(5);
    let mut server = Session::server(config(), now);
    assert_eq!(server.poll_timeout(), Some(now + five));
    // Input that does not complete the handshake does not win time.
    server.handle_input(&mut BytesMut::from(&PREFACE[..]), now + five / 2);
    assert_eq!(server.poll_timeout(), Some(now + five));
    server.handle_timeout(now + five - Duration::from_nanos(1));
    assert!(!server.is_ended());
    server.handle_timeout(now + five);
    assert_eq!(ended(&events(&mut server)).0, Code::Timeout);
    let said = output(&mut server);
    assert_eq!(said[..PREFACE_LEN], PREFACE);
    let said = frames(&said[PREFACE_LEN..]);
    assert!(matches!(said[..], [Frame::Goodbye { code: Code::Timeout, .. }]));
}

#[test]
fn commands_before_the_handshake_do_nothing() {
    let mut client = Session::client(config(), start());
    output(&mut client);
    assert!(client.open(posthaste_wire::Role::Sender, b"").is_err());
    assert!(client.call(1, 1, b"").is_err());
    assert!(client.notice(Code::Ok, b"").is_err());
    assert!(!client.wants_output());
}
