//! Large messages: they are cut, they interleave, and their memory is budgeted.

use bytes::{Bytes, BytesMut};
use posthaste_wire::{Code, Config, Event, Frame, Hop, Limits, Output, Session, TransferError};

use crate::support::{Pair, config, ended, events, feed, frames, send, transfers};

const LARGE: usize = 1 << 20;

fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251) as u8).collect::<Vec<u8>>().into()
}

/// Which links the frames of the next output are about, in order.
fn next_links(session: &mut Session) -> Vec<u16> {
    let mut output = Output::new();
    session.swap_output(&mut output);
    let bytes = output.to_vec();
    let link = |frame: &Frame<'_>| match *frame {
        Frame::Transfer { link, .. } | Frame::Fragment { link, .. } => link,
        ref other => panic!("{other:?}"),
    };
    frames(&bytes).iter().map(link).collect()
}

#[test]
fn a_large_message_arrives_as_it_was_and_is_one_message() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let payload = pattern(16 << 20);
    let hop = Hop { attributes: 3, ..Hop::default() };
    assert_eq!(pair.client.transfer(link, &hop, b"large", &payload), Ok(1));
    assert_eq!(pair.client.transfer(link, &hop, b"", &payload), Err(TransferError::Busy));
    assert!(!pair.client.room(link));
    pair.pump();
    assert_eq!(events(&mut pair.client), [Event::Writable { link }]);
    let told = events(&mut pair.server);
    let [Event::Transfer { seq: 1, transfer, .. }] = &told[..] else { panic!("one message") };
    assert_eq!((transfer.hop, &transfer.head[..]), (hop, &b"large"[..]));
    assert!(transfer.payload == payload);
    assert_eq!(send(&mut pair.client, link, b"next"), 2);
}

#[test]
fn what_just_fits_into_a_frame_is_not_cut() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let most = (256 << 10) - 64;
    pair.client.transfer(link, &Hop::default(), b"", &pattern(most)).unwrap();
    assert_eq!(next_links(&mut pair.client).len(), 1);
    pair.client.transfer(link, &Hop::default(), b"", &pattern(most + 1)).unwrap();
    assert!(next_links(&mut pair.client).len() > 1);
}

#[test]
fn small_messages_of_other_links_go_between_the_fragments() {
    let mut pair = Pair::new();
    let (large, _) = pair.sender();
    let (small, _) = pair.sender();
    pair.client.transfer(large, &Hop::default(), b"", &pattern(LARGE)).unwrap();
    next_links(&mut pair.client);
    send(&mut pair.client, small, b"small");
    let links = next_links(&mut pair.client);
    assert_eq!(links[0], small.id(), "it is first in the next output");
    assert!(links[1..].iter().all(|&id| id == large.id()));
    assert!(pair.client.wants_output(), "and the large one is still not out");
}

#[test]
fn large_messages_of_several_links_take_turns() {
    let mut pair = Pair::new();
    let links = [pair.sender().0, pair.sender().0, pair.sender().0];
    for link in links {
        pair.client.transfer(link, &Hop::default(), b"", &pattern(LARGE)).unwrap();
    }
    let [a, b, c] = links.map(posthaste_wire::Link::id);
    assert_eq!(next_links(&mut pair.client), [a, b, c, a, b]);
    assert_eq!(next_links(&mut pair.client)[..3], [c, a, b]);
}

#[test]
fn a_message_waits_until_the_peer_has_memory_for_it() {
    let limits = Limits { reassembly: 3 << 20, payload: 2 << 20, ..Limits::default() };
    let mut pair = Pair::with(config(), Config { limits, ..config() });
    let links = [pair.sender().0, pair.sender().0, pair.sender().0];
    for link in links {
        pair.client.transfer(link, &Hop::default(), b"", &pattern(2 << 20)).unwrap();
    }
    pair.pump();
    let arrived = events(&mut pair.server);
    assert_eq!(transfers(&arrived), [(1, 2 << 20); 3], "all come, one after the other");
    assert_eq!(events(&mut pair.client), links.map(|link| Event::Writable { link }));
}

fn first(link: u16, total: u32) -> Frame<'static> {
    Frame::Transfer { link, hop: Hop::default(), total: Some(total), head: b"", payload: b"x" }
}

#[test]
fn a_peer_that_exceeds_the_reassembly_budget_is_cut_off() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        pair.sender();
    }
    let (now, half) = (pair.now, 16 << 20);
    feed(&mut pair.server, now, &[first(1, half), first(2, half)]);
    assert!(pair.server.is_established(), "32 MiB are the budget");
    feed(&mut pair.server, now, &[first(3, 2)]);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::Limit);
}

#[test]
fn a_message_that_is_whole_gives_its_budget_back() {
    let limits = Limits { reassembly: 300 << 10, ..Limits::default() };
    let mut pair = Pair::with(config(), Config { limits, ..config() });
    pair.sender();
    let (now, piece) = (pair.now, [0; 65_536]);
    let fragment = |more| Frame::Fragment { link: 1, more, piece: &piece[..65_535] };
    for _ in 0..20 {
        feed(&mut pair.server, now, &[first(1, 65_536), fragment(false)]);
    }
    assert_eq!(transfers(&events(&mut pair.server)).len(), 20);
}

#[test]
fn closing_a_link_gives_the_budget_of_its_unfinished_message_back() {
    let limits = Limits { reassembly: 256 << 10, head: 0, ..Limits::default() };
    let mut pair = Pair::with(config(), Config { limits, ..config() });
    for _ in 0..5 {
        let (_, at_server) = pair.sender();
        let now = pair.now;
        feed(&mut pair.server, now, &[first(1, 200 << 10)]);
        pair.server.closed(at_server, Code::Full, "");
        pair.pump();
        assert!(matches!(events(&mut pair.client)[..], [Event::Closed { .. }]));
    }
    assert!(pair.server.is_established());
}

#[test]
fn fragments_that_do_not_add_up_are_cut_off() {
    let fragment = |more, piece| Frame::Fragment { link: 1, more, piece };
    let bad: [&[Frame<'_>]; 5] = [
        &[fragment(false, b"out of nowhere")],
        &[first(1, 3), fragment(false, b"a")],
        &[first(1, 3), fragment(false, b"abc")],
        &[first(1, 3), fragment(true, b"ab")],
        &[first(1, 3), first(1, 3)],
    ];
    for frames in bad {
        let mut pair = Pair::new();
        pair.sender();
        let now = pair.now;
        feed(&mut pair.server, now, frames);
        assert_eq!(ended(&events(&mut pair.server)).0, Code::Protocol, "{frames:?}");
    }
}

#[test]
fn a_claimed_length_allocates_nothing_much() {
    let mut pair = Pair::new();
    pair.sender();
    let now = pair.now;
    feed(&mut pair.server, now, &[first(1, 16 << 20)]);
    feed(&mut pair.server, now, &[Frame::Fragment { link: 1, more: true, piece: b"y" }]);
    assert!(pair.server.is_established());
    feed(&mut pair.server, now, &[first(1, u32::MAX)]);
    assert!(pair.server.is_ended());

    let mut pair = Pair::new();
    pair.sender();
    feed(&mut pair.server, now, &[first(1, u32::MAX)]);
    assert_eq!(ended(&events(&mut pair.server)).0, Code::TooLarge);
}

#[test]
fn closing_a_sender_waits_for_the_message_under_way() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    pair.client.transfer(link, &Hop::default(), b"", &pattern(LARGE)).unwrap();
    pair.client.close(link);
    assert_eq!(
        pair.client.transfer(link, &Hop::default(), b"", &Bytes::new()),
        Err(TransferError::Closed)
    );
    pair.pump();
    let told = events(&mut pair.server);
    assert_eq!(transfers(&told), [(1, LARGE)]);
    assert_eq!(told.last(), Some(&Event::Close { link: at_server }));
}

#[test]
fn stopping_a_receiver_waits_for_the_message_under_way() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    pair.server.transfer(at_server, &Hop::default(), b"", &pattern(LARGE)).unwrap();
    pair.server.stopped(at_server);
    pair.pump();
    let told = events(&mut pair.client);
    assert_eq!(transfers(&told), [(1, LARGE)]);
    assert_eq!(told.last(), Some(&Event::Stopped { link }));
}

#[test]
fn a_large_message_on_its_way_to_a_link_that_is_closed_is_discarded() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    pair.server.transfer(at_server, &Hop::default(), b"", &pattern(LARGE)).unwrap();
    pair.flush_server();
    pair.client.close(link);
    pair.flush_server();
    pair.flush_client();
    assert_eq!(events(&mut pair.server), [Event::Close { link: at_server }]);
    pair.server.closed(at_server, Code::Ok, "");
    pair.pump();
    let closed = Event::Closed { link, code: Code::Ok, reason: String::new() };
    assert_eq!(events(&mut pair.client), [closed]);
    assert!(pair.client.is_established() && pair.server.is_established());
}

#[test]
fn fragments_arrive_in_any_division_of_the_bytes() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let payload = pattern(300_000);
    pair.client.transfer(link, &Hop::default(), b"head", &payload).unwrap();
    let mut input = BytesMut::new();
    let mut output = Output::new();
    while pair.client.wants_output() {
        pair.client.swap_output(&mut output);
        for piece in output.to_vec().chunks(977) {
            input.extend_from_slice(piece);
            pair.server.handle_input(&mut input, pair.now);
        }
        output.advance(output.len());
    }
    let told = events(&mut pair.server);
    let [Event::Transfer { transfer, .. }] = &told[..] else { panic!("one message") };
    assert!(transfer.payload == payload);
}
