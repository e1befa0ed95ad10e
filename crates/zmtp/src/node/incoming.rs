//! What comes in: for whom it is, and whether there is room.

use bytes::Bytes;
use posthaste_core::{Error, Kind, Message, Status, Topic};
use posthaste_engine::properties::Native;

use super::answers::{asker_address, inbox_address, read_inbox};
use super::boxes::{Item, MailBox, What};
use super::{Known, Node, State};
use crate::codec::Multipart;
use crate::frames::{self, Body, Envelope};
use crate::lane::Lane;
use crate::wants::Want;

/// The headers of streamed replies.
const STREAM: &str = "_ph.stream";
const STREAM_END: &str = "_ph.end";

/// The frames that found no room.
pub(crate) type NoRoom = Multipart;

/// Whether what came was taken, or has to come again when there is room.
enum Took {
    Taken,
    NoRoom,
    /// It is no message that can be understood.
    Malformed,
}

impl State {
    /// Takes in what a peer sent, or gives it back if there is no room for it now.
    pub(crate) fn take_in(
        &mut self,
        node: &Node,
        id: u64,
        frames: Multipart,
    ) -> Result<(), NoRoom> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        peer.held_up = false;
        let known = peer.known;
        let took = match known.lane {
            Lane::Subscribe => self.take_published(node, known, id, &frames),
            Lane::Pull => self.take_pulled(node, known, &frames),
            Lane::Ask => self.take_answer(node, id, &frames),
            Lane::Answer => self.take_request(node, known, id, &frames),
            Lane::Publish | Lane::Push => Ok(Took::Taken),
        };
        match took {
            Ok(Took::Taken) => {}
            Ok(Took::Malformed) | Err(_) => self.malformed += 1,
            Ok(Took::NoRoom) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.held_up = true;
                }
                return Err(frames);
            }
        }
        Ok(())
    }

    fn take_published(
        &mut self,
        node: &Node,
        known: Known,
        id: u64,
        frames: &[Bytes],
    ) -> Result<Took, Error> {
        let Some(body) = Body::addressed(frames, true) else { return Ok(Took::Malformed) };
        let Some(topic) = body.topic.clone() else { return Ok(Took::Malformed) };
        // Who is no Posthaste knows no groups, so nothing of theirs is for one.
        let groups = if known.posthaste { body.groups() } else { Vec::new() };
        let targets = self.targets(id, &topic, &groups);
        if targets.is_empty() {
            return Ok(Took::Taken);
        }
        let message = body.message(topic, false, Native::default(), &*node.runtime)?;
        Ok(self.put_in(&targets, &message))
    }

    fn take_pulled(&mut self, node: &Node, known: Known, frames: &[Bytes]) -> Result<Took, Error> {
        let Some(body) = Body::addressed(frames, false) else { return Ok(Took::Malformed) };
        if let Some(queue) = body.topic.as_ref().filter(|_| known.posthaste && body.is_deletion()) {
            self.delete_here(queue);
            return Ok(Took::Taken);
        }
        let named = body.topic.as_ref().and_then(|queue| self.queue_box(queue));
        let number = match (named, &body.topic) {
            (Some(number), _) => number,
            // Its consumer has gone while this was on its way: the next one here has it.
            (None, Some(queue)) if known.posthaste => {
                let mailbox = MailBox::new(What::Queue(queue.clone()), self.high);
                let number = self.number();
                self.boxes.insert(number, mailbox);
                number
            }
            // A pipeline of ZeroMQ has no names: whoever pulls from it gets what is in it.
            _ => match self.any_queue_box() {
                Some(number) => number,
                None => return Ok(Took::NoRoom),
            },
        };
        let own = match self.boxes.get(&number).map(|mailbox| &mailbox.what) {
            Some(What::Queue(queue)) => queue.clone(),
            _ => return Ok(Took::NoRoom),
        };
        let queue = body.topic.clone().unwrap_or(own);
        let message = body.message(queue, true, Native::default(), &*node.runtime)?;
        Ok(self.put_in(&[number], &message))
    }

    fn queue_box(&self, queue: &Topic) -> Option<u64> {
        let is_it = |this: &MailBox| matches!(&this.what, What::Queue(this) if this == queue);
        self.boxes.iter().find(|(_, this)| is_it(this)).map(|(number, _)| *number)
    }

    fn any_queue_box(&mut self) -> Option<u64> {
        let is_one = |this: &MailBox| matches!(this.what, What::Queue(_)) && this.members > 0;
        let able: Vec<u64> =
            self.boxes.iter().filter(|(_, this)| is_one(this)).map(|(number, _)| *number).collect();
        self.turn = self.turn.wrapping_add(1);
        able.get(self.turn % able.len().max(1)).copied()
    }

    fn take_answer(&mut self, node: &Node, id: u64, frames: &[Bytes]) -> Result<Took, Error> {
        let Some((inbox, correlation, body)) = frames::read_ticket(frames) else {
            return Ok(Took::Malformed);
        };
        let Some(body) = Body::bare(body) else { return Ok(Took::Malformed) };
        let answer = body.answer(inbox_address(inbox)?, correlation, &*node.runtime)?;
        // More is to come of a stream, until its end.
        let goes_on = answer.header(STREAM).is_some() && answer.header(STREAM_END).is_none();
        if let Some(peer) = self.peers.get_mut(&id).filter(|_| !goes_on) {
            peer.note_answered(inbox, correlation);
        }
        self.put_in_inbox(&answer);
        Ok(Took::Taken)
    }

    fn take_request(
        &mut self,
        node: &Node,
        known: Known,
        id: u64,
        frames: &[Bytes],
    ) -> Result<Took, Error> {
        let Some((envelope, body)) = Envelope::split(frames) else {
            return Ok(Took::Malformed);
        };
        if known.posthaste
            && let Some(body) = Body::addressed(&body, false)
            && let Some(inbox) = body.topic.clone().filter(|topic| read_inbox(topic).is_some())
        {
            let message = body.message(inbox, false, Native::default(), &*node.runtime)?;
            self.put_in_inbox(&message);
            return Ok(Took::Taken);
        }
        let reply_to = asker_address(&node.id, id, &envelope)?;
        let correlation = match &envelope.frames[..] {
            [ticket] if known.posthaste => frames::read_ticket(std::slice::from_ref(ticket)),
            _ => None,
        };
        let correlation = correlation.map_or(1, |(_, correlation, _)| correlation).max(1);
        self.forget_answer(&reply_to, correlation);
        let native = Native { reply_to: Some(reply_to), correlation, ..Native::default() };
        let body = Body::addressed(&body, false);
        let topic = body.as_ref().and_then(|body| body.topic.clone());
        let (Some(body), Some(topic)) = (body, topic.or_else(|| self.only_service())) else {
            self.refuse_request(node, &native);
            return Ok(Took::Malformed);
        };
        let groups = body.groups();
        let targets = match known.posthaste {
            true => self.targets(id, &topic, &groups),
            // One answer is what a REQ socket waits for.
            false => self.any_responder(&topic).into_iter().collect(),
        };
        if targets.is_empty() {
            self.refuse_request(node, &native);
            return Ok(Took::Taken);
        }
        let message = body.message(topic, false, native, &*node.runtime)?;
        Ok(self.put_in(&targets, &message))
    }

    /// Tells who asked that nobody answers.
    fn refuse_request(&mut self, node: &Node, native: &Native) {
        let Some(reply_to) = &native.reply_to else { return };
        let asked = Message::builder(reply_to.clone())
            .reply_to(reply_to.clone(), native.correlation)
            .build();
        if let Some(status) =
            asked.ok().and_then(|asked| asked.status_reply(Status::NoResponders, ""))
            && status.kind() == Kind::Status
        {
            self.answer_now(&node.id, &status);
        }
    }

    /// The topic of the one service that there is, for a request that names none.
    fn only_service(&self) -> Option<Topic> {
        let mut services = self.boxes.values().filter_map(|this| match &this.what {
            What::Shared(pattern, _) if pattern.is_literal() => Topic::new(pattern.as_str()).ok(),
            _ => None,
        });
        services.next().filter(|_| services.next().is_none())
    }

    /// The boxes of subscriptions that match, and of these groups.
    fn targets(&self, peer: u64, topic: &Topic, groups: &[Want]) -> Vec<u64> {
        let ponged = self.peers.get(&peer).map_or(0, |peer| peer.ponged);
        let is_for = |this: &MailBox| match &this.what {
            What::Topic(pattern) => pattern.matches(topic),
            What::Shared(pattern, group) => groups
                .iter()
                .any(|want| want.pattern == *pattern && want.group.as_ref() == Some(group)),
            What::Queue(_) | What::Inbox(_) => false,
        };
        let hears = |this: &MailBox| is_for(this) && this.hears(peer, ponged);
        self.boxes.iter().filter(|(_, this)| hears(this)).map(|(number, _)| *number).collect()
    }

    /// A member of a group that answers requests to the topic; else a subscription that does.
    fn any_responder(&mut self, topic: &Topic) -> Option<u64> {
        let of = |shared: bool| -> Vec<u64> {
            let is_one = |this: &MailBox| match &this.what {
                What::Shared(pattern, _) => shared && pattern.matches(topic),
                What::Topic(pattern) => !shared && pattern.matches(topic),
                _ => false,
            };
            self.boxes.iter().filter(|(_, this)| is_one(this)).map(|(number, _)| *number).collect()
        };
        let able = Some(of(true)).filter(|able| !able.is_empty()).unwrap_or_else(|| of(false));
        self.turn = self.turn.wrapping_add(1);
        able.get(self.turn % able.len().max(1)).copied()
    }

    /// Puts a message into every one of these boxes, or into none before all have room.
    fn put_in(&mut self, boxes: &[u64], message: &Message) -> Took {
        let full = |number: &u64| self.boxes.get(number).is_some_and(|this| !this.has_room());
        if boxes.iter().any(full) {
            return Took::NoRoom;
        }
        for number in boxes {
            if let Some(mailbox) = self.boxes.get_mut(number) {
                let item = Item { message: message.clone(), attempt: 1 };
                mailbox.put(item, &mut self.wake);
            }
        }
        Took::Taken
    }
}
