//! What the handles of a remote share with its driver: one session, and a table of links that
//! outlive it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_core::sync::atomic::{AtomicU64, Ordering};
use posthaste_core::sync::{Mutex, MutexGuard};
use posthaste_core::task::{OneShot, lock, remember};
use posthaste_core::transport::Endpoint;
use posthaste_core::{Error, ErrorKind, Event, Sends, SharedRuntime};
use posthaste_wire::{Code, Link, Session};

use super::RemoteOptions;
use super::mailbox::ReceiverState;
use super::outbox::SenderState;
use super::table::{Entry, Key, RoleState, Table};
use crate::planted::Planted;
use crate::pump::Pump;

/// What the handles of a remote share with its driver.
pub(crate) struct Shared {
    pub(crate) runtime: SharedRuntime,
    pub(crate) endpoint: Endpoint,
    pub(crate) options: RemoteOptions,
    state: Mutex<State>,
    /// How often the session of a link was lost: a handle that finds it unchanged need not ask.
    losses: Arc<AtomicU64>,
}

/// Keeps the connection: when the last one goes, the driver says goodbye.
pub(crate) struct Alive(pub(crate) Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.end(&Error::closed("the connection"));
    }
}

impl Shared {
    pub(crate) fn new(
        runtime: SharedRuntime,
        endpoint: Endpoint,
        options: RemoteOptions,
        session: Session,
    ) -> Self {
        let losses = Arc::new(AtomicU64::new(0));
        let planted = Planted::ask(&*runtime);
        let state = Mutex::new(State::new(session, Arc::clone(&losses), planted));
        Self { runtime, endpoint, options, state, losses }
    }

    /// Where the n-th attempt to connect goes: everywhere in turn.
    pub(crate) fn endpoint(&self, attempt: usize) -> &Endpoint {
        let fallbacks = &self.options.fallbacks;
        match attempt % (fallbacks.len() + 1) {
            0 => &self.endpoint,
            at => fallbacks.get(at - 1).unwrap_or(&self.endpoint),
        }
    }

    /// How many servers stand in for each other.
    pub(crate) fn servers(&self) -> usize {
        self.options.fallbacks.len() + 1
    }

    /// How often the session of a link was lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Unlocks after a command: wakes the driver if it sleeps and there is something to write, and
    /// whoever drains, because the command may have been what that waits for.
    pub(crate) fn unlock(&self, mut state: MutexGuard<'_, State>) {
        let driver = state.driver_if_needed();
        let drainer = state.drainer.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        if let Some(drainer) = drainer {
            drainer.wake();
        }
    }

    /// Ends everything in good order; handles answer with `why` from now on.
    pub(crate) fn end(&self, why: &Error) {
        let mut wakers = Wakeups::default();
        {
            let mut state = self.lock();
            state.closing = true;
            if !matches!(state.phase, Phase::Down(_)) {
                state.go_down(why, &mut wakers);
            }
            wakers.add(state.driver.clone());
        }
        wakers.fire();
    }

    /// Resolves once the connection is there, or with the reason why it never will be.
    pub(crate) async fn up(&self) -> Result<(), Error> {
        let mut waiter = Waiter { shared: self, place: None };
        std::future::poll_fn(move |cx| waiter.poll_up(cx)).await
    }

    /// Resolves once the driver has said goodbye and is gone.
    pub(crate) async fn gone(&self) {
        let mut waiter = Waiter { shared: self, place: None };
        std::future::poll_fn(move |cx| waiter.poll_gone(cx)).await;
    }
}

/// A place among those that wait for the connection to change.
struct Waiter<'a> {
    shared: &'a Shared,
    place: Option<u64>,
}

impl Waiter<'_> {
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.shared.lock();
        match &state.phase {
            Phase::Up if state.draining => Poll::Ready(Err(Error::closed("the connection"))),
            Phase::Up => Poll::Ready(Ok(())),
            Phase::Down(error) => Poll::Ready(Err(error.clone())),
            Phase::Connecting => {
                self.wait(&mut state, cx);
                Poll::Pending
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.gone {
            return Poll::Ready(());
        }
        self.wait(&mut state, cx);
        Poll::Pending
    }

    fn wait(&mut self, state: &mut State, cx: &Context<'_>) {
        let place = *self.place.get_or_insert_with(|| state.next_number());
        state.waiters.insert(place, cx.waker().clone());
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.lock().waiters.remove(&place);
        }
    }
}

/// How far the connection is.
pub(crate) enum Phase {
    /// It is being made, for the first time or again.
    Connecting,
    /// It is there.
    Up,
    /// It has ended for good.
    Down(Error),
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Code,
    pub(crate) reason: String,
    /// Whether it had been established.
    pub(crate) established: bool,
}

/// Where the answer to a call goes.
pub(crate) type Answer = OneShot<Result<Bytes, Error>>;

/// Who is to be woken once the lock is released: a waker may run anything.
#[derive(Default)]
pub(crate) struct Wakeups {
    wakers: Vec<Waker>,
    answers: Vec<(Arc<Answer>, Result<Bytes, Error>)>,
}

impl Wakeups {
    pub(crate) fn add(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.wakers.extend(wakers);
    }

    pub(super) fn answer(&mut self, cell: Arc<Answer>, answer: Result<Bytes, Error>) {
        self.answers.push((cell, answer));
    }

    /// Wakes everyone; the lists' memory is kept for the next time.
    pub(crate) fn fire(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
        for (cell, answer) in self.answers.drain(..) {
            cell.put(answer);
        }
    }
}

/// The state under the lock.
pub(crate) struct State {
    pub(crate) session: Session,
    pub(crate) phase: Phase,
    /// No new work is taken any more.
    pub(crate) draining: bool,
    /// The driver has to say goodbye and end.
    pub(crate) closing: bool,
    /// The driver has ended.
    pub(crate) gone: bool,
    /// Which server the session is at; one that stands in for it may have an older one of the
    /// same name.
    server: Option<[u8; 16]>,
    /// How long the server keeps a session whose connection is lost.
    pub(crate) linger: Duration,
    /// What has been told of what became of the session, since the connection was lost last.
    told: Told,
    losses: Arc<AtomicU64>,
    pub(crate) planted: Planted,
    pub(crate) driver: Option<Waker>,
    /// Whether the driver sleeps and would not notice new output by itself.
    pub(crate) parked: bool,
    pub(crate) end: Option<End>,
    pub(crate) calls: BTreeMap<u32, Arc<Answer>>,
    /// Senders that wait because too much output has gathered.
    pub(crate) starved: Vec<usize>,
    waiters: BTreeMap<u64, Waker>,
    /// Wakes whoever drains whenever something got its outcome.
    pub(crate) drainer: Option<Waker>,
    pub(super) table: Table,
    numbers: u64,
    /// The books of the senders that are gone.
    past: Sends,
}

/// What has been told of what became of the session.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    resumed: bool,
    lost: bool,
}

impl State {
    fn new(session: Session, losses: Arc<AtomicU64>, planted: Planted) -> Self {
        Self {
            session,
            phase: Phase::Connecting,
            draining: false,
            closing: false,
            gone: false,
            server: None,
            linger: Duration::ZERO,
            told: Told::default(),
            losses,
            planted,
            driver: None,
            parked: false,
            end: None,
            calls: BTreeMap::new(),
            starved: Vec::new(),
            waiters: BTreeMap::new(),
            drainer: None,
            table: Table::default(),
            numbers: 0,
            past: Sends::default(),
        }
    }

    /// A number that is not used again.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn driver_if_needed(&mut self) -> Option<Waker> {
        // A command may have ended the session, because too much waits to be written; the driver
        // has to know that also while the socket takes nothing.
        let ended = self.session.is_ended() && matches!(self.phase, Phase::Up);
        if ended || self.parked && self.session.wants_output() {
            self.parked = false;
            return self.driver.clone();
        }
        None
    }

    /// Adds an entry and asks the server for its link.
    pub(crate) fn open(&mut self, role: RoleState) -> Result<Key, Error> {
        let mut entry = Box::new(Entry {
            serial: self.next_number(),
            resumable: false,
            life: 0,
            wire: None,
            open: false,
            orphaned: false,
            ended: None,
            opener: None,
            role,
        });
        let (role, options) = entry.options();
        let link = self.session.open(role, &options).map_err(|error| command_error(&error))?;
        entry.wire = Some(link);
        Ok(self.table.add(entry, link))
    }

    /// The entry of a handle, with the session beside it.
    pub(crate) fn entry(&mut self, key: Key) -> Option<(&mut Session, &mut Entry)> {
        Some((&mut self.session, self.table.get(key)?))
    }

    /// The sender of a handle.
    pub(crate) fn sender(&mut self, key: Key) -> Option<&mut SenderState> {
        match &mut self.entry(key)?.1.role {
            RoleState::Sender(sender) => Some(sender),
            RoleState::Receiver(_) => None,
        }
    }

    /// The receiver of a handle.
    pub(crate) fn receiver(&mut self, key: Key) -> Option<&mut ReceiverState> {
        match &mut self.entry(key)?.1.role {
            RoleState::Receiver(receiver) => Some(receiver),
            RoleState::Sender(_) => None,
        }
    }

    /// Frees the entry of a handle that is gone, once its link is.
    pub(crate) fn reap(&mut self, key: Key) {
        let Some((_, entry)) = self.entry(key) else { return };
        if !entry.orphaned || entry.wire.is_some() || entry.has_more_to_say() {
            return;
        }
        let books = match &mut entry.role {
            RoleState::Sender(sender) => {
                // What was to go again has nobody any more who would send it.
                sender.ended();
                sender.sends()
            }
            RoleState::Receiver(_) => Sends::default(),
        };
        add(&mut self.past, books);
        self.table.remove(key);
    }

    /// The books of all senders there ever were.
    pub(crate) fn sends(&mut self) -> Sends {
        let mut sends = self.past;
        for entry in self.entries() {
            if let RoleState::Sender(sender) = &entry.role {
                add(&mut sends, sender.sends());
            }
        }
        sends
    }

    /// The links there are.
    pub(crate) fn entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.table.iter_mut()
    }

    /// What every link has to do with the session, when all of them are drained.
    pub(crate) fn entries_and_session(
        &mut self,
    ) -> (&mut Session, impl Iterator<Item = &mut Entry>) {
        (&mut self.session, self.table.iter_mut())
    }

    /// Wakes those who wait for the connection to change.
    pub(super) fn wake_waiters(&mut self, wakers: &mut Wakeups) {
        wakers.add(std::mem::take(&mut self.waiters).into_values());
    }

    /// The sender that the session speaks of.
    pub(super) fn sender_by_link(&mut self, link: Link) -> Option<&mut SenderState> {
        match &mut self.by_link(link)?.2.role {
            RoleState::Sender(sender) => Some(sender),
            RoleState::Receiver(_) => None,
        }
    }

    /// The receiver that the session speaks of.
    pub(super) fn receiver_by_link(&mut self, link: Link) -> Option<&mut ReceiverState> {
        match &mut self.by_link(link)?.2.role {
            RoleState::Receiver(receiver) => Some(receiver),
            RoleState::Sender(_) => None,
        }
    }

    /// The entry that the session speaks of.
    pub(super) fn by_link(&mut self, link: Link) -> Option<(Key, &mut Session, &mut Entry)> {
        let (key, entry) = self.table.by_link(link)?;
        Some((key, &mut self.session, entry))
    }

    /// The connection is there: if it is to another server than before, nothing goes on.
    pub(super) fn arrive(&mut self, server: [u8; 16], wakers: &mut Wakeups) {
        let before = self.server.replace(server);
        if before.is_some_and(|before| before != server) {
            self.expire(wakers);
        }
    }

    /// After a reconnection: asks for every link that still has a handle, or something to say.
    pub(super) fn reopen(&mut self, wakers: &mut Wakeups) {
        for place in self.table.places() {
            let Some(entry) = self.table.at(place) else {
                continue;
            };
            if self.planted.forgets_subscriptions && matches!(entry.role, RoleState::Receiver(_)) {
                continue;
            }
            let stopping =
                matches!(&entry.role, RoleState::Receiver(receiver) if receiver.is_stopping());
            if stopping && !entry.has_more_to_say() {
                // It was closed, and is not to be opened again.
                entry.ended.get_or_insert_with(|| Error::closed("the receiver"));
                entry.wake_all(wakers);
            }
            if entry.ended.is_some() || entry.wire.is_some() {
                continue;
            }
            let (role, options) = entry.options();
            match self.session.open(role, &options) {
                Ok(link) => {
                    entry.wire = Some(link);
                    self.table.index(link, place);
                }
                Err(error) => {
                    let key = Key { place, serial: entry.serial };
                    entry.ended = Some(command_error(&error));
                    self.lose(key, wakers);
                }
            }
        }
    }

    /// The connection is lost; it may come back, and the session go on.
    pub(crate) fn disconnected(&mut self, why: &Error, wakers: &mut Wakeups) {
        self.phase = Phase::Connecting;
        self.told = Told::default();
        let (keeps, mut lost) = (!self.linger.is_zero(), false);
        for place in self.table.places() {
            let Some(entry) = self.table.at(place) else {
                continue;
            };
            let had_session = (entry.wire.take().is_some() && entry.open) || entry.resumable;
            entry.resumable = keeps && had_session;
            entry.open = false;
            match &mut entry.role {
                RoleState::Sender(sender) => {
                    if self.planted.forgets_unconfirmed {
                        sender.pretend_confirmed();
                    }
                    entry.resumable &= !self.planted.doubles_unconfirmed;
                    sender.disconnected();
                }
                RoleState::Receiver(receiver) => receiver.disconnected(),
            }
            let key = Key { place, serial: entry.serial };
            if had_session && !keeps {
                lost = true;
                self.lose(key, wakers);
            } else {
                self.reap(key);
            }
        }
        if lost {
            self.tell(&Event::SessionLost, wakers);
        }
        for cell in std::mem::take(&mut self.calls).into_values() {
            let text = format!("the connection was lost before the answer came: {why}");
            wakers.answer(cell, Err(Error::new(ErrorKind::Disconnected, text)));
        }
        wakers.add(self.drainer.take());
    }

    /// No server keeps the session any longer: nothing can go on where it was.
    pub(crate) fn expire(&mut self, wakers: &mut Wakeups) {
        let mut lost = false;
        for place in self.table.places() {
            if let Some(entry) = self.table.at(place)
                && entry.resumable
            {
                let key = Key { place, serial: entry.serial };
                lost = true;
                self.lose(key, wakers);
            }
        }
        if lost {
            self.tell(&Event::SessionLost, wakers);
        }
    }

    /// The session of one link is lost, for good if the link has ended.
    pub(super) fn lose(&mut self, key: Key, wakers: &mut Wakeups) {
        self.losses.fetch_add(1, Ordering::Release);
        wakers.add(self.drainer.take());
        let says_so = !self.planted.hides_lost_sessions;
        let Some((_, entry)) = self.entry(key) else {
            return;
        };
        entry.resumable = false;
        let goes_on = entry.ended.is_none() && !entry.orphaned;
        match &mut entry.role {
            RoleState::Sender(sender) if goes_on => sender.lost(),
            RoleState::Sender(sender) => sender.ended(),
            RoleState::Receiver(receiver) => {
                receiver.lost(wakers);
                if goes_on && says_so {
                    receiver.interrupt();
                }
            }
        }
        entry.wake_all(wakers);
        self.reap(key);
    }

    /// A link that was open on an earlier connection is open again: whether its session goes on.
    pub(super) fn reopened(&mut self, key: Key, resumed: bool, wakers: &mut Wakeups) {
        if resumed {
            self.tell(&Event::SessionResumed, wakers);
        } else {
            self.lose(key, wakers);
            self.tell(&Event::SessionLost, wakers);
        }
    }

    /// Tells those who subscribe to such events what became of the session, once a loss.
    fn tell(&mut self, event: &Event, wakers: &mut Wakeups) {
        let told = match event {
            Event::SessionResumed => &mut self.told.resumed,
            _ => &mut self.told.lost,
        };
        if std::mem::replace(told, true) || self.planted.hides_lost_sessions {
            return;
        }
        tracing::info!("{event}");
        for entry in self.entries().filter(|entry| entry.ended.is_none()) {
            if let RoleState::Receiver(receiver) = &mut entry.role {
                receiver.tell(event);
                wakers.add(receiver.take_waker());
            }
        }
    }

    /// The connection is lost for good, and with it every session, also what was to go again.
    pub(crate) fn go_down(&mut self, error: &Error, wakers: &mut Wakeups) {
        for entry in self.entries() {
            entry.ended.get_or_insert_with(|| error.clone());
        }
        self.disconnected(error, wakers);
        self.phase = Phase::Down(error.clone());
        for place in self.table.places() {
            if let Some(entry) = self.table.at(place) {
                let key = Key { place, serial: entry.serial };
                self.lose(key, wakers);
            }
        }
        self.wake_waiters(wakers);
    }

    /// Takes what has gathered for the socket, and wakes the senders that waited for that.
    pub(crate) fn collect(&mut self, pump: &mut Pump, now: Instant, wakers: &mut Wakeups) {
        pump.collect(&mut self.session);
        for place in std::mem::take(&mut self.starved) {
            if let Some(entry) = self.table.at(place)
                && let RoleState::Sender(sender) = &mut entry.role
            {
                wakers.add(sender.room_came());
            }
        }
        self.drain_events(now, wakers);
    }

    /// Notes that a sender waits because too much output has gathered.
    pub(crate) fn starve(&mut self, key: Key) {
        if !self.starved.contains(&key.place) {
            self.starved.push(key.place);
        }
    }
}

fn add(sends: &mut Sends, more: Sends) {
    sends.taken += more.taken;
    sends.confirmed += more.confirmed;
    sends.returned += more.returned;
    sends.pending += more.pending;
}

/// Keeps the caller's waker until the link is open.
pub(crate) fn poll_open(entry: &mut Entry, cx: &Context<'_>) -> Poll<Result<(), Error>> {
    if let Some(error) = &entry.ended {
        return Poll::Ready(Err(error.clone()));
    }
    if entry.open {
        return Poll::Ready(Ok(()));
    }
    remember(&mut entry.opener, cx);
    Poll::Pending
}

/// A command that the session did not take.
pub(crate) fn command_error(error: &posthaste_wire::CommandError) -> Error {
    use posthaste_wire::CommandError;
    match error {
        CommandError::Closed => Error::new(ErrorKind::Disconnected, "the connection was lost"),
        CommandError::Limit => Error::new(
            ErrorKind::Limit,
            "the connection has as many links or calls as it may have; use another connection",
        ),
        CommandError::TooLarge { len, limit } => Error::new(
            ErrorKind::TooLarge,
            format!("the options take {len} bytes, and at most {limit} fit into a frame"),
        ),
    }
}
