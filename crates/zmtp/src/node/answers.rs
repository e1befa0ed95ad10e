//! Answers: to inboxes of this node, to those of peers, and to who asked over the wire.

use std::task::Poll;

use posthaste_core::{Error, Message, Runtime, Status, Topic};

use super::boxes::{Item, What};
use super::outgoing::{Handed, Prepared};
use super::peer::{HighWater, Out};
use super::{Lane, State};
use crate::frames::{self, Envelope};

/// What who asks is told of a peer that is gone.
const LOST: &str = "the connection to the responder was lost before it answered; it may have begun";
/// How many answers are remembered.
const ANSWERED_MAX: usize = 256;
/// What inboxes are called.
const INBOX: &str = "_ph.inbox.";
/// What the addresses are called at which those are reached who asked over the wire.
const ASKER: &str = "_ph.zmtp.";

impl State {
    /// Notes that a peer has a request of this node to answer.
    pub(super) fn note_asked(&mut self, id: u64, request: &Message) {
        if let Some(reply_to) = request.reply_to()
            && let Some(inbox) = read_inbox(&reply_to)
            && let Some(peer) = self.peers.get_mut(&id)
        {
            peer.note_asked(inbox, request.correlation(), reply_to);
        }
    }

    /// Tells who asks that a peer is gone that was to answer.
    pub(super) fn say_lost(&mut self, correlation: u64, reply_to: &Topic) {
        let asked = Message::builder(reply_to.clone()).reply_to(reply_to.clone(), correlation);
        let status = asked.build().ok().and_then(|asked| asked.status_reply(Status::Failed, LOST));
        if let Some(status) = status {
            self.put_in_inbox(&status);
        }
    }

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
