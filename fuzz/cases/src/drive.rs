//! What the session targets share: one session, driven by hostile bytes, and the bounds it keeps.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use posthaste_wire::{
    Code, Config, Event, Frame, Header, Hop, Limits, Outcome, Output, Role, Session,
};

use crate::choices::Choices;
use crate::frames::{Operator, samples};
use crate::scene::{Scene, Side, start};
use crate::weigh::weigh;

/// What may wait to be written: 4 MiB of control frames, and what this driver sends itself.
const OUTPUT_MAX: usize = (4 << 20) + (2 << 20);

/// The least that makes an event is an empty message of a RUN: four bytes of input.
const BYTES_PER_EVENT: usize = 4;

/// Arbitrary bytes in arbitrary pieces against a client, fresh or established.
pub fn session_client(data: &[u8]) {
    let now = start();
    drive(Session::client(config(), now), Session::server(config(), now), data, now);
}

/// Arbitrary bytes in arbitrary pieces against a server, fresh or established.
pub fn session_server(data: &[u8]) {
    let now = start();
    drive(Session::server(config(), now), Session::client(config(), now), data, now);
}

/// Frames of every kind in any order against either side, at any stage, some of them spoiled.
pub fn session_frames(data: &[u8]) {
    let samples = samples();
    let mut choices = Choices::new(data);
    let mut scene = match choices.below(4) {
        0 => Scene::fresh(),
        1 => Scene::established(),
        _ => Scene::conversation(),
    };
    let side = choices.one_of(&[Side::Client, Side::Server]);
    let now = scene.now;
    let session = scene.side(side);
    let mut driver = Driver { output: Output::new(), ended: false };
    let mut input = BytesMut::new();
    while !choices.is_over() {
        let sample = &samples[choices.below(samples.len())];
        let field = choices.below(2 * sample.fields.len());
        let bytes = match sample.fields.get(field) {
            Some(_) => sample.spoiled(field, choices.one_of(&Operator::ALL)),
            None => sample.bytes.clone(),
        };
        input.extend_from_slice(&bytes);
        let came = input.len();
        let knows = came + session.output_len();
        weigh(knows, || session.handle_input(&mut input, now));
        driver.drain(session, came / BYTES_PER_EVENT + 2);
        assert!(session.output_len() <= OUTPUT_MAX);
        if choices.below(4) == 0 {
            driver.write(session);
            driver.drain(session, 2 * usize::from(session.limits().links));
        }
    }
}

/// Small limits, so that the fuzzer reaches them.
pub(crate) fn config() -> Config {
    let limits = Limits {
        frame: 4_096,
        payload: 20_000,
        head: 200,
        links: 4,
        reassembly: 40_000,
        ..Limits::default()
    };
    Config { limits, gather: 1 << 20, ..Config::default() }
}

/// A session and its peer's bytes: the first byte of `data` says whether it is established before,
/// then each piece is one byte of length and as many of input; a length of 0 lets time pass.
fn drive(mut session: Session, peer: Session, data: &[u8], now: Instant) {
    let Some((&mode, mut rest)) = data.split_first() else {
        return;
    };
    let mut now = now;
    let mut input = BytesMut::new();
    let mut driver = Driver { output: Output::new(), ended: false };
    if mode & 1 == 1 {
        establish(&mut session, peer, now);
        driver.drain(&mut session, usize::MAX);
        assert!(session.is_established());
    }
    while let Some((&len, after)) = rest.split_first() {
        if len == 0 {
            now += Duration::from_secs(3);
            session.handle_timeout(now);
        }
        let (piece, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        input.extend_from_slice(piece);
        let came = input.len();
        weigh(came + session.output_len(), || session.handle_input(&mut input, now));
        // What is left over is part of one frame.
        assert!(input.len() < Header::LEN + 4_096);
        assert!(session.wanted() <= 4_096);
        driver.drain(&mut session, came / BYTES_PER_EVENT + 2);
        assert!(session.output_len() <= OUTPUT_MAX);
        if mode & 2 == 2 {
            driver.write(&mut session);
            // A swap tells of room to write: at most twice per link.
            let links = usize::from(session.limits().links);
            driver.drain(&mut session, 2 * links);
        }
    }
    session.handle_eof();
    driver.drain(&mut session, 1);
    assert!(driver.ended && session.is_ended());
    driver.write(&mut session);
    assert!(!session.wants_output());
}

fn establish(session: &mut Session, mut peer: Session, now: Instant) {
    let mut output = Output::new();
    for _ in 0..2 {
        peer.swap_output(&mut output);
        session.handle_input(&mut BytesMut::from(&output.to_vec()[..]), now);
        output = Output::new();
        session.swap_output(&mut output);
        peer.handle_input(&mut BytesMut::from(&output.to_vec()[..]), now);
        output = Output::new();
    }
    // Links of both roles, so that a client has something to hear about.
    for role in [Role::Sender, Role::Receiver, Role::Receiver] {
        if let Ok(link) = session.open(role, b"options") {
            session.grant(link, 100, 100_000);
        }
    }
    let _ = session.call(1, 1, b"");
}

struct Driver {
    output: Output,
    ended: bool,
}

impl Driver {
    /// Polls all events, of which there are at most `most`, and reacts to each as a user might.
    fn drain(&mut self, session: &mut Session, most: usize) {
        let mut count = 0_usize;
        while let Some(event) = session.poll_event() {
            assert!(!self.ended, "nothing comes after the end");
            count += 1;
            assert!(count <= most, "events are bounded by the input");
            self.react(session, event);
        }
    }

    fn react(&mut self, session: &mut Session, event: Event) {
        match event {
            Event::Opening { link, options, .. } if options.first() == Some(&b'!') => {
                session.refuse(link, Code::NotFound, "no");
            }
            Event::Opening { link, role, .. } => {
                session.opened(link, b"info");
                if role == Role::Sender {
                    session.grant(link, 100, 100_000);
                }
            }
            Event::Opened { link, .. } | Event::Credit { link } | Event::Writable { link } => {
                let payload = Bytes::from(vec![0; 10_000]);
                let _ = session.transfer(link, &Hop::default(), b"large", &payload);
                let _ = session.transfer(link, &Hop::default(), b"small", &payload.slice(..10));
            }
            Event::Transfer { link, seq, transfer } => {
                assert!(transfer.head.len() <= 200 && transfer.payload.len() <= 20_000);
                session.confirm(link, seq, 1, 1, 1);
                session.settle(link, seq, seq, Outcome::Ack, None, "");
                session.grant(link, 1, transfer.payload.len() as u64);
                if seq % 5 == 0 {
                    session.sync(link, seq);
                }
                if seq % 17 == 0 {
                    session.return_(link, seq, Code::Full, 0, "full");
                    session.closed(link, Code::SlowConsumer, "cut off");
                    session.stop(link);
                }
            }
            Event::Settle { link, first, .. } if first % 7 == 0 => session.stopped(link),
            Event::Sync { link, token } => session.synced(link, token, Code::Ok, ""),
            Event::Stop { link } => session.stopped(link),
            Event::Stopped { link } => session.close(link),
            Event::Close { link } => session.closed(link, Code::Ok, ""),
            Event::Closed { .. } | Event::Refused { .. } => {
                let _ = session.open(Role::Receiver, b"again");
            }
            Event::Call { id, body, .. } => session.result(id, Code::Ok, &body),
            Event::Ended { reason, .. } => {
                assert!(reason.len() <= 1_024);
                self.ended = true;
            }
            _ => {}
        }
    }

    /// Takes the output and writes it away; what this side says is well formed.
    fn write(&mut self, session: &mut Session) {
        session.swap_output(&mut self.output);
        let said = self.output.to_vec();
        if !said.starts_with(b"posthaste:") {
            check_frames(said.strip_prefix(b"\x89PHW\r\n\x01\x00").unwrap_or(&said));
        }
        self.output.advance(said.len());
        assert!(self.output.is_empty());
    }
}

fn check_frames(mut said: &[u8]) {
    while let Some((header, after)) = said.split_first_chunk() {
        let header = Header::decode(header);
        assert!(header.body_len <= 4_096);
        let (body, after) = after.split_at(header.body_len as usize);
        Frame::decode(header, body).expect("a session says what it would itself accept");
        said = after;
    }
    assert!(said.is_empty());
}
