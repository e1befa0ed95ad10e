//! Where messages wait for receivers of this node: one box for each subscription, one for all
//! members of a group, and one for all consumers of a queue.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Waker};

use bytes::Bytes;
use posthaste_core::{Message, Pattern, Topic};

use super::peer::HighWater;
use crate::lane::Lane;
use crate::wants::Want;

/// What comes into a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A copy of what matches.
    Topic(Pattern),
    /// Of what matches, what this node's members of the group are chosen for.
    Shared(Pattern, Topic),
    /// What is sent into the queue.
    Queue(Topic),
    /// Answers.
    Inbox(u64),
}

impl What {
    /// What is asked of peers.
    pub(crate) fn want(&self) -> Option<Want> {
        match self {
            Self::Topic(pattern) => Some(Want { pattern: pattern.clone(), group: None }),
            Self::Shared(pattern, group) => {
                Some(Want { pattern: pattern.clone(), group: Some(group.clone()) })
            }
            Self::Queue(queue) => Some(Want { pattern: Pattern::from(queue), group: None }),
            Self::Inbox(number) => {
                let address = super::inbox_address(*number).ok()?;
                Some(Want { pattern: Pattern::from(&address), group: None })
            }
        }
    }

    /// How a peer on this lane is asked for it; `None` if it is not asked at all.
    pub(crate) fn asks(&self, lane: Lane, posthaste: bool) -> Option<Bytes> {
        let want = self.want()?;
        let exact = match (self, lane) {
            (Self::Topic(_) | Self::Shared(..), Lane::Subscribe | Lane::Answer)
            | (Self::Queue(_), Lane::Pull)
            | (Self::Inbox(_), Lane::Ask | Lane::Answer) => posthaste,
            _ => false,
        };
        match (self, lane) {
            _ if exact => Some(want.exact()),
            // Others know no groups, and what they publish goes to none.
            (Self::Topic(_), Lane::Subscribe) => Some(want.prefix()),
            _ => None,
        }
    }

    /// Whether a second receiver shares it.
    fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(..) | Self::Queue(_))
    }
}

/// A message that waits, and which attempt its next delivery is.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
}

/// Messages that wait for receivers.
#[derive(Debug)]
pub(crate) struct MailBox {
    pub(crate) what: What,
    items: VecDeque<Item>,
    bytes: usize,
    high: HighWater,
    /// How many receivers take out of it.
    pub(crate) members: usize,
    /// Which heartbeat a peer has to answer first: what it sent before is not for this.
    pub(crate) since: BTreeMap<u64, u64>,
    waiting: Vec<Waker>,
}

impl MailBox {
    pub(crate) fn new(what: What, high: HighWater) -> Self {
        Self {
            what,
            items: VecDeque::new(),
            bytes: 0,
            high,
            members: 0,
            since: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Whether it gets what a peer sends that has answered so many heartbeats.
    pub(crate) fn hears(&self, peer: u64, ponged: u64) -> bool {
        self.since.get(&peer).is_none_or(|ping| ponged >= *ping)
    }

    /// Whether a receiver of this belongs to it.
    pub(crate) fn is_for(&self, what: &What) -> bool {
        what.is_shared() && self.what == *what
    }

    pub(crate) fn has_room(&self) -> bool {
        self.high.has_room(self.items.len(), self.bytes)
    }

    /// Puts a message in; who waits for one is to be woken.
    pub(crate) fn put(&mut self, item: Item, wake: &mut Vec<Waker>) {
        self.bytes += item.message.size();
        self.items.push_back(item);
        wake.append(&mut self.waiting);
    }

    /// Puts one back at the front.
    pub(crate) fn put_back(&mut self, item: Item, wake: &mut Vec<Waker>) {
        self.bytes += item.message.size();
        self.items.push_front(item);
        wake.append(&mut self.waiting);
    }

    /// Takes the oldest out; with it, whether there is room now where there was none.
    pub(crate) fn take(&mut self) -> Option<(Item, bool)> {
        let was_full = !self.has_room();
        let item = self.items.pop_front()?;
        self.bytes -= item.message.size();
        Some((item, was_full && self.has_room()))
    }

    pub(crate) fn take_all(&mut self) -> VecDeque<Item> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }

    /// Nothing comes any more: who waits is to look.
    pub(crate) fn end(&mut self, wake: &mut Vec<Waker>) {
        wake.append(&mut self.waiting);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn wait(&mut self, cx: &Context<'_>) {
        super::wait_in(&mut self.waiting, cx);
    }
}
