//! The broker itself: mailboxes by name, the routes to them, the books, and draining.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use posthaste_core::limits::{QUEUE_BYTES, QUEUE_MESSAGES};
use posthaste_core::task::lock;
use posthaste_core::{
    DrainReport, Error, ErrorKind, Ledger, Message, Overflow, Pattern, Queue, QueueInfo, Runtime,
    SharedRuntime, Source, Stats, Status, Subscription, Topic,
};

use crate::aftermath::Aftermath;
use crate::copies::Unanswered;
use crate::drain::{self, Drains};
use crate::mailbox::{Mailbox, Role, Settings};
use crate::routes::Routes;
use crate::state::reason;
use crate::wait::Ticket;

/// The most queues, groups and subscriptions that a broker has at a time.
const MAILBOXES_MAX: usize = 1_000_000;

const NOBODY: &str = "nobody is there to answer";
const LOST: &str = "the responder was lost before it answered; it may have begun";

/// Everything that the handles of one broker share.
pub(crate) struct Engine {
    runtime: Option<SharedRuntime>,
    registry: Mutex<Registry>,
    /// Goes up whenever a route changes, so that senders know when to look again.
    generation: AtomicU64,
    next_consumer: AtomicU64,
    next_inbox: AtomicU64,
    inbox_prefix: String,
    unmatched: AtomicU64,
    returned: AtomicU64,
    draining: AtomicBool,
    drains: Drains,
}

#[derive(Debug, Default)]
struct Registry {
    routes: Routes,
    queues: BTreeMap<Topic, Arc<Mailbox>>,
    groups: BTreeMap<(Pattern, Topic), Arc<Mailbox>>,
    /// Every mailbox that still counts in the books: live ones, and closed ones with leases out.
    mailboxes: BTreeMap<u64, Arc<Mailbox>>,
    live_subscriptions: u64,
    /// The books of mailboxes that are gone for good.
    retired: Ledger,
    next_mailbox: u64,
}

/// Tells apart the brokers of one process that have no randomness to name themselves with.
static UNNAMED: AtomicU64 = AtomicU64::new(0);

impl Engine {
    pub(crate) fn new(runtime: Option<SharedRuntime>) -> Arc<Self> {
        let mut name = [0; 8];
        match &runtime {
            Some(runtime) => runtime.fill_random(&mut name),
            None => name = UNNAMED.fetch_add(1, Ordering::Relaxed).to_be_bytes(),
        }
        Arc::new(Self {
            runtime,
            registry: Mutex::default(),
            generation: AtomicU64::new(1),
            next_consumer: AtomicU64::new(0),
            next_inbox: AtomicU64::new(0),
            inbox_prefix: format!("_ph.inbox.{:016x}", u64::from_be_bytes(name)),
            unmatched: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            drains: Drains::default(),
        })
    }

    pub(crate) fn now(&self) -> Option<Instant> {
        self.runtime.as_ref().map(|runtime| runtime.now())
    }

    pub(crate) fn clock(&self) -> Option<&dyn Runtime> {
        self.runtime.as_deref()
    }

    pub(crate) fn has_clock(&self) -> bool {
        self.runtime.is_some()
    }

    pub(crate) fn needs_clock(what: &str) -> Error {
        let text = format!("{what} needs a clock: give the broker a runtime");
        Error::new(ErrorKind::Unsupported, text)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn draining() -> Error {
        Error::new(ErrorKind::Closed, "the broker is draining")
    }

    /// The registry, to open something in it. A drain begins under the same lock, so that it knows
    /// of all that was opened before, and nothing is opened behind its back.
    fn open_registry(&self) -> Result<MutexGuard<'_, Registry>, Error> {
        let registry = lock(&self.registry);
        if self.is_draining() {
            return Err(Self::draining());
        }
        Ok(registry)
    }

    pub(crate) fn next_consumer(&self) -> u64 {
        self.next_consumer.fetch_add(1, Ordering::Relaxed)
    }

    // ---- routing

    /// Where a message goes; the generation to compare later was read before the look-up.
    pub(crate) fn route(
        &self,
        topic: &[u8],
        to_queue: Option<&Topic>,
        declare: bool,
        into: &mut Vec<Arc<Mailbox>>,
    ) -> Result<u64, Error> {
        into.clear();
        let mut registry = lock(&self.registry);
        let generation = self.generation();
        match to_queue {
            None => registry.routes.find(topic, into),
            Some(name) => match registry.queues.get(name) {
                Some(queue) => into.push(Arc::clone(queue)),
                None if !declare => {}
                None if self.is_draining() => return Err(Self::draining()),
                None => {
                    let queue = registry.open_queue(name)?;
                    into.push(queue);
                    return Ok(self.generation.fetch_add(1, Ordering::SeqCst) + 1);
                }
            },
        }
        Ok(generation)
    }

    pub(crate) fn count_unmatched(&self) {
        self.unmatched.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells a requester that nobody is there.
    pub(crate) fn answer_nobody(&self, request: &Message) {
        self.send_status(request, NOBODY);
    }

    /// Tells a requester why there will be no answer any more.
    pub(crate) fn answer(&self, unanswered: &Unanswered) {
        let text = if unanswered.begun { LOST } else { NOBODY };
        self.send_status(&unanswered.request, text);
    }

    /// An inbox never blocks; should the reply address be something else and full, the status is
    /// lost, as any reply would have to wait.
    fn send_status(&self, request: &Message, text: &'static str) {
        let Some(reply) = request.status_reply(Status::NoResponders, text) else {
            return;
        };
        let mut targets = Vec::new();
        lock(&self.registry).routes.find(reply.topic_bytes(), &mut targets);
        if targets.is_empty() {
            self.count_unmatched();
        }
        for target in targets {
            let _full_or_gone = target.admit(&mut Some(reply.clone()), None);
        }
    }

    // ---- subscribing

    /// Opens what a subscription reads from and joins it as `consumer`.
    pub(crate) fn subscribe(
        &self,
        subscription: &Subscription,
        consumer: u64,
    ) -> Result<Arc<Mailbox>, Error> {
        let mut registry = self.open_registry()?;
        let mailbox = match &subscription.source {
            Source::Queue(name) => registry.open_queue(name)?,
            Source::Topic(pattern) => {
                let name = Topic::new("_ph.subscription")?;
                let role = match pattern.as_str().starts_with(&self.inbox_prefix) {
                    true => Role::Inbox,
                    false => Role::Subscription,
                };
                let mailbox = registry.open(role, name, subscription, pattern)?;
                registry.live_subscriptions += 1;
                mailbox
            }
            Source::Shared(pattern, group) => {
                let key = (pattern.clone(), group.clone());
                match registry.groups.get(&key) {
                    Some(mailbox) => Arc::clone(mailbox),
                    None => {
                        let mailbox =
                            registry.open(Role::Group, group.clone(), subscription, pattern)?;
                        registry.groups.insert(key, Arc::clone(&mailbox));
                        registry.live_subscriptions += 1;
                        mailbox
                    }
                }
            }
        };
        // Joined under the registry's lock, so that a group cannot lose its last member between
        // being found and being joined.
        if !mailbox.join(consumer) {
            return Err(Self::draining());
        }
        drop(registry);
        self.generation.fetch_add(1, Ordering::SeqCst);
        Ok(mailbox)
    }

    /// A consumer is gone. Subscriptions go with it, groups with their last member.
    pub(crate) fn unsubscribe(
        &self,
        mailbox: &Arc<Mailbox>,
        consumer: u64,
        waiting: Option<Ticket>,
    ) {
        let mut after = Aftermath::default();
        let mut registry = lock(&self.registry);
        let (last, unanswered) = mailbox.part(consumer, waiting, &mut after);
        let closes = last && mailbox.role() != Role::Queue;
        if closes {
            for pattern in mailbox.bindings() {
                registry.routes.remove(&pattern, mailbox);
                if mailbox.role() == Role::Group {
                    registry.groups.remove(&(pattern, mailbox.name().clone()));
                }
            }
            registry.live_subscriptions -= 1;
        }
        drop(registry);
        after.run();
        for request in unanswered {
            self.answer(&request);
        }
        if closes {
            self.generation.fetch_add(1, Ordering::SeqCst);
            self.finish(mailbox, reason::UNSUBSCRIBED);
        }
    }

    fn finish(&self, mailbox: &Arc<Mailbox>, why: &'static str) {
        for unanswered in mailbox.close(why).into_unanswered() {
            self.answer(&unanswered);
        }
        self.retire(mailbox);
    }

    /// Folds the books of a closed mailbox into those of all that are gone, once nothing of it is
    /// out any more.
    pub(crate) fn retire(&self, mailbox: &Mailbox) {
        let mut registry = lock(&self.registry);
        let ledger = mailbox.ledger();
        if !self.is_draining()
            && ledger.held == 0
            && registry.mailboxes.remove(&mailbox.id()).is_some()
        {
            registry.retired.add(&ledger);
        }
        drop(registry);
        self.wake_drain();
    }

    pub(crate) fn next_inbox(&self) -> Result<Topic, Error> {
        let number = self.next_inbox.fetch_add(1, Ordering::Relaxed);
        Topic::new(format!("{}.{number}", self.inbox_prefix))
    }

    // ---- queues

    pub(crate) fn declare(&self, queue: Queue) -> Result<(), Error> {
        let mut after = Aftermath::default();
        let mut registry = self.open_registry()?;
        let mailbox = registry.open_queue(&queue.name)?;
        let new = mailbox.update(
            queue.capacity_messages,
            queue.capacity_bytes,
            queue.bindings,
            &mut after,
        );
        for binding in new {
            registry.routes.add(&binding, &mailbox);
        }
        drop(registry);
        self.generation.fetch_add(1, Ordering::SeqCst);
        after.run();
        Ok(())
    }

    pub(crate) fn delete(&self, name: &Topic) -> Result<(), Error> {
        let mut registry = lock(&self.registry);
        let mailbox = registry.queues.remove(name).ok_or_else(|| not_found(name))?;
        for binding in mailbox.bindings() {
            registry.routes.remove(&binding, &mailbox);
        }
        drop(registry);
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.finish(&mailbox, reason::QUEUE_DELETED);
        Ok(())
    }

    pub(crate) fn queue(&self, name: &Topic) -> Result<QueueInfo, Error> {
        let registry = lock(&self.registry);
        registry.queues.get(name).map(|queue| queue.info()).ok_or_else(|| not_found(name))
    }

    pub(crate) fn stats(&self) -> Stats {
        let registry = lock(&self.registry);
        let mut ledger = registry.retired.clone();
        for mailbox in registry.mailboxes.values() {
            ledger.add(&mailbox.ledger());
        }
        ledger.unmatched = self.unmatched.load(Ordering::Relaxed);
        ledger.returned = self.returned.load(Ordering::Relaxed);
        Stats {
            ledger,
            connections: 0,
            subscriptions: registry.live_subscriptions,
            queues: registry.queues.values().map(|queue| queue.info()).collect(),
        }
    }

    // ---- draining

    pub(crate) async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        let Some(runtime) = &self.runtime else {
            return Err(Self::needs_clock("draining"));
        };
        let mailboxes = {
            let registry = lock(&self.registry);
            self.draining.store(true, Ordering::SeqCst);
            registry.mailboxes.values().cloned().collect()
        };
        Ok(drain::drain(&**runtime, mailboxes, &self.drains, within).await)
    }

    /// Something that a drain may wait for has happened.
    pub(crate) fn wake_drain(&self) {
        if self.is_draining() {
            self.drains.wake();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Registry {
    fn open(
        &mut self,
        role: Role,
        name: Topic,
        subscription: &Subscription,
        pattern: &Pattern,
    ) -> Result<Arc<Mailbox>, Error> {
        let settings = Settings {
            capacity_messages: subscription.capacity_messages,
            capacity_bytes: subscription.capacity_bytes,
            overflow: subscription.overflow,
            bindings: vec![pattern.clone()],
        };
        let mailbox = self.create(role, name, settings)?;
        self.routes.add(pattern, &mailbox);
        Ok(mailbox)
    }

    /// The queue of that name, with the broker's defaults if it was not there.
    fn open_queue(&mut self, name: &Topic) -> Result<Arc<Mailbox>, Error> {
        if let Some(queue) = self.queues.get(name) {
            return Ok(Arc::clone(queue));
        }
        let settings = Settings {
            capacity_messages: QUEUE_MESSAGES,
            capacity_bytes: QUEUE_BYTES,
            overflow: Overflow::Block,
            bindings: Vec::new(),
        };
        let queue = self.create(Role::Queue, name.clone(), settings)?;
        self.queues.insert(name.clone(), Arc::clone(&queue));
        Ok(queue)
    }

    fn create(
        &mut self,
        role: Role,
        name: Topic,
        settings: Settings,
    ) -> Result<Arc<Mailbox>, Error> {
        if self.mailboxes.len() >= MAILBOXES_MAX {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "the broker has {MAILBOXES_MAX} queues and subscriptions; close some first"
                ),
            ));
        }
        let id = self.next_mailbox;
        self.next_mailbox += 1;
        let mailbox = Arc::new(Mailbox::new(id, role, name, settings));
        self.mailboxes.insert(id, Arc::clone(&mailbox));
        Ok(mailbox)
    }
}

fn not_found(name: &Topic) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no queue {name}"))
}
