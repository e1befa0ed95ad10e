//! What the handles and the connections of one node share.

mod answers;
mod boxes;
mod dials;
mod incoming;
mod outgoing;
mod peer;
mod peers;
mod receivers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use posthaste_core::runtime::timeout_at;
use posthaste_core::task::lock;
use posthaste_core::{Error, SharedRuntime, Topic};

pub(crate) use self::answers::{inbox_address, is_asker, read_inbox};
pub(crate) use self::boxes::{Item, What};
pub(crate) use self::dials::{Dial, DialState};
pub(crate) use self::outgoing::{Handed, Prepared};
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
        .await;
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

    /// There is room in a box: connections that hold something try again.
    fn resume(&mut self) {
        for peer in self.peers.values_mut().filter(|peer| peer.held_up) {
            self.wake.extend(peer.waker.take());
        }
    }
}
