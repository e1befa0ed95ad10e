//! The links of a remote: what their handles know them by, and what the connection calls them.

use std::task::Waker;

use posthaste_core::Error;
use posthaste_wire::{Link, Role};

use super::mailbox::ReceiverState;
use super::outbox::SenderState;
use super::state::Wakeups;
use crate::control::identity::{self, Identity};

/// Every link that has a handle, or something to say without one.
#[derive(Default)]
pub(crate) struct Table {
    entries: Vec<Option<Box<Entry>>>,
    free: Vec<usize>,
    /// The places of the entries, by the numbers of their links on the current connection.
    by_wire: Vec<usize>,
}

/// Which entry of the table a handle is about. The serial number tells a reused place apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(super) place: usize,
    pub(super) serial: u64,
}

impl Table {
    /// Adds an entry with its link.
    pub(super) fn add(&mut self, entry: Box<Entry>, link: Link) -> Key {
        let serial = entry.serial;
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[place] = Some(entry);
        self.index(link, place);
        Key { place, serial }
    }

    /// The entry at a place has this link.
    pub(super) fn index(&mut self, link: Link, place: usize) {
        let at = usize::from(link.id());
        if self.by_wire.len() <= at {
            self.by_wire.resize(at + 1, usize::MAX);
        }
        self.by_wire[at] = place;
    }

    /// The entry of a handle.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut Entry> {
        self.at(key.place).filter(|entry| entry.serial == key.serial)
    }

    /// The entry at a place.
    pub(super) fn at(&mut self, place: usize) -> Option<&mut Entry> {
        self.entries.get_mut(place)?.as_deref_mut()
    }

    /// The entry whose link it is.
    pub(super) fn by_link(&mut self, link: Link) -> Option<(Key, &mut Entry)> {
        let place = *self.by_wire.get(usize::from(link.id()))?;
        let entry = self.at(place).filter(|entry| entry.wire == Some(link))?;
        Some((Key { place, serial: entry.serial }, entry))
    }

    /// Forgets an entry.
    pub(super) fn remove(&mut self, key: Key) {
        if self.get(key).is_some() {
            self.entries[key.place] = None;
            self.free.push(key.place);
        }
    }

    /// All places, those that are free included.
    pub(super) fn places(&self) -> std::ops::Range<usize> {
        0..self.entries.len()
    }

    /// All entries.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().filter_map(Option::as_deref_mut)
    }
}

/// A link as its handle sees it: it lives on over reconnections.
pub(crate) struct Entry {
    /// Also its name in the session.
    pub(super) serial: u64,
    /// Whether it was open when the connection was lost, and may go on where it was.
    pub(crate) resumable: bool,
    /// Which life of it the server has said that this is.
    pub(crate) life: u64,
    /// The link of the current connection, if it has one.
    pub(crate) wire: Option<Link>,
    /// Whether the server has opened it, on the current connection.
    pub(crate) open: bool,
    /// Whether the handle has been dropped.
    pub(crate) orphaned: bool,
    /// Why it has ended for good.
    pub(crate) ended: Option<Error>,
    pub(crate) opener: Option<Waker>,
    pub(crate) role: RoleState,
}

#[allow(clippy::large_enum_variant, reason = "entries are boxed as a whole")]
pub(crate) enum RoleState {
    Sender(SenderState),
    Receiver(ReceiverState),
}

impl Entry {
    pub(super) fn options(&self) -> (Role, Vec<u8>) {
        let (role, mut options, at, over) = match &self.role {
            RoleState::Sender(this) => (Role::Sender, this.options(), this.resume_at(), false),
            RoleState::Receiver(this) => {
                (Role::Receiver, this.options(), this.resume_at(), this.is_stopping())
            }
        };
        let resume_at = self.resumable.then_some(at);
        let life = if self.resumable { self.life } else { 0 };
        let or_nothing = self.orphaned || over;
        let identity = Identity { key: self.serial, life, resume_at, or_nothing };
        identity::encode(identity, &mut options);
        (role, options)
    }

    /// The link, if it is open.
    pub(crate) fn link(&self) -> Option<Link> {
        self.wire.filter(|_| self.open)
    }

    /// The link, if it may be closed: one that waits to go on where it was may not, because with it
    /// would go what it has to say.
    pub(crate) fn closable(&self) -> Option<Link> {
        self.wire.filter(|_| self.open || !self.resumable)
    }

    /// Whether the server has still to hear something from it, or to say something to it, when the
    /// session goes on.
    pub(super) fn has_more_to_say(&self) -> bool {
        let at_rest = match &self.role {
            RoleState::Sender(sender) => sender.is_settled(),
            RoleState::Receiver(receiver) => receiver.is_at_rest(),
        };
        self.resumable && self.ended.is_none() && !at_rest
    }

    /// Everything that waits on this link, after it ended.
    pub(super) fn wake_all(&mut self, wakers: &mut Wakeups) {
        wakers.add(self.opener.take());
        match &mut self.role {
            RoleState::Sender(sender) => wakers.add(sender.take_waker()),
            RoleState::Receiver(receiver) => wakers.add(receiver.take_waker()),
        }
    }
}
