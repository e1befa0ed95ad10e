//! What the tests share: two sessions that talk to each other, and peers that speak raw frames.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use posthaste_wire::{Config, Event, Frame, Header, Hop, Link, Output, Role, Session};

pub(crate) fn config() -> Config {
    Config::default()
}

/// An instant to count from; no test lets time pass.
#[allow(clippy::disallowed_methods, reason = "an origin can only be had from the machine")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// Everything that the session has to say now.
pub(crate) fn output(session: &mut Session) -> Vec<u8> {
    let mut output = Output::new();
    session.swap_output(&mut output);
    output.to_vec()
}

pub(crate) fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

pub(crate) fn encode(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes);
    }
    bytes
}

/// The frames in `bytes`, which hold nothing else.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some((header, after)) = bytes.split_first_chunk() {
        let header = Header::decode(header);
        let (body, after) = after.split_at(header.body_len as usize);
        frames.push(Frame::decode(header, body).expect("a frame"));
        bytes = after;
    }
    assert!(bytes.is_empty(), "part of a frame");
    frames
}

/// Hands raw frames to a session.
pub(crate) fn feed(session: &mut Session, now: Instant, frames: &[Frame<'_>]) {
    session.handle_input(&mut BytesMut::from(&encode(frames)[..]), now);
}

/// A client and a server that are connected.
pub(crate) struct Pair {
    pub(crate) client: Session,
    pub(crate) server: Session,
    pub(crate) now: Instant,
}

impl Pair {
    /// Two sessions before the handshake.
    pub(crate) fn fresh(client: Config, server: Config) -> Self {
        let now = start();
        Self { client: Session::client(client, now), server: Session::server(server, now), now }
    }

    /// Two sessions after the handshake, with all events told.
    pub(crate) fn with(client: Config, server: Config) -> Self {
        let mut pair = Self::fresh(client, server);
        pair.pump();
        assert!(matches!(events(&mut pair.client)[..], [Event::Established { .. }]));
        assert!(matches!(events(&mut pair.server)[..], [Event::Established { .. }]));
        pair
    }

    pub(crate) fn new() -> Self {
        Self::with(config(), config())
    }

    /// Carries what the client has to say to the server.
    pub(crate) fn flush_client(&mut self) {
        let bytes = output(&mut self.client);
        self.server.handle_input(&mut BytesMut::from(&bytes[..]), self.now);
    }

    /// Carries what the server has to say to the client.
    pub(crate) fn flush_server(&mut self) {
        let bytes = output(&mut self.server);
        self.client.handle_input(&mut BytesMut::from(&bytes[..]), self.now);
    }

    /// Carries everything until neither has anything to say.
    pub(crate) fn pump(&mut self) {
        while self.client.wants_output() || self.server.wants_output() {
            self.flush_client();
            self.flush_server();
        }
    }

    /// Opens a link and tells both handles; all events are told.
    pub(crate) fn open(&mut self, role: Role) -> (Link, Link) {
        let client = self.client.open(role, b"options").expect("a link");
        self.pump();
        let [Event::Opening { link: server, .. }] = events(&mut self.server)[..] else {
            panic!("OPEN arrives alone");
        };
        self.server.opened(server, b"info");
        self.pump();
        assert!(
            matches!(events(&mut self.client)[..], [Event::Opened { link, .. }] if link == client)
        );
        (client, server)
    }

    /// Opens a sending link with plenty of credit.
    pub(crate) fn sender(&mut self) -> (Link, Link) {
        let (client, server) = self.open(Role::Sender);
        self.server.grant(server, 1_000_000, 1 << 40);
        self.pump();
        assert_eq!(events(&mut self.client), [Event::Credit { link: client }]);
        (client, server)
    }

    /// Opens a receiving link with plenty of credit.
    pub(crate) fn receiver(&mut self) -> (Link, Link) {
        let (client, server) = self.open(Role::Receiver);
        self.client.grant(client, 1_000_000, 1 << 40);
        self.pump();
        assert_eq!(events(&mut self.server), [Event::Credit { link: server }]);
        (client, server)
    }
}

/// Sends a message without anything special; returns its number.
pub(crate) fn send(session: &mut Session, link: Link, payload: &[u8]) -> u64 {
    let payload = Bytes::copy_from_slice(payload);
    session.transfer(link, &Hop::default(), b"head", &payload).expect("room")
}

/// The numbers and payload lengths of the transfers among events.
pub(crate) fn transfers(events: &[Event]) -> Vec<(u64, usize)> {
    let length = |event: &Event| match event {
        Event::Transfer { seq, transfer, .. } => Some((*seq, transfer.payload.len())),
        _ => None,
    };
    events.iter().filter_map(length).collect()
}

/// The end among events, which has to be the last one: its code, reason, and who said it.
pub(crate) fn ended(events: &[Event]) -> (posthaste_wire::Code, String, bool) {
    match events.last() {
        Some(Event::Ended { code, reason, by_peer }) => (*code, reason.clone(), *by_peer),
        other => panic!("not the end: {other:?}"),
    }
}
