//! What is cumulative becomes one frame, and keeps its place among the others.

use posthaste_wire::{Code, Event, Frame, Link, Outcome, Role};

use crate::support::{Pair, events, frames, output, send};

/// A pair with a receiving link on which this many messages have come.
fn delivered(count: usize) -> (Pair, Link, Link) {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    for _ in 0..count {
        send(&mut pair.server, at_server, b"x");
    }
    pair.pump();
    assert_eq!(events(&mut pair.client).len(), count);
    (pair, link, at_server)
}

/// A pair with a sending link on which this many messages have come.
fn published(count: usize) -> (Pair, Link, Link) {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    for _ in 0..count {
        send(&mut pair.client, link, b"x");
    }
    pair.pump();
    assert_eq!(events(&mut pair.server).len(), count);
    (pair, link, at_server)
}

fn ack(first: u64, last: u64) -> Frame<'static> {
    Frame::Settle { link: 1, outcome: Outcome::Ack, first, last, after: None, why: "" }
}

#[test]
fn a_thousand_confirms_are_one_frame_with_the_sum_of_their_matches() {
    let (mut pair, link, at_server) = published(1_000);
    for upto in 1..=1_000 {
        pair.server.confirm(at_server, upto, 2, 1, 1);
    }
    let said = output(&mut pair.server);
    let confirm = Frame::Confirm { link: 1, upto: 1_000, matched: 2_000, level: 1, nodes: 1 };
    assert_eq!(frames(&said), [confirm]);
    pair.client.handle_input(&mut bytes::BytesMut::from(&said[..]), pair.now);
    let told = Event::Confirm { link, upto: 1_000, matched: 2_000, level: 1, nodes: 1 };
    assert_eq!(events(&mut pair.client), [told]);
}

#[test]
fn confirms_of_different_levels_or_nodes_stay_apart() {
    let (mut pair, _, at_server) = published(4);
    pair.server.confirm(at_server, 1, 1, 1, 1);
    pair.server.confirm(at_server, 2, 1, 3, 1);
    pair.server.confirm(at_server, 3, 1, 3, 2);
    pair.server.confirm(at_server, 4, 1, 3, 2);
    let confirm =
        |upto, matched, level, nodes| Frame::Confirm { link: 1, upto, matched, level, nodes };
    let said = output(&mut pair.server);
    assert_eq!(frames(&said), [confirm(1, 1, 1, 1), confirm(2, 1, 3, 1), confirm(4, 2, 3, 2)]);
}

#[test]
fn a_return_comes_before_the_confirm_that_covers_it() {
    let (mut pair, _, at_server) = published(3);
    pair.server.confirm(at_server, 1, 1, 1, 1);
    pair.server.return_(at_server, 2, Code::Full, 0, "full");
    pair.server.confirm(at_server, 3, 1, 1, 1);
    let said = output(&mut pair.server);
    assert!(matches!(
        frames(&said)[..],
        [Frame::Return { seq: 2, .. }, Frame::Confirm { upto: 3, matched: 2, .. }]
    ));
}

#[test]
fn a_confirm_of_what_was_not_received_or_was_confirmed_is_not_sent() {
    let (mut pair, _, at_server) = published(2);
    pair.server.confirm(at_server, 3, 1, 1, 1);
    assert!(!pair.server.wants_output());
    pair.server.confirm(at_server, 2, 1, 1, 1);
    output(&mut pair.server);
    pair.server.confirm(at_server, 2, 1, 1, 1);
    pair.server.return_(at_server, 2, Code::Full, 0, "");
    assert!(!pair.server.wants_output());
}

#[test]
fn grants_are_one_frame_with_the_cumulative_sum() {
    let mut pair = Pair::new();
    let (_, at_server) = pair.open(Role::Sender);
    for _ in 0..100 {
        pair.server.grant(at_server, 1, 10);
    }
    let said = output(&mut pair.server);
    assert_eq!(frames(&said), [Frame::Credit { link: 1, messages: 100, bytes: 1_000 }]);
    pair.server.grant(at_server, 1, 10);
    let said = output(&mut pair.server);
    assert_eq!(frames(&said), [Frame::Credit { link: 1, messages: 101, bytes: 1_010 }]);
}

#[test]
fn acks_in_a_row_are_one_frame() {
    let (mut pair, link, _) = delivered(1_000);
    for seq in 1..=1_000 {
        pair.client.settle(link, seq, seq, Outcome::Ack, None, "");
    }
    assert_eq!(frames(&output(&mut pair.client)), [ack(1, 1_000)]);
}

#[test]
fn acks_stay_apart_if_anything_is_between_them() {
    let (mut pair, link, _) = delivered(9);
    pair.client.settle(link, 1, 2, Outcome::Ack, None, "");
    pair.client.settle(link, 4, 4, Outcome::Ack, None, ""); // a gap
    pair.client.settle(link, 5, 5, Outcome::Reject, None, ""); // another outcome
    pair.client.settle(link, 6, 6, Outcome::Reject, None, "broken"); // a reason
    pair.client.settle(link, 7, 7, Outcome::Reject, None, ""); // after one with a reason
    pair.client.sync(link, 1); // another frame
    pair.client.settle(link, 8, 8, Outcome::Reject, None, "");
    assert_eq!(frames(&output(&mut pair.client)).len(), 7);
    pair.client.settle(link, 9, 9, Outcome::Reject, None, ""); // another output
    assert_eq!(frames(&output(&mut pair.client)).len(), 1);
}

#[test]
fn settlements_come_before_a_later_sync_and_a_later_close() {
    let (mut pair, link, _) = delivered(2);
    pair.client.settle(link, 1, 1, Outcome::Ack, None, "");
    pair.client.sync(link, 5);
    pair.client.settle(link, 2, 2, Outcome::Ack, None, "");
    pair.client.close(link);
    let said = output(&mut pair.client);
    assert_eq!(
        frames(&said),
        [ack(1, 1), Frame::Sync { link: 1, token: 5 }, ack(2, 2), Frame::Close { link: 1 }]
    );
}
