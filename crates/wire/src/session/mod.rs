//! The session: one side of one connection, as a state machine.

mod client;
mod receive;
mod send;
mod server;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::code::Code;
use crate::config::{Config, Limits};
use crate::event::Event;
use crate::frame::{Frame, Header, OpenRun, Piece, Run, Violation, kind};
use crate::hello::Hello;
use crate::input::Input;
use crate::link::{Link, Outcome, Role, Stage, State};
use crate::output::Output;
use crate::preface::{self, FOREIGN_LINE, PREFACE, PREFACE_LEN, Preface, VERSION};
use crate::transfer::Transfer;

/// Control output (everything but messages) that may wait before the connection is given up.
pub(crate) const CONTROL_MAX: usize = 4 << 20;

/// Calls that a client may have outstanding.
pub(crate) const CALLS_MAX: usize = 1_024;

/// One side of one connection.
///
/// *Inputs* ([`handle_input`](Self::handle_input), [`handle_eof`](Self::handle_eof),
/// [`handle_timeout`](Self::handle_timeout)) and commands change the state;
/// *outputs* ([`poll_event`](Self::poll_event), [`poll_timeout`](Self::poll_timeout),
/// [`swap_output`](Self::swap_output)) tell what came of it. Drain the events after each input and
/// after each swap: what they hold is bounded by what was put in.
///
/// A command that is out of place (for a link that has closed, for the other side, after the end)
/// does nothing or returns an error; no command and no input panics.
pub struct Session {
    side: Side,
    phase: Phase,
    config: Config,
    /// What holds: this side's own until the handshake is complete.
    limits: Limits,
    heartbeat: Duration,
    /// When the handshake has to be complete.
    deadline: Option<Instant>,
    /// When bytes last came.
    received: Instant,
    /// When the PING that is unanswered was sent.
    pinged: Option<Instant>,
    /// Whether this side's preface is out.
    prefaced: bool,
    /// By number, less one.
    links: Vec<State>,
    /// Client: numbers that have been used and are free again.
    free: BTreeSet<u16>,
    calls: BTreeSet<u32>,
    events: VecDeque<Event>,
    out: Output,
    /// Bytes of control frames in `out`.
    control: usize,
    /// The SETTLE at the very end of `out`, if there is one that can grow.
    tail: Option<Tail>,
    /// The TRANSFER or RUN at the very end of `out`, if there is one that can grow.
    run: Option<OpenRun>,
    /// Links with credit or a confirm to write.
    dirty: Vec<u16>,
    /// Links whose message waits to be fragmented until the peer has memory for it.
    waiting: VecDeque<u16>,
    /// Links whose message goes out in fragments, next one first.
    fragmenting: VecDeque<u16>,
    /// What `fragmenting` takes of the peer's reassembly budget.
    underway: u64,
    /// What arriving fragments take of this side's reassembly budget.
    assembling: u64,
    /// Links that are owed a `Writable` because a transfer was refused as `Full`.
    owed: Vec<Link>,
    /// Bytes of input that the last call left.
    leftover: usize,
    wanted: usize,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The session is not established, has ended, or the command belongs to the other side.
    Closed,
    /// All links, or all calls, that may be open at a time are.
    Limit,
    /// The bytes do not fit into a frame.
    TooLarge {
        /// Length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the session is not established"),
            Self::Limit => f.write_str("as many are open as may be at a time"),
            Self::TooLarge { len, limit } => write!(f, "{len} bytes are over the limit of {limit}"),
        }
    }
}

impl std::error::Error for CommandError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Side {
    /// The role of the links on which this side sends messages.
    const fn sends(self) -> Role {
        match self {
            Self::Client => Role::Sender,
            Self::Server => Role::Receiver,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preface,
    Hello,
    Established,
    Ended,
}

/// A SETTLE that ends where the output ends, so that the next range may be joined to it.
#[derive(Clone, Copy, Debug)]
struct Tail {
    link: Link,
    outcome: Outcome,
    last: u64,
    end: usize,
}

impl Session {
    /// The client's side; its preface and HELLO are in the output at once.
    #[must_use]
    pub fn client(config: Config, now: Instant) -> Self {
        let hello = Hello::encode(&config);
        let mut session = Self::new(Side::Client, config, now);
        session.preface();
        session.control(Frame::Hello { fields: &hello });
        session
    }

    /// The server's side; it says nothing before it knows what it talks to.
    #[must_use]
    pub fn server(config: Config, now: Instant) -> Self {
        Self::new(Side::Server, config, now)
    }

    fn new(side: Side, config: Config, now: Instant) -> Self {
        Self {
            side,
            phase: Phase::Preface,
            limits: config.limits.meet(config.limits),
            heartbeat: config.heartbeat.max(Config::HEARTBEAT_MIN),
            deadline: now.checked_add(config.handshake),
            config,
            received: now,
            pinged: None,
            prefaced: false,
            links: Vec::new(),
            free: BTreeSet::new(),
            calls: BTreeSet::new(),
            events: VecDeque::new(),
            out: Output::new(),
            control: 0,
            tail: None,
            run: None,
            dirty: Vec::new(),
            waiting: VecDeque::new(),
            fragmenting: VecDeque::new(),
            underway: 0,
            assembling: 0,
            owed: Vec::new(),
            leftover: 0,
            wanted: PREFACE_LEN,
        }
    }

    // What it knows.

    /// Whether the handshake is complete and the session has not ended.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Established
    }

    /// Whether the session has ended. Its output may still hold a goodbye.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The limits that hold; before the session is established, this side's own.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The heartbeat interval that holds; before the session is established, this side's own.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// How many bytes the frame that has come in part still needs; 0 if none has.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    // Inputs.

    /// Takes whole frames off the front of `input` and leaves a partial one, to which the driver
    /// appends what it reads next. Call it whenever bytes have been appended.
    ///
    /// Nothing is copied: messages are slices of `input`'s memory, which therefore lives for as
    /// long as one of them does. After the session has ended, input is discarded.
    pub fn handle_input(&mut self, input: &mut BytesMut, now: Instant) {
        self.handle_input_into(input, now, |_, _, transfer| Some(transfer));
    }

    /// The same, but messages need not go through the events: each that no other event comes
    /// before is offered to `take` with its link and its number, and becomes an event only if it
    /// is handed back. So the order is kept if all events are drained after every call: what `take`
    /// kept comes before them, and what comes behind an event, or behind a message that was handed
    /// back, is one itself. A message that came in fragments always is.
    ///
    /// ```
    /// use bytes::{Bytes, BytesMut};
    /// use posthaste_wire::{Config, Event, Hop, Output, Role, Session};
    ///
    /// # let now = std::time::Instant::now();
    /// # let mut client = Session::client(Config::default(), now);
    /// # let mut server = Session::server(Config::default(), now);
    /// # fn said(session: &mut Session) -> BytesMut {
    /// #     let mut output = Output::new();
    /// #     session.swap_output(&mut output);
    /// #     BytesMut::from(&output.to_vec()[..])
    /// # }
    /// # server.handle_input(&mut said(&mut client), now);
    /// # client.handle_input(&mut said(&mut server), now);
    /// # let link = client.open(Role::Sender, b"options").expect("a link is free");
    /// # server.handle_input(&mut said(&mut client), now);
    /// # while let Some(event) = server.poll_event() {
    /// #     if let Event::Opening { link, .. } = event {
    /// #         server.opened(link, b"info");
    /// #         server.grant(link, 10, 1_000);
    /// #     }
    /// # }
    /// # client.handle_input(&mut said(&mut server), now);
    /// // On a link that is open and has credit,
    /// for payload in ["a", "b"] {
    ///     client.transfer(link, &Hop::default(), b"head", &Bytes::from(payload)).expect("room");
    /// }
    /// let mut taken = Vec::new();
    /// server.handle_input_into(&mut said(&mut client), now, |_, number, transfer| {
    ///     taken.push((number, transfer.payload));
    ///     None
    /// });
    /// assert_eq!(taken, [(1, Bytes::from("a")), (2, Bytes::from("b"))]);
    /// assert_eq!(server.poll_event(), None);
    /// ```
    pub fn handle_input_into(
        &mut self,
        input: &mut impl Input,
        now: Instant,
        mut take: impl FnMut(Link, u64, Transfer) -> Option<Transfer>,
    ) {
        if input.as_ref().len() > self.leftover {
            self.received = now;
            self.pinged = None;
        }
        self.wanted = 0;
        if self.phase == Phase::Preface {
            self.take_preface(input);
        }
        while self.phase == Phase::Hello || self.phase == Phase::Established {
            let scan = self.scan(input.as_ref());
            self.wanted = scan.wanted;
            let violation = match scan.whole {
                0 => None,
                whole => self.take_frames(&input.take_front(whole), &mut take).err(),
            };
            if let Some(violation) = violation.or(scan.violation) {
                self.violated(&violation);
            } else if scan.whole == 0 || scan.all {
                break;
            }
        }
        if self.phase == Phase::Ended {
            input.clear();
            self.wanted = 0;
        }
        self.leftover = input.as_ref().len();
    }

    /// Bytes have come that are not handed over yet, because they are fewer than
    /// [`wanted`](Self::wanted): the peer is alive.
    pub fn handle_progress(&mut self, now: Instant) {
        self.received = now;
        self.pinged = None;
    }

    /// The connection has ended, or has failed. Without a goodbye before, that is the end with
    /// [`Code::ConnectionLost`].
    pub fn handle_eof(&mut self) {
        let reason = match self.phase {
            Phase::Preface | Phase::Hello => {
                "the connection ended before the handshake was complete"
            }
            _ => "the connection ended without a goodbye",
        };
        self.end(Code::ConnectionLost, reason, true);
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come; too early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        if self.phase != Phase::Established {
            let limit = self.config.handshake.as_secs_f32();
            self.goodbye(Code::Timeout, &format!("the handshake took longer than {limit:.1} s"));
        } else if self.pinged.is_some() {
            let twice = self.heartbeat.saturating_mul(2).as_secs_f32();
            self.goodbye(Code::Heartbeat, &format!("nothing was received for {twice} s"));
        } else {
            // The clock of the peer's last chance starts with the PING, not with what was heard
            // last: a process that was itself suspended must not call its peer dead.
            self.pinged = Some(now);
            self.out.shrink();
            self.events.shrink_to(16);
            self.control(Frame::Ping { token: 0 });
        }
    }

    // Outputs.

    /// The next thing that happened, in order; `None` when all are told.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Credit { link } = event
            && let Some(state) = find(&mut self.links, link)
        {
            state.announced = false;
        }
        Some(event)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` after the end.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Preface | Phase::Hello => self.deadline,
            Phase::Established => self.pinged.unwrap_or(self.received).checked_add(self.heartbeat),
            Phase::Ended => None,
        }
    }

    // Commands of either side; those of one side are in `client` and `server`.

    /// Ends the session in good order: the last thing that the peer hears is this reason.
    /// Fragmented messages that are under way are abandoned.
    pub fn goodbye(&mut self, code: Code, reason: &str) {
        if self.phase == Phase::Established {
            self.flush_links();
        }
        self.end(code, reason, false);
    }

    // What the parts share.

    fn take_preface(&mut self, input: &mut impl Input) {
        match preface::judge(input.as_ref()) {
            Preface::Partial(wanted) => self.wanted = wanted,
            Preface::Version(VERSION) => {
                drop(input.take_front(PREFACE_LEN));
                self.phase = Phase::Hello;
            }
            Preface::Version(version) => {
                let reason = format!("version {version} was offered; version {VERSION} is spoken");
                self.goodbye(Code::Version, &reason);
            }
            Preface::Foreign => {
                let input = input.as_ref();
                let begins = input.get(..input.len().min(16)).unwrap_or_default().escape_ascii();
                let reason =
                    format!("the peer does not speak Posthaste: it began with \"{begins}\"");
                if self.side == Side::Server {
                    self.prefaced = true;
                    self.out.buffer().extend_from_slice(FOREIGN_LINE.as_bytes());
                }
                self.finish(Code::Protocol, reason, false);
            }
        }
    }

    /// Finds out how many whole frames are there. Before the session is established they are taken
    /// one by one, since the first changes what is allowed of the next.
    fn scan(&self, input: &[u8]) -> Scan {
        let established = self.phase == Phase::Established;
        let limit = if established {
            self.limits.frame
        } else {
            self.config.limits.unauthenticated.saturating_sub(8)
        };
        let mut scan = Scan { whole: 0, wanted: 0, all: established, violation: None };
        let mut rest = input;
        while let Some((header, after)) = rest.split_first_chunk::<{ Header::LEN }>() {
            let len = Header::decode(header).body_len;
            if len > limit {
                let what = format!("a frame of {len} bytes is over the limit of {limit}");
                scan.violation = Some(Violation::detailed(Code::TooLarge, what));
                return scan;
            }
            let Some((_, after)) =
                usize::try_from(len).ok().and_then(|l| after.split_at_checked(l))
            else {
                let have = u32::try_from(after.len()).unwrap_or(u32::MAX);
                scan.wanted = usize::try_from(len.saturating_sub(have)).unwrap_or(usize::MAX);
                return scan;
            };
            rest = after;
            scan.whole = input.len().saturating_sub(rest.len());
            if !established {
                return scan;
            }
        }
        if !rest.is_empty() {
            scan.wanted = Header::LEN.saturating_sub(rest.len());
        }
        scan
    }

    fn take_frames(
        &mut self,
        block: &Bytes,
        take: &mut impl FnMut(Link, u64, Transfer) -> Option<Transfer>,
    ) -> Result<(), Violation> {
        let mut rest: &[u8] = block;
        while let Some((header, after)) = rest.split_first_chunk::<{ Header::LEN }>() {
            let header = Header::decode(header);
            let len = usize::try_from(header.body_len).unwrap_or(usize::MAX);
            let Some((body, after)) = after.split_at_checked(len) else {
                break;
            };
            rest = after;
            // By far the most frequent kinds go first.
            match header.kind {
                kind::RUN if self.phase == Phase::Established => {
                    self.on_run(block, Run::decode(header, body)?, take)?;
                    continue;
                }
                kind::TRANSFER if self.phase == Phase::Established => {
                    self.on_transfer(block, Piece::decode(header, body)?, take)?;
                    continue;
                }
                _ => {}
            }
            self.receive(block, Frame::decode(header, body)?)?;
            if self.phase == Phase::Ended {
                break;
            }
        }
        Ok(())
    }

    /// Appends a control frame, unless too much control output waits already.
    fn control(&mut self, frame: Frame<'_>) {
        if self.phase == Phase::Ended {
            return;
        }
        let buffer = self.out.buffer();
        let before = buffer.len();
        frame.encode(buffer);
        let written = buffer.len().saturating_sub(before);
        self.control = self.control.saturating_add(written);
        if self.control > CONTROL_MAX {
            self.end(Code::Limit, "more than 4 MiB of control output wait to be read", false);
        }
    }

    fn preface(&mut self) {
        if !std::mem::replace(&mut self.prefaced, true) {
            self.out.buffer().extend_from_slice(&PREFACE);
        }
    }

    #[cold]
    fn violated(&mut self, violation: &Violation) {
        self.end(violation.code(), &violation.to_string(), false);
    }

    /// Ends the session. Whoever is there to hear it is told why; a peer that ended it is not.
    fn end(&mut self, code: Code, reason: &str, by_peer: bool) {
        if self.phase == Phase::Ended {
            return;
        }
        if by_peer {
            self.out = Output::new();
        } else {
            self.preface();
            Frame::Goodbye { code, reason }.encode(self.out.buffer());
        }
        self.finish(code, crate::frame::cut(reason, 1_024).to_owned(), by_peer);
    }

    fn finish(&mut self, code: Code, reason: String, by_peer: bool) {
        self.phase = Phase::Ended;
        self.events.push_back(Event::Ended { code, reason, by_peer });
        self.links = Vec::new();
        self.free.clear();
        self.calls.clear();
        self.tail = None;
        self.run = None;
        self.dirty = Vec::new();
        self.waiting.clear();
        self.fragmenting.clear();
        self.owed = Vec::new();
        self.underway = 0;
        self.assembling = 0;
    }

    /// Frees what a link holds apart from its number: its life as the peer knows it is over.
    fn release(&mut self, id: u16, stage: Stage) {
        let Some(state) = numbered(&mut self.links, id) else {
            return;
        };
        state.stage = stage;
        state.then = None;
        if let Some(incoming) = state.incoming.take() {
            self.assembling = self.assembling.saturating_sub(incoming.charge());
        }
        if let Some(outgoing) = state.outgoing.take() {
            if outgoing.started {
                self.underway = self.underway.saturating_sub(outgoing.charge());
            }
            self.waiting.retain(|&other| other != id);
            self.fragmenting.retain(|&other| other != id);
        }
    }

    /// Whether `len` bytes of body, beside the few that are fixed, fit into a frame.
    fn fits(&self, len: usize) -> Result<(), CommandError> {
        let frame = usize::try_from(self.limits.frame).unwrap_or(usize::MAX);
        let limit = frame.saturating_sub(8);
        if len > limit { Err(CommandError::TooLarge { len, limit }) } else { Ok(()) }
    }

    fn established_as(&self, side: Side) -> bool {
        self.phase == Phase::Established && self.side == side
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("side", &self.side)
            .field("phase", &self.phase)
            .field("links", &self.links.len())
            .field("events", &self.events.len())
            .field("output_len", &self.out.len())
            .finish_non_exhaustive()
    }
}

/// What [`Session::scan`] found.
struct Scan {
    /// Bytes of whole frames.
    whole: usize,
    /// Bytes that the partial frame after them needs.
    wanted: usize,
    /// Whether these are all the frames that are there.
    all: bool,
    /// What is wrong after the whole frames.
    violation: Option<Violation>,
}

/// The state of the link with this number, in whatever stage it is.
fn numbered(links: &mut [State], id: u16) -> Option<&mut State> {
    links.get_mut(usize::from(id).checked_sub(1)?)
}

/// The state of the link with this handle, unless its number has a new life.
fn find(links: &mut [State], link: Link) -> Option<&mut State> {
    numbered(links, link.id).filter(|state| state.life == link.life)
}
