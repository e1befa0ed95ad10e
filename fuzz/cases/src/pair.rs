//! A client and a server that talk to each other in any order and in any pieces, next to a model of
//! what each of them has to be told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use posthaste_wire::{
    Code, CommandError, Config, Event, Header, Hop, Link, Outcome, Output, Payloads, Role, Session,
    Transfer,
};

use crate::choices::Choices;
use crate::drive::config;
use crate::scene::{Side, start};
use crate::weigh::weigh;

/// Payloads from none at all to the largest, some of which travel in fragments.
const SIZES: [usize; 8] = [0, 1, 90, 1_000, 4_000, 4_100, 9_000, 20_000];
/// Few heads, so that messages are alike and go out together.
const HEADS: [&[u8]; 4] = [b"topic", b"", b"topics", b"topic"];
const OUTCOMES: [Outcome; 4] = [Outcome::Ack, Outcome::Retry, Outcome::Reject, Outcome::Release];
/// What may wait to be written: what gathers, control output, and one message more.
const OUTPUT_MAX: usize = (1 << 20) + (4 << 20) + (32 << 10);

/// A conversation in which every byte of `data` decides what happens next.
///
/// # Panics
/// If something is lost, doubled, out of order, made up, beyond its credit or without bound; or if
/// a session ends that had no reason to.
pub fn converse(data: &[u8]) {
    let mut choices = Choices::new(data);
    let kind = choices.below(32);
    let mut pair = Pair::new(kind % 8, kind & 8 != 0, kind & 16 != 0);
    while !choices.is_over() {
        pair.step(&mut choices);
        pair.check_bounds();
    }
    pair.settle_down();
}

struct Pair {
    now: Instant,
    client: End,
    server: End,
    links: BTreeMap<Place, Model>,
    /// Which link each side's handle is about.
    at_client: BTreeMap<Link, Place>,
    at_server: BTreeMap<Link, Place>,
    next_message: u64,
    next_token: u64,
    next_call: u32,
    /// Calls that were made and not answered, and answers that were given and have not come.
    calls: BTreeSet<u32>,
    answers: VecDeque<u32>,
    /// What the server has been asked for, and has not answered.
    opening: Vec<Link>,
    stopping: Vec<Link>,
    closing: Vec<Link>,
    calling: Vec<u32>,
    /// What may happen in this conversation: ends of all kinds, bytes that nobody has said.
    breaks: bool,
    injects: bool,
    /// Most messages are taken as they come, rather than told as events.
    takes: bool,
    /// Somebody had a reason to end the session.
    may_end: bool,
    /// Bytes came in between that nobody has said: all that holds from here are the bounds.
    tainted: bool,
}

/// A session, its end of the wire, and what it has heard in part.
struct End {
    session: Session,
    output: Output,
    /// On its way to the other side.
    wire: VecDeque<u8>,
    input: BytesMut,
    ended: bool,
}

/// The how-manieth link of a number: both sides count alike, since OPENs arrive in order.
type Place = (u16, usize);

/// What both sides have to be told about a link.
struct Model {
    role: Role,
    client: Link,
    server: Option<Link>,
    /// Every message that was taken: its identity, its head and its length.
    sent: Vec<(u64, &'static [u8], usize)>,
    delivered: usize,
    /// What the receiving end has granted.
    granted: u64,
    /// What the client settled, message by message, and the server has not heard of.
    settled: VecDeque<(u64, Outcome)>,
    confirmed: u64,
    confirm_heard: u64,
    returned: BTreeSet<u64>,
    syncs: VecDeque<u64>,
    synced: VecDeque<u64>,
    stopped: bool,
    stop_heard: bool,
    /// Closed, or asked to be closed, by either side: what is on its way may be discarded.
    closed: bool,
}

impl Model {
    fn sends_from(&self) -> Side {
        match self.role {
            Role::Sender => Side::Client,
            Role::Receiver => Side::Server,
        }
    }
}

impl Pair {
    /// Most conversations are harmless: little can be said about one that somebody breaks.
    fn new(kind: usize, takes: bool, runs: bool) -> Self {
        let now = start();
        // With that, each side is told of runs as they are.
        let config = || Config { runs, ..config() };
        let end = |session| End {
            session,
            output: Output::new(),
            wire: VecDeque::new(),
            input: BytesMut::new(),
            ended: false,
        };
        Self {
            now,
            client: end(Session::client(config(), now)),
            server: end(Session::server(config(), now)),
            links: BTreeMap::new(),
            at_client: BTreeMap::new(),
            at_server: BTreeMap::new(),
            next_message: 0,
            next_token: 0,
            next_call: 0,
            calls: BTreeSet::new(),
            answers: VecDeque::new(),
            opening: Vec::new(),
            stopping: Vec::new(),
            closing: Vec::new(),
            calling: Vec::new(),
            breaks: kind == 6,
            injects: kind == 7,
            takes,
            may_end: false,
            tainted: false,
        }
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// One thing happens. Bytes move in half of all steps, so that there is something to hear.
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(32) {
            0..=5 => self.carry(Side::Client, choices.below(256)),
            6..=11 => self.carry(Side::Server, choices.below(256)),
            12 | 13 => self.carry(Side::Client, usize::MAX),
            14 | 15 => self.carry(Side::Server, usize::MAX),
            16 => self.open(choices.one_of(&[Role::Sender, Role::Receiver])),
            17 | 18 => self.answer_open(choices),
            19..=22 => self.transfer(choices),
            23 | 24 => self.grant(choices),
            25 => self.confirm(choices),
            26 => self.settle(choices),
            27 => self.sync(choices),
            28 => self.call(choices),
            29 => self.stop_or_close(choices),
            30 => self.pass_time(choices),
            _ if self.breaks => self.break_off(choices),
            _ if self.injects => self.inject(choices),
            _ => self.open(Role::Receiver),
        }
    }

    // ---- bytes

    /// Moves up to `most` bytes of what `from` has to say to the other side.
    fn carry(&mut self, from: Side, most: usize) {
        let now = self.now;
        let end = self.end(from);
        end.session.swap_output(&mut end.output);
        let said = end.output.to_vec();
        end.output.advance(said.len());
        end.wire.extend(said);
        let count = end.wire.len().min(most);
        let piece: Vec<u8> = end.wire.drain(..count).collect();
        let (to, takes) = (other(from), self.takes);
        // An empty message of a RUN takes less on the wire than it does once it is there.
        let told = 2 * self.granted(from) * size_of::<Event>();
        let mut taken = Vec::new();
        let end = self.end(to);
        end.input.extend_from_slice(&piece);
        let known = end.input.len() + end.session.output_len() + told;
        weigh(known, || {
            end.session.handle_input_into(&mut end.input, now, |link, seq, transfer| {
                if !takes || seq % 4 == 0 {
                    return Some(transfer);
                }
                taken.push(Event::Transfer { link, seq, transfer });
                None
            });
        });
        self.listen(from);
        for event in taken {
            self.hears(to, event);
        }
        self.listen(to);
    }

    /// How many messages from this side there may still be.
    fn granted(&self, from: Side) -> usize {
        let of = self.links.values().filter(|model| model.sends_from() == from);
        of.map(|model| usize::try_from(model.granted).unwrap_or(0) - model.delivered).sum()
    }

    /// Hears everything that a session has to tell.
    fn listen(&mut self, side: Side) {
        while let Some(event) = self.end(side).session.poll_event() {
            self.hears(side, event);
        }
    }

    fn hears(&mut self, side: Side, event: Event) {
        assert!(!self.end(side).ended, "nothing comes after the end");
        if let Event::Ended { code, reason, .. } = &event {
            assert!(self.may_end, "the {side:?} ended: {code}, {reason}");
            self.end(side).ended = true;
        } else if !self.tainted {
            match side {
                Side::Client => self.client_hears(event),
                Side::Server => self.server_hears(event),
            }
        }
    }

    fn client_hears(&mut self, event: Event) {
        match event {
            Event::Transfer { link, seq, transfer } => {
                let model = model(&mut self.links, &self.at_client, link);
                assert_eq!(model.role, Role::Receiver);
                model.hears(seq, &transfer);
            }
            Event::Confirm { link, upto, .. } => {
                let model = model(&mut self.links, &self.at_client, link);
                assert!(model.confirm_heard < upto && upto <= model.confirmed);
                model.confirm_heard = upto;
            }
            Event::Returned { link, seq, .. } => {
                let model = model(&mut self.links, &self.at_client, link);
                assert!(seq > model.confirm_heard, "a return comes before its confirm");
                assert!(model.returned.remove(&seq), "what comes back was handed back once");
            }
            Event::Synced { link, token, .. } => {
                let model = model(&mut self.links, &self.at_client, link);
                assert_eq!(model.synced.pop_front(), Some(token));
            }
            Event::Stopped { link } => {
                let model = model(&mut self.links, &self.at_client, link);
                assert!(model.stopped && !std::mem::replace(&mut model.stop_heard, true));
            }
            Event::Closed { link, .. } | Event::Refused { link, .. } => {
                model(&mut self.links, &self.at_client, link).closed = true;
                self.at_client.remove(&link);
            }
            Event::Result { id, body, .. } => {
                assert_eq!(self.answers.pop_front(), Some(id));
                assert_eq!(body, id.to_le_bytes()[..]);
            }
            _ => {}
        }
    }

    fn server_hears(&mut self, event: Event) {
        match event {
            Event::Opening { link, role, options } => {
                let nth = self.at_server.values().filter(|(id, _)| *id == link.id()).count();
                let place = (link.id(), nth);
                let model = self.links.get_mut(&place).expect("what opens was asked for");
                assert_eq!((model.role, &options[..]), (role, &b"options"[..]));
                model.server = Some(link);
                self.at_server.insert(link, place);
                self.opening.push(link);
            }
            Event::Transfer { link, seq, transfer } => {
                let model = model(&mut self.links, &self.at_server, link);
                assert_eq!(model.role, Role::Sender);
                model.hears(seq, &transfer);
            }
            Event::Settle { link, first, last, outcome, .. } => {
                let model = model(&mut self.links, &self.at_server, link);
                for seq in first..=last {
                    assert_eq!(model.settled.pop_front(), Some((seq, outcome)));
                }
            }
            Event::Sync { link, token } => {
                let model = model(&mut self.links, &self.at_server, link);
                assert_eq!(model.syncs.pop_front(), Some(token));
                model.synced.push_back(token);
                self.server.session.synced(link, token, Code::Ok, "");
            }
            // One that is not open yet is stopped once it is.
            Event::Stop { link } if self.opening.contains(&link) => self.stopping.push(link),
            Event::Stop { link } => self.server_stops(link),
            Event::Close { link } => self.closing.push(link),
            Event::Call { id, body, .. } => {
                assert_eq!(body, b"body"[..]);
                assert!(self.calls.remove(&id), "a call comes once");
                self.calling.push(id);
            }
            _ => {}
        }
    }

    // ---- commands

    fn open(&mut self, role: Role) {
        match self.client.session.open(role, b"options") {
            Ok(link) => {
                let count = |(id, _): &&Place| *id == link.id();
                let place = (link.id(), self.links.keys().filter(count).count());
                self.links.insert(place, Model::new(role, link));
                self.at_client.insert(link, place);
            }
            Err(CommandError::Limit) => assert!(self.client.session.is_established()),
            Err(error) => {
                assert_eq!(error, CommandError::Closed);
                assert!(!self.client.session.is_established());
            }
        }
    }

    fn answer_open(&mut self, choices: &mut Choices<'_>) {
        if self.opening.is_empty() {
            return;
        }
        let at = choices.below(self.opening.len());
        let link = self.opening.remove(at);
        if choices.below(8) == 7 {
            model(&mut self.links, &self.at_server, link).closed = true;
            self.server.session.refuse(link, Code::NotFound, "no");
        } else {
            self.server_opens(link);
        }
    }

    fn server_opens(&mut self, link: Link) {
        self.server.session.opened(link, b"info");
        if self.stopping.contains(&link) {
            self.server_stops(link);
        }
    }

    /// A link, if there is any.
    fn any_link(&self, choices: &mut Choices<'_>) -> Option<Place> {
        if self.links.is_empty() {
            return None;
        }
        // Late links more than early ones, which may be closed.
        let back = choices.below(self.links.len().min(8));
        self.links.keys().rev().nth(back).copied()
    }

    /// One message, or several of one length, one by one or as a run.
    fn transfer(&mut self, choices: &mut Choices<'_>) {
        let Some(place) = self.any_link(choices) else { return };
        let len = choices.one_of(&SIZES);
        let times = choices.one_of(&[1, 1, 2, 9]);
        if choices.below(4) == 3 {
            self.send_run(place, len, times);
        } else {
            (0..times).for_each(|_| self.send(place, len));
        }
    }

    fn send_run(&mut self, place: Place, len: usize, times: u64) {
        let first = self.next_message;
        let Some(model) = self.links.get_mut(&place) else { return };
        let side = model.sends_from();
        let Some(link) = model.at(side) else { return };
        let behind_its_length = |identity| {
            let stated = u32::try_from(len).unwrap_or(u32::MAX);
            [&stated.to_le_bytes()[..], &payload_of(identity, len)].concat()
        };
        let payloads =
            Bytes::from((first..first + times).flat_map(behind_its_length).collect::<Vec<_>>());
        let end = self.end(side);
        let room = end.session.room(link);
        let sent = end.session.transfer_run(link, 0, head_of(first), &payloads);
        assert_eq!(sent.is_ok(), room, "there is room if and only if a message is taken");
        let Ok((count, taken)) = sent else { return };
        let count = u64::from(count);
        assert!((1..=times).contains(&count));
        assert_eq!(u64::try_from(taken), Ok(count * (len as u64 + 4)));
        self.next_message += count;
        let Some(model) = self.links.get_mut(&place) else { return };
        model.sent.extend((first..first + count).map(|identity| (identity, head_of(first), len)));
        let seq = model.sent.len() as u64;
        assert!(self.tainted || seq <= model.granted, "no message goes without credit");
    }

    fn send(&mut self, place: Place, len: usize) {
        let identity = self.next_message;
        let Some(model) = self.links.get_mut(&place) else { return };
        let side = model.sends_from();
        let Some(link) = model.at(side) else { return };
        let payload = Bytes::from(payload_of(identity, len));
        let end = self.end(side);
        let room = end.session.room(link);
        let sent = end.session.transfer(link, &Hop::default(), head_of(identity), &payload);
        assert_eq!(sent.is_ok(), room, "there is room if and only if a message is taken");
        let Ok(seq) = sent else { return };
        self.next_message += 1;
        let Some(model) = self.links.get_mut(&place) else { return };
        model.sent.push((identity, head_of(identity), len));
        assert_eq!(seq, model.sent.len() as u64, "messages are numbered from 1");
        assert!(self.tainted || seq <= model.granted, "no message goes without credit");
    }

    fn grant(&mut self, choices: &mut Choices<'_>) {
        let Some(place) = self.any_link(choices) else { return };
        let messages = choices.below(32) as u64;
        let bytes = choices.below(60_000) as u64;
        let Some(model) = self.links.get_mut(&place) else { return };
        let side = other(model.sends_from());
        if let Some(link) = model.at(side) {
            model.granted += messages;
            self.end(side).session.grant(link, messages, bytes);
        }
    }

    fn confirm(&mut self, choices: &mut Choices<'_>) {
        let Some(place) = self.any_link(choices) else { return };
        let Some(model) = self.links.get_mut(&place) else { return };
        let (Some(link), Role::Sender) = (model.server, model.role) else { return };
        let open = model.delivered as u64 - model.confirmed;
        if open == 0 || model.closed {
            return;
        }
        let upto = model.confirmed + 1 + choices.below(usize::try_from(open).unwrap_or(1)) as u64;
        if choices.below(4) == 3 && model.returned.insert(upto) {
            self.server.session.return_(link, upto, Code::Full, 0, "full");
        }
        model.confirmed = upto;
        let level = choices.below(2) as u8;
        self.server.session.confirm(link, upto, 1, level, 1);
    }

    fn settle(&mut self, choices: &mut Choices<'_>) {
        let Some(place) = self.any_link(choices) else { return };
        let Some(model) = self.links.get_mut(&place) else { return };
        if model.role == Role::Sender || model.closed || model.delivered == 0 {
            return;
        }
        let first = 1 + choices.below(model.delivered);
        let last = first + choices.below(model.delivered + 1 - first);
        let outcome = choices.one_of(&OUTCOMES);
        model.settled.extend((first..=last).map(|seq| (seq as u64, outcome)));
        let session = &mut self.client.session;
        session.settle(model.client, first as u64, last as u64, outcome, None, "");
    }

    fn sync(&mut self, choices: &mut Choices<'_>) {
        let Some(place) = self.any_link(choices) else { return };
        let Some(model) = self.links.get_mut(&place) else { return };
        let before = self.client.session.output_len();
        self.next_token += 1;
        self.client.session.sync(model.client, self.next_token);
        if self.client.session.output_len() > before {
            model.syncs.push_back(self.next_token);
        }
    }

    fn call(&mut self, choices: &mut Choices<'_>) {
        if choices.below(2) == 0 {
            let id = self.next_call;
            if self.client.session.call(id, 1, b"body").is_ok() {
                self.next_call += 1;
                self.calls.insert(id);
            }
        } else if !self.calling.is_empty() {
            let at = choices.below(self.calling.len());
            let id = self.calling.remove(at);
            self.answers.push_back(id);
            self.server.session.result(id, Code::Ok, &id.to_le_bytes());
        }
    }

    fn stop_or_close(&mut self, choices: &mut Choices<'_>) {
        match choices.below(8) {
            0 => self.close(choices),
            1 => self.stop(choices),
            _ => {}
        }
    }

    fn stop(&mut self, choices: &mut Choices<'_>) {
        let Some(place) = self.any_link(choices) else { return };
        let Some(model) = self.links.get_mut(&place) else { return };
        if choices.below(2) == 0 {
            self.client.session.stop(model.client);
        } else if let Some(link) = model.server
            && model.role == Role::Receiver
            && !self.opening.contains(&link)
        {
            self.server_stops(link);
        }
    }

    fn server_stops(&mut self, link: Link) {
        model(&mut self.links, &self.at_server, link).stopped = true;
        self.server.session.stopped(link);
    }

    fn close(&mut self, choices: &mut Choices<'_>) {
        match choices.below(3) {
            0 => {
                let Some(place) = self.any_link(choices) else { return };
                let Some(model) = self.links.get_mut(&place) else { return };
                model.closed = true;
                self.client.session.close(model.client);
            }
            1 if !self.closing.is_empty() => {
                let at = choices.below(self.closing.len());
                let link = self.closing.remove(at);
                self.server_closes(link);
            }
            _ => {
                let Some(place) = self.any_link(choices) else { return };
                if let Some(link) = self.links.get(&place).and_then(|model| model.server) {
                    self.server_closes(link);
                }
            }
        }
    }

    fn server_closes(&mut self, link: Link) {
        model(&mut self.links, &self.at_server, link).closed = true;
        self.opening.retain(|opening| *opening != link);
        self.server.session.closed(link, Code::SlowConsumer, "too slow");
    }

    // ---- what happens to both

    /// Time passes. As long as what is said then arrives, nobody takes the other for dead.
    fn pass_time(&mut self, choices: &mut Choices<'_>) {
        self.now += Duration::from_millis(choices.below(16) as u64 * 500);
        let arrives = !self.breaks || choices.below(8) != 7;
        let ready = self.client.session.is_established() && self.server.session.is_established();
        self.may_end |= !(arrives && ready);
        for _ in 0..2 {
            for side in [Side::Client, Side::Server] {
                let now = self.now;
                self.end(side).session.handle_timeout(now);
                self.listen(side);
                if arrives {
                    self.carry(side, usize::MAX);
                }
            }
        }
    }

    fn break_off(&mut self, choices: &mut Choices<'_>) {
        match choices.below(32) {
            0 => {
                self.may_end = true;
                for side in [Side::Client, Side::Server] {
                    self.end(side).session.handle_eof();
                    self.listen(side);
                }
            }
            1 => {
                self.may_end = true;
                self.client.session.goodbye(Code::Ok, "done");
            }
            2 => {
                self.may_end = true;
                self.server.session.goodbye(Code::GoingAway, "stopping");
            }
            _ => {}
        }
    }

    fn inject(&mut self, choices: &mut Choices<'_>) {
        (self.may_end, self.tainted) = (true, true);
        let side = choices.one_of(&[Side::Client, Side::Server]);
        let garbage = choices.bytes(64);
        self.end(side).wire.extend(garbage);
    }

    fn check_bounds(&mut self) {
        let frame = config().limits.frame as usize;
        for side in [Side::Client, Side::Server] {
            let end = self.end(side);
            assert!(end.session.output_len() <= OUTPUT_MAX);
            assert!(end.input.len() < Header::LEN + frame);
            assert!(end.session.wanted() <= frame);
        }
    }

    /// Answers all that is open and carries everything: then nothing may be missing anywhere.
    fn settle_down(&mut self) {
        for _ in 0..64 {
            for link in std::mem::take(&mut self.opening) {
                self.server_opens(link);
            }
            for link in std::mem::take(&mut self.closing) {
                self.server_closes(link);
            }
            for id in std::mem::take(&mut self.calling) {
                self.answers.push_back(id);
                self.server.session.result(id, Code::Ok, &id.to_le_bytes());
            }
            self.carry(Side::Client, usize::MAX);
            self.carry(Side::Server, usize::MAX);
        }
        if self.tainted || self.client.ended || self.server.ended {
            return;
        }
        assert!(self.client.session.is_established() && self.server.session.is_established());
        assert!(!self.client.session.wants_output() && !self.server.session.wants_output());
        assert!(self.calls.is_empty() && self.answers.is_empty(), "every call has its answer");
        for model in self.links.values().filter(|model| !model.closed) {
            assert_eq!(model.delivered, model.sent.len(), "what was sent has come");
            assert_eq!(model.confirm_heard, model.confirmed, "what was confirmed is known");
            assert!(model.settled.is_empty() && model.returned.is_empty());
            assert!(model.syncs.is_empty() && model.synced.is_empty());
            assert_eq!(model.stop_heard, model.stopped);
        }
    }
}

impl Model {
    fn new(role: Role, client: Link) -> Self {
        Self {
            role,
            client,
            server: None,
            sent: Vec::new(),
            delivered: 0,
            granted: 0,
            settled: VecDeque::new(),
            confirmed: 0,
            confirm_heard: 0,
            returned: BTreeSet::new(),
            syncs: VecDeque::new(),
            synced: VecDeque::new(),
            stopped: false,
            stop_heard: false,
            closed: false,
        }
    }

    /// The handle that a side has.
    fn at(&self, side: Side) -> Option<Link> {
        match side {
            Side::Client => Some(self.client),
            Side::Server => self.server,
        }
    }

    /// A message has come, or a run: it is the next that was sent.
    fn hears(&mut self, seq: u64, transfer: &Transfer) {
        assert!(!self.stop_heard, "nothing comes after the end of a link");
        assert_eq!(seq, self.delivered as u64 + 1);
        if transfer.count == 1 {
            return self.hears_one(&transfer.head, &transfer.payload);
        }
        assert_eq!(Payloads::of_run(&transfer.payload).count() as u64, u64::from(transfer.count));
        for payload in Payloads::of_run(&transfer.payload) {
            self.hears_one(&transfer.head, payload);
        }
    }

    fn hears_one(&mut self, head: &[u8], payload: &[u8]) {
        let (identity, as_sent, len) = self.sent[self.delivered];
        self.delivered += 1;
        assert_eq!(head, as_sent);
        assert_eq!(payload.len(), len);
        assert!(payload == payload_of(identity, len));
    }
}

fn model<'a>(
    links: &'a mut BTreeMap<Place, Model>,
    handles: &BTreeMap<Link, Place>,
    link: Link,
) -> &'a mut Model {
    let place = handles.get(&link).expect("a session speaks of links that there are");
    links.get_mut(place).expect("every link has a model")
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

/// Several in a row have the same.
fn head_of(identity: u64) -> &'static [u8] {
    HEADS[usize::try_from(identity / 16).unwrap_or(0) % HEADS.len()]
}

/// What the payload of a message consists of.
fn payload_of(identity: u64, len: usize) -> Vec<u8> {
    let mut payload = identity.to_le_bytes().repeat(len.div_ceil(8));
    payload.truncate(len);
    payload
}
