//! What there is in a broker: queues, groups and subscriptions by name, and the routes to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use posthaste_core::limits::DURABLE_QUEUE_BYTES;
use posthaste_core::{
    Capability, Error, ErrorKind, Ledger, Pattern, Queue, QueueSettings, Subscription, Topic,
};

use crate::home::Home;
use crate::mailbox::{Mailbox, Role};
use crate::routes::Routes;
use crate::state::Settings;
use crate::store::{Keep, KeptQueue};

/// The most queues, groups and subscriptions that a broker has at a time.
const MAILBOXES_MAX: usize = 1_000_000;

#[derive(Debug)]
pub(super) struct Registry {
    home: Arc<Home>,
    pub(super) routes: Routes,
    pub(super) queues: BTreeMap<Topic, Arc<Mailbox>>,
    pub(super) groups: BTreeMap<(Pattern, Topic), Arc<Mailbox>>,
    /// Every mailbox that still counts in the books: live ones, and closed ones with copies out.
    pub(super) mailboxes: BTreeMap<u64, Arc<Mailbox>>,
    /// Those that are live subscriptions or groups.
    pub(super) subscriptions: BTreeSet<u64>,
    /// The books of mailboxes that are gone for good.
    pub(super) retired: Ledger,
    next_mailbox: u64,
    /// The number in the store that the next durable queue gets.
    next_kept: u64,
}

impl Registry {
    pub(super) fn new(home: Arc<Home>, next_kept: u64) -> Self {
        Self {
            home,
            routes: Routes::default(),
            queues: BTreeMap::new(),
            groups: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
            retired: Ledger::default(),
            next_mailbox: 0,
            next_kept,
        }
    }

    /// Opens a subscription or a group.
    pub(super) fn open(
        &mut self,
        role: Role,
        name: Topic,
        subscription: &Subscription,
        pattern: &Pattern,
    ) -> Result<Arc<Mailbox>, Error> {
        let mut queue = QueueSettings::default();
        queue.capacity_messages = subscription.capacity_messages;
        queue.capacity_bytes = subscription.capacity_bytes;
        queue.overflow = subscription.overflow;
        queue.max_attempts = u32::MAX;
        let settings = Settings {
            queue,
            bindings: vec![pattern.clone()],
            stall_limit: subscription.stall_limit,
        };
        let mailbox = self.create(role, name, settings, None)?;
        self.routes.add(pattern, &mailbox);
        self.subscriptions.insert(mailbox.id());
        Ok(mailbox)
    }

    /// Takes a subscription or a group off the routes; false if it was not there any more.
    pub(super) fn detach(&mut self, mailbox: &Arc<Mailbox>) -> bool {
        if !self.subscriptions.remove(&mailbox.id()) {
            return false;
        }
        for pattern in mailbox.bindings() {
            self.routes.remove(&pattern, mailbox);
            if mailbox.role() == Role::Group {
                self.groups.remove(&(pattern, mailbox.name().clone()));
            }
        }
        true
    }

    /// The queue of that name, with the broker's defaults if it was not there.
    pub(super) fn open_queue(&mut self, name: &Topic) -> Result<Arc<Mailbox>, Error> {
        match self.queues.get(name) {
            Some(queue) => Ok(Arc::clone(queue)),
            None => self.create_queue(&Queue::new(name.clone())),
        }
    }

    /// A queue that was not there; its bindings are not led to it yet.
    pub(super) fn create_queue(&mut self, queue: &Queue) -> Result<Arc<Mailbox>, Error> {
        let mut settings = Settings { queue: QueueSettings::of(queue)?, ..Settings::default() };
        let keep = match (queue.durable, &self.home.store) {
            (Some(true), None) => return Err(Error::unsupported(Capability::Durability, "memory")),
            (Some(false), _) | (None, None) => None,
            (_, Some(store)) => {
                Some(Keep { store: Arc::clone(store), queue: self.next_kept, declared: 0 })
            }
        };
        settings.queue.durable = keep.is_some();
        if keep.is_some() && queue.capacity_bytes.is_none() {
            // A disk holds more than memory does.
            let bytes = usize::try_from(DURABLE_QUEUE_BYTES).unwrap_or(usize::MAX);
            settings.queue.capacity_bytes = bytes;
        }
        self.next_kept += u64::from(keep.is_some());
        let mailbox = self.create(Role::Queue, queue.name.clone(), settings, keep)?;
        mailbox.note_declared();
        self.queues.insert(queue.name.clone(), Arc::clone(&mailbox));
        Ok(mailbox)
    }

    /// A queue that was there before this process.
    pub(super) fn restore_queue(&mut self, kept: &KeptQueue) -> Result<Arc<Mailbox>, Error> {
        let bindings = kept.bindings.clone();
        let settings = Settings { queue: kept.settings.clone(), bindings, ..Settings::default() };
        let keep =
            self.home.store.clone().map(|store| Keep { store, queue: kept.number, declared: 0 });
        let mailbox = self.create(Role::Queue, kept.name.clone(), settings, keep)?;
        for binding in &kept.bindings {
            self.routes.add(binding, &mailbox);
        }
        if self.queues.insert(kept.name.clone(), Arc::clone(&mailbox)).is_some() {
            let text = format!("there are two queues {}", kept.name);
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        Ok(mailbox)
    }

    /// Takes a queue off the routes.
    pub(super) fn remove_queue(&mut self, name: &Topic) -> Option<Arc<Mailbox>> {
        let mailbox = self.queues.remove(name)?;
        for binding in mailbox.bindings() {
            self.routes.remove(&binding, &mailbox);
        }
        Some(mailbox)
    }

    /// Whether somebody listens for drops.
    pub(super) fn hears_drops(&self) -> bool {
        let mut found = Vec::new();
        self.routes.find(b"_ph.event.dropped", &mut found);
        !found.is_empty()
    }

    fn create(
        &mut self,
        role: Role,
        name: Topic,
        settings: Settings,
        keep: Option<Keep>,
    ) -> Result<Arc<Mailbox>, Error> {
        if self.mailboxes.len() >= MAILBOXES_MAX {
            let text = format!(
                "the broker has {MAILBOXES_MAX} queues and subscriptions; close some first"
            );
            return Err(Error::new(ErrorKind::Limit, text));
        }
        let id = self.next_mailbox;
        self.next_mailbox += 1;
        let mailbox =
            Arc::new(Mailbox::new(id, role, name, settings, keep, Arc::clone(&self.home)));
        self.mailboxes.insert(id, Arc::clone(&mailbox));
        Ok(mailbox)
    }
}
