//! Messages that differ in their payloads alone go out as one frame and come out as themselves.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use posthaste_wire::{Config, Event, Frame, Hop, Limits, Link, Outcome, Role, Session};
use posthaste_wire::{Transfer, TransferError};

use crate::support::{Pair, config, events, frames, output, send, transfers};

/// Payloads from here on are referred to rather than copied.
const LARGE: usize = 8 << 10;

/// What a session says next, frame by frame: link, head and payloads' lengths of the messages in it,
/// or no link if it is a frame of another kind.
fn said(session: &mut Session) -> Vec<(u16, Vec<u8>, Vec<usize>)> {
    let bytes = output(session);
    let shape = |frame: &Frame<'_>| match *frame {
        Frame::Transfer { link, head, payload, .. } => (link, head.to_vec(), vec![payload.len()]),
        Frame::Run { link, head, payloads, .. } => {
            (link, head.to_vec(), payloads.map(<[u8]>::len).collect())
        }
        _ => (0, Vec::new(), Vec::new()),
    };
    frames(&bytes).iter().map(shape).collect()
}

/// How many messages are in each frame that a session says next; 0 in those of another kind.
fn counts(session: &mut Session) -> Vec<usize> {
    said(session).into_iter().map(|(_, _, lengths)| lengths.len()).collect()
}

fn send_with(session: &mut Session, link: Link, hop: &Hop, head: &[u8], len: usize) {
    session.transfer(link, hop, head, &Bytes::from(vec![7; len])).expect("room");
}

fn attributes(attributes: u8) -> Hop {
    Hop { attributes, ..Hop::default() }
}

#[test]
fn messages_of_one_link_that_differ_in_their_payloads_alone_are_one_run() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    for payload in [&b"one"[..], b"", b"three"] {
        pair.client
            .transfer(link, &attributes(5), b"head", &Bytes::copy_from_slice(payload))
            .unwrap();
    }
    let bytes = output(&mut pair.client);
    let [Frame::Run { link: 1, attributes: 5, head: b"head", payloads }] = frames(&bytes)[..]
    else {
        panic!("one frame: {:?}", frames(&bytes))
    };
    assert_eq!(payloads.collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    pair.server.handle_input(&mut BytesMut::from(&bytes[..]), pair.now);
    let told = |seq, payload: &'static [u8]| Event::Transfer {
        link: at_server,
        seq,
        transfer: Transfer {
            hop: attributes(5),
            head: Bytes::from_static(b"head"),
            payload: Bytes::from_static(payload),
            count: 1,
        },
    };
    assert_eq!(events(&mut pair.server), [told(1, b"one"), told(2, b""), told(3, b"three")]);
}

#[test]
fn a_server_sends_runs_as_a_client_does() {
    let mut pair = Pair::new();
    let (_, at_server) = pair.receiver();
    for _ in 0..100 {
        send(&mut pair.server, at_server, b"payload");
    }
    assert_eq!(counts(&mut pair.server), [100]);
}

#[test]
fn one_message_alone_is_a_transfer_and_nothing_waits_for_a_second() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    send(&mut pair.client, link, b"alone");
    let bytes = output(&mut pair.client);
    assert!(matches!(frames(&bytes)[..], [Frame::Transfer { payload: b"alone", .. }]));
}

#[test]
fn messages_without_a_head_and_a_payload_are_a_run_too() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    for _ in 0..3 {
        send_with(&mut pair.client, link, &Hop::default(), b"", 0);
    }
    let bytes = output(&mut pair.client);
    assert_eq!(bytes.len(), 8 + 4 + 3 * 4);
    pair.server.handle_input(&mut BytesMut::from(&bytes[..]), pair.now);
    assert_eq!(transfers(&events(&mut pair.server)), [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn another_head_or_other_attributes_begin_anew() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let sent: [(u8, &[u8]); 9] = [
        (0, b"head"),
        (0, b"head"),
        (0, b"heaD"),  // as long
        (0, b"heaDs"), // longer
        (0, b"hea"),   // shorter
        (0, b""),
        (1, b""), // other attributes
        (1, b""),
        (0, b"head"), // as the first, but not after them
    ];
    for (bits, head) in sent {
        send_with(&mut pair.client, link, &attributes(bits), head, 3);
    }
    assert_eq!(counts(&mut pair.client), [2, 1, 1, 1, 1, 2, 1]);
}

#[test]
fn another_link_begins_anew() {
    let mut pair = Pair::new();
    let (one, _) = pair.sender();
    let (other, _) = pair.sender();
    for link in [one, one, other, one, other, other] {
        send(&mut pair.client, link, b"x");
    }
    let links: Vec<_> =
        said(&mut pair.client).into_iter().map(|(link, _, all)| (link, all.len())).collect();
    assert_eq!(links, [(1, 2), (2, 1), (1, 1), (2, 2)]);
}

#[test]
fn a_link_that_was_opened_again_begins_anew() {
    let mut pair = Pair::new();
    let (old, at_server) = pair.sender();
    send(&mut pair.client, old, b"x");
    pair.pump();
    pair.client.close(old);
    pair.pump();
    pair.server.closed(at_server, posthaste_wire::Code::Ok, "");
    pair.pump();
    events(&mut pair.client);
    events(&mut pair.server);
    let (new, _) = pair.sender();
    assert_eq!(new.id(), old.id());
    for _ in 0..2 {
        assert_eq!(
            pair.client.transfer(old, &Hop::default(), b"head", &Bytes::new()),
            Err(TransferError::Closed)
        );
        send(&mut pair.client, new, b"x");
    }
    pair.pump();
    assert_eq!(transfers(&events(&mut pair.server)), [(1, 1), (2, 1)], "numbers begin at 1");
}

#[test]
fn a_message_with_an_option_stands_alone_and_nothing_joins_it() {
    let plain = Hop::default();
    for special in [
        Hop { correlation: NonZeroU64::new(1), ..plain },
        Hop { deadline: Some(Duration::ZERO), ..plain },
        Hop { attempt: 2, ..plain },
        Hop { missed: 1, ..plain },
    ] {
        let mut pair = Pair::new();
        let (link, _) = pair.sender();
        for hop in [plain, plain, special, special, plain, plain] {
            send_with(&mut pair.client, link, &hop, b"head", 3);
        }
        let bytes = output(&mut pair.client);
        let hops: Vec<Hop> = frames(&bytes)
            .iter()
            .filter_map(|frame| match frame {
                Frame::Transfer { hop, .. } => Some(*hop),
                _ => None,
            })
            .collect();
        assert_eq!(hops, [special; 2]);
        assert_eq!(frames(&bytes).len(), 4);
    }
}

#[test]
fn a_payload_that_is_referred_to_stands_alone_and_nothing_joins_it() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    for len in [1, LARGE - 1, LARGE, LARGE, 1, 2, LARGE, 1] {
        send_with(&mut pair.client, link, &Hop::default(), b"head", len);
    }
    let lengths: Vec<_> = said(&mut pair.client).into_iter().map(|(.., lengths)| lengths).collect();
    let run = |lengths: &[usize]| lengths.to_vec();
    assert_eq!(
        lengths,
        [
            run(&[1, LARGE - 1]),
            run(&[LARGE]),
            run(&[LARGE]),
            run(&[1, 2]),
            run(&[LARGE]),
            run(&[1])
        ]
    );
}

#[test]
fn any_other_frame_in_between_begins_anew() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let (incoming, at_server) = pair.receiver();
    for _ in 0..3 {
        send(&mut pair.server, at_server, b"x");
    }
    pair.pump();
    events(&mut pair.client);
    let between: [fn(&mut Session, Link); 5] = [
        |session, link| session.settle(link, 1, 1, Outcome::Ack, None, ""),
        |session, link| session.settle(link, 2, 2, Outcome::Ack, None, ""),
        |session, link| session.sync(link, 1),
        |session, _| session.call(1, 1, b"").unwrap(),
        |session, _| session.goodbye(posthaste_wire::Code::Ok, ""),
    ];
    for other in between {
        send(&mut pair.client, link, b"x");
        send(&mut pair.client, link, b"y");
        other(&mut pair.client, incoming);
    }
    assert_eq!(counts(&mut pair.client), [2, 0, 2, 0, 2, 0, 2, 0, 2, 0]);
}

#[test]
fn a_settlement_that_grows_where_it_is_does_not_disturb_what_follows() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let (incoming, at_server) = pair.receiver();
    for _ in 0..2 {
        send(&mut pair.server, at_server, b"x");
    }
    pair.pump();
    events(&mut pair.client);
    send(&mut pair.client, link, b"a");
    send(&mut pair.client, link, b"b");
    pair.client.settle(incoming, 1, 1, Outcome::Ack, None, "");
    pair.client.settle(incoming, 2, 2, Outcome::Ack, None, "");
    send(&mut pair.client, link, b"c");
    let bytes = output(&mut pair.client);
    assert!(matches!(
        frames(&bytes)[..],
        [Frame::Run { .. }, Frame::Settle { first: 1, last: 2, .. }, Frame::Transfer { .. }]
    ));
}

#[test]
fn a_swap_begins_anew() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    for _ in 0..3 {
        send(&mut pair.client, link, b"x");
        send(&mut pair.client, link, b"y");
        assert_eq!(counts(&mut pair.client), [2]);
    }
    send(&mut pair.client, link, b"alone");
    assert_eq!(counts(&mut pair.client), [1]);
}

#[test]
fn nothing_joins_another_frame_that_is_where_a_message_was_before_the_swap() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    send(&mut pair.client, link, b"xyz");
    let before = output(&mut pair.client);
    // A call whose bytes are those of the message from its word on.
    pair.client.call(4, u16::from_le_bytes(*b"he"), b"adxyz").unwrap();
    send(&mut pair.client, link, b"xyz");
    let bytes = output(&mut pair.client);
    assert_eq!(bytes[8..before.len()], before[8..]);
    let [Frame::Call { id: 4, .. }, Frame::Transfer { .. }] = frames(&bytes)[..] else {
        panic!("{:?}", frames(&bytes))
    };
}

/// The payloads of what came on a link.
fn payloads(told: &[Event], id: u16) -> Vec<&Bytes> {
    let mut payloads = Vec::new();
    for event in told {
        if let Event::Transfer { link, transfer, .. } = event
            && link.id() == id
        {
            payloads.push(&transfer.payload);
        }
    }
    payloads
}

#[test]
fn a_fragmented_message_is_neither_joined_nor_disturbed() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let (other, _) = pair.sender();
    let whole = Bytes::from((0..1_000_000).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    send(&mut pair.client, link, b"x");
    send(&mut pair.client, link, b"y");
    pair.client.transfer(link, &Hop::default(), b"head", &whole).unwrap();
    let refused = pair.client.transfer(link, &Hop::default(), b"head", &Bytes::new());
    assert_eq!(refused, Err(TransferError::Busy));
    while pair.client.wants_output() {
        for _ in 0..2 {
            send(&mut pair.client, other, b"meanwhile");
        }
        pair.flush_client();
    }
    send(&mut pair.client, link, b"z");
    send(&mut pair.client, link, b"zz");
    pair.flush_client();
    let told = events(&mut pair.server);
    let on_link = payloads(&told, 1);
    assert_eq!(on_link.len(), 5);
    assert!(*on_link[2] == whole);
    assert!(payloads(&told, 2).len() >= 4, "it took more than one round");
}

/// The lengths of the bodies that a client says with these limits at the server, for messages of
/// `len` bytes with a head of `head`.
fn bodies(frame: u32, head: usize, len: usize, count: usize) -> Vec<usize> {
    let limits = Limits { frame, ..Limits::default() };
    let mut pair = Pair::with(config(), Config { limits, ..config() });
    let (link, _) = pair.sender();
    for _ in 0..count {
        send_with(&mut pair.client, link, &Hop::default(), &vec![b'h'; head], len);
    }
    let bytes = output(&mut pair.client);
    let mut bodies = Vec::new();
    let mut rest = &bytes[..];
    while let Some((header, after)) = rest.split_first_chunk() {
        bodies.push(posthaste_wire::Header::decode(header).body_len as usize);
        rest = &after[bodies[bodies.len() - 1]..];
    }
    pair.server.handle_input(&mut BytesMut::from(&bytes[..]), pair.now);
    assert_eq!(transfers(&events(&mut pair.server)).len(), count);
    bodies
}

#[test]
fn a_run_stays_within_the_peers_frame_limit_and_64_kib_and_is_no_shorter_than_it_has_to_be() {
    for (frame, most) in [(4_096, 4_096), (10_000, 10_000), (1 << 20, 64 << 10)] {
        for (head, len) in [(0, 0), (4, 1), (4, 64), (100, 1_000), (1_000, 2_900)] {
            let bodies = bodies(frame, head, len, 70_000 / (len + 4) + 2);
            let (last, full) = bodies.split_last().unwrap();
            assert!(*last <= most && !full.is_empty());
            for body in full {
                assert!(*body <= most, "{body} bytes of {most}");
                // Another one would not have fitted, or would have left less than 12 bytes.
                assert!(body + 4 + len + 12 > most, "{body} bytes of {most} with {len}");
            }
        }
    }
}

#[test]
fn what_just_fits_into_a_frame_alone_is_not_joined() {
    // Head and payload fill a frame of 4,096 bytes but for what a TRANSFER may have in front.
    assert_eq!(bodies(4_096, 32, 4_000, 3), [4_036; 3]);
    // A head that is longer than a run may be.
    assert_eq!(bodies(256 << 10, 70_000, 5, 2), [70_009; 2]);
}

#[test]
fn credit_that_ends_ends_the_run_and_it_goes_on_with_what_is_granted() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, 3, 1_000);
    pair.pump();
    let refused = |session: &mut Session| {
        session.transfer(link, &Hop::default(), b"head", &Bytes::from_static(b"x"))
    };
    for seq in 1..=3 {
        assert_eq!(send(&mut pair.client, link, b"x"), seq);
    }
    assert_eq!(refused(&mut pair.client), Err(TransferError::NoCredit));
    pair.server.grant(at_server, 2, 0);
    pair.flush_server();
    for seq in 4..=5 {
        assert_eq!(send(&mut pair.client, link, b"x"), seq);
    }
    assert_eq!(refused(&mut pair.client), Err(TransferError::NoCredit));
    assert_eq!(pair.client.credit(link), (0, 1_000 - 5 * 5), "each costs its head as well");
    assert_eq!(counts(&mut pair.client), [5]);
}

#[test]
fn heads_and_payloads_of_a_run_are_slices_of_the_input() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    for _ in 0..3 {
        send(&mut pair.client, link, b"payload");
    }
    let mut input = BytesMut::from(&output(&mut pair.client)[..]);
    let memory = input.as_ptr_range();
    pair.server.handle_input(&mut input, pair.now);
    for event in events(&mut pair.server) {
        let Event::Transfer { transfer: Transfer { head, payload, .. }, .. } = event else {
            panic!()
        };
        assert!(memory.contains(&head.as_ptr()) && memory.contains(&payload.as_ptr()));
    }
}

#[test]
fn messages_behind_an_event_become_events_in_their_place() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    for payload in [b"a", b"b", b"c"] {
        send(&mut pair.client, link, payload);
    }
    pair.client.call(1, 2, b"between").unwrap();
    send(&mut pair.client, link, b"d");
    send(&mut pair.client, link, b"e");
    let bytes = output(&mut pair.client);
    let mut taken = Vec::new();
    pair.server.handle_input_into(&mut BytesMut::from(&bytes[..]), pair.now, |link, seq, _| {
        taken.push((link, seq));
        None
    });
    assert_eq!(taken, [(at_server, 1), (at_server, 2), (at_server, 3)]);
    let told = events(&mut pair.server);
    assert!(matches!(
        told[..],
        [Event::Call { .. }, Event::Transfer { seq: 4, .. }, Event::Transfer { seq: 5, .. }]
    ));
}

#[test]
fn what_is_handed_back_is_an_event_and_so_is_what_comes_behind_it() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    for _ in 0..5 {
        send(&mut pair.client, link, b"x");
    }
    let mut bytes = BytesMut::from(&output(&mut pair.client)[..]);
    let mut offered = Vec::new();
    pair.server.handle_input_into(&mut bytes, pair.now, |_, seq, transfer| {
        offered.push(seq);
        (seq == 3).then_some(transfer)
    });
    assert_eq!(offered, [1, 2, 3]);
    assert_eq!(transfers(&events(&mut pair.server)), [(3, 1), (4, 1), (5, 1)]);
}

#[test]
fn nothing_is_offered_as_long_as_an_event_was_not_told() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    pair.client.call(1, 2, b"").unwrap();
    pair.flush_client();
    send(&mut pair.client, link, b"x");
    let mut bytes = BytesMut::from(&output(&mut pair.client)[..]);
    pair.server.handle_input_into(&mut bytes, pair.now, |_, _, _| panic!("the call comes first"));
    assert!(matches!(
        events(&mut pair.server)[..],
        [Event::Call { .. }, Event::Transfer { seq: 1, .. }]
    ));
}
