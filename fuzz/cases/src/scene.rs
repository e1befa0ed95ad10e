//! Two sessions in the middle of a conversation, so that a frame of every kind is in place.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use posthaste_wire::{
    Code, Config, Event, Frame, Hop, Limits, Link, Output, PREFACE_LEN, Role, Session,
};

use crate::drive;

/// A client and a server that know of each other's links:
///
/// | link | |
/// |---|---|
/// | 1 | the client sends: three messages, of which one is confirmed |
/// | 2 | the server sends: three messages, and a SYNC waits for its answer |
/// | 3 | asked for, not answered |
/// | 4 | asked to be closed, not answered |
/// | 5 | the client sends, and is in the middle of a message of fragments |
/// | 6 | the server sends, and is in the middle of a message of fragments |
/// | 7 | closed by the server, which the client knows |
///
/// One call, number 1, waits for its answer.
#[derive(Debug)]
pub struct Scene {
    /// The client.
    pub client: Session,
    /// The server.
    pub server: Session,
    /// The time that it is.
    pub now: Instant,
    /// The links that the server was asked for, in order.
    asked: Vec<Link>,
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who was connected to.
    Server,
}

/// As for the other targets, with as many links as there are here, and some more.
fn config() -> Config {
    let config = drive::config();
    Config { limits: Limits { links: 16, ..config.limits }, ..config }
}

/// An instant to count from.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "an origin can only be had from the machine")]
pub fn start() -> Instant {
    Instant::now()
}

impl Scene {
    /// Before anything was said.
    #[must_use]
    pub fn fresh() -> Self {
        let now = start();
        let (client, server) = (Session::client(config(), now), Session::server(config(), now));
        Self { client, server, now, asked: Vec::new() }
    }

    /// After the first eight bytes of either side.
    #[must_use]
    pub fn prefaced() -> Self {
        let mut scene = Self::fresh();
        let preface = said(&mut Session::client(config(), scene.now))[..PREFACE_LEN].to_vec();
        for side in [Side::Client, Side::Server] {
            assert!(scene.hears(side, &preface).is_empty());
        }
        scene
    }

    /// After the handshake.
    #[must_use]
    pub fn established() -> Self {
        let mut scene = Self::fresh();
        scene.talk();
        assert!(scene.client.is_established() && scene.server.is_established());
        scene
    }

    /// In the middle of a conversation.
    #[must_use]
    pub fn conversation() -> Self {
        use Role::{Receiver, Sender};
        let mut scene = Self::established();
        let roles = [Sender, Receiver, Sender, Sender, Sender, Receiver, Sender];
        let here = roles.map(|role| scene.client.open(role, b"options").expect("a free link"));
        scene.talk();
        let there = scene.asked.clone();
        for (at, role) in roles.into_iter().enumerate().filter(|(at, _)| *at != 2) {
            scene.server.opened(there[at], b"info");
            match role {
                Sender => scene.server.grant(there[at], 100, 100_000),
                Receiver => scene.client.grant(here[at], 100, 100_000),
            }
        }
        scene.talk();
        let payload = Bytes::from_static(b"payload");
        for _ in 0..3 {
            for (session, link) in [(&mut scene.client, here[0]), (&mut scene.server, there[1])] {
                session.transfer(link, &Hop::default(), b"head", &payload).expect("credit");
            }
        }
        scene.talk();
        scene.server.confirm(there[0], 1, 1, 1, 1);
        scene.server.closed(there[6], Code::SlowConsumer, "");
        scene.client.sync(here[1], 9);
        scene.client.call(1, 1, b"").expect("no other call waits");
        scene.client.close(here[3]);
        scene.talk();
        let piece = |link| {
            let hop = Hop::default();
            Frame::Transfer { link, hop, total: Some(30), head: b"head", payload: b"0123456789" }
        };
        for (side, link) in [(Side::Server, 5), (Side::Client, 6)] {
            let mut bytes = Vec::new();
            piece(link).encode(&mut bytes);
            scene.hears(side, &bytes);
        }
        scene
    }

    /// One of the two sessions.
    pub fn side(&mut self, side: Side) -> &mut Session {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// One side hears bytes; what of them is left over is part of a frame.
    pub fn hears(&mut self, side: Side, bytes: &[u8]) -> BytesMut {
        let now = self.now;
        let mut input = BytesMut::from(bytes);
        self.side(side).handle_input(&mut input, now);
        input
    }

    /// Carries what either side has to say until neither has anything to say.
    fn talk(&mut self) {
        while self.client.wants_output() || self.server.wants_output() {
            for (from, to) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
                let said = said(self.side(from));
                assert!(self.hears(to, &said).is_empty());
                while let Some(event) = self.side(to).poll_event() {
                    if let Event::Opening { link, .. } = event {
                        self.asked.push(link);
                    }
                }
            }
        }
    }
}

/// What a session has to say.
#[must_use]
pub fn said(session: &mut Session) -> Vec<u8> {
    let mut output = Output::new();
    session.swap_output(&mut output);
    output.to_vec()
}
