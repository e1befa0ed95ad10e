//! Whatever is sent comes out message for message, in order, however it was put into frames and
//! however the bytes come in.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use posthaste_wire::{Config, Event, Frame, Hop, Limits, Link, Role, Session, Transfer};
use posthaste_wire::{TransferError, frame};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Pair, config, events, frames, output};

const LINKS: usize = 3;
const HEADS: [&[u8]; 5] = [b"", b"topic", b"topiC", b"topics", &[b'h'; 300]];
/// Most are small; some are referred to rather than copied, and one does not fit into a small frame.
const SIZES: [usize; 9] = [0, 0, 1, 3, 90, 1_000, 4_000, 8_191, 9_000];

#[derive(Debug, Clone)]
enum Step {
    /// A message on a link, with a head, a payload of a size, and something special about it.
    Send { link: usize, head: usize, size: usize, special: u8 },
    /// The output is taken.
    Swap,
    /// A frame of another kind, which makes an event at the other side.
    Call,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Most links carry messages with one head, and most of those say nothing more.
    let head = prop_oneof![6 => Just(1), 1 => 0..HEADS.len()];
    let special = prop_oneof![12 => Just(0), 1 => 1..8_u8];
    let send = (0..LINKS, head, 0..SIZES.len(), special)
        .prop_map(|(link, head, size, special)| Step::Send { link, head, size, special });
    // And several come one after the other.
    let several = (send, 1..6_usize).prop_map(|(send, times)| vec![send; times]);
    let step = prop_oneof![
        16 => several,
        2 => Just(vec![Step::Swap]),
        1 => Just(vec![Step::Call]),
    ];
    vec(step, 0..40).prop_map(|steps| steps.concat())
}

fn hop(special: u8) -> Hop {
    let plain = Hop::default();
    match special {
        1 => Hop { attributes: 4, ..plain },
        2 => Hop { correlation: NonZeroU64::new(9), ..plain },
        3 => Hop { deadline: Some(Duration::from_micros(5)), ..plain },
        4 => Hop { attempt: 2, ..plain },
        5 => Hop { missed: 7, ..plain },
        _ => plain,
    }
}

/// What one side sent: messages as they were taken, how many calls, and all that was said.
struct Sent {
    messages: Vec<(Link, u64, Transfer)>,
    calls: usize,
    wire: Vec<u8>,
    /// The frame limit.
    most: usize,
}

/// Sends everything from one side of a pair whose links are open.
fn send(session: &mut Session, links: &[Link], steps: &[Step], most: usize) -> Sent {
    let mut sent = Sent { messages: Vec::new(), calls: 0, wire: Vec::new(), most };
    let mut identity = 0_u8;
    for step in steps {
        match *step {
            Step::Swap => sent.swap(session),
            Step::Call => {
                let id = u32::try_from(sent.calls).unwrap();
                sent.calls += usize::from(session.call(id, 1, b"call").is_ok());
            }
            Step::Send { link, head, size, special } => {
                let (hop, head) = (hop(special), HEADS[head]);
                identity = identity.wrapping_add(1);
                let payload = Bytes::from(vec![identity; SIZES[size]]);
                let mut taken = session.transfer(links[link], &hop, head, &payload);
                while taken == Err(TransferError::Busy) {
                    sent.swap(session);
                    taken = session.transfer(links[link], &hop, head, &payload);
                }
                let seq = taken.expect("there is credit and room");
                let transfer = Transfer { hop, head: Bytes::from_static(head), payload, count: 1 };
                sent.messages.push((links[link], seq, transfer));
            }
        }
    }
    while session.wants_output() {
        sent.swap(session);
    }
    sent
}

impl Sent {
    fn swap(&mut self, session: &mut Session) {
        let said = output(session);
        for frame in frames(&said) {
            let mut body = Vec::new();
            frame.encode(&mut body);
            assert!(body.len() - frame::Header::LEN <= self.most, "a frame is within the limits");
            if let Frame::Run { payloads, .. } = frame {
                assert!(body.len() - frame::Header::LEN <= 64 << 10);
                assert!(payloads.count() >= 2);
            }
        }
        self.wire.extend_from_slice(&said);
    }

    /// The messages of one link.
    fn of(&self, id: u16) -> Vec<(u64, Transfer)> {
        let of = self.messages.iter().filter(|(link, ..)| link.id() == id);
        of.map(|(_, seq, transfer)| (*seq, transfer.clone())).collect()
    }
}

/// Hands bytes to a session in pieces of these lengths, over and over; every message is taken or
/// handed back as `takes` says, over and over. What comes, in order.
fn hear(
    session: &mut Session,
    wire: &[u8],
    pieces: &[usize],
    takes: &[bool],
) -> (Vec<(u16, u64, Transfer)>, usize) {
    let now = crate::support::start();
    let (mut pieces, mut takes) = (pieces.iter().cycle(), takes.iter().cycle());
    let (mut input, mut came, mut calls) = (BytesMut::new(), Vec::new(), 0);
    let mut rest = wire;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
        rest = after;
        input.extend_from_slice(piece);
        session.handle_input_into(&mut input, now, |link, seq, transfer| {
            if *takes.next().unwrap() {
                came.push((link.id(), seq, transfer));
                return None;
            }
            Some(transfer)
        });
        for event in events(session) {
            match event {
                Event::Transfer { link, seq, transfer } => came.push((link.id(), seq, transfer)),
                Event::Call { id, .. } => {
                    assert_eq!(usize::try_from(id).unwrap(), calls);
                    calls += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(input.is_empty());
    (came, calls)
}

/// A pair with links of one role, all of them with plenty of credit.
fn pair(role: Role, frame: u32) -> (Pair, [Link; LINKS]) {
    let limits = Limits { frame, ..Limits::default() };
    let mut pair = Pair::with(config(), Config { limits, ..config() });
    let links = [(); LINKS].map(|()| match role {
        Role::Sender => pair.sender().0,
        Role::Receiver => pair.receiver().1,
    });
    (pair, links)
}

fn check(
    role: Role,
    frame: u32,
    steps: &[Step],
    pieces: &[usize],
    takes: &[bool],
) -> Result<(), TestCaseError> {
    let (mut pair, links) = pair(role, frame);
    let most = usize::try_from(frame).unwrap();
    let Pair { client, server, .. } = &mut pair;
    let (from, to) = match role {
        Role::Sender => (client, server),
        Role::Receiver => (server, client),
    };
    let sent = send(from, &links, steps, most);
    let (came, calls) = hear(to, &sent.wire, pieces, takes);
    prop_assert_eq!(came.len(), sent.messages.len());
    prop_assert_eq!(calls, sent.calls);
    for link in links {
        let on_link = came.iter().filter(|(id, ..)| *id == link.id());
        let came: Vec<_> = on_link.map(|(_, seq, transfer)| (*seq, transfer.clone())).collect();
        prop_assert_eq!(came, sent.of(link.id()));
    }
    // Across links as well, but for what is cut and so takes turns with others.
    let whole = |transfer: &Transfer| transfer.head.len() + transfer.payload.len() + 64 <= most;
    let order = |id, seq, transfer: &Transfer| whole(transfer).then_some((id, seq));
    let came: Vec<_> = came.iter().filter_map(|(id, seq, t)| order(*id, *seq, t)).collect();
    let sent: Vec<_> =
        sent.messages.iter().filter_map(|(link, seq, t)| order(link.id(), *seq, t)).collect();
    prop_assert_eq!(came, sent);
    Ok(())
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..20_usize, 20..5_000_usize, Just(usize::MAX)], 1..20)
}

proptest! {
    #[test]
    fn what_comes_out_is_message_for_message_what_went_in(
        steps in steps(),
        pieces in pieces(),
        large: bool,
        sender: bool,
    ) {
        let role = if sender { Role::Sender } else { Role::Receiver };
        check(role, if large { 256 << 10 } else { 4_096 }, &steps, &pieces, &[false])?;
    }

    #[test]
    fn it_is_the_same_whether_messages_are_taken_at_once_or_told(
        steps in steps(),
        pieces in pieces(),
        large: bool,
        takes in prop_oneof![
            Just(vec![true]),
            vec(any::<bool>(), 1..20),
        ],
    ) {
        check(Role::Sender, if large { 256 << 10 } else { 4_096 }, &steps, &pieces, &takes)?;
    }
}

#[test]
fn a_run_is_the_same_split_at_any_byte() {
    let (mut pair, links) = pair(Role::Sender, 4_096);
    let step = |head| Step::Send { link: 0, head, size: 3, special: 0 };
    let steps = [step(1), step(1), step(1), step(2), Step::Swap, step(2), step(2), Step::Call];
    let sent = send(&mut pair.client, &links, &steps, 4_096);
    for split in 1..sent.wire.len() {
        let (mut pair, _) = self::pair(Role::Sender, 4_096);
        let (came, calls) = hear(&mut pair.server, &sent.wire, &[split, usize::MAX], &[true]);
        let came: Vec<_> = came.into_iter().map(|(_, seq, transfer)| (seq, transfer)).collect();
        assert_eq!((came, calls), (sent.of(1), 1), "split at byte {split}");
    }
}
