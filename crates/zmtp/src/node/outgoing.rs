//! What goes out: to whom, and whether there is room.

use std::collections::{BTreeMap, VecDeque};
use std::task::Poll;

use bytes::Bytes;
use posthaste_core::{Error, ErrorKind, Message, Runtime, Topic};

use super::boxes::{Item, MailBox, What};
use super::peer::{HighWater, Mark, Out, Queued, size_of};
use super::{Node, State};
use crate::codec::Multipart;
use crate::frames::{self, Envelope};
use crate::lane::Lane;
use crate::wants::Want;

/// The most queues that may hold something for want of a peer.
const PIPES_MAX: usize = 10_000;
/// How many answers are remembered.
const ANSWERED_MAX: usize = 256;
/// What inboxes are called.
pub(crate) const INBOX: &str = "_ph.inbox.";
/// What the addresses are called at which those are reached who asked over the wire.
const ASKER: &str = "_ph.zmtp.";

/// A message on its way out, as far as it is the same for everybody.
pub(crate) struct Prepared {
    pub(crate) topic: Topic,
    /// The envelope of a request.
    envelope: Option<Bytes>,
    lines: String,
    message: Message,
}

impl Prepared {
    pub(crate) fn new(message: &Message, envelope: Option<Bytes>, runtime: &dyn Runtime) -> Self {
        // The ticket of a request has everything that is not said in lines.
        let is_request = envelope.is_some() && message.reply_to().is_some();
        let lines = frames::lines(message, is_request, runtime);
        Self { topic: message.topic(), envelope, lines, message: message.clone() }
    }

    fn frames(&self, groups: &[Want]) -> Multipart {
        let lines = match groups {
            [] => self.lines.clone(),
            groups => frames::with_groups(&self.lines, groups),
        };
        let head = Some(frames::topic_frame(&self.topic));
        let body = frames::body(head, lines, self.message.payload());
        match &self.envelope {
            None => body,
            Some(ticket) => Envelope { frames: vec![ticket.clone()], delimited: true }.wrap(body),
        }
    }
}

/// To how many a message was handed, and what has to be reached until it is on its way.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pub(crate) matched: u64,
    pub(crate) marks: Vec<(u64, Mark)>,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Peer(u64),
    /// A box of this node: its own receivers are there as those of others are.
    Here(u64),
}

/// What was sent into a queue and nobody has been given yet.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    items: VecDeque<Queued>,
    bytes: usize,
}

impl Pipe {
    fn put(&mut self, queued: Queued) {
        self.bytes += size_of(&queued.frames);
        self.items.push_back(queued);
    }

    pub(super) fn put_back(&mut self, queued: Queued) {
        self.bytes += size_of(&queued.frames);
        self.items.push_front(queued);
    }

    fn take(&mut self) -> Option<Queued> {
        let queued = self.items.pop_front()?;
        self.bytes -= size_of(&queued.frames);
        Some(queued)
    }
}

impl State {
    /// Hands a message to every peer and every receiver of this node that wants it, and for each
    /// group to one of its members; to nobody before there is room for all. With `lane` `Ask` one
    /// of those that are not Posthaste gets it, too.
    pub(crate) fn poll_spread(
        &mut self,
        lane: Lane,
        message: &Prepared,
        high: &HighWater,
    ) -> Poll<Handed> {
        let mut copies: BTreeMap<Target, Vec<Want>> = BTreeMap::new();
        let mut members: BTreeMap<Want, Vec<Target>> = BTreeMap::new();
        let (mut strangers, mut matched, mut has_room) = (Vec::new(), 0, true);
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.known.lane == lane) {
            if lane == Lane::Ask && !peer.known.posthaste {
                strangers.push(Target::Peer(*id));
                continue;
            }
            let met = peer.wants.met(&message.topic);
            if met.copies > 0 {
                matched += met.copies;
                has_room &= peer.has_room(high);
                copies.insert(Target::Peer(*id), Vec::new());
            }
            for want in met.groups {
                members.entry(want).or_default().push(Target::Peer(*id));
            }
        }
        for (number, mailbox) in &self.boxes {
            match &mailbox.what {
                What::Topic(pattern) if pattern.matches(&message.topic) => {
                    matched += 1;
                    has_room &= mailbox.has_room();
                    copies.insert(Target::Here(*number), Vec::new());
                }
                What::Shared(pattern, _) if pattern.matches(&message.topic) => {
                    if let Some(want) = mailbox.what.want() {
                        members.entry(want).or_default().push(Target::Here(*number));
                    }
                }
                _ => {}
            }
        }
        matched += members.len() as u64;
        for (want, members) in members {
            match self.choose(&members, high) {
                Some(target) => copies.entry(target).or_default().push(want),
                None => has_room = false,
            }
        }
        if !strangers.is_empty() {
            matched += 1;
            match self.choose(&strangers, high) {
                Some(target) => drop(copies.insert(target, Vec::new())),
                None => has_room = false,
            }
        }
        if !has_room {
            return Poll::Pending;
        }
        self.turn = self.turn.wrapping_add(1);
        let mut marks = Vec::new();
        for (target, groups) in copies {
            match target {
                Target::Peer(id) => {
                    let mark = self.give(id, Out::Message(message.frames(&groups)));
                    marks.extend(mark.map(|mark| (id, mark)));
                }
                Target::Here(number) => self.put_here(number, message.message.clone()),
            }
        }
        Poll::Ready(Handed { matched, marks })
    }

    /// The one of these whose turn it is, of those that have room.
    fn choose(&self, of: &[Target], high: &HighWater) -> Option<Target> {
        let has_room = |target: &&Target| match target {
            Target::Peer(id) => self.peers.get(id).is_some_and(|peer| peer.has_room(high)),
            Target::Here(number) => self.boxes.get(number).is_some_and(MailBox::has_room),
        };
        let able: Vec<_> = of.iter().filter(has_room).collect();
        able.get(self.turn % able.len().max(1)).map(|target| **target)
    }

    fn give(&mut self, id: u64, out: Out) -> Option<Mark> {
        let peer = self.peers.get_mut(&id)?;
        let mark = peer.give(out);
        self.wake.extend(peer.waker.take());
        Some(mark)
    }

    fn put_here(&mut self, number: u64, message: Message) {
        if let Some(mailbox) = self.boxes.get_mut(&number) {
            mailbox.put(Item { message, attempt: 1 }, &mut self.wake);
        }
    }

    // ---- Queues

    /// Puts a message into a queue, from where the next consumer with room gets it.
    pub(crate) fn poll_push(
        &mut self,
        message: &Prepared,
        high: &HighWater,
    ) -> Poll<Result<Handed, Error>> {
        if self.pipes.len() >= PIPES_MAX && !self.pipes.contains_key(&message.topic) {
            let text = format!("more than {PIPES_MAX} queues wait for somebody to pull from them");
            return Poll::Ready(Err(Error::new(ErrorKind::Limit, text)));
        }
        let pipe = self.pipes.entry(message.topic.clone()).or_default();
        if !high.has_room(pipe.items.len(), pipe.bytes) {
            return Poll::Pending;
        }
        pipe.put(Queued { message: message.message.clone(), frames: message.frames(&[]) });
        let marks = self.pump(&message.topic, high).into_iter().collect();
        Poll::Ready(Ok(Handed { matched: 1, marks }))
    }

    /// Hands what waits in a queue to those that take it, as far as they have room; if nothing is
    /// left, which peer the last of it went to.
    pub(super) fn pump(&mut self, queue: &Topic, high: &HighWater) -> Option<(u64, Mark)> {
        let takers = self.takers(queue);
        let mut last = None;
        while let Some(target) = self.choose(&takers, high) {
            self.turn = self.turn.wrapping_add(1);
            let Some(queued) = self.pipes.get_mut(queue).and_then(Pipe::take) else {
                self.pipes.remove(queue);
                return last;
            };
            last = match target {
                Target::Peer(id) => {
                    let mark = self.give(id, Out::Queued(queue.clone(), queued));
                    mark.map(|mark| (id, mark))
                }
                Target::Here(number) => {
                    self.put_here(number, queued.message);
                    None
                }
            };
            // Who waits for room finds it now.
            self.notify();
        }
        None
    }

    /// Who takes out of a queue.
    fn takers(&self, queue: &Topic) -> Vec<Target> {
        let peers = self.peers.iter().filter(|(_, peer)| peer.known.lane == Lane::Push);
        let peers =
            peers.filter(|(_, peer)| !peer.known.posthaste || peer.wants.has_queue(queue));
        let is_it = |this: &MailBox| {
            this.members > 0 && matches!(&this.what, What::Queue(this) if this == queue)
        };
        let here = self.boxes.iter().filter(|(_, this)| is_it(this));
        let peers = peers.map(|(id, _)| Target::Peer(*id));
        peers.chain(here.map(|(number, _)| Target::Here(*number))).collect()
    }

    /// The same for every queue.
    pub(super) fn pump_all(&mut self) {
        let queues: Vec<Topic> = self.pipes.keys().cloned().collect();
        let high = self.high;
        for queue in queues {
            self.pump(&queue, &high);
        }
    }

    /// Whether somebody takes out of a queue now.
    pub(crate) fn is_pulled(&self, queue: &Topic) -> bool {
        !self.takers(queue).is_empty()
    }

    // ---- Answers

    /// Notes that the request of a peer that is not Posthaste has its answer: a `REQ` socket waits
    /// for one and takes no second.
    pub(crate) fn note_answer(&mut self, id: &str, answer: &Message) {
        let peer = read_asker(id, &answer.topic()).and_then(|(peer, _)| self.peers.get(&peer));
        if peer.is_some_and(|peer| !peer.known.posthaste) && !self.is_answered(answer) {
            self.answered.truncate(ANSWERED_MAX - 1);
            self.answered.push_front((answer.topic(), answer.correlation()));
        }
    }

    /// Whether the request has the one answer that it takes.
    pub(crate) fn is_answered(&self, answer: &Message) -> bool {
        let (topic, correlation) = (answer.topic(), answer.correlation());
        self.answered.iter().any(|(to, which)| *which == correlation && *to == topic)
    }

    /// Somebody asks again from where this went before.
    pub(super) fn forget_answer(&mut self, to: &Topic, correlation: u64) {
        self.answered.retain(|(this, which)| *which != correlation || this != to);
    }

    /// Hands a message to the peer that has the inbox, on the lane of requests that goes there.
    pub(crate) fn poll_inbox(&mut self, message: &Prepared, high: &HighWater) -> Poll<Handed> {
        let Some(number) = read_inbox(&message.topic) else {
            return Poll::Ready(Handed::default());
        };
        let has_it = |(id, peer): (&u64, &super::Peer)| {
            let lane = peer.known.lane;
            let is_asked = matches!(lane, Lane::Ask | Lane::Answer);
            (is_asked && peer.wants.met(&message.topic).copies > 0).then_some((*id, lane))
        };
        let Some((id, lane)) = self.peers.iter().find_map(has_it) else {
            return Poll::Ready(Handed::default());
        };
        if !self.peers.get(&id).is_some_and(|peer| peer.has_room(high)) {
            return Poll::Pending;
        }
        let frames = match lane {
            Lane::Ask => message.frames(&[]),
            _ => {
                let ticket = frames::ticket(number, 0);
                let envelope = Envelope { frames: vec![ticket], delimited: true };
                let lines = format!("{}{}", frames::AS_IT_IS, message.lines);
                envelope.wrap(frames::body(None, lines, message.message.payload()))
            }
        };
        let mark = self.give(id, Out::Message(frames)).map(|mark| (id, mark));
        Poll::Ready(Handed { matched: 1, marks: mark.into_iter().collect() })
    }

    /// Hands an answer to who asked, in this node or over the wire.
    pub(crate) fn poll_answer(
        &mut self,
        id: &str,
        message: &Message,
        runtime: &dyn Runtime,
        high: &HighWater,
    ) -> Poll<Handed> {
        if let Some(matched) = self.put_in_inbox(message) {
            return Poll::Ready(Handed { matched, marks: Vec::new() });
        }
        let Some((peer_id, envelope)) = read_asker(id, &message.topic()) else {
            return Poll::Ready(Handed::default());
        };
        let Some(peer) = self.peers.get(&peer_id) else {
            // Who asked is gone: nobody waits for the answer.
            return Poll::Ready(Handed::default());
        };
        if !peer.has_room(high) {
            return Poll::Pending;
        }
        let lines = answer_lines(message, runtime);
        let frames = envelope.wrap(frames::body(None, lines, message.payload()));
        let mark = self.give(peer_id, Out::Message(frames)).map(|mark| (peer_id, mark));
        Poll::Ready(Handed { matched: 1, marks: mark.into_iter().collect() })
    }

    /// Hands a status to who asked, if there is room for it.
    pub(super) fn answer_now(&mut self, id: &str, status: &Message) {
        if self.put_in_inbox(status).is_some_and(|matched| matched > 0) {
            return;
        }
        if let Some((peer, envelope)) = read_asker(id, &status.topic()) {
            let lines = String::from("ph-kind: status\nph-status: no-responders\n");
            let frames = envelope.wrap(frames::body(None, lines, status.payload()));
            if self.peers.get(&peer).is_some_and(|peer| peer.has_room(&self.high)) {
                self.give(peer, Out::Message(frames));
            }
        }
    }

    /// Puts a message into an inbox of this node, if it is to one; a full inbox drops it.
    pub(crate) fn put_in_inbox(&mut self, message: &Message) -> Option<u64> {
        let number = read_inbox(&message.topic())?;
        let inbox = self.boxes.values_mut().find(|this| this.what == What::Inbox(number))?;
        if inbox.has_room() {
            inbox.put(Item { message: message.clone(), attempt: 1 }, &mut self.wake);
        }
        Some(1)
    }
}

/// The lines of an answer; the correlation is in its envelope.
fn answer_lines(message: &Message, runtime: &dyn Runtime) -> String {
    let lines = frames::lines(message, true, runtime);
    // A reply that is nothing else is what everybody takes it for.
    if lines == "ph-kind: reply\n" { String::new() } else { lines }
}

/// The address of an inbox.
pub(crate) fn inbox_address(number: u64) -> Result<Topic, Error> {
    Topic::new(format!("{INBOX}{number:016x}"))
}

pub(crate) fn read_inbox(topic: &Topic) -> Option<u64> {
    u64::from_str_radix(topic.as_str().strip_prefix(INBOX)?, 16).ok()
}

/// The address at which a peer is reached that asked with this envelope.
pub(crate) fn asker_address(id: &str, peer: u64, envelope: &Envelope) -> Result<Topic, Error> {
    Topic::new(format!("{ASKER}{id}.{peer}.{}", envelope.to_word()))
}

/// Whether this is the address of somebody who asked over the wire.
pub(crate) fn is_asker(topic: &Topic) -> bool {
    topic.as_str().starts_with(ASKER)
}

fn read_asker(id: &str, topic: &Topic) -> Option<(u64, Envelope)> {
    let rest = topic.as_str().strip_prefix(ASKER)?.strip_prefix(id)?.strip_prefix('.')?;
    let (peer, word) = rest.split_once('.')?;
    Some((peer.parse().ok()?, Envelope::from_word(word)?))
}

impl Node {
    /// How much may wait for a peer.
    pub(crate) fn high_water(&self) -> HighWater {
        self.options.high_water_marks()
    }
}
