//! What holds for any frame, any division of the bytes and any damage to them.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use posthaste_wire::fields::Fields;
use posthaste_wire::{
    Code, Config, Event, Frame, Header, Hop, Limits, Outcome, Output, Payloads, Role, Session,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

mod support;

use support::{config, start};

/// A frame that owns what `Frame` borrows: the frame is made of it when it is needed.
#[derive(Clone, Debug)]
struct Parts {
    kind: u8,
    link: u16,
    numbers: (u64, u64, u32, u8),
    code: u16,
    hop: Hop,
    after: Option<u64>,
    text: String,
    bytes: Vec<u8>,
    more: Vec<u8>,
    /// Payloads, each behind its length.
    run: Vec<u8>,
}

impl Parts {
    fn frame(&self) -> Frame<'_> {
        let (a, b, c, d) = self.numbers;
        let (link, code) = (self.link, Code::from_u16(self.code));
        let (reason, bytes) = (self.text.as_str(), &self.bytes[..]);
        let role = if d & 1 == 0 { Role::Sender } else { Role::Receiver };
        let beyond = u32::try_from(self.more.len()).unwrap() + 1;
        match self.kind {
            0 => Frame::Hello { fields: bytes },
            1 => Frame::Welcome { fields: bytes },
            2 => Frame::Goodbye { code, reason },
            3 => Frame::Ping { token: a },
            4 => Frame::Pong { token: a },
            5 => Frame::Open { link, role, options: bytes },
            6 => Frame::Opened { link, info: bytes },
            7 => Frame::Refused { link, code, reason },
            8 => Frame::Close { link },
            9 => Frame::Closed { link, code, reason },
            10 => Frame::Stop { link },
            11 => Frame::Stopped { link },
            12 => {
                let total = (d & 1 == 0).then(|| c.saturating_add(beyond));
                Frame::Transfer { link, hop: self.hop, total, head: bytes, payload: &self.more }
            }
            13 => {
                let piece = if bytes.is_empty() { &[0][..] } else { bytes };
                Frame::Fragment { link, more: d & 1 == 0, piece }
            }
            14 => Frame::Credit { link, messages: a, bytes: b },
            15 => Frame::Confirm { link, upto: a, matched: b, level: d, nodes: c },
            16 => Frame::Return { link, seq: a, code, level: d, reason },
            17 => {
                use Outcome::{Ack, Dropped, Lost, Reject, Release, Retry, Taken};
                let outcomes = [Ack, Retry, Reject, Release, Dropped, Taken, Lost];
                let outcome = outcomes[usize::from(d) % outcomes.len()];
                let after = self.after.map(Duration::from_micros);
                Frame::Settle { link, outcome, first: a, last: b, after, why: reason }
            }
            18 => Frame::Sync { link, token: a },
            19 => Frame::Synced { link, token: a, code, reason },
            20 => Frame::Call { id: c, method: self.code, body: bytes },
            21 => Frame::Result { id: c, code, body: bytes },
            22 => Frame::Notice { code, body: bytes },
            23 => {
                let payloads = Payloads::new(&self.run).expect("two payloads or more");
                Frame::Run { link, attributes: d, head: bytes, payloads }
            }
            24 => Frame::Extend { link, number: a },
            25 => Frame::Cancelled { link, number: a },
            26 => Frame::Cancel { body: bytes },
            27 => Frame::Offset { link, offset: a },
            _ => Frame::Unknown { kind: 0x80 | d, flags: 0x80 | d, link, body: bytes },
        }
    }
}

fn hop() -> impl Strategy<Value = Hop> {
    let missed = prop_oneof![Just(0), any::<u64>()];
    (any::<u8>(), any::<u64>(), option::of(any::<u64>()), 1..u32::MAX, missed).prop_map(
        |(attributes, correlation, deadline, attempt, missed)| Hop {
            attributes,
            correlation: std::num::NonZeroU64::new(correlation),
            deadline: deadline.map(Duration::from_micros),
            attempt,
            missed,
        },
    )
}

fn run() -> impl Strategy<Value = Vec<u8>> {
    vec(vec(any::<u8>(), 0..40), 2..8).prop_map(|payloads| {
        let behind_its_length = |payload: Vec<u8>| {
            let len = u32::try_from(payload.len()).unwrap();
            [&len.to_le_bytes()[..], &payload].concat()
        };
        payloads.into_iter().flat_map(behind_its_length).collect()
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u8>());
    let bytes = || vec(any::<u8>(), 0..300);
    let after = option::of(any::<u64>());
    let fixed = (0..29_u8, 1..=u16::MAX, numbers, any::<u16>(), hop(), after);
    (fixed, "\\PC{0,200}", bytes(), bytes(), run()).prop_map(|(fixed, text, bytes, more, run)| {
        let (kind, link, numbers, code, hop, after) = fixed;
        Parts { kind, link, numbers, code, hop, after, text, bytes, more, run }
    })
}

proptest! {
    #[test]
    fn any_frame_comes_back_as_it_was(parts in parts()) {
        let frame = parts.frame();
        let mut bytes = vec![0xee; 3];
        frame.encode(&mut bytes);
        let (header, body) = bytes[3..].split_first_chunk().unwrap();
        let header = Header::decode(header);
        prop_assert_eq!(header.body_len as usize, body.len());
        prop_assert_eq!(Frame::decode(header, body), Ok(frame));
    }

    #[test]
    fn what_decodes_from_any_bytes_encodes_to_the_same_bytes(
        kind in prop_oneof![0x01..=0x05_u8, 0x10..=0x16_u8, 0x20..=0x2b_u8, 0x30..=0x33_u8],
        flags in prop_oneof![3 => Just(0), 1 => 0..32_u8, 1 => any::<u8>()],
        link in 0..3_u16,
        body in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..60),
    ) {
        let header = Header { body_len: body.len() as u32, kind, flags, link };
        if let Ok(frame) = Frame::decode(header, &body) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            prop_assert_eq!(&bytes[..8], &header.encode());
            prop_assert_eq!(&bytes[8..], &body[..]);
        }
    }

    #[test]
    fn random_bytes_never_break_a_session(
        pieces in vec(vec(any::<u8>(), 0..200), 0..20),
        client: bool,
        prefaced: bool,
    ) {
        let now = start();
        let mut session =
            if client { Session::client(config(), now) } else { Session::server(config(), now) };
        let mut input = BytesMut::new();
        if prefaced {
            input.extend_from_slice(b"\x89PHW\r\n\x01\x00");
        }
        for piece in &pieces {
            input.extend_from_slice(piece);
            session.handle_input(&mut input, now);
            prop_assert!(input.len() <= 4_096, "at most 4 KiB are left waiting");
        }
        check_events(&support::events(&mut session), session.is_ended());
    }

    #[test]
    fn random_bytes_are_fields_or_an_error(bytes in vec(any::<u8>(), 0..100)) {
        let fields = Fields::new(&bytes);
        let whole: usize = fields.flatten().map(|field| field.bytes().len() + 5).sum();
        prop_assert!(whole <= bytes.len());
    }

    #[test]
    fn frames_that_lie_about_their_lengths_end_the_session_or_do_nothing_else(
        parts in vec(parts(), 1..8),
        at in any::<prop::sample::Index>(),
        lie in any::<u32>(),
    ) {
        let (mut session, now) = established_server();
        let mut bytes = Vec::new();
        for parts in &parts {
            parts.frame().encode(&mut bytes);
        }
        let at = at.index(bytes.len());
        for (place, byte) in bytes[at..].iter_mut().zip(lie.to_le_bytes()) {
            *place = byte;
        }
        let mut input = BytesMut::from(&bytes[..]);
        session.handle_input(&mut input, now);
        prop_assert!(session.wanted() <= 256 * 1024);
        check_events(&support::events(&mut session), session.is_ended());
    }
}

/// The end is told if and only if there was one, once, and last.
fn check_events(events: &[Event], ended: bool) {
    let ends = events.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
    assert_eq!(ends, usize::from(ended));
    if ended {
        support::ended(events);
    }
}

fn established_server() -> (Session, Instant) {
    let mut pair = support::Pair::new();
    pair.sender();
    pair.receiver();
    (pair.server, pair.now)
}

// A conversation, recorded as what each side writes at a time; the sides react to events only, so
// that the same input leads to the same events however it is divided. A damaged input may leave
// them without credit, which is no concern of theirs.

/// A client's part in the conversation.
fn client_reacts(session: &mut Session, event: &Event) {
    match event {
        Event::Established { .. } => {
            session.open(Role::Sender, b"orders").ok();
            if let Ok(receiver) = session.open(Role::Receiver, b"replies") {
                session.grant(receiver, 10, 100_000);
            }
            session.call(1, 2, b"declare").ok();
        }
        Event::Credit { link } => {
            let hop = Hop { correlation: std::num::NonZeroU64::new(9), ..Hop::default() };
            for len in [0, 10, 500, 9_000] {
                let payload = Bytes::from(vec![7; len]);
                session.transfer(*link, &hop, b"topic", &payload).ok();
            }
        }
        Event::Transfer { link, seq, .. } => {
            let (after, why) = match *seq {
                2 => (Some(Duration::from_secs(1)), "not yet"),
                _ => (None, ""),
            };
            session.settle(*link, *seq, *seq, Outcome::Retry, after, why);
            session.sync(*link, *seq);
        }
        Event::Synced { link, token: 3, .. } => session.stop(*link),
        Event::Stopped { link } => session.close(*link),
        Event::Confirm { link, upto: 4, .. } => session.close(*link),
        _ => {}
    }
}

/// A server's part in the conversation.
fn server_reacts(session: &mut Session, event: &Event) {
    match event {
        Event::Opening { link, role: Role::Sender, .. } => {
            session.opened(*link, b"here");
            session.grant(*link, 10, 100_000);
        }
        Event::Opening { link, .. } => session.opened(*link, b"here"),
        Event::Credit { link } => {
            for len in [1, 200, 6_000] {
                let payload = Bytes::from(vec![9; len]);
                session.transfer(*link, &Hop::default(), b"reply", &payload).ok();
            }
        }
        Event::Transfer { link, seq: 3, .. } => {
            session.return_(*link, 3, Code::Full, 0, "the queue is full");
        }
        Event::Transfer { link, seq: 4, .. } => session.confirm(*link, 4, 3, 1, 1),
        Event::Sync { link, token } => session.synced(*link, *token, Code::Ok, ""),
        Event::Stop { link } => session.stopped(*link),
        Event::Close { link } => session.closed(*link, Code::Ok, ""),
        Event::Call { id, .. } => session.result(*id, Code::Conflict, b"why"),
        _ => {}
    }
}

/// One side of the conversation: what it has heard, and what it says.
struct Actor {
    session: Session,
    reacts: fn(&mut Session, &Event),
    input: BytesMut,
    heard: Vec<Event>,
    now: Instant,
}

impl Actor {
    fn pair() -> [Self; 2] {
        let now = start();
        // Small frames, so that a message of 9 KB is cut.
        let limits = Limits { frame: 4_096, ..Limits::default() };
        let config = Config { limits, ..config() };
        let actor = |session, reacts| Self {
            session,
            reacts,
            input: BytesMut::new(),
            heard: Vec::new(),
            now,
        };
        [
            actor(Session::client(config.clone(), now), client_reacts as fn(&mut Session, &Event)),
            actor(Session::server(config, now), server_reacts),
        ]
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.session.handle_input(&mut self.input, self.now);
        while let Some(event) = self.session.poll_event() {
            (self.reacts)(&mut self.session, &event);
            // Credit and room to write depend on when the other side's output was taken.
            if !matches!(event, Event::Writable { .. }) {
                self.heard.push(event);
            }
        }
    }

    fn say(&mut self, into: &mut Vec<Vec<u8>>) -> bool {
        let mut output = Output::new();
        self.session.swap_output(&mut output);
        into.push(output.to_vec());
        !output.is_empty()
    }
}

/// What the client and the server said, each in the pieces in which it said it.
fn conversation() -> [Vec<Vec<u8>>; 2] {
    let [mut client, mut server] = Actor::pair();
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    while client.say(&mut from_client) | server.say(&mut from_server) {
        server.hear(from_client.last().unwrap());
        client.hear(from_server.last().unwrap());
    }
    let told =
        |events: &[Event], what: fn(&Event) -> bool| events.iter().filter(|e| what(e)).count();
    let closed = told(&client.heard, |event| matches!(event, Event::Closed { code: Code::Ok, .. }));
    assert_eq!(closed, 2, "the conversation comes to its end: {:?}", client.heard);
    assert_eq!(told(&server.heard, |event| matches!(event, Event::Transfer { .. })), 4);
    [from_client, from_server]
}

/// What one side (0 the client, 1 the server) hears if the other's bytes come as `divide` says.
fn hears(side: usize, pieces: &[Vec<u8>], divide: impl Fn(&mut Actor, usize, &[u8])) -> Actor {
    let mut actor = Actor::pair().into_iter().nth(side).unwrap();
    let mut at = 0;
    let mut unheard = Vec::new();
    for piece in pieces {
        actor.say(&mut unheard);
        divide(&mut actor, at, piece);
        at += piece.len();
    }
    actor
}

#[test]
fn a_conversation_is_the_same_split_at_any_byte() {
    let [from_client, from_server] = conversation();
    for (side, pieces) in [(1, from_client), (0, from_server)] {
        let whole = hears(side, &pieces, |actor, _, piece| actor.hear(piece));
        let total: usize = pieces.iter().map(Vec::len).sum();
        assert!(total > 5_000 && whole.heard.len() > 10);
        for split in 0..total {
            let parted = hears(side, &pieces, |actor, at, piece| {
                match split.checked_sub(at).filter(|&within| within < piece.len()) {
                    Some(within) => {
                        actor.hear(&piece[..within]);
                        actor.hear(&piece[within..]);
                    }
                    None => actor.hear(piece),
                }
            });
            assert_eq!(parted.heard, whole.heard, "split at byte {split}");
        }
        let trickled = hears(side, &pieces, |actor, _, piece| {
            piece.iter().for_each(|byte| actor.hear(&[*byte]));
        });
        assert_eq!(trickled.heard, whole.heard, "byte by byte");
    }
}

#[test]
fn a_conversation_with_any_byte_damaged_goes_on_or_ends_with_a_reason() {
    let [from_client, from_server] = conversation();
    for (side, pieces) in [(1, from_client), (0, from_server)] {
        let total: usize = pieces.iter().map(Vec::len).sum();
        for damaged in 0..total {
            for damage in [1_u8 << (damaged % 8), 0xff] {
                let actor = hears(side, &pieces, |actor, at, piece| {
                    let mut piece = piece.to_vec();
                    if let Some(byte) = damaged.checked_sub(at).and_then(|i| piece.get_mut(i)) {
                        *byte ^= damage;
                    }
                    actor.hear(&piece);
                });
                check_events(&actor.heard, actor.session.is_ended());
                assert!(actor.session.wanted() <= 4_096);
                if actor.session.is_ended() {
                    assert!(!support::ended(&actor.heard).1.is_empty(), "the end has a reason");
                }
            }
        }
    }
}

#[test]
fn a_conversation_that_breaks_off_anywhere_ends_as_lost() {
    let [from_client, _] = conversation();
    let all = from_client.concat();
    for end in (0..all.len()).step_by(7) {
        let mut left = end;
        let mut actor = Actor::pair().into_iter().nth(1).unwrap();
        for piece in &from_client {
            actor.say(&mut Vec::new());
            actor.hear(&piece[..left.min(piece.len())]);
            left = left.saturating_sub(piece.len());
        }
        actor.session.handle_eof();
        let told = support::events(&mut actor.session);
        assert_eq!(support::ended(&told).0, Code::ConnectionLost);
    }
}
