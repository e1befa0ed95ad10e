//! What the handles and the connections of one node share.

mod boxes;
mod dials;
mod incoming;
mod outgoing;
mod peer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use posthaste_core::runtime::timeout_at;
use posthaste_core::task::lock;
use posthaste_core::{Error, ErrorKind, Kind, SharedRuntime, Status, Topic};

pub(crate) use self::boxes::{Item, What};
pub(crate) use self::dials::{Dial, DialState};
pub(crate) use self::outgoing::{Handed, Prepared, inbox_address, is_asker, read_inbox};
pub(crate) use self::peer::{HighWater, Known, Mark, Out, Queued};

use self::boxes::MailBox;
use self::outgoing::Pipe;
use self::peer::Peer;
use crate::lane::Lane;
use crate::options::ZmtpOptions;

/// A node: its peers, what waits for them, and what came from them.
pub(crate) struct Node {
    pub(crate) runtime: SharedRuntime,
    pub(crate) options: ZmtpOptions,
    /// The lanes that listeners are there for.
    pub(crate) bound: BTreeSet<Lane>,
    /// What tells the addresses of this node from those of others.
    pub(crate) id: String,
    state: Mutex<State>,
}

/// Everything that changes.
pub(crate) struct State {
    /// How much may wait for a peer, or in a queue.
    high: HighWater,
    pub(crate) closed: bool,
    peers: BTreeMap<u64, Peer>,
    boxes: BTreeMap<u64, MailBox>,
    /// Messages into queues that no peer has been given yet.
    pipes: BTreeMap<Topic, Pipe>,
    pub(crate) dials: Vec<Dial>,
    last: u64,
    turn: usize,
    /// Who waits for something of this to change.
    waiting: Vec<Waker>,
    /// Who waits for the end.
    closing: Vec<Waker>,
    /// Who is to be woken once the lock is open again.
    wake: Vec<Waker>,
    /// The answers that were given last, by where they went and which request they answer.
    answered: VecDeque<(Topic, u64)>,
    /// How many messages came in whose frames make no message.
    pub(crate) malformed: u64,
    /// Connections that are being greeted or are open.
    pub(crate) connections: usize,
}

/// Adds the waker of a task to those that are waiting, once.
fn wait_in(waiting: &mut Vec<Waker>, cx: &Context<'_>) {
    if !waiting.iter().any(|this| this.will_wake(cx.waker())) {
        waiting.push(cx.waker().clone());
    }
}

impl Node {
    pub(crate) fn new(
        runtime: SharedRuntime,
        options: ZmtpOptions,
        bound: BTreeSet<Lane>,
        dials: Vec<Dial>,
    ) -> Self {
        let mut id = [0; 8];
        runtime.fill_random(&mut id);
        let id = format!("{:016x}", u64::from_be_bytes(id));
        let state = State {
            high: options.high_water_marks(),
            closed: false,
            peers: BTreeMap::new(),
            boxes: BTreeMap::new(),
            pipes: BTreeMap::new(),
            dials,
            last: 0,
            turn: 0,
            waiting: Vec::new(),
            closing: Vec::new(),
            wake: Vec::new(),
            answered: VecDeque::new(),
            malformed: 0,
            connections: 0,
        };
        Self { runtime, options, bound, id, state: Mutex::new(state) }
    }

    /// Changes the state, and then wakes whoever that is of interest to.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let changed = change(&mut state);
        let wake = std::mem::take(&mut state.wake);
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        changed
    }

    /// Looks now, and again whenever something has changed, until `look` is ready.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Poll<T>) -> T {
        poll_fn(|cx| {
            self.with(|state| {
                let polled = look(state);
                if polled.is_pending() {
                    wait_in(&mut state.waiting, cx);
                }
                polled
            })
        })
        .await
    }

    /// The same for as long as peers may take; then `late` says why.
    pub(crate) async fn until_late<T>(
        &self,
        look: impl FnMut(&mut State) -> Poll<Result<T, Error>>,
        late: impl FnOnce(&mut State) -> Error,
    ) -> Result<T, Error> {
        let deadline = self.runtime.now() + self.options.patience;
        match timeout_at(&*self.runtime, deadline, self.until(look)).await {
            Some(done) => done,
            None => Err(self.with(late)),
        }
    }

    /// Waits until the peers have reached these marks, or are gone.
    pub(crate) async fn reached(&self, marks: &BTreeMap<u64, Mark>) {
        self.until(|state| {
            let waits = |(id, mark): (&u64, &Mark)| {
                state.peers.get(id).is_some_and(|peer| !peer.has_reached(*mark))
            };
            if marks.iter().any(waits) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Resolves when no handle is left.
    pub(crate) async fn closed(&self) {
        poll_fn(|cx| {
            self.with(|state| {
                if state.closed {
                    return Poll::Ready(());
                }
                wait_in(&mut state.closing, cx);
                Poll::Pending
            })
        })
        .await
    }

    /// Asks the peers on these lanes to say when they have heard everything until now.
    pub(crate) fn ping(&self, lanes: &[Lane]) -> BTreeMap<u64, Mark> {
        self.with(|state| {
            let mut marks = BTreeMap::new();
            for (id, peer) in &mut state.peers {
                if lanes.contains(&peer.known.lane) {
                    marks.insert(*id, peer.ping());
                    state.wake.extend(peer.waker.take());
                }
            }
            marks
        })
    }

    /// Enters a receiver; it takes messages out of the box of that number.
    pub(crate) fn enter(self: &Arc<Self>, what: What, high: HighWater) -> Seat {
        let number = self.with(|state| state.enter(what, high));
        Seat { node: Arc::clone(self), number }
    }

    /// Says that no handle is left: what waits is written, and then everything ends.
    pub(crate) fn close(&self) {
        self.with(|state| {
            state.closed = true;
            state.notify();
            state.wake.append(&mut state.closing);
            state.wake.extend(state.peers.values_mut().filter_map(|peer| peer.waker.take()));
        });
    }
}

/// A receiver's place at a box; dropping it leaves.
pub(crate) struct Seat {
    node: Arc<Node>,
    pub(crate) number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.node.with(|state| state.leave(self.number, &self.node.id));
    }
}

impl State {
    /// Whoever waits for anything is to look again.
    pub(crate) fn notify(&mut self) {
        self.wake.append(&mut self.waiting);
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    // ---- Receivers

    fn enter(&mut self, what: What, high: HighWater) -> u64 {
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

    fn leave(&mut self, number: u64, id: &str) {
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
    fn say_gone(&mut self, message: &posthaste_core::Message, id: &str) {
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

    /// Puts messages back that were taken out, the first of them first; whoever asked is told if
    /// nobody is left to take them.
    pub(crate) fn put_back(&mut self, number: u64, items: VecDeque<Item>, id: &str) {
        for item in items.into_iter().rev() {
            match self.boxes.get_mut(&number) {
                Some(mailbox) => mailbox.put_back(item, &mut self.wake),
                None => self.say_gone(&item.message, id),
            }
        }
    }

    // ---- Peers

    /// A peer has introduced itself.
    pub(crate) fn attach(&mut self, known: Known) -> u64 {
        let id = self.number();
        let mut peer = Peer::new(known);
        for mailbox in self.boxes.values().filter(|mailbox| mailbox.members > 0) {
            if let Some(ask) = mailbox.what.asks(known.lane, known.posthaste) {
                peer.give(Out::Subscribe(ask));
            }
        }
        if let Some(dial) = known.dial.and_then(|dial| self.dials.get_mut(dial)) {
            // What it wants is known when it answers this.
            let synced = peer.ping();
            dial.state = DialState::Up { peer: id, synced };
        }
        self.peers.insert(id, peer);
        if known.lane == Lane::Push {
            self.pump_all();
        }
        self.notify();
        id
    }

    /// A peer is gone.
    pub(crate) fn detach(&mut self, id: u64) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        for mailbox in self.boxes.values_mut() {
            mailbox.since.remove(&id);
        }
        let mut unsent = Vec::new();
        while let Some(out) = peer.take() {
            if let Out::Queued(queue, queued) = out {
                unsent.push((queue, queued));
            }
        }
        for (queue, queued) in unsent.into_iter().rev() {
            self.pipes.entry(queue).or_default().put_back(queued);
        }
        self.pump_all();
        self.notify();
    }

    pub(crate) fn peer(&mut self, id: u64) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// Whether every peer of a lane is Posthaste, too.
    pub(crate) fn is_posthaste(&self, lane: Lane) -> bool {
        self.on(lane).all(|peer| peer.known.posthaste)
    }

    fn on(&self, lane: Lane) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(move |peer| peer.known.lane == lane)
    }

    /// There is room for what goes out on a lane where there was none.
    pub(crate) fn drained(&mut self, lane: Lane) {
        if lane == Lane::Push {
            self.pump_all();
        }
        self.notify();
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
    fn delete_here(&mut self, queue: &Topic) -> bool {
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

    /// What a peer was given has been written.
    pub(crate) fn wrote(&mut self, id: u64, count: u64) {
        if count > 0
            && let Some(peer) = self.peers.get_mut(&id)
        {
            peer.written += count;
            self.notify();
        }
    }

    /// A peer has answered a heartbeat.
    pub(crate) fn ponged(&mut self, id: u64, ping: u64) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.ponged = peer.ponged.max(ping);
            self.notify();
        }
    }

    /// A peer says what it wants, or does not want any more.
    pub(crate) fn wants(
        &mut self,
        id: u64,
        body: bytes::Bytes,
        wanted: bool,
    ) -> Result<(), Error> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        if !peer.known.lane.is_asked_for(peer.known.posthaste) {
            let text = "a peer subscribed where nothing is published";
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        match wanted {
            true => peer.wants.add(body, peer.known.posthaste)?,
            false => peer.wants.remove(&body, peer.known.posthaste),
        }
        if peer.known.lane == Lane::Push {
            self.pump_all();
        }
        self.notify();
        Ok(())
    }

    /// There is room in a box: connections that hold something try again.
    fn resume(&mut self) {
        for peer in self.peers.values_mut().filter(|peer| peer.held_up) {
            self.wake.extend(peer.waker.take());
        }
    }
}

fn mailbox_is_empty(boxes: &BTreeMap<u64, MailBox>, number: u64) -> bool {
    boxes.get(&number).is_none_or(MailBox::is_empty)
}
