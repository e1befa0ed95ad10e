//! Heartbeats, and the ways a session ends.

use std::time::Duration;

use bytes::BytesMut;
use posthaste_wire::{Code, Config, Event, Frame, Role, Session};

use crate::support::{Pair, config, encode, ended, events, feed, frames, output, send, start};

const BEAT: Duration = Duration::from_secs(1);

fn pair() -> Pair {
    Pair::with(Config { heartbeat: BEAT, ..config() }, config())
}

#[test]
fn a_silent_peer_is_asked_after_one_interval_and_dead_after_two() {
    for client in [true, false] {
        let mut pair = pair();
        let now = pair.now;
        let side = if client { &mut pair.client } else { &mut pair.server };
        assert_eq!(side.poll_timeout(), Some(now + BEAT));
        side.handle_timeout(now + BEAT - Duration::from_nanos(1));
        assert!(!side.wants_output(), "too early");
        side.handle_timeout(now + BEAT);
        assert!(matches!(frames(&output(side))[..], [Frame::Ping { .. }]));
        assert_eq!(side.poll_timeout(), Some(now + 2 * BEAT));
        side.handle_timeout(now + 2 * BEAT);
        let (code, reason, by_peer) = ended(&events(side));
        assert_eq!((code, by_peer), (Code::Heartbeat, false));
        assert_eq!(reason, "nothing was received for 2 s");
        assert_eq!(side.poll_timeout(), None);
    }
}

#[test]
fn a_peer_that_answers_lives() {
    let mut pair = pair();
    let now = pair.now;
    pair.client.handle_timeout(now + BEAT);
    pair.now = now + BEAT + BEAT / 2;
    pair.pump();
    assert_eq!(pair.client.poll_timeout(), Some(pair.now + BEAT));
    assert_eq!(events(&mut pair.client), []);
}

#[test]
fn anything_that_is_received_counts_even_part_of_a_frame() {
    let mut pair = pair();
    let now = pair.now;
    let bytes = encode(&[Frame::Ping { token: 1 }]);
    let mut input = BytesMut::from(&bytes[..3]);
    pair.server.handle_input(&mut input, now + BEAT / 2);
    assert_eq!(pair.server.poll_timeout(), Some(now + BEAT / 2 + BEAT));
    // Without new bytes a call is no sign of life.
    pair.server.handle_input(&mut input, now + BEAT);
    assert_eq!(pair.server.poll_timeout(), Some(now + BEAT / 2 + BEAT));
}

#[test]
fn bytes_that_the_driver_keeps_back_count_when_it_says_so() {
    let mut pair = pair();
    let now = pair.now;
    pair.server.handle_timeout(now + BEAT);
    output(&mut pair.server);
    pair.server.handle_progress(now + BEAT + BEAT / 2);
    let due = now + BEAT + BEAT / 2 + BEAT;
    assert_eq!(pair.server.poll_timeout(), Some(due));
    pair.server.handle_timeout(due);
    assert!(pair.server.is_established(), "the PING before is answered by that");
    assert!(matches!(frames(&output(&mut pair.server))[..], [Frame::Ping { .. }]));
}

#[test]
fn what_is_sent_does_not_count() {
    let mut pair = pair();
    let (link, _) = pair.sender();
    send(&mut pair.client, link, b"x");
    output(&mut pair.client);
    assert_eq!(pair.client.poll_timeout(), Some(pair.now + BEAT));
}

#[test]
fn a_side_that_was_itself_suspended_gives_its_peer_one_more_chance() {
    let mut pair = pair();
    let late = pair.now + 10 * BEAT;
    pair.server.handle_timeout(late);
    assert!(pair.server.is_established());
    assert_eq!(pair.server.poll_timeout(), Some(late + BEAT));
}

#[test]
fn a_ping_is_answered_with_its_token() {
    let mut pair = pair();
    let now = pair.now;
    feed(&mut pair.server, now, &[Frame::Ping { token: 42 }]);
    assert_eq!(frames(&output(&mut pair.server)), [Frame::Pong { token: 42 }]);
}

#[test]
fn a_goodbye_is_the_last_thing_that_is_said_and_nothing_is_heard_after_it() {
    let mut pair = pair();
    let (link, at_server) = pair.sender();
    send(&mut pair.client, link, b"x");
    pair.flush_client();
    pair.server.confirm(at_server, 1, 1, 1, 1);
    pair.server.goodbye(Code::GoingAway, "restarting");
    pair.server.closed(at_server, Code::Ok, "");
    let said = output(&mut pair.server);
    assert_eq!(
        frames(&said),
        [
            Frame::Confirm { link: 1, upto: 1, matched: 1, level: 1, nodes: 1 },
            Frame::Goodbye { code: Code::GoingAway, reason: "restarting" },
        ],
        "confirms that wait are told before"
    );
    let now = pair.now;
    events(&mut pair.server);
    feed(&mut pair.server, now, &[Frame::Ping { token: 1 }]);
    assert!(events(&mut pair.server).is_empty() && !pair.server.wants_output());

    pair.client.handle_input(&mut BytesMut::from(&said[..]), now);
    let told = events(&mut pair.client);
    assert_eq!(ended(&told), (Code::GoingAway, "restarting".to_owned(), true));
    assert!(pair.client.is_ended() && !pair.client.wants_output(), "it is not answered");
    assert!(pair.client.open(Role::Sender, b"").is_err());
}

#[test]
fn a_connection_that_ends_without_a_goodbye_is_lost() {
    let mut pair = pair();
    pair.client.handle_eof();
    let (code, _, by_peer) = ended(&events(&mut pair.client));
    assert_eq!((code, by_peer), (Code::ConnectionLost, true));
    pair.client.handle_eof();
    assert_eq!(events(&mut pair.client), [], "the end is told once");
}

#[test]
fn an_end_after_a_goodbye_is_not_told_again() {
    let mut pair = pair();
    pair.client.goodbye(Code::Ok, "");
    pair.flush_client();
    pair.server.handle_eof();
    assert_eq!(
        events(&mut pair.server),
        [Event::Ended { code: Code::Ok, reason: String::new(), by_peer: true }]
    );
}

#[test]
fn an_end_before_the_handshake_says_so() {
    let mut client = Session::client(config(), start());
    client.handle_eof();
    let (_, reason, _) = ended(&events(&mut client));
    assert_eq!(reason, "the connection ended before the handshake was complete");
}

#[test]
fn a_reason_is_cut_to_one_kib_at_a_character() {
    let mut pair = pair();
    pair.client.goodbye(Code::Internal, &"é".repeat(1_000));
    pair.flush_client();
    let (_, reason, _) = ended(&events(&mut pair.server));
    assert_eq!(reason, "é".repeat(512));
}
