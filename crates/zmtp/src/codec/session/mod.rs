//! One connection, from its greeting to its end, without any IO.

mod handshake;

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::{Error, ErrorKind};

use super::{
    Command, Frame, GREETING_BYTES, Greeting, Properties, Security, broken, curve, decode_frame,
    encode_frame,
};

/// A message: one frame or more.
pub type Multipart = Vec<Bytes>;

/// What a peer may send at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// The bytes of a frame before the handshake is over.
    pub handshake_bytes: usize,
    /// The bytes of a message, all of its frames together.
    pub message_bytes: usize,
    /// The frames of a message.
    pub frames: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        // A payload of full size beside its headers, topic and envelope.
        Self { handshake_bytes: 4 << 10, message_bytes: PAYLOAD_BYTES_MAX + (1 << 20), frames: 64 }
    }
}

/// What a peer did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It has told of itself. A side that accepts answers with [`Session::introduce`], or with
    /// [`Session::refuse`].
    Peer(Properties),
    /// The handshake is over: messages may be sent.
    Established,
    /// A message, whole.
    Message(Multipart),
    /// It wants what begins with these bytes; each time once more.
    Subscribe(Bytes),
    /// It takes one such wish back.
    Cancel(Bytes),
    /// It asks for a sign of life: answer with [`Session::pong`] and this context, behind
    /// everything that was sent before.
    Ping(Bytes),
    /// It has answered the heartbeat of this context.
    Pong(Bytes),
}

/// The protocol's side of one connection: bytes in, events out, and the other way round.
///
/// See the [module](super) for an example.
#[derive(Debug)]
pub struct Session {
    security: Security,
    /// What a side that connects tells of itself.
    introduction: Option<Properties>,
    limits: SessionLimits,
    input: BytesMut,
    output: BytesMut,
    stage: Stage,
    /// The peer's greeting, once it is there.
    greeting: Option<Greeting>,
    /// What came with `Stage::Established`, if that is to be told next.
    established: bool,
    curve: Curve,
    parts: Multipart,
    parts_bytes: usize,
    failed: Option<Error>,
}

/// How far `CURVE` is.
#[derive(Default)]
enum Curve {
    /// It is not the mechanism, or has failed.
    #[default]
    None,
    Client(Box<curve::Client>),
    Server(Box<curve::Server>),
    Traffic(Box<curve::Traffic>),
}

impl fmt::Debug for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Curve").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The greeting of the peer is not there yet.
    Greeting,
    /// `PLAIN`: the server waits for the client's credentials.
    Credentials,
    /// `PLAIN`: the client waits for the server's welcome.
    Welcome,
    /// The peer has not told of itself yet.
    Properties,
    /// The peer has, and this side has not yet.
    Introduction,
    /// Messages.
    Open,
}

impl Session {
    /// The side that connects, or that listens for one kind of socket alone: it says what it is as
    /// soon as the mechanism lets it.
    #[must_use]
    pub fn connecting(security: Security, introduction: Properties) -> Self {
        Self::new(security, Some(introduction))
    }

    /// The side that accepts every kind of socket, and says what it is when it has heard what the
    /// peer is. Not for the client of a mechanism, who has to say it first.
    #[must_use]
    pub fn accepting(security: Security) -> Self {
        Self::new(security, None)
    }

    fn new(security: Security, introduction: Option<Properties>) -> Self {
        let greeting = Greeting::new(security.mechanism(), security.is_server());
        Self {
            security,
            introduction,
            limits: SessionLimits::default(),
            input: BytesMut::new(),
            output: BytesMut::from(&greeting.encode()[..]),
            stage: Stage::Greeting,
            greeting: None,
            established: false,
            curve: Curve::None,
            parts: Vec::new(),
            parts_bytes: 0,
            failed: None,
        }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: SessionLimits) -> Self {
        self.limits = limits;
        self
    }

    // ---- What it knows

    /// Whether the peer waits for [`introduce`](Self::introduce).
    #[must_use]
    pub fn awaits_introduction(&self) -> bool {
        self.stage == Stage::Introduction
    }

    /// Whether messages may be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open && self.failed.is_none()
    }

    /// Whether the peer knows heartbeats, and subscriptions as commands.
    #[must_use]
    pub fn peer_has_commands(&self) -> bool {
        self.greeting.as_ref().is_some_and(Greeting::has_commands)
    }

    // ---- What comes in

    /// Takes bytes that the peer sent. What is taken and not yet read as events is the caller's to
    /// bound: read all of them before the next bytes.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next event; `None` until there are more bytes.
    ///
    /// # Errors
    /// `Protocol` and `TooLarge` for what the peer did wrong, `Refused` if it or this side does not
    /// accept the other. That is the end: send what [`take_output`](Self::take_output) has, and
    /// close.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let event = self.advance();
        if let Err(error) = &event {
            self.failed = Some(error.clone());
            self.input.clear();
        }
        event
    }

    fn advance(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if std::mem::take(&mut self.established) {
                return Ok(Some(Event::Established));
            }
            if self.stage == Stage::Greeting {
                let Some(greeting) = Greeting::decode(&self.input)? else {
                    return Ok(None);
                };
                self.input.advance(GREETING_BYTES);
                self.greet(greeting)?;
            }
            let limit = match self.stage {
                // The peer is to wait for this side, too.
                Stage::Introduction => return Ok(None),
                Stage::Open => {
                    let sealed = matches!(self.curve, Curve::Traffic(_));
                    let overhead = if sealed { curve::OVERHEAD } else { 0 };
                    self.limits.message_bytes - self.parts_bytes + overhead
                }
                _ => self.limits.handshake_bytes,
            };
            let Some(frame) = decode_frame(&mut self.input, limit)? else {
                return Ok(None);
            };
            if let Some(event) = self.take_frame(frame)? {
                return Ok(Some(event));
            }
        }
    }

    fn take_frame(&mut self, frame: Frame) -> Result<Option<Event>, Error> {
        let frame = match std::mem::take(&mut self.curve) {
            Curve::None => frame,
            Curve::Traffic(mut traffic) => {
                let frame = traffic.open(&frame.body)?;
                self.curve = Curve::Traffic(traffic);
                frame
            }
            curve => return self.take_curve(curve, &frame),
        };
        self.take_open_frame(frame)
    }

    fn take_open_frame(&mut self, frame: Frame) -> Result<Option<Event>, Error> {
        if frame.command {
            if !self.parts.is_empty() {
                return Err(broken("a command came in the middle of a message"));
            }
            return self.take_command(Command::decode(frame.body)?);
        }
        if self.stage != Stage::Open {
            return Err(broken("a message came before the handshake was over"));
        }
        if self.parts.len() >= self.limits.frames {
            let text =
                format!("the peer sent a message of more than {} frames", self.limits.frames);
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        self.parts_bytes += frame.body.len();
        self.parts.push(frame.body);
        if frame.more {
            return Ok(None);
        }
        self.parts_bytes = 0;
        Ok(Some(Event::Message(std::mem::take(&mut self.parts))))
    }

    fn take_traffic(&mut self, command: Command) -> Result<Option<Event>, Error> {
        Ok(match command {
            Command::Subscribe(prefix) => Some(Event::Subscribe(prefix)),
            Command::Cancel(prefix) => Some(Event::Cancel(prefix)),
            Command::Ping { context, .. } => Some(Event::Ping(context)),
            Command::Pong(context) => Some(Event::Pong(context)),
            // What newer versions have is left to them.
            Command::Unknown(_) => None,
            command => return Err(broken(format!("it sent {} out of turn", name_of(&command)))),
        })
    }

    // ---- What goes out

    /// Says what this side is, which accepted: the handshake is over.
    ///
    /// # Errors
    /// `Protocol` unless the peer has told of itself and waits.
    pub fn introduce(&mut self, properties: &Properties) -> Result<(), Error> {
        if self.stage != Stage::Introduction {
            return Err(broken("there is nobody to be introduced to"));
        }
        self.put_ready(&properties.encode())?;
        (self.stage, self.established) = (Stage::Open, true);
        Ok(())
    }

    /// Tells the peer why it is not accepted. Send the output and close.
    pub fn refuse(&mut self, why: &str) {
        Command::Error(why.to_owned()).encode(&mut self.output);
    }

    /// Appends a message to the output. One without frames is nothing.
    pub fn send(&mut self, message: &[Bytes]) {
        let last = message.len().saturating_sub(1);
        for (at, frame) in message.iter().enumerate() {
            self.put(at < last, false, frame);
        }
    }

    /// Appends a frame, sealed if the mechanism does that. One that cannot be sealed ends the
    /// session.
    fn put(&mut self, more: bool, command: bool, body: &[u8]) {
        match &mut self.curve {
            Curve::Traffic(traffic) => match traffic.seal(more, command, body) {
                Ok(sealed) => encode_frame(false, false, &sealed, &mut self.output),
                Err(error) => self.failed = Some(error),
            },
            _ => encode_frame(more, command, body, &mut self.output),
        }
    }

    fn put_command(&mut self, command: &Command) {
        self.put(false, true, &command.body());
    }

    /// Asks for what begins with these bytes, in the words of the peer's version.
    pub fn subscribe(&mut self, prefix: &Bytes) {
        match self.peer_has_commands() {
            true => self.put_command(&Command::Subscribe(prefix.clone())),
            false => self.send_marked(1, prefix),
        }
    }

    /// Takes one such wish back.
    pub fn cancel(&mut self, prefix: &Bytes) {
        match self.peer_has_commands() {
            true => self.put_command(&Command::Cancel(prefix.clone())),
            false => self.send_marked(0, prefix),
        }
    }

    fn send_marked(&mut self, mark: u8, prefix: &[u8]) {
        let mut body = BytesMut::with_capacity(1 + prefix.len());
        body.put_u8(mark);
        body.put_slice(prefix);
        self.put(false, false, &body);
    }

    /// Asks the peer for a sign of life that brings the context back, of which 16 bytes at most are
    /// sent. Peers of ZMTP 3.0 do not answer: then nothing is sent, and the answer is `false`.
    pub fn ping(&mut self, ttl_deciseconds: u16, context: &Bytes) -> bool {
        if self.peer_has_commands() {
            let context = context.slice(..context.len().min(super::command::CONTEXT_BYTES_MAX));
            self.put_command(&Command::Ping { ttl_deciseconds, context });
        }
        self.peer_has_commands()
    }

    /// Answers a heartbeat.
    pub fn pong(&mut self, context: &Bytes) {
        let context = context.slice(..context.len().min(super::command::CONTEXT_BYTES_MAX));
        self.put_command(&Command::Pong(context));
    }

    /// How many bytes wait to be sent.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// Takes what is to be sent.
    pub fn take_output(&mut self) -> BytesMut {
        std::mem::take(&mut self.output)
    }
}

fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Ready(_) => "READY",
        Command::Error(_) => "ERROR",
        Command::Hello { .. } => "HELLO",
        Command::Welcome => "WELCOME",
        Command::Initiate(_) => "INITIATE",
        Command::Subscribe(_) => "SUBSCRIBE",
        Command::Cancel(_) => "CANCEL",
        Command::Ping { .. } => "PING",
        Command::Pong(_) => "PONG",
        Command::Unknown(_) => "an unknown command",
    }
}
