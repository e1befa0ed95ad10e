//! What a mailbox holds and who waits at it: plain data and single steps, under the mailbox's lock.

mod admit;
mod closing;
mod history;
mod keeping;
mod looking;
mod moving;
mod overflow;
mod paging;
mod runs;
mod settle;
mod take;
mod time;

pub(crate) use looking::{Content, Looked};
pub(crate) use moving::{Moved, NextReplay};
pub(crate) use paging::InStore;
use paging::Paging;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use posthaste_core::{Error, Event, Message, Pattern, Queue, QueueSettings, Topic};

use crate::aftermath::{Aftermath, Errand};
use crate::agenda::{Agenda, Due};
use crate::aside::{Aside, Why};
use crate::books::Books;
use crate::consumers::Consumers;
use crate::copies::Entry;
use crate::history::History;
use crate::home::Home;
use crate::keys::Keys;
use crate::lanes::Lanes;
use crate::latest::Latest;
use crate::leases::Leases;
use crate::mailbox::{Mailbox, Role};
use crate::room::Room;
use crate::seen::Seen;
use crate::store::Keep;
use crate::wait::{Ticket, WaitList};

/// What a mailbox is like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Of a subscription or a group, those that such have.
    pub(crate) queue: QueueSettings,
    pub(crate) bindings: Vec<Pattern>,
    /// How long a subscription may free no room while it blocks its senders.
    pub(crate) stall_limit: Duration,
}

/// The inside of a mailbox.
#[derive(Debug)]
pub(crate) struct State {
    id: u64,
    role: Role,
    name: Topic,
    home: Arc<Home>,
    settings: Settings,
    /// Where a durable queue is kept.
    keep: Option<Keep>,
    /// Copies that may be handed out.
    lanes: Lanes,
    /// Copies that may not be handed out now.
    aside: Aside,
    /// Copies that are handed out.
    leases: Leases,
    /// Copies that a lone automatic consumer took in advance, to hand them out itself.
    batched: u64,
    /// How many of these the consumer of a queue took last, and their bytes.
    ahead: (usize, usize),
    /// It is to put back what it still has of these.
    recalls: bool,
    /// What it puts back was purged meanwhile.
    ahead_is_purged: bool,
    /// Nothing is asked of a message that comes in but that there is room for it.
    usual: bool,
    /// The same, or also which one it takes the place of.
    usual_or_latest: bool,
    gate: Gate,
    /// Whether its receiver takes runs as they are.
    takes_runs: bool,
    reserved: usize,
    reserved_bytes: usize,
    next_position: u64,
    /// Copies that were dropped since the last one that was taken in.
    missed: u32,
    /// The keys of a keyed queue.
    keys: Option<Keys>,
    /// The ids of a queue that has a deduplication window.
    seen: Option<Seen>,
    /// The newest copies of a subscription that wants only these.
    latest: Option<Latest>,
    /// What a queue retains, if it is read and not consumed. Then nothing is anywhere else.
    history: Option<Box<History>>,
    burial: Burial,
    agenda: Agenda,
    /// Since when senders have waited and no room was freed.
    stalled: Option<Instant>,
    usage: Usage,
    /// Consumers that wait for a message.
    idle: WaitList,
    /// Senders that wait for room.
    blocked: WaitList,
    consumers: Consumers,
    books: Books,
    paging: Paging,
    ending: Ending,
}

/// Whether a mailbox is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// The broker drains: nothing goes in; a queue hands out nothing more, anything else what it
    /// still holds.
    Draining,
    /// Nothing goes in or out any more; leases may still be out.
    Closed(&'static str),
}

/// How much more may come in without anybody looking at anything else: [plain](Message::is_plain)
/// messages into a mailbox where that is all there is to it, at which nobody waits for them.
#[derive(Debug, Default)]
struct Gate {
    messages: usize,
    bytes: usize,
}

/// Copies that died and wait for their place in the dead-letter queue, first in, first out.
#[derive(Debug, Default)]
struct Burial {
    dying: VecDeque<u64>,
    phase: Phase,
    /// Where the first one waits for room.
    waits_at: Option<(Weak<Mailbox>, Ticket)>,
}

/// One burial of a mailbox goes on at a time; what calls for another meanwhile is not forgotten.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Running,
    RunningAgain,
}

/// When a queue that expires was used last, and when it is going to expire.
#[derive(Debug, Default)]
struct Usage {
    last: Option<Instant>,
    ends: Option<Instant>,
}

impl State {
    pub(crate) fn new(
        id: u64,
        role: Role,
        name: Topic,
        settings: Settings,
        keep: Option<Keep>,
        home: Arc<Home>,
    ) -> Self {
        let mut state = Self {
            id,
            role,
            name,
            lanes: Lanes::new(Arc::clone(&home)),
            home,
            settings,
            keep,
            aside: Aside::default(),
            leases: Leases::default(),
            batched: 0,
            ahead: (0, 0),
            recalls: false,
            ahead_is_purged: false,
            usual: false,
            usual_or_latest: false,
            gate: Gate::default(),
            takes_runs: false,
            reserved: 0,
            reserved_bytes: 0,
            next_position: 0,
            missed: 0,
            keys: None,
            seen: None,
            latest: None,
            history: None,
            burial: Burial::default(),
            agenda: Agenda::default(),
            stalled: None,
            usage: Usage::default(),
            idle: WaitList::default(),
            blocked: WaitList::default(),
            consumers: Consumers::default(),
            books: Books::default(),
            paging: Paging::default(),
            ending: Ending::Open,
        };
        state.furnish();
        state
    }

    /// Makes the indexes that the settings need, and drops those that they do not.
    fn furnish(&mut self) {
        let settings = &self.settings.queue;
        if settings.keyed && !self.home.planted.ignores_keys {
            self.keys.get_or_insert_default();
        }
        if settings.overflow == posthaste_core::Overflow::LatestPerKey {
            self.latest.get_or_insert_default();
        }
        if settings.retain.is_some() {
            self.history.get_or_insert_default();
        }
        match settings.dedup_window.is_zero() {
            true => self.seen = None,
            false => drop(self.seen.get_or_insert_default()),
        }
        self.look_at_settings();
        self.touch();
    }

    /// Notes whether messages come in as they do mostly.
    fn look_at_settings(&mut self) {
        let settings = &self.settings.queue;
        self.usual_or_latest = self.ending == Ending::Open
            && settings.ttl.is_zero()
            && settings.expiry.is_zero()
            && self.keys.is_none()
            && self.seen.is_none()
            && self.history.is_none()
            && self.keep.is_none()
            && !self.home.planted.ignores_capacity;
        self.usual = self.usual_or_latest && self.latest.is_none();
    }

    /// Something else happens: from now on messages are looked at again.
    #[inline]
    pub(crate) fn close_gate(&mut self) {
        self.gate.messages = 0;
    }

    /// Has what was taken in advance put back.
    fn recall(&mut self) {
        self.recalls = !self.role.is_exclusive();
    }

    /// Whether what was taken in advance is to be put back; asked once.
    #[inline]
    pub(crate) fn take_recall(&mut self) -> bool {
        std::mem::take(&mut self.recalls)
    }

    /// Changes the settings that a declaration names, or none of them, and says which bindings
    /// are new.
    pub(crate) fn update(
        &mut self,
        queue: Queue,
        after: &mut Aftermath,
    ) -> Result<Vec<Pattern>, Error> {
        let before = self.settings.queue.clone();
        if queue.retain.is_some_and(|retain| retain.last_per_key) {
            self.may_retain_last()?;
        }
        self.settings.queue.update(&queue)?;
        let known = self.settings.bindings.len();
        for binding in queue.bindings {
            if !self.settings.bindings.contains(&binding) {
                self.settings.bindings.push(binding);
            }
        }
        self.furnish();
        self.retain_as_declared(after);
        if self.settings.queue != before || self.settings.bindings.len() > known {
            self.note_declared();
        }
        self.wake_blocked(after);
        Ok(self.settings.bindings[known..].to_vec())
    }

    // ---- copies that come and go

    /// Puts a copy where it waits: among those that may be handed out, or aside until `due`.
    fn place(&mut self, entry: Entry, due: Option<Instant>, after: &mut Aftermath) {
        if let Some(due) = due {
            self.agenda.add(due, Due::Ready(entry.position));
            self.aside.put(entry, Why::Delayed(due));
            return;
        }
        if let Some(latest) = &mut self.latest {
            latest.insert(&entry.message, entry.position);
        }
        self.lanes.put(entry);
        // What has to wait until another copy is read back wakes nobody.
        if self.lanes.has_next() {
            self.idle.notify_one(after);
        }
    }

    /// Takes out a copy that waits, wherever it does.
    fn take_out(&mut self, position: u64) -> Option<Entry> {
        let entry = match self.lanes.remove(position) {
            Some(entry) => entry,
            None => {
                let (entry, why) = self.aside.take_waiting(position)?;
                if let Why::Delayed(due) = why {
                    self.agenda.remove(due, Due::Ready(position));
                }
                entry
            }
        };
        self.waits_no_longer(&entry);
        Some(entry)
    }

    /// Takes the next copy that may be handed out.
    fn take_next(&mut self) -> Option<Entry> {
        let entry = self.lanes.pop()?;
        self.waits_no_longer(&entry);
        Some(entry)
    }

    /// The copies that wait, those aside included.
    fn waiting(&self) -> impl Iterator<Item = &Entry> {
        let aside = self.aside.behind(None).filter(|(_, why)| !why.is_leaving());
        self.lanes.iter().chain(aside.map(|(entry, _)| entry))
    }

    fn waits_no_longer(&mut self, entry: &Entry) {
        if let Some(latest) = &mut self.latest {
            latest.remove(&entry.message, entry.position);
        }
        if let Some(expires) = entry.expires() {
            self.agenda.remove(expires, Due::Expired(entry.position));
        }
    }

    /// A copy waits from now on: it expires in time, whether or not somebody looks at it.
    fn mind(&mut self, entry: &Entry) {
        // An exclusive receiver is there to look itself.
        if let Some(expires) = entry.expires()
            && !self.role.is_exclusive()
            && self.home.has_clock()
        {
            self.agenda.add(expires, Due::Expired(entry.position));
        }
    }

    /// A copy is out of its key's way.
    fn let_key_go_on(&mut self, entry: &Entry, after: &mut Aftermath) {
        let Some(keys) = &mut self.keys else { return };
        let next = entry.message.key().and_then(|key| keys.leave(key, entry.position));
        let Some(next) = next else { return };
        if let Some((entry, Why::Parked(due))) = self.aside.take_waiting(next) {
            self.place(entry, self.still_to_come(due), after);
        }
    }

    /// The time until which a copy is to wait, unless that is over.
    fn still_to_come(&self, due: Option<Instant>) -> Option<Instant> {
        let due = due?;
        self.home.now().is_some_and(|now| due > now).then_some(due)
    }

    /// A copy that did not wait any longer is gone for good: its key goes on, its room is free.
    fn close_copy(&mut self, entry: &Entry, after: &mut Aftermath) {
        self.note_gone(entry);
        self.let_key_go_on(entry, after);
        self.room_was_freed(after);
    }

    /// Counts a copy that was dropped, and says so to whoever wants to hear of it.
    fn count_drop(&mut self, message: &Message, reason: &'static str, after: &mut Aftermath) {
        self.books.drop_copies(reason, u64::from(message.count()));
        if self.home.hears_drops() {
            self.report_drops(message.count(), &message.topic(), reason, after);
        }
    }

    fn report_drops(&self, count: u32, topic: &Topic, reason: &'static str, after: &mut Aftermath) {
        if let Some(subscriber) = self.reports_drops() {
            let (topic, reason) = (topic.clone(), reason.to_owned());
            let dropped = Event::Dropped { subscriber, topic, reason };
            (0..count).for_each(|_| after.event(&self.home, dropped.clone()));
        }
    }

    /// Drops a copy that waits no longer. If it is of a request, nobody will answer that.
    fn drop_copy(&mut self, entry: Entry, reason: &'static str, after: &mut Aftermath) {
        self.count_drop(&entry.message, reason, after);
        self.close_copy(&entry, after);
        match entry.is_request() {
            true => after.unanswered(&self.home, entry.into_unanswered()),
            false => after.forget(entry.message),
        }
    }

    /// Drops a copy; if it is of a request, its requester knows, or asks no more.
    fn drop_quietly(&mut self, entry: Entry, reason: &'static str, after: &mut Aftermath) {
        self.count_drop(&entry.message, reason, after);
        self.close_copy(&entry, after);
        after.forget(entry.message);
    }

    /// In whose name drops are reported, if they are.
    fn reports_drops(&self) -> Option<String> {
        // What those lose who hear of it would only make them lose more.
        if !self.home.hears_drops() || self.settings.bindings.iter().any(is_of_events) {
            return None;
        }
        Some(match (self.role, self.settings.bindings.first()) {
            (Role::Subscription | Role::Inbox, Some(pattern)) => pattern.to_string(),
            _ => self.name.to_string(),
        })
    }

    /// What was dropped before a copy that is gone was dropped before the next one.
    fn pass_on_missed(&mut self, count: u32) {
        if !self.lanes.has_next() && !self.lanes.pages().is_empty() {
            return self.miss_before_page(count);
        }
        let missed = match self.lanes.next_mut() {
            Some(next) => &mut next.missed,
            None => &mut self.missed,
        };
        *missed = missed.saturating_add(count);
    }

    // ---- room

    fn room(&self) -> Room {
        Room {
            messages: self.lanes.len() + self.aside.len() + self.leases.len() + self.reserved,
            bytes: self.held_bytes() + self.reserved_bytes,
            capacity_messages: match self.home.planted.ignores_capacity {
                false => self.settings.queue.capacity_messages,
                true => usize::MAX,
            },
            capacity_bytes: self.settings.queue.capacity_bytes,
        }
    }

    fn held_bytes(&self) -> usize {
        self.lanes.bytes() + self.aside.bytes() + self.leases.bytes()
    }

    fn room_was_freed(&mut self, after: &mut Aftermath) {
        if !self.home.planted.forgets_blocked {
            self.wake_blocked(after);
        }
        if self.stalled.is_some() {
            self.restart_stall();
        }
    }

    /// Wakes the senders that there is room for.
    fn wake_blocked(&mut self, after: &mut Aftermath) {
        if !self.blocked.is_empty() {
            self.blocked.notify_fitting(self.room(), after);
        }
        if self.ending == Ending::Draining && self.is_over() {
            self.idle.notify_all(after);
        }
    }

    fn wake_idle(&mut self, after: &mut Aftermath) {
        if self.lanes.has_next() {
            self.idle.notify_one(after);
        }
    }

    fn wake_everybody(&mut self, after: &mut Aftermath) {
        self.idle.notify_all(after);
        self.blocked.notify_all(after);
        for consumer in self.consumers.iter_mut() {
            if let Some(waker) = consumer.stalled.take() {
                after.wake(waker);
            }
        }
    }

    /// Whether nothing will be handed out any more.
    fn is_over(&self) -> bool {
        match self.ending {
            Ending::Open => false,
            Ending::Draining => {
                self.role == Role::Queue || (self.lanes.is_empty() && self.reserved == 0)
            }
            Ending::Closed(_) => true,
        }
    }

    fn errand(&self, errand: Errand, after: &mut Aftermath) {
        after.errand(&self.home, self.id, errand);
    }
}

/// Whether the events of the broker match the pattern.
fn is_of_events(pattern: &Pattern) -> bool {
    let mut words = pattern.words();
    words.next() == Some("_ph") && matches!(words.next(), Some("event" | "*" | ">"))
}
