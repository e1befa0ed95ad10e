//! A peer whose handshake is over, as the rest of the node sees it.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;
use posthaste_core::{Message, Topic};

use crate::codec::Multipart;
use crate::lane::Lane;
use crate::wants::Wants;

/// How many answers to heartbeats may wait for a peer.
const PONGS_MAX: usize = 64;

/// How many requests to a peer are remembered until it answers.
const ASKED_MAX: usize = 65_536;

/// What is known of a peer by its handshake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) lane: Lane,
    /// Whether it is Posthaste, too.
    pub(crate) posthaste: bool,
    /// Whether it knows heartbeats.
    pub(crate) has_commands: bool,
    /// The dial that it answered, if this side connected.
    pub(crate) dial: Option<usize>,
}

/// What goes out to a peer.
#[derive(Debug)]
pub(crate) enum Out {
    Message(Multipart),
    /// A message of this queue, which goes back there if the peer does not get it.
    Queued(Topic, Queued),
    Subscribe(Bytes),
    Cancel(Bytes),
    /// A heartbeat with this number in it.
    Ping(u64),
    /// The answer to one.
    Pong(Bytes),
}

/// A message of a queue, for a consumer of this node or for a peer.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) message: Message,
    pub(crate) frames: Multipart,
}

impl Out {
    fn size(&self) -> usize {
        match self {
            Self::Message(frames) | Self::Queued(_, Queued { frames, .. }) => size_of(frames),
            Self::Subscribe(_) | Self::Cancel(_) | Self::Ping(_) | Self::Pong(_) => 0,
        }
    }

    fn is_message(&self) -> bool {
        matches!(self, Self::Message(_) | Self::Queued(..))
    }
}

/// How many bytes a message counts for.
pub(crate) fn size_of(frames: &[Bytes]) -> usize {
    frames.iter().map(Bytes::len).sum()
}

/// How much may wait for a peer, or in a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HighWater {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl HighWater {
    /// Whether another message finds room; a large one does when nothing else waits.
    pub(crate) fn has_room(&self, messages: usize, bytes: usize) -> bool {
        messages == 0 || (messages < self.messages && bytes < self.bytes)
    }
}

/// A peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) known: Known,
    out: VecDeque<Out>,
    out_messages: usize,
    out_bytes: usize,
    pub(crate) wants: Wants,
    /// How much has been given to it, and how much of that the operating system has.
    enqueued: u64,
    pub(crate) written: u64,
    /// The number of the last heartbeat that was asked for, and of the last that was answered.
    pings: u64,
    pub(crate) ponged: u64,
    /// The requests that it was given and has not answered: inbox and correlation, and where that
    /// is.
    asked: BTreeMap<(u64, u64), Topic>,
    /// Its connection's task holds a message that finds no room.
    pub(crate) held_up: bool,
    /// Its connection's task.
    pub(crate) waker: Option<Waker>,
}

/// What has to be waited for until a peer has done something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Until so much has been written.
    Written(u64),
    /// Until this heartbeat is answered.
    Answered(u64),
}

impl Peer {
    pub(crate) fn new(known: Known) -> Self {
        Self {
            known,
            out: VecDeque::new(),
            out_messages: 0,
            out_bytes: 0,
            wants: Wants::default(),
            enqueued: 0,
            written: 0,
            pings: 0,
            ponged: 0,
            asked: BTreeMap::new(),
            held_up: false,
            waker: None,
        }
    }

    pub(crate) fn has_room(&self, high: &HighWater) -> bool {
        high.has_room(self.out_messages, self.out_bytes)
    }

    /// Gives it something; the caller wakes its task.
    pub(crate) fn give(&mut self, out: Out) -> Mark {
        self.out_messages += usize::from(out.is_message());
        self.out_bytes += out.size();
        self.out.push_back(out);
        self.enqueued += 1;
        Mark::Written(self.enqueued)
    }

    /// Notes that it has a request to answer. Beyond so many, nobody is told if it is lost.
    pub(crate) fn note_asked(&mut self, inbox: u64, correlation: u64, reply_to: Topic) {
        if self.asked.len() < ASKED_MAX {
            self.asked.insert((inbox, correlation), reply_to);
        }
    }

    /// Notes that it has answered.
    pub(crate) fn note_answered(&mut self, inbox: u64, correlation: u64) {
        self.asked.remove(&(inbox, correlation));
    }

    /// What it was asked and has not answered.
    pub(crate) fn take_asked(&mut self) -> BTreeMap<(u64, u64), Topic> {
        std::mem::take(&mut self.asked)
    }

    /// Gives it the answer to a heartbeat; not if it has left too many unread.
    pub(crate) fn give_answer(&mut self, context: Bytes) -> bool {
        let unread = self.out.iter().filter(|out| matches!(out, Out::Pong(_))).count();
        if unread < PONGS_MAX {
            self.give(Out::Pong(context));
        }
        unread < PONGS_MAX
    }

    /// How many heartbeats it has been asked for.
    pub(crate) fn pings(&self) -> u64 {
        self.pings
    }

    /// Asks it for a sign of life, by which it has read everything before.
    pub(crate) fn ping(&mut self) -> Mark {
        if !self.known.has_commands {
            return Mark::Written(self.enqueued);
        }
        self.pings += 1;
        self.give(Out::Ping(self.pings));
        Mark::Answered(self.pings)
    }

    pub(crate) fn has_reached(&self, mark: Mark) -> bool {
        match mark {
            Mark::Written(upto) => self.written >= upto,
            Mark::Answered(ping) => self.ponged >= ping,
        }
    }

    /// The next thing to write.
    pub(crate) fn take(&mut self) -> Option<Out> {
        let out = self.out.pop_front()?;
        self.out_messages -= usize::from(out.is_message());
        self.out_bytes -= out.size();
        Some(out)
    }
}
