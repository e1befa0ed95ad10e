//! The broker itself: mailboxes by name, the routes to them, the books, and draining.

mod burial;
mod paging;
mod queues;
mod registry;
mod subscribing;

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as GlobalU64;
use std::time::{Duration, Instant};

use posthaste_core::limits::PAYLOAD_BYTES_CEILING;
use posthaste_core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use posthaste_core::sync::{Mutex, MutexGuard};
use posthaste_core::task::lock;
use posthaste_core::{
    Cancel, DrainReport, Error, ErrorKind, Event, Message, SharedRuntime, Stats, Status, Topic,
};

use crate::aftermath::{Errand, Leftovers};
use crate::blocks::Spares;
use crate::clock;
use crate::copies::{Entrance, Unanswered};
use crate::drain::{self, Drains};
use crate::home::Home;
use crate::mailbox::Mailbox;
use crate::sends::SendBooks;
use crate::store::{Host, Store};
use registry::Registry;

const NOBODY: &str = "nobody is there to answer";
const LOST: &str = "the responder was lost before it answered; it may have begun";

/// Everything that the handles of one broker share.
///
/// The registry's lock comes before those of mailboxes, of which at most one is held at a time.
pub(crate) struct Engine {
    home: Arc<Home>,
    registry: Mutex<Registry>,
    pub(crate) sends: SendBooks,
    /// Goes up whenever a route changes, so that senders know when to look again.
    generation: AtomicU64,
    next_consumer: AtomicU64,
    next_inbox: AtomicU64,
    inbox_prefix: String,
    unmatched: AtomicU64,
    draining: AtomicBool,
    drains: Drains,
}

/// Tells apart the brokers of one process that have no randomness to name themselves with.
static UNNAMED: GlobalU64 = GlobalU64::new(0);

impl Engine {
    pub(crate) fn new(
        runtime: Option<SharedRuntime>,
        store: Option<Arc<dyn Store>>,
        next_kept: u64,
    ) -> Arc<Self> {
        let mut name = [0; 8];
        match &runtime {
            Some(runtime) => runtime.fill_random(&mut name),
            None => name = UNNAMED.fetch_add(1, Ordering::Relaxed).to_be_bytes(),
        }
        let engine = Arc::new_cyclic(|engine| {
            let home = Home::new(runtime, store, engine.clone());
            Self {
                registry: Mutex::new(Registry::new(Arc::clone(&home), next_kept)),
                home,
                sends: SendBooks::default(),
                generation: AtomicU64::new(1),
                next_consumer: AtomicU64::new(0),
                next_inbox: AtomicU64::new(0),
                inbox_prefix: format!("_ph.inbox.{:016x}", u64::from_be_bytes(name)),
                unmatched: AtomicU64::new(0),
                draining: AtomicBool::new(false),
                drains: Drains::default(),
            }
        });
        if let Some(runtime) = &engine.home.runtime {
            let (schedule, engine) = (Arc::clone(&engine.home.schedule), Arc::downgrade(&engine));
            runtime.spawn(Box::pin(clock::run(runtime.clone(), schedule, engine)));
        }
        engine
    }

    /// Where empty blocks are kept.
    pub(crate) fn spares(&self) -> &Spares {
        &self.home.spares
    }

    /// Where durable queues are kept, if anywhere.
    #[inline]
    pub(crate) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.home.store.as_ref()
    }

    pub(crate) fn now(&self) -> Option<Instant> {
        self.home.now()
    }

    pub(crate) fn has_clock(&self) -> bool {
        self.home.has_clock()
    }

    pub(crate) fn needs_clock(what: &str) -> Error {
        let text = format!("{what} needs a clock: give the broker a runtime");
        Error::new(ErrorKind::Unsupported, text)
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The largest payload that it takes, in bytes.
    pub(crate) fn payload_limit(&self) -> usize {
        self.home.payload_limit.load(Ordering::Relaxed)
    }

    pub(crate) fn limit_payload(&self, bytes: usize) {
        let registry = lock(&self.registry);
        self.home.payload_limit.store(bytes.min(PAYLOAD_BYTES_CEILING), Ordering::Relaxed);
        // What senders and mailboxes know of it is out of date.
        self.reroute(&registry);
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

    /// Routes have changed.
    fn reroute(&self, registry: &Registry) {
        self.home.hears_drops.store(registry.hears_drops(), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::SeqCst);
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

    pub(crate) fn count_unmatched(&self, messages: u64) {
        self.unmatched.fetch_add(messages, Ordering::Relaxed);
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

    fn send_status(&self, request: &Message, text: &'static str) {
        if let Some(reply) = request.status_reply(Status::NoResponders, text)
            && !self.send_now(&reply)
        {
            self.count_unmatched(1);
        }
    }

    /// Puts a message where it goes without ever waiting (where there is no room it is lost), and
    /// says whether it goes anywhere.
    fn send_now(&self, message: &Message) -> bool {
        let mut targets = Vec::new();
        lock(&self.registry).routes.find(message.topic_bytes(), &mut targets);
        for target in &targets {
            let _full_or_gone = target.admit(&mut Some(message.clone()), Entrance::Sender(None));
        }
        !targets.is_empty()
    }

    /// Tells whoever listens.
    pub(crate) fn publish(&self, event: &Event) {
        if let Ok(message) = event.to_message() {
            self.send_now(&message);
        }
    }

    /// Nobody waits for the answer to a request any more.
    pub(crate) fn cancel(&self, request: &Cancel) {
        let mut targets = Vec::new();
        let queue = request.to_queue.then_some(&request.target);
        if self.route(request.target.as_bytes(), queue, false, &mut targets).is_err() {
            return;
        }
        for target in targets {
            target.with(|state, after| state.cancel(request, after));
        }
        self.wake_drain();
    }

    // ---- what follows from a step in a mailbox

    fn mailbox(&self, id: u64) -> Option<Arc<Mailbox>> {
        lock(&self.registry).mailboxes.get(&id).cloned()
    }

    pub(crate) fn run_errand(&self, id: u64, errand: Errand) {
        let Some(mailbox) = self.mailbox(id) else { return };
        match errand {
            // The schedule has it already.
            Errand::Visit(_) => {}
            Errand::ReadBack => self.begin_reading(&mailbox),
            Errand::ReadDelayed => self.read_delayed(&mailbox),
            Errand::ReadOn(consumer) => self.read_on(&mailbox, consumer),
            Errand::Bury => self.bury(&mailbox),
            Errand::CutOff => self.cut_off(&mailbox),
            Errand::Retire => self.retire(&mailbox),
            Errand::Expire => self.expire(&mailbox),
        }
    }

    /// The clock comes to a mailbox.
    pub(crate) fn visit(&self, id: u64, now: Instant) {
        if let Some(mailbox) = self.mailbox(id) {
            mailbox.with(|state, after| state.tick(now, after));
            self.wake_drain();
        }
    }

    /// Of copies that were dropped together, tells of each, and answers the requests.
    pub(crate) fn look_through(&self, leftovers: Leftovers) {
        let Leftovers { copies, unread: (unread, queue), subscriber, reason } = leftovers;
        if let Some(subscriber) = subscriber.clone() {
            let dropped = Event::Dropped { subscriber, topic: queue, reason: reason.to_owned() };
            (0..unread).for_each(|_| self.publish(&dropped));
        }
        for copy in copies {
            if let Some(subscriber) = subscriber.clone() {
                let (topic, reason) = (copy.message.topic(), reason.to_owned());
                let dropped = Event::Dropped { subscriber, topic, reason };
                (0..copy.count()).for_each(|_| self.publish(&dropped));
            }
            if copy.is_request() {
                self.answer(&copy.into_unanswered());
            }
        }
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

    // ---- looking, and draining

    pub(crate) fn stats(&self) -> Stats {
        let registry = lock(&self.registry);
        let mut ledger = registry.retired.clone();
        for mailbox in registry.mailboxes.values() {
            ledger.add(&mailbox.ledger());
        }
        ledger.unmatched = self.unmatched.load(Ordering::Relaxed);
        Stats {
            ledger,
            connections: 0,
            subscriptions: registry.subscriptions.len() as u64,
            queues: registry.queues.values().map(|queue| queue.info()).collect(),
        }
    }

    pub(crate) async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        let Some(runtime) = &self.home.runtime else {
            return Err(Self::needs_clock("draining"));
        };
        let mailboxes = {
            let registry = lock(&self.registry);
            self.draining.store(true, Ordering::SeqCst);
            self.reroute(&registry);
            registry.mailboxes.values().cloned().collect()
        };
        let within = if self.home.planted.drains_at_once { Duration::ZERO } else { within };
        Ok(drain::drain(&**runtime, mailboxes, &self.drains, within).await)
    }

    /// Something that a drain may wait for has happened.
    pub(crate) fn wake_drain(&self) {
        if self.is_draining() {
            self.drains.wake();
        }
    }
}

impl Host for Engine {
    fn renew(&self, before: u64) {
        for mailbox in self.durable() {
            mailbox.with(|state, _| state.renew(before));
        }
    }

    fn relocate(&self, before: u64) {
        for mailbox in self.durable() {
            loop {
                let readable = self.relocate_pages(&mailbox, before);
                // Some may have been left to the store meanwhile: then once more.
                let more = mailbox.with(|state, _| state.relocate(before));
                if !(more && readable) {
                    break;
                }
            }
        }
    }

    fn snapshot(&self) -> bool {
        self.durable().iter().all(|mailbox| mailbox.with(|state, _| state.snapshot()))
    }
}

impl Engine {
    fn durable(&self) -> Vec<Arc<Mailbox>> {
        let registry = lock(&self.registry);
        registry.mailboxes.values().filter(|this| this.is_durable()).cloned().collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.home.schedule.end();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
