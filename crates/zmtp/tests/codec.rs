//! The codec: what is encoded is decoded, wherever it is cut, and nothing that comes in panics.

use bytes::{Bytes, BytesMut};
use posthaste_core::{Error, ErrorKind};
use posthaste_zmtp::codec::{
    Command, Credentials, CurveKeys, Event, Frame, GREETING_BYTES, Greeting, Multipart, Properties,
    Security, Session, SessionLimits, SocketType, decode_frame, encode_frame,
};
use proptest::prelude::*;

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        bytes(99).prop_map(Command::Ready),
        "[a-z ]{0,99}".prop_map(Command::Error),
        (bytes(99), bytes(99))
            .prop_map(|(username, password)| Command::Hello { username, password }),
        Just(Command::Welcome),
        bytes(99).prop_map(Command::Initiate),
        bytes(300).prop_map(Command::Subscribe),
        bytes(300).prop_map(Command::Cancel),
        (any::<u16>(), bytes(17))
            .prop_map(|(ttl_deciseconds, context)| Command::Ping { ttl_deciseconds, context }),
        bytes(17).prop_map(Command::Pong),
    ]
}

fn properties() -> impl Strategy<Value = Properties> {
    let others = prop::collection::vec(("X-[a-zA-Z]{1,9}", bytes(40)), 0..4);
    (bytes(255), others).prop_map(|(identity, others)| Properties {
        socket_type: SocketType::Router,
        identity,
        others,
    })
}

fn messages() -> impl Strategy<Value = Vec<Multipart>> {
    prop::collection::vec(prop::collection::vec(bytes(700), 1..5), 0..6)
}

/// A pair of sessions that have introduced themselves, over a wire that carries `cut` bytes at most
/// at a time.
fn introduced(security: (Security, Security), cut: usize) -> Result<(Session, Session), Error> {
    let mut client = Session::connecting(security.0, Properties::new(SocketType::Dealer));
    let mut server = Session::accepting(security.1);
    let mut open = 0;
    for _ in 0..8 {
        for event in carry(&mut client, &mut server, cut)? {
            match event {
                Event::Peer(_) => server.introduce(&Properties::new(SocketType::Router))?,
                Event::Established => open += 1,
                other => panic!("{other:?} in a handshake"),
            }
        }
        open += carry(&mut server, &mut client, cut)?
            .iter()
            .filter(|event| matches!(event, Event::Established))
            .count();
        // What follows an introduction at once.
        while let Some(event) = server.poll_event()? {
            open += usize::from(matches!(event, Event::Established));
        }
    }
    assert_eq!(open, 2, "sides that are through with their handshake");
    Ok((client, server))
}

/// Carries what one side has to say to the other, and says what came of it.
fn carry(from: &mut Session, to: &mut Session, cut: usize) -> Result<Vec<Event>, Error> {
    let mut events = Vec::new();
    for chunk in from.take_output().chunks(cut) {
        to.receive(chunk);
        while let Some(event) = to.poll_event()? {
            events.push(event);
        }
    }
    Ok(events)
}

fn null() -> (Security, Security) {
    (Security::null(), Security::null())
}

fn plain(password: &'static str) -> (Security, Security) {
    let known = Credentials::new("till-4", "secret");
    let check = move |offered: &Credentials| offered.matches(&known);
    (Security::plain(Credentials::new("till-4", password)), Security::plain_server(check))
}

fn curve() -> (Security, Security) {
    let (server, client) = (CurveKeys::generate().unwrap(), CurveKeys::generate().unwrap());
    let known = client.public();
    let theirs = Security::curve(server.public(), client);
    (theirs, Security::curve_server(server, move |key| *key == known))
}

/// Messages come through, wherever they are cut.
fn check_carried(security: (Security, Security), messages: Vec<Multipart>, cut: usize) {
    let (mut client, mut server) = introduced(security, cut).unwrap();
    messages.iter().for_each(|message| client.send(message));
    let came = carry(&mut client, &mut server, cut).unwrap();
    let sent: Vec<_> = messages.into_iter().map(Event::Message).collect();
    assert_eq!(came, sent);
}

/// Whatever comes in is an event or an error.
fn check_survives(mut session: Session, rubbish: &[u8], cut: usize) {
    for chunk in rubbish.chunks(cut) {
        session.receive(chunk);
        loop {
            match session.poll_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

// Keys take their time without optimization.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn sealed_messages_come_through_wherever_they_are_cut(
        messages in messages(),
        cut in 1..300_usize,
    ) {
        check_carried(curve(), messages, cut);
    }

    #[test]
    fn whatever_comes_in_sealed_or_not_is_an_event_or_an_error(
        rubbish in bytes(2_000),
        cut in 1..200_usize,
    ) {
        let mut server = Session::accepting(curve().1);
        server.receive(&Greeting::new("CURVE", false).encode());
        check_survives(server, &rubbish, cut);
        let mut client = Session::connecting(curve().0, Properties::new(SocketType::Req));
        client.receive(&Greeting::new("CURVE", true).encode());
        check_survives(client, &rubbish, cut);
        check_survives(introduced(curve(), 64).unwrap().1, &rubbish, cut);
    }
}

proptest! {
    #[test]
    fn frames_come_through(more: bool, body in bytes(70_000)) {
        let mut wire = BytesMut::new();
        encode_frame(more, false, &body, &mut wire);
        let frame = decode_frame(&mut wire, 1 << 20).unwrap();
        prop_assert_eq!(frame, Some(Frame { more, command: false, body }));
        prop_assert!(wire.is_empty());
    }

    #[test]
    fn a_frame_is_not_there_before_its_last_byte(body in bytes(400), cut in 0..400_usize) {
        let mut wire = BytesMut::new();
        encode_frame(false, true, &body, &mut wire);
        let mut part = BytesMut::from(&wire[..cut.min(wire.len() - 1)]);
        prop_assert_eq!(decode_frame(&mut part, 1 << 20).unwrap(), None);
    }

    #[test]
    fn commands_come_through(command in commands()) {
        prop_assert_eq!(Command::decode(command.body()).unwrap(), command);
    }

    #[test]
    fn properties_come_through(properties in properties()) {
        prop_assert_eq!(Properties::decode(&properties.encode()).unwrap(), properties);
    }

    #[test]
    fn greetings_come_through(minor: u8, as_server: bool, mechanism in "[A-Z_]{1,20}") {
        let greeting = Greeting { minor, ..Greeting::new(&mechanism, as_server) };
        prop_assert_eq!(Greeting::decode(&greeting.encode()).unwrap(), Some(greeting));
    }

    #[test]
    fn sessions_carry_messages_wherever_they_are_cut(
        messages in messages(),
        cut in 1..300_usize,
        with_plain: bool,
    ) {
        let security = if with_plain { plain("secret") } else { null() };
        check_carried(security, messages, cut);
    }

    #[test]
    fn whatever_comes_in_is_an_event_or_an_error(
        rubbish in bytes(2_000),
        cut in 1..200_usize,
        stage in 0..4_u8,
    ) {
        let session = match stage {
            0 => Session::accepting(Security::null()),
            1 => Session::connecting(plain("x").0, Properties::new(SocketType::Req)),
            2 => {
                let mut session = Session::accepting(plain("x").1);
                session.receive(&Greeting::new("PLAIN", false).encode());
                session
            }
            _ => introduced(null(), 64).unwrap().1,
        };
        check_survives(session, &rubbish, cut);
    }

    #[test]
    fn rubbish_is_no_command_and_no_properties(rubbish in bytes(300)) {
        let _ = Command::decode(rubbish.clone());
        let _ = Properties::decode(&rubbish);
    }
}

#[test]
fn a_length_is_checked_before_it_is_waited_for() {
    let huge: &[u8] = &[2, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    let error = decode_frame(&mut BytesMut::from(huge), 1 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_message_has_so_many_frames_and_bytes_and_no_more() {
    let limits = SessionLimits { message_bytes: 100, frames: 4, ..SessionLimits::default() };
    let run = |frames: usize, each: usize| {
        let (client, server) = introduced(null(), 4_096).unwrap();
        let (mut client, mut server) = (client, server.with_limits(limits));
        client.send(&vec![Bytes::from(vec![0; each]); frames]);
        carry(&mut client, &mut server, 4_096).map(|events| events.len())
    };
    assert_eq!(run(4, 25).unwrap(), 1);
    for (frames, each) in [(5, 1), (4, 26), (1, 101)] {
        assert_eq!(run(frames, each).unwrap_err().kind(), ErrorKind::TooLarge, "{frames} x {each}");
    }
}

#[test]
fn before_the_handshake_is_over_little_is_taken() {
    let mut server = Session::accepting(Security::null());
    server.receive(&Greeting::new("NULL", false).encode());
    let mut wire = BytesMut::new();
    encode_frame(false, true, &[0; 5_000], &mut wire);
    server.receive(&wire[..9]);
    assert_eq!(server.poll_event().unwrap_err().kind(), ErrorKind::TooLarge);
    // And it stays so.
    assert_eq!(server.poll_event().unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_wrong_password_is_refused_on_both_sides() {
    let mut client = Session::connecting(plain("guess").0, Properties::new(SocketType::Push));
    let mut server = Session::accepting(plain("guess").1);
    carry(&mut client, &mut server, 99).unwrap();
    carry(&mut server, &mut client, 99).unwrap();
    let refused = carry(&mut client, &mut server, 99).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let refused = carry(&mut server, &mut client, 99).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
}

/// What becomes of a handshake with `CURVE`: why it failed, if it did.
fn curved(client: Security, server: Security) -> Option<Error> {
    let mut client = Session::connecting(client, Properties::new(SocketType::Push));
    let mut server = Session::connecting(server, Properties::new(SocketType::Pull));
    for _ in 0..4 {
        if let Err(error) = carry(&mut client, &mut server, 64) {
            return Some(error);
        }
        if let Err(error) = carry(&mut server, &mut client, 64) {
            return Some(error);
        }
    }
    None
}

#[test]
fn curve_lets_in_whose_keys_fit() {
    let keys = || CurveKeys::generate().unwrap();
    let (server, client) = (keys(), keys());
    let known = client.public();
    let ours = || {
        let check = move |key: &posthaste_zmtp::codec::CurveKey| *key == known;
        Security::curve_server(server.clone(), check)
    };
    assert!(curved(Security::curve(server.public(), client.clone()), ours()).is_none());
    // Another server, and another client.
    let error = curved(Security::curve(keys().public(), client), ours()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let error = curved(Security::curve(server.public(), keys()), ours()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[test]
fn what_is_sealed_is_not_to_be_read_changed_or_said_twice() {
    let (mut client, mut server) = introduced(curve(), 4_096).unwrap();
    client.send(&["a secret".into()]);
    let wire = client.take_output();
    assert!(!wire.windows(8).any(|window| window == b"a secret"));
    let last = wire.len() - 1;
    server.receive(&wire);
    assert_eq!(server.poll_event().unwrap(), Some(Event::Message(vec!["a secret".into()])));
    server.receive(&wire);
    assert_eq!(server.poll_event().unwrap_err().kind(), ErrorKind::Protocol);
    let (mut client, mut server) = introduced(curve(), 4_096).unwrap();
    client.send(&["a secret".into()]);
    let mut wire = client.take_output();
    wire[last] ^= 1;
    server.receive(&wire);
    assert_eq!(server.poll_event().unwrap_err().kind(), ErrorKind::Refused);
    assert!(server.poll_event().is_err());
}

#[test]
fn what_libzmq_sends_for_an_error_is_one() {
    let command = Command::decode(Bytes::from_static(b"^RROR\x03400")).unwrap();
    assert_eq!(command, Command::Error("400".into()));
}

#[test]
fn mechanisms_and_sockets_have_to_fit() {
    let fails = |security: (Security, Security), client: SocketType, server: SocketType| {
        let mut client = Session::connecting(security.0, Properties::new(client));
        let mut server = Session::connecting(security.1, Properties::new(server));
        for _ in 0..4 {
            if let Err(error) = carry(&mut client, &mut server, 64) {
                return Some(error);
            }
            if let Err(error) = carry(&mut server, &mut client, 64) {
                return Some(error);
            }
        }
        None
    };
    let both = (Security::null(), plain("x").0);
    let error = fails(both, SocketType::Push, SocketType::Pull).unwrap();
    assert!(error.to_string().contains("PLAIN"), "{error}");
    let error = fails((plain("x").0, plain("x").0), SocketType::Push, SocketType::Pull).unwrap();
    assert!(error.to_string().contains("a client"), "{error}");
    let error = fails((plain("x").1, plain("x").1), SocketType::Push, SocketType::Pull).unwrap();
    assert!(error.to_string().contains("the server"), "{error}");
    let error = fails(null(), SocketType::Push, SocketType::Sub).unwrap();
    assert!(error.to_string().contains("SUB"), "{error}");
    assert!(fails(null(), SocketType::Push, SocketType::Pull).is_none());
    assert!(fails(plain("secret"), SocketType::Dealer, SocketType::Rep).is_none());
}

#[test]
fn older_peers_hear_of_subscriptions_in_messages() {
    let old = Greeting { minor: 0, ..Greeting::new("NULL", false) };
    let mut session = Session::connecting(Security::null(), Properties::new(SocketType::Sub));
    session.receive(&old.encode());
    let mut ready = BytesMut::new();
    Command::Ready(Properties::new(SocketType::Pub).encode()).encode(&mut ready);
    session.receive(&ready);
    while session.poll_event().unwrap().is_some() {}
    assert!(session.is_open() && !session.peer_has_commands());
    session.take_output();
    session.subscribe(&"px.".into());
    session.cancel(&"px.".into());
    assert!(!session.ping(0, &Bytes::new()));
    assert_eq!(session.take_output()[..], b"\x00\x04\x01px.\x00\x04\x00px."[..]);
}

#[test]
fn peers_before_three_are_told_apart() {
    let mut bytes = Greeting::new("NULL", false).encode();
    bytes[10] = 1;
    // As early as it can be known.
    let error = Greeting::decode(&bytes[..11]).unwrap_err();
    assert!(error.to_string().contains("older than 3.0"), "{error}");
    assert!(Greeting::decode(b"HTTP/1.1 200 OK").is_err());
    assert_eq!(Greeting::decode(&bytes[..9]).unwrap(), None);
    assert_eq!(bytes.len(), GREETING_BYTES);
}

#[test]
fn heartbeats_are_asked_and_answered() {
    let (mut client, mut server) = introduced(null(), 64).unwrap();
    assert!(client.ping(30, &"seventeen bytes!!".into()));
    let asked = carry(&mut client, &mut server, 64).unwrap();
    assert_eq!(asked, [Event::Ping("seventeen bytes!".into())]);
    server.pong(&"7".into());
    assert_eq!(carry(&mut server, &mut client, 64).unwrap(), [Event::Pong("7".into())]);
    // What nobody knows yet is left alone.
    let mut newer = BytesMut::new();
    Command::Unknown("NEWER".into()).encode(&mut newer);
    server.receive(&newer);
    assert_eq!(server.poll_event().unwrap(), None);
}
