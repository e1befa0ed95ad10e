//! Runs that are passed on as a whole: sent in one step, and told as one message that counts for
//! several.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use posthaste_wire::{Code, Config, Event, Frame, Hop, Limits, Link, Output, Payloads, Role};
use posthaste_wire::{Session, Transfer, TransferError};

use crate::support::{Pair, config, ended, events, feed, frames, output, send, transfers};

/// Payloads of these lengths, each behind its length.
fn run(lengths: &[usize]) -> Bytes {
    let mut bytes = BytesMut::new();
    for (nth, &len) in lengths.iter().enumerate() {
        bytes.extend_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        bytes.resize(bytes.len() + len, u8::try_from(nth % 256).unwrap());
    }
    bytes.freeze()
}

fn send_run(session: &mut Session, link: Link, payloads: &Bytes) -> Result<u32, TransferError> {
    let (count, len) = session.transfer_run(link, 3, b"head", payloads)?;
    let first = payloads.slice(..len);
    assert_eq!(Payloads::of_run(&first).count(), usize::try_from(count).unwrap());
    Ok(count)
}

/// A pair whose server is told of runs as they are.
fn whole() -> Pair {
    Pair::with(config(), Config { runs: true, ..config() })
}

/// How many messages are in each frame that a session says next.
fn counts(session: &mut Session) -> Vec<usize> {
    let bytes = output(session);
    let count = |frame: &Frame<'_>| match *frame {
        Frame::Run { payloads, .. } => payloads.count(),
        _ => 1,
    };
    frames(&bytes).iter().map(count).collect()
}

#[test]
fn a_run_is_one_frame_and_one_event_and_takes_as_many_numbers_as_it_has_messages() {
    let mut pair = whole();
    let (link, at_server) = pair.sender();
    let payloads = run(&[3, 0, 100]);
    assert_eq!(send_run(&mut pair.client, link, &payloads), Ok(3));
    assert_eq!(send(&mut pair.client, link, b"next"), 4);
    pair.flush_client();
    let hop = Hop { attributes: 3, ..Hop::default() };
    let head = Bytes::from_static(b"head");
    let many = Transfer { hop, head: head.clone(), payload: payloads, count: 3 };
    let one = Transfer { head, payload: Bytes::from_static(b"next"), ..Transfer::default() };
    let told = |seq, transfer| Event::Transfer { link: at_server, seq, transfer };
    assert_eq!(events(&mut pair.server), [told(1, many), told(4, one)]);
}

#[test]
fn whoever_does_not_ask_for_runs_is_told_message_by_message() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    assert_eq!(send_run(&mut pair.client, link, &run(&[3, 0, 100])), Ok(3));
    pair.flush_client();
    assert_eq!(transfers(&events(&mut pair.server)), [(1, 3), (2, 0), (3, 100)]);
}

#[test]
fn messages_that_were_sent_one_by_one_are_told_as_the_run_that_they_became() {
    let mut pair = whole();
    let (link, _) = pair.sender();
    for payload in [&b"a"[..], b"", b"ccc"] {
        send(&mut pair.client, link, payload);
    }
    let bytes = output(&mut pair.client);
    let mut taken = Vec::new();
    pair.server.handle_input_into(&mut Bytes::from(bytes), pair.now, |_, seq, transfer| {
        taken.push((seq, transfer));
        None
    });
    let [(1, transfer)] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!(transfer.count, 3);
    let payloads: Vec<_> = Payloads::of_run(&transfer.payload).collect();
    assert_eq!(payloads, [&b"a"[..], b"", b"ccc"]);
}

#[test]
fn a_run_is_a_frame_of_its_own() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let hop = Hop { attributes: 3, ..Hop::default() };
    for _ in 0..2 {
        pair.client.transfer(link, &hop, b"head", &Bytes::from_static(b"x")).unwrap();
        assert_eq!(send_run(&mut pair.client, link, &run(&[1, 1, 1])), Ok(3));
    }
    assert_eq!(counts(&mut pair.client), [1, 3, 1, 3]);
}

#[test]
fn one_message_alone_goes_out_as_one_and_no_message_is_none() {
    let mut pair = whole();
    let (link, _) = pair.sender();
    assert_eq!(pair.client.transfer_run(link, 0, b"head", &Bytes::new()), Ok((0, 0)));
    assert!(!pair.client.wants_output());
    assert_eq!(send_run(&mut pair.client, link, &run(&[5])), Ok(1));
    let bytes = output(&mut pair.client);
    assert!(matches!(frames(&bytes)[..], [Frame::Transfer { .. }]));
}

#[test]
fn as_many_go_as_there_is_credit_for_and_the_rest_later() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, 3, 1_000);
    pair.pump();
    let mut left = run(&[1; 7]);
    let mut step = |session: &mut Session| {
        let (count, len) = session.transfer_run(link, 0, b"head", &left)?;
        left = left.slice(len..);
        Ok(count)
    };
    assert_eq!(step(&mut pair.client), Ok(3));
    assert_eq!(pair.client.credit(link), (0, 1_000 - 3 * 5), "each costs its head as well");
    assert_eq!(step(&mut pair.client), Err(TransferError::NoCredit));
    pair.server.grant(at_server, 1, 0);
    pair.pump();
    assert_eq!(step(&mut pair.client), Ok(1));
    pair.server.grant(at_server, 100, 0);
    pair.pump();
    assert_eq!(step(&mut pair.client), Ok(3));
    pair.pump();
    assert_eq!(transfers(&events(&mut pair.server)).len(), 7);
}

#[test]
fn bytes_may_be_overdrawn_by_one_message_of_a_run() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.open(Role::Sender);
    // Two of 4 + 8 bytes leave one byte: the third may go, the fourth may not.
    pair.server.grant(at_server, 10, 25);
    pair.pump();
    assert_eq!(send_run(&mut pair.client, link, &run(&[8; 4])), Ok(3));
    pair.pump();
    assert_eq!(transfers(&events(&mut pair.server)).len(), 3);
    assert!(pair.server.is_established());
}

#[test]
fn what_cannot_go_is_refused_and_nothing_has_happened() {
    let limits = Limits { head: 10, payload: 5_000, ..Limits::default() };
    let mut pair = Pair::with(Config { gather: 100, ..config() }, Config { limits, ..config() });
    let (link, _) = pair.sender();
    let two = run(&[1, 1]);
    let client = &mut pair.client;
    let too_large = |len, limit| TransferError::TooLarge { len, limit };
    assert_eq!(client.transfer_run(link, 0, &[b'h'; 11], &two), Err(too_large(11, 10)));
    assert_eq!(send_run(client, link, &run(&[5_001, 1])), Err(too_large(5_001, 5_000)));
    assert!(!client.wants_output());
    // One that is too large stops those behind it, not those before it.
    assert_eq!(send_run(client, link, &run(&[1, 2, 5_001, 1])), Ok(2));
    assert_eq!(send_run(client, link, &run(&[100, 200])), Ok(2));
    assert_eq!(send_run(client, link, &two), Err(TransferError::Full));
    output(client);
    assert_eq!(events(client), [Event::Writable { link }]);
    client.close(link);
    assert_eq!(send_run(client, link, &two), Err(TransferError::Closed));
}

#[test]
fn a_run_waits_for_a_fragmented_message_and_one_that_does_not_fit_is_cut() {
    let limits = Limits { frame: 4_096, ..Limits::default() };
    let mut pair = Pair::with(config(), Config { limits, runs: true, ..config() });
    let (link, _) = pair.sender();
    let mut left = run(&[9_000, 10, 10, 9_000, 2_000, 2_000, 2_000, 0]);
    let (mut steps, mut busy) = (Vec::new(), 0);
    while !left.is_empty() {
        match pair.client.transfer_run(link, 0, b"head", &left) {
            Ok((count, len)) => {
                left = left.slice(len..);
                steps.push(count);
            }
            Err(error) => {
                assert_eq!(error, TransferError::Busy);
                busy += 1;
                pair.pump();
            }
        }
    }
    // Three times 2,000 bytes are more than a frame holds.
    assert_eq!((steps, busy), (vec![1, 2, 1, 2, 2], 2));
    pair.pump();
    let told = events(&mut pair.server);
    let lengths: Vec<_> = told
        .iter()
        .flat_map(|event| match event {
            Event::Transfer { transfer, .. } if transfer.count > 1 => {
                Payloads::of_run(&transfer.payload).map(<[u8]>::len).collect()
            }
            Event::Transfer { transfer, .. } => vec![transfer.payload.len()],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [9_000, 10, 10, 9_000, 2_000, 2_000, 2_000, 0]);
}

#[test]
fn a_large_run_is_referred_to_and_not_copied() {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let payloads = run(&[64; 1_000]);
    assert_eq!(send_run(&mut pair.client, link, &payloads), Ok(1_000));
    let mut output = Output::new();
    pair.client.swap_output(&mut output);
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(output.io_slices(&mut slices), 2, "the frame up to there, and the payloads");
    assert_eq!(slices[1].as_ptr(), payloads.as_ptr());
}

#[test]
fn where_the_credit_ends_within_a_run_nothing_of_it_is_told_as_a_whole() {
    let mut pair = whole();
    let (_, at_server) = pair.open(Role::Sender);
    pair.server.grant(at_server, 3, 1_000);
    pair.pump();
    let payloads = run(&[1; 4]);
    let payloads = Payloads::new(&payloads).unwrap();
    let now = pair.now;
    feed(&mut pair.server, now, &[Frame::Run { link: 1, attributes: 0, head: b"", payloads }]);
    let told = events(&mut pair.server);
    assert_eq!(transfers(&told), []);
    let (code, reason, _) = ended(&told);
    assert_eq!((code, &*reason), (Code::Protocol, "a message comes without credit for it"));
}

#[test]
fn settlements_and_confirms_name_the_messages_of_a_run() {
    let mut pair = whole();
    let (link, at_server) = pair.sender();
    assert_eq!(send_run(&mut pair.client, link, &run(&[1; 4])), Ok(4));
    pair.flush_client();
    events(&mut pair.server);
    pair.server.return_(at_server, 2, Code::Full, 0, "full");
    pair.server.confirm(at_server, 4, 3, 1, 1);
    pair.flush_server();
    assert!(matches!(
        events(&mut pair.client)[..],
        [Event::Returned { seq: 2, .. }, Event::Confirm { upto: 4, matched: 3, .. }]
    ));
}
