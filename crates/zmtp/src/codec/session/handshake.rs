//! The handshake: what each mechanism asks of either side, until both know what the other is.

use bytes::Bytes;
use posthaste_core::{Error, ErrorKind};

use super::{Curve, Event, Session, Stage, name_of};
use crate::codec::security::{Credentials, Mechanism};
use crate::codec::{Command, Frame, Greeting, Properties, SocketType, broken, curve, encode_frame};

impl Session {
    /// The peer's greeting is there: the mechanism begins.
    pub(super) fn greet(&mut self, greeting: Greeting) -> Result<(), Error> {
        let ours = self.security.mechanism();
        if greeting.mechanism != ours {
            let text = format!(
                "the peer uses the security mechanism {}, this side {ours}; use the same on both",
                greeting.mechanism
            );
            return Err(Error::new(ErrorKind::Refused, text));
        }
        // libzmq says of no server of PLAIN that it is one, so only that much can be told.
        if greeting.as_server && self.security.is_server() {
            return Err(same_part("the server", ours));
        }
        self.greeting = Some(greeting);
        self.stage = match &self.security.0 {
            Mechanism::Null => {
                if let Some(introduction) = &self.introduction {
                    Command::Ready(introduction.encode()).encode(&mut self.output);
                }
                Stage::Properties
            }
            Mechanism::PlainClient(Credentials { username, password }) => {
                let (username, password) = (username.clone(), password.clone());
                Command::Hello { username, password }.encode(&mut self.output);
                Stage::Welcome
            }
            Mechanism::PlainServer(_) => Stage::Credentials,
            Mechanism::CurveClient { server, keys } => {
                let mut client = curve::Client::new(*server, keys)?;
                encode_frame(false, true, &client.hello()?, &mut self.output);
                self.curve = Curve::Client(Box::new(client));
                Stage::Welcome
            }
            Mechanism::CurveServer { keys, .. } => {
                self.curve = Curve::Server(Box::new(curve::Server::new(keys)?));
                Stage::Credentials
            }
        };
        Ok(())
    }

    /// Takes a command of the handshake of `CURVE`.
    pub(super) fn take_curve(
        &mut self,
        curve: Curve,
        frame: &Frame,
    ) -> Result<Option<Event>, Error> {
        if !frame.command {
            return Err(broken("a message came before the handshake was over"));
        }
        if let Ok(Command::Error(why)) = Command::decode(frame.body.clone()) {
            return self.take_command(Command::Error(why));
        }
        match (curve, self.stage) {
            (Curve::Client(mut client), Stage::Welcome) => {
                let initiate = client.welcome(&frame.body, &self.introduction_bytes())?;
                encode_frame(false, true, &initiate, &mut self.output);
                (self.curve, self.stage) = (Curve::Client(client), Stage::Properties);
                Ok(None)
            }
            (Curve::Client(client), _) => {
                let (properties, traffic) = client.ready(&frame.body)?;
                self.curve = Curve::Traffic(Box::new(traffic));
                self.take_properties(&properties)
            }
            (Curve::Server(mut server), Stage::Credentials) => {
                let welcome = server.hello(&frame.body)?;
                encode_frame(false, true, &welcome, &mut self.output);
                (self.curve, self.stage) = (Curve::Server(server), Stage::Properties);
                Ok(None)
            }
            (Curve::Server(server), _) => {
                let (key, properties, traffic) = server.initiate(&frame.body)?;
                if let Mechanism::CurveServer { check, .. } = &self.security.0
                    && !check(&key)
                {
                    return Err(self.refused("key"));
                }
                self.curve = Curve::Traffic(Box::new(traffic));
                self.take_properties(&properties)
            }
            _ => Err(broken("it sent a CURVE command out of turn")),
        }
    }

    /// The error of a client that is not let in, which is told so.
    fn refused(&mut self, what: &str) -> Error {
        // The text is what libzmq makes of a refusal: the code of its authentication protocol.
        Command::Error(String::from("400")).encode(&mut self.output);
        let text = format!("a peer was refused because of its {what}; check it on both sides");
        Error::new(ErrorKind::Refused, text)
    }

    /// Takes a command, of the handshake or of what comes after it.
    pub(super) fn take_command(&mut self, command: Command) -> Result<Option<Event>, Error> {
        match (self.stage, command) {
            (_, Command::Error(why)) => {
                let text = format!("the peer at the other end refused the connection: {why:?}");
                Err(Error::new(ErrorKind::Refused, text))
            }
            (Stage::Properties, Command::Ready(properties)) if !self.is_plain_server() => {
                self.take_properties(&properties)
            }
            (Stage::Properties, Command::Initiate(properties)) if self.is_plain_server() => {
                self.take_properties(&properties)
            }
            (Stage::Welcome, Command::Welcome) => {
                Command::Initiate(self.introduction_bytes()).encode(&mut self.output);
                self.stage = Stage::Properties;
                Ok(None)
            }
            (Stage::Welcome, Command::Hello { .. }) => {
                Err(same_part("a client", self.security.mechanism()))
            }
            (Stage::Credentials, Command::Hello { username, password }) => {
                self.check(&Credentials { username, password })
            }
            (Stage::Open, command) => self.take_traffic(command),
            (_, Command::Unknown(name)) => {
                let name = String::from_utf8_lossy(&name).into_owned();
                Err(broken(format!("it sent the command {name:?} in the handshake")))
            }
            (_, command) => Err(broken(format!("it sent {} out of turn", name_of(&command)))),
        }
    }

    fn is_plain_server(&self) -> bool {
        matches!(self.security.0, Mechanism::PlainServer(_))
    }

    fn check(&mut self, offered: &Credentials) -> Result<Option<Event>, Error> {
        let Mechanism::PlainServer(check) = &self.security.0 else {
            return Err(broken("it sent credentials to a client"));
        };
        if !check(offered) {
            return Err(self.refused("name or password"));
        }
        Command::Welcome.encode(&mut self.output);
        self.stage = Stage::Properties;
        Ok(None)
    }

    fn introduction_bytes(&self) -> Bytes {
        self.introduction.as_ref().map(Properties::encode).unwrap_or_default()
    }

    fn take_properties(&mut self, properties: &[u8]) -> Result<Option<Event>, Error> {
        let properties = Properties::decode(properties)?;
        match &self.introduction {
            Some(ours) => {
                let (ours, theirs) = (ours.socket_type, properties.socket_type);
                if !ours.talks_with(theirs) {
                    return Err(mismatch(ours, theirs));
                }
                if self.security.is_server() {
                    self.put_ready(&self.introduction_bytes())?;
                }
                (self.stage, self.established) = (Stage::Open, true);
            }
            None => self.stage = Stage::Introduction,
        }
        Ok(Some(Event::Peer(properties)))
    }

    /// Says what this side is, in the words of the mechanism.
    pub(super) fn put_ready(&mut self, properties: &Bytes) -> Result<(), Error> {
        match &mut self.curve {
            Curve::Traffic(traffic) => {
                encode_frame(false, true, &traffic.ready(properties)?, &mut self.output);
            }
            _ => Command::Ready(properties.clone()).encode(&mut self.output),
        }
        Ok(())
    }
}

fn same_part(part: &str, mechanism: &str) -> Error {
    let text = format!("both sides want to be {part} of {mechanism}; let one be the other");
    Error::new(ErrorKind::Refused, text)
}

/// The error of two sockets that cannot be connected.
fn mismatch(ours: SocketType, theirs: SocketType) -> Error {
    let text = format!(
        "the peer is a {theirs} socket, which does not talk with the {ours} that this is for; name \
         the right endpoint for it"
    );
    Error::new(ErrorKind::Refused, text)
}
