//! Whatever is sent comes out message for message, in order, however it was put into frames and
//! however the bytes come in.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use posthaste_wire::{Config, Event, Hop, Limits, Link, Payloads, Role, Session, Transfer};
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
    /// A run that is passed on as a whole, of payloads of these sizes.
    Run { link: usize, head: usize, sizes: Vec<usize> },
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
    let run = (0..LINKS, 0..HEADS.len(), vec(0..SIZES.len(), 1..12))
        .prop_map(|(link, head, sizes)| vec![Step::Run { link, head, sizes }]);
    let step = prop_oneof![
        16 => several,
        4 => run,
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

/// A message, with the number of its link and its own.
type Message = (u16, u64, Transfer);

/// What one side sent: messages as they were taken, how many calls, and all that was said.
struct Sent {
    messages: Vec<Message>,
    calls: usize,
    wire: Vec<u8>,
    /// The frame limit.
    most: usize,
}

/// Sends everything from one side of a pair whose links are open.
fn send(session: &mut Session, links: &[Link], steps: &[Step], most: usize) -> Sent {
    let mut sent = Sent { messages: Vec::new(), calls: 0, wire: Vec::new(), most };
    for step in steps {
        match step {
            Step::Swap => sent.swap(session),
            Step::Call => {
                let id = u32::try_from(sent.calls).unwrap();
                sent.calls += usize::from(session.call(id, 1, b"call").is_ok());
            }
            Step::Send { link, head, size, special } => {
                let (hop, payload) = (hop(*special), sent.payload(0, SIZES[*size]));
                sent.send(session, links[*link], hop, HEADS[*head], payload);
            }
            Step::Run { link, head, sizes } => {
                let payload = |(nth, size): (usize, &usize)| sent.payload(nth, SIZES[*size]);
                let payloads = sizes.iter().enumerate().map(payload).collect();
                sent.send_run(session, links[*link], HEADS[*head], payloads);
            }
        }
    }
    while session.wants_output() {
        sent.swap(session);
    }
    sent
}

impl Sent {
    /// A payload unlike those of the messages around it.
    fn payload(&self, nth: usize, len: usize) -> Bytes {
        let fill = (self.messages.len() + nth) % 251;
        Bytes::from(vec![u8::try_from(fill).unwrap(); len])
    }

    fn send(
        &mut self,
        session: &mut Session,
        link: Link,
        hop: Hop,
        head: &'static [u8],
        payload: Bytes,
    ) {
        let mut taken = session.transfer(link, &hop, head, &payload);
        while taken == Err(TransferError::Busy) {
            self.swap(session);
            taken = session.transfer(link, &hop, head, &payload);
        }
        let transfer = Transfer { hop, head: Bytes::from_static(head), payload, count: 1 };
        let seq = self.took(link, transfer);
        assert_eq!(taken, Ok(seq), "there is credit and room");
    }

    fn send_run(
        &mut self,
        session: &mut Session,
        link: Link,
        head: &'static [u8],
        mut payloads: Vec<Bytes>,
    ) {
        while !payloads.is_empty() {
            let mut run = BytesMut::new();
            for payload in &payloads {
                run.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
                run.extend_from_slice(payload);
            }
            let run = run.freeze();
            match session.transfer_run(link, 4, head, &run) {
                Err(error) => {
                    assert_eq!(error, TransferError::Busy);
                    self.swap(session);
                }
                Ok((count, len)) => {
                    let gone: Vec<_> = payloads.drain(..usize::try_from(count).unwrap()).collect();
                    assert_eq!(len, gone.iter().map(|payload| 4 + payload.len()).sum::<usize>());
                    for payload in gone {
                        let (hop, head) = (hop(1), Bytes::from_static(head));
                        self.took(link, Transfer { hop, head, payload, count: 1 });
                    }
                }
            }
        }
    }

    /// Notes a message that was taken; its number.
    fn took(&mut self, link: Link, transfer: Transfer) -> u64 {
        let seq = u64::try_from(self.of(link.id()).count()).unwrap() + 1;
        self.messages.push((link.id(), seq, transfer));
        seq
    }

    fn swap(&mut self, session: &mut Session) {
        let said = output(session);
        for frame in frames(&said) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            let body = bytes.len() - frame::Header::LEN;
            assert!(body <= self.most, "a frame of {body} bytes of {}", self.most);
        }
        self.wire.extend_from_slice(&said);
    }

    /// The messages of one link.
    fn of(&self, id: u16) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |(link, ..)| *link == id)
    }
}

/// What one side hears, message by message.
#[derive(Default)]
struct Heard {
    messages: Vec<Message>,
    calls: usize,
}

impl Heard {
    /// Takes a message, or a run, apart.
    fn came(&mut self, link: Link, first: u64, transfer: Transfer) {
        if transfer.count == 1 {
            self.messages.push((link.id(), first, transfer));
            return;
        }
        let payloads: Vec<_> = Payloads::of_run(&transfer.payload).collect();
        assert_eq!(payloads.len(), usize::try_from(transfer.count).unwrap());
        for (seq, payload) in (first..).zip(payloads) {
            let payload = transfer.payload.slice_ref(payload);
            self.messages.push((
                link.id(),
                seq,
                Transfer { payload, count: 1, ..transfer.clone() },
            ));
        }
    }
}

/// Hands bytes to a session in pieces of these lengths, over and over; every message is taken or
/// handed back as `takes` says, over and over. `Bytes` and `BytesMut` take turns.
fn hear(session: &mut Session, wire: &[u8], pieces: &[usize], takes: &[bool]) -> Heard {
    let now = crate::support::start();
    let (mut pieces, mut takes) = (pieces.iter().cycle(), takes.iter().cycle());
    let (mut input, mut heard) = (BytesMut::new(), Heard::default());
    let (mut rest, mut shared) = (wire, false);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
        rest = after;
        shared = !shared;
        input.extend_from_slice(piece);
        let take = |link, seq, transfer| {
            if *takes.next().unwrap() {
                heard.came(link, seq, transfer);
                return None;
            }
            Some(transfer)
        };
        if shared {
            session.handle_input_into(&mut input, now, take);
        } else {
            let mut whole = input.freeze();
            session.handle_input_into(&mut whole, now, take);
            input = BytesMut::from(&whole[..]);
        }
        for event in events(session) {
            match event {
                Event::Transfer { link, seq, transfer } => heard.came(link, seq, transfer),
                Event::Call { id, .. } => {
                    assert_eq!(usize::try_from(id).unwrap(), heard.calls);
                    heard.calls += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(input.is_empty());
    heard
}

/// How a conversation goes.
#[derive(Debug, Clone)]
struct Way {
    role: Role,
    /// The frame limit.
    frame: u32,
    /// Whether runs are told as they are.
    runs: bool,
    pieces: Vec<usize>,
    takes: Vec<bool>,
}

impl Way {
    /// A pair with links of one role, all of them with plenty of credit.
    fn pair(&self) -> (Pair, [Link; LINKS]) {
        let limits = Limits { frame: self.frame, ..Limits::default() };
        let config = Config { limits, runs: self.runs, ..config() };
        let mut pair = Pair::with(config.clone(), config);
        let links = [(); LINKS].map(|()| match self.role {
            Role::Sender => pair.sender().0,
            Role::Receiver => pair.receiver().1,
        });
        (pair, links)
    }

    fn check(&self, steps: &[Step]) -> Result<(), TestCaseError> {
        let (mut pair, links) = self.pair();
        let most = usize::try_from(self.frame).unwrap();
        let Pair { client, server, .. } = &mut pair;
        let (from, to) = match self.role {
            Role::Sender => (client, server),
            Role::Receiver => (server, client),
        };
        let sent = send(from, &links, steps, most);
        let heard = hear(to, &sent.wire, &self.pieces, &self.takes);
        prop_assert_eq!(heard.messages.len(), sent.messages.len());
        prop_assert_eq!(heard.calls, sent.calls);
        for link in links {
            let on_link = heard.messages.iter().filter(|(id, ..)| *id == link.id());
            prop_assert!(on_link.eq(sent.of(link.id())));
        }
        // Across links as well, but for what is cut and so takes turns with others.
        let whole =
            |(_, _, transfer): &&Message| transfer.head.len() + transfer.payload.len() + 64 <= most;
        prop_assert!(heard.messages.iter().filter(whole).eq(sent.messages.iter().filter(whole)));
        Ok(())
    }
}

fn ways() -> impl Strategy<Value = Way> {
    let role = prop_oneof![Just(Role::Sender), Just(Role::Receiver)];
    let frame = prop_oneof![Just(4_096), Just(10_000), Just(256 << 10)];
    let pieces = vec(prop_oneof![1..20_usize, 20..5_000_usize, Just(usize::MAX)], 1..20);
    // All are taken, or none, or some.
    let takes = prop_oneof![Just(vec![true]), Just(vec![false]), vec(any::<bool>(), 2..20)];
    (role, frame, any::<bool>(), pieces, takes).prop_map(|(role, frame, runs, pieces, takes)| Way {
        role,
        frame,
        runs,
        pieces,
        takes,
    })
}

proptest! {
    #[test]
    fn what_comes_out_is_message_for_message_what_went_in(steps in steps(), way in ways()) {
        way.check(&steps)?;
    }
}

#[test]
fn a_run_is_the_same_split_at_any_byte() {
    let one = |head| Step::Send { link: 0, head, size: 3, special: 0 };
    let run = Step::Run { link: 0, head: 1, sizes: vec![2, 0, 3] };
    let steps = [one(1), one(1), one(1), one(2), Step::Swap, one(2), one(2), run, Step::Call];
    for runs in [false, true] {
        let way =
            |pieces| Way { role: Role::Sender, frame: 4_096, runs, pieces, takes: vec![true] };
        let (mut pair, links) = way(vec![1]).pair();
        let len = send(&mut pair.client, &links, &steps, 4_096).wire.len();
        for split in 1..len {
            way(vec![split, usize::MAX]).check(&steps).unwrap();
        }
    }
}
