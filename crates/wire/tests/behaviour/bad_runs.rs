//! RUNs that a peer may not send end the connection, with a reason; what stood before counts.

use bytes::BytesMut;
use posthaste_wire::{Code, Config, Event, Frame, Header, Hop, Limits, Payloads, Role, Session};

use crate::support::{Pair, config, encode, ended, events, feed, start, transfers};

/// Payloads as they are in a RUN.
fn payloads(lengths: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &len in lengths {
        bytes.extend_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        bytes.resize(bytes.len() + len, b'p');
    }
    bytes
}

fn run<'a>(link: u16, head: &'a [u8], payloads: &'a [u8]) -> Frame<'a> {
    let payloads = Payloads::new(payloads).expect("payloads of a run");
    Frame::Run { link, attributes: 0, head, payloads }
}

/// A RUN that states a head of so many bytes and brings these bytes after the word.
fn raw(flags: u8, head_len: u32, rest: &[u8]) -> Vec<u8> {
    let body_len = u32::try_from(4 + rest.len()).unwrap();
    let header = Header { body_len, kind: 0x2a, flags, link: 1 };
    [&header.encode()[..], &head_len.to_le_bytes(), rest].concat()
}

/// How a session ends over what it hears: the messages that it told before, the code, the reason.
fn end(session: &mut Session, bytes: &[u8]) -> (Vec<(u64, usize)>, Code, String) {
    session.handle_input(&mut BytesMut::from(bytes), start());
    let told = events(session);
    let (code, reason, by_peer) = ended(&told);
    assert!(!by_peer);
    (transfers(&told), code, reason)
}

#[test]
fn a_run_that_is_not_in_order_ends_the_connection_and_none_of_its_messages_comes() {
    let two = payloads(&[3, 3]);
    let few = "a RUN brings fewer than two messages";
    let torn = "the payloads of a RUN do not fill it";
    let longer = "a RUN's head is longer than its body";
    let cases: Vec<(Vec<u8>, Code, &str)> = vec![
        (raw(0, 0, &[]), Code::Protocol, few),
        (raw(0, 4, b"head"), Code::Protocol, few),
        (raw(0, 0, &payloads(&[3])), Code::Protocol, few),
        (raw(0, 0, &two[..two.len() - 1]), Code::Protocol, torn),
        (raw(0, 0, &[&two[..], b"\x01"].concat()), Code::Protocol, torn),
        (raw(0, 0, &[&two[..], b"\x01\0\0\0"].concat()), Code::Protocol, torn),
        (raw(0, 0, &[&two[..], b"\xff\xff\xff\xff"].concat()), Code::Protocol, torn),
        (raw(0, 15, &two), Code::TooLarge, longer),
        (raw(0, 0xff_ffff, &two), Code::TooLarge, longer),
        (raw(0x01, 0, &two), Code::Protocol, "a frame bears a flag that its kind does not have"),
        (raw(0x80, 0, &two), Code::Protocol, "a frame bears a flag that its kind does not have"),
    ];
    for (bytes, code, reason) in cases {
        let mut pair = Pair::new();
        pair.sender();
        let expected = (Vec::new(), code, reason.to_owned());
        assert_eq!(end(&mut pair.server, &bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_body_that_is_shorter_than_the_word_is_cut_short() {
    let mut pair = Pair::new();
    pair.sender();
    let header = Header { body_len: 3, kind: 0x2a, flags: 0, link: 1 };
    let (_, code, reason) = end(&mut pair.server, &[&header.encode()[..], b"\0\0\0"].concat());
    assert_eq!(
        (code, &*reason),
        (Code::Protocol, "a frame's body is shorter than its kind requires")
    );
}

/// A pair whose limits are small enough to be broken.
fn narrow() -> Pair {
    let limits = Limits { head: 10, payload: 100, ..Limits::default() };
    let mut pair = Pair::with(config(), Config { limits, ..config() });
    pair.sender();
    pair
}

#[test]
fn a_head_over_its_limit_is_too_large() {
    let bytes = payloads(&[1, 1]);
    let mut pair = narrow();
    let now = pair.now;
    feed(&mut pair.server, now, &[run(1, &[b'h'; 10], &bytes)]);
    assert_eq!(transfers(&events(&mut pair.server)).len(), 2, "10 bytes are the limit");
    let (told, code, reason) = end(&mut pair.server, &encode(&[run(1, &[b'h'; 11], &bytes)]));
    assert_eq!((told, code, &*reason), (vec![], Code::TooLarge, "a head is over its limit"));
}

#[test]
fn a_payload_over_its_limit_is_too_large_and_nothing_of_its_run_has_come() {
    let mut pair = narrow();
    let bytes = payloads(&[100, 100, 101, 1]);
    let (told, code, reason) = end(&mut pair.server, &encode(&[run(1, b"", &bytes)]));
    assert_eq!(told, []);
    assert_eq!((code, &*reason), (Code::TooLarge, "a payload is over its limit"));
}

/// A pair with a sending link on which so much was granted.
fn granted(messages: u64, bytes: u64) -> Pair {
    let mut pair = Pair::new();
    let (_, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, messages, bytes);
    pair.pump();
    pair
}

const OVERDRAWN: &str = "a message comes without credit for it";

#[test]
fn credit_that_ends_in_the_middle_of_a_run_ends_the_connection_there() {
    let bytes = payloads(&[1, 1, 1, 1]);
    let mut pair = granted(3, 1_000);
    let (told, code, reason) = end(&mut pair.server, &encode(&[run(1, b"head", &bytes)]));
    assert_eq!(told, [(1, 1), (2, 1), (3, 1)]);
    assert_eq!((code, &*reason), (Code::Protocol, OVERDRAWN));
    // The peer is told so.
    pair.flush_server();
    assert_eq!(ended(&events(&mut pair.client)), (Code::Protocol, OVERDRAWN.to_owned(), true));
}

#[test]
fn the_bytes_of_a_run_may_be_overdrawn_by_one_message_and_each_costs_its_head() {
    // Two messages of 4 + 8 bytes leave one byte of 25: the third may go, the fourth may not.
    let bytes = payloads(&[8, 8, 8, 0]);
    let (told, code, reason) =
        end(&mut granted(10, 25).server, &encode(&[run(1, b"head", &bytes)]));
    assert_eq!((told, code, &*reason), (vec![(1, 8), (2, 8), (3, 8)], Code::Protocol, OVERDRAWN));
    // Without that byte it ends one earlier.
    let (told, ..) = end(&mut granted(10, 24).server, &encode(&[run(1, b"head", &bytes)]));
    assert_eq!(told, [(1, 8), (2, 8)]);
}

#[test]
fn empty_messages_of_a_run_cost_credit_like_any_other() {
    let mut pair = granted(10, 1);
    let (told, code, _) = end(&mut pair.server, &encode(&[run(1, b"", &payloads(&[0; 10_000]))]));
    assert_eq!((told.len(), code), (10, Code::Protocol));
}

#[test]
fn without_credit_nothing_of_a_run_is_offered() {
    let mut pair = granted(2, 1_000);
    let bytes = encode(&[run(1, b"", &payloads(&[1, 2, 3]))]);
    let mut offered = Vec::new();
    pair.server.handle_input_into(&mut BytesMut::from(&bytes[..]), pair.now, |_, seq, transfer| {
        offered.push((seq, transfer.payload.len()));
        None
    });
    assert_eq!(offered, [(1, 1), (2, 2)]);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol);
}

#[test]
fn a_run_against_the_direction_of_its_link_ends_the_connection() {
    let bytes = payloads(&[1, 1]);
    let frame = encode(&[run(1, b"", &bytes)]);
    let wrong = "a frame does not suit the role of its link";
    let mut pair = Pair::new();
    pair.receiver();
    let (told, code, reason) = end(&mut pair.server, &frame);
    assert_eq!((told, code, &*reason), (vec![], Code::Protocol, wrong));
    let mut pair = Pair::new();
    pair.sender();
    let (told, code, reason) = end(&mut pair.client, &frame);
    assert_eq!((told, code, &*reason), (vec![], Code::Protocol, wrong));
}

#[test]
fn a_run_on_a_link_that_there_is_not_ends_the_connection() {
    let bytes = payloads(&[1, 1]);
    let mut pair = Pair::new();
    pair.sender();
    let (_, code, reason) = end(&mut pair.server, &encode(&[run(2, b"", &bytes)]));
    assert_eq!((code, &*reason), (Code::Protocol, "a frame is about a link that is not open"));
}

#[test]
fn a_run_while_a_fragmented_message_of_its_link_is_under_way_ends_the_connection() {
    let bytes = payloads(&[1, 1]);
    let mut pair = Pair::new();
    let (other, _) = (pair.sender(), pair.sender());
    let first =
        Frame::Transfer { link: 1, hop: Hop::default(), total: Some(9), head: b"", payload: b"x" };
    let now = pair.now;
    feed(&mut pair.server, now, &[first, run(2, b"", &bytes)]);
    assert_eq!(transfers(&events(&mut pair.server)).len(), 2, "another link's may come");
    assert_eq!(other.0.id(), 1);
    let (told, code, reason) = end(&mut pair.server, &encode(&[run(1, b"", &bytes)]));
    let rule = "a message comes before the fragmented one of its link is whole";
    assert_eq!((told, code, &*reason), (vec![], Code::Protocol, rule));
}

#[test]
fn a_run_after_stopped_ends_the_connection() {
    let bytes = payloads(&[1, 1]);
    let mut pair = Pair::new();
    pair.receiver();
    let now = pair.now;
    feed(&mut pair.client, now, &[run(1, b"", &bytes), Frame::Stopped { link: 1 }]);
    assert_eq!(transfers(&events(&mut pair.client)).len(), 2);
    let (told, code, reason) = end(&mut pair.client, &encode(&[run(1, b"", &bytes)]));
    assert_eq!((told, code, &*reason), (vec![], Code::Protocol, "a message comes after STOPPED"));
}

#[test]
fn a_run_before_the_handshake_is_complete_ends_the_connection() {
    let now = start();
    let bytes = [&b"\x89PHW\r\n\x01\0"[..], &encode(&[run(1, b"", &payloads(&[1, 1]))])].concat();
    for mut session in [Session::client(config(), now), Session::server(config(), now)] {
        let (told, code, reason) = end(&mut session, &bytes);
        let rule = "the first frame is not HELLO or WELCOME";
        assert_eq!((told, code, &*reason), (vec![], Code::Protocol, rule));
    }
}

#[test]
fn a_run_that_crossed_the_end_of_its_link_is_discarded() {
    let bytes = payloads(&[1, 1]);
    let mut pair = Pair::new();
    let (_, at_server) = pair.sender();
    pair.server.closed(at_server, Code::Full, "");
    let now = pair.now;
    feed(&mut pair.server, now, &[run(1, b"", &bytes)]);
    assert_eq!(events(&mut pair.server), []);
    pair.pump();
    events(&mut pair.client);
    let (link, _) = pair.receiver();
    pair.client.close(link);
    feed(&mut pair.client, now, &[run(link.id(), b"", &bytes)]);
    assert!(!events(&mut pair.client).iter().any(|event| matches!(event, Event::Transfer { .. })));
    assert!(pair.client.is_established() && pair.server.is_established());
}
