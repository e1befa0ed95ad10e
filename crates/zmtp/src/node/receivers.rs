//! Receivers of this node: they come, take messages out of their boxes, give some back, and go.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};

use posthaste_core::{Kind, Message, Status, Topic};

use super::boxes::{Item, MailBox, What};
use super::peer::{HighWater, Out};
use super::{Lane, State};

impl State {
    pub(super) fn enter(&mut self, what: What, high: HighWater) -> u64 {
        let known = self.boxes.iter().find(|(_, this)| this.is_for(&what));
        if let Some(number) = known.map(|(number, _)| *number) {
            if let Some(mailbox) = self.boxes.get_mut(&number) {
                mailbox.members += 1;
                if mailbox.members > 1 {
                    return number;
                }
            }
            self.ask_peers(&what, true);
            self.pump_all();
            return number;
        }
        let number = self.number();
        let mut mailbox = MailBox::new(what.clone(), high);
        mailbox.members = 1;
        // What is on its way to one who wanted the same, and has gone, is not for this.
        let from = [Lane::Subscribe, Lane::Answer];
        let peers = self.peers.iter_mut().filter(|(_, peer)| from.contains(&peer.known.lane));
        for (id, peer) in peers.filter(|(_, peer)| peer.known.has_commands) {
            peer.ping();
            mailbox.since.insert(*id, peer.pings());
        }
        self.ask_peers(&mailbox.what, true);
        self.boxes.insert(number, mailbox);
        // A message may wait for this.
        self.resume();
        if let What::Queue(queue) = what {
            let high = self.high;
            self.pump(&queue, &high);
        }
        number
    }

    pub(super) fn leave(&mut self, number: u64, id: &str) {
        let Some(mailbox) = self.boxes.get_mut(&number) else { return };
        mailbox.members = mailbox.members.saturating_sub(1);
        if mailbox.members > 0 {
            return;
        }
        let what = mailbox.what.clone();
        self.ask_peers(&what, false);
        // What was pulled out of a queue has nowhere else to go: the next consumer here has it.
        if matches!(what, What::Queue(_)) && !mailbox_is_empty(&self.boxes, number) {
            return;
        }
        let items = self.boxes.remove(&number).map(|mut this| this.take_all()).unwrap_or_default();
        for Item { message, .. } in items {
            self.say_gone(&message, id);
        }
        self.resume();
    }

    /// Tells who asked that nobody is there to answer any more.
    fn say_gone(&mut self, message: &Message, id: &str) {
        if message.kind() != Kind::Request {
            return;
        }
        if let Some(status) = message.status_reply(Status::NoResponders, "") {
            self.answer_now(id, &status);
        }
    }

    /// Tells every peer that a box wants something, or does not any more.
    fn ask_peers(&mut self, what: &What, wanted: bool) {
        for peer in self.peers.values_mut() {
            let Some(ask) = what.asks(peer.known.lane, peer.known.posthaste) else { continue };
            peer.give(if wanted { Out::Subscribe(ask) } else { Out::Cancel(ask) });
            self.wake.extend(peer.waker.take());
        }
    }

    /// The next message of a box.
    pub(crate) fn poll_take(&mut self, number: u64, cx: &Context<'_>) -> Poll<Option<Item>> {
        let Some(mailbox) = self.boxes.get_mut(&number) else {
            return Poll::Ready(None);
        };
        match mailbox.take() {
            Some((item, has_room)) => {
                if has_room {
                    self.resume();
                    self.pump_all();
                    self.notify();
                }
                Poll::Ready(Some(item))
            }
            None => {
                mailbox.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Puts messages back that were taken out, the first of them first: into the box that they came
    /// from, or, if that has gone meanwhile, into the one that is there for the same. Of a queue
    /// they wait for the next consumer of this node; else who asked is told if nobody is left.
    pub(crate) fn put_back(&mut self, what: &What, items: VecDeque<Item>, id: &str) {
        let known = self.boxes.iter().find(|(_, this)| this.is_for(what));
        let mut number = known.map(|(number, _)| *number);
        if number.is_none() && !items.is_empty() && matches!(what, What::Queue(_)) {
            let new = self.number();
            self.boxes.insert(new, MailBox::new(what.clone(), self.high));
            number = Some(new);
        }
        for item in items.into_iter().rev() {
            match number.and_then(|number| self.boxes.get_mut(&number)) {
                Some(mailbox) => mailbox.put_back(item, &mut self.wake),
                None => self.say_gone(&item.message, id),
            }
        }
    }

    /// Removes a queue with what it holds and its consumers, here and where Posthaste peers pull
    /// from it; whether it was there.
    pub(crate) fn delete(&mut self, queue: &Topic) -> bool {
        let mut told = false;
        for peer in self.peers.values_mut() {
            if peer.known.lane == Lane::Push && peer.wants.has_queue(queue) {
                peer.give(Out::Message(crate::frames::deletion(queue)));
                self.wake.extend(peer.waker.take());
                told = true;
            }
        }
        self.delete_here(queue) || told
    }

    /// Removes a queue from this node.
    pub(super) fn delete_here(&mut self, queue: &Topic) -> bool {
        let had_pipe = self.pipes.remove(queue).is_some();
        let is_it = |this: &MailBox| matches!(&this.what, What::Queue(this) if this == queue);
        let numbers: Vec<u64> =
            self.boxes.iter().filter(|(_, this)| is_it(this)).map(|(number, _)| *number).collect();
        for number in &numbers {
            if let Some(mut mailbox) = self.boxes.remove(number) {
                if mailbox.members > 0 {
                    self.ask_peers(&mailbox.what, false);
                }
                mailbox.end(&mut self.wake);
            }
        }
        self.notify();
        had_pipe || !numbers.is_empty()
    }
}

fn mailbox_is_empty(boxes: &BTreeMap<u64, MailBox>, number: u64) -> bool {
    boxes.get(&number).is_none_or(MailBox::is_empty)
}
