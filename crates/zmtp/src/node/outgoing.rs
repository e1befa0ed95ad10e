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

/// A message on its way out, as far as it is the same for everybody.
pub(crate) struct Prepared {
    pub(crate) topic: Topic,
    /// The envelope of a request.
    envelope: Option<Bytes>,
    pub(super) lines: String,
    pub(super) message: Message,
}

impl Prepared {
    pub(crate) fn new(message: &Message, envelope: Option<Bytes>, runtime: &dyn Runtime) -> Self {
        // The ticket of a request has everything that is not said in lines.
        let is_request = envelope.is_some() && message.reply_to().is_some();
        let lines = frames::lines(message, is_request, runtime);
        Self { topic: message.topic(), envelope, lines, message: message.clone() }
    }

    pub(super) fn frames(&self, groups: &[Want]) -> Multipart {
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
                    if lane == Lane::Ask {
                        self.note_asked(id, &message.message);
                    }
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

    pub(super) fn give(&mut self, id: u64, out: Out) -> Option<Mark> {
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
        let peers = peers.filter(|(_, peer)| !peer.known.posthaste || peer.wants.has_queue(queue));
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

    /// How many messages wait in queues for somebody to pull.
    pub(crate) fn held(&self) -> u64 {
        self.pipes.values().map(|pipe| pipe.items.len() as u64).sum()
    }

    /// Whether somebody takes out of a queue now.
    pub(crate) fn is_pulled(&self, queue: &Topic) -> bool {
        !self.takers(queue).is_empty()
    }
}

impl Node {
    /// How much may wait for a peer.
    pub(crate) fn high_water(&self) -> HighWater {
        self.options.high_water_marks()
    }
}
