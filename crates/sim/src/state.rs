//! Everything that a world consists of, under one lock that is never held while anybody is polled,
//! woken or dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use posthaste_core::BoxFuture;
use posthaste_core::runtime::BoxWork;
use posthaste_core::task::lock;

use crate::disk::DiskState;
use crate::executor::{Ready, TaskWaker};
use crate::faults::{Faults, Strength};
use crate::history::{Event, What};
use crate::nemesis::Act;
use crate::network::{Message, Network};
use crate::node::Start;
use crate::random::Dice;
use crate::timeline::{Kind, Timeline};

/// The node of the scenario itself, which no fault touches.
pub(crate) const WORLD: usize = 0;
/// How late a timer fires at most.
const LATE: Duration = Duration::from_micros(400);
/// What a step of a task takes at most.
const STEP: Duration = Duration::from_micros(20);
/// The wall clock at the beginning, since the Unix epoch.
const EPOCH: Duration = Duration::from_secs(1_750_000_000);

/// A world: what its handles and tasks share.
pub(crate) struct Shared {
    pub(crate) seed: u64,
    /// The one real instant that virtual time is counted from.
    pub(crate) origin: Instant,
    pub(crate) planted: BTreeSet<String>,
    pub(crate) faults: Faults,
    pub(crate) heal_at: Duration,
    pub(crate) ready: Arc<Ready>,
    state: Mutex<State>,
}

/// Which life of which node something belongs to: what belonged to an earlier life is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) node: usize,
    pub(crate) life: u32,
}

/// What is to happen at some time.
pub(crate) enum Due {
    Timer(u64),
    Network(Message),
    Nemesis(Act),
}

pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) timeline: Timeline,
    pub(crate) history: Vec<Event>,
    /// Who wants to know of new events in the history, or of anything else that changes.
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) network: Network,
    pub(crate) strength: Strength,
    pub(crate) tasks: BTreeMap<u64, Task>,
    pub(crate) timers: BTreeMap<u64, TimerState>,
    pub(crate) agenda: BTreeMap<(Duration, u64), Due>,
    pub(crate) healed: bool,
    pub(crate) waiting_for_heal: Vec<Waker>,
    pub(crate) steps: u64,
    /// Nothing is spawned any more: the world is being taken down.
    pub(crate) closed: bool,
    /// For the order of steps, and how long they take.
    pub(crate) dice: Dice,
    /// For when and where faults strike.
    pub(crate) fate: Dice,
    numbers: u64,
}

pub(crate) struct Task {
    pub(crate) scope: Scope,
    /// Not there while it is polled.
    pub(crate) future: Option<BoxFuture<'static, ()>>,
    pub(crate) waker: Arc<TaskWaker>,
}

pub(crate) struct TimerState {
    scope: Scope,
    /// When it fires.
    due: Option<(Duration, u64)>,
    /// What it was armed for, until it is ready.
    deadline: Option<Duration>,
    pub(crate) waker: Option<Waker>,
}

pub(crate) struct NodeState {
    pub(crate) name: Arc<str>,
    pub(crate) life: u32,
    pub(crate) up: bool,
    /// Whether the machine answers although the process is gone.
    pub(crate) host_up: bool,
    pub(crate) paused: bool,
    pub(crate) mortal: bool,
    pub(crate) finished: bool,
    pub(crate) start: Option<Start>,
    /// Tasks that were woken while the node was paused.
    pub(crate) held: Vec<u64>,
    pub(crate) waiting_for_finish: Vec<Waker>,
    /// How far the wall clock is ahead of or behind the truth, in milliseconds.
    pub(crate) clock_off_ms: i64,
    pub(crate) dice: Dice,
    pub(crate) disk: Option<DiskState>,
    /// Blocking work of the current life, and whether somebody does it.
    pub(crate) work: VecDeque<BoxWork>,
    pub(crate) working: bool,
}

/// What is done once the lock is released.
#[derive(Default)]
pub(crate) struct Aftermath {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) forgotten: Vec<Waker>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) work: Vec<BoxWork>,
    /// Tasks that may run again.
    pub(crate) resumed: Vec<u64>,
    /// Nodes that are to be started once more.
    pub(crate) starts: Vec<(Start, Scope)>,
}

impl Aftermath {
    pub(crate) fn wake(&mut self, waker: impl IntoIterator<Item = Waker>) {
        self.wakers.extend(waker);
    }
}

impl Shared {
    pub(crate) fn new(
        seed: u64,
        faults: &Faults,
        planted: BTreeSet<String>,
        heal_at: Duration,
    ) -> Arc<Self> {
        #[expect(clippy::disallowed_methods, reason = "virtual time needs one real beginning")]
        let origin = Instant::now();
        let mut fate = Dice::new(seed, 1);
        let strength = faults.draw(&mut fate);
        let shared = Arc::new(Self {
            seed,
            origin,
            planted,
            faults: faults.clone(),
            heal_at,
            ready: Arc::default(),
            state: Mutex::new(State {
                now: Duration::ZERO,
                timeline: Timeline::new(seed),
                history: Vec::new(),
                nodes: Vec::new(),
                network: Network::new(Dice::new(seed, 2)),
                strength,
                tasks: BTreeMap::new(),
                timers: BTreeMap::new(),
                agenda: BTreeMap::new(),
                healed: false,
                waiting_for_heal: Vec::new(),
                steps: 0,
                closed: false,
                dice: Dice::new(seed, 3),
                fate,
                numbers: 0,
            }),
        });
        shared.with(|state, _| {
            state.node(seed, "world");
            state.plan(heal_at);
        });
        shared
    }

    /// Runs `step` under the lock, and wakes and drops after it is released.
    pub(crate) fn with<T>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut State, &mut Aftermath) -> T,
    ) -> T {
        let mut after = Aftermath::default();
        let outcome = step(&mut lock(&self.state), &mut after);
        self.settle(after);
        outcome
    }

    pub(crate) fn settle(self: &Arc<Self>, after: Aftermath) {
        after.wakers.into_iter().for_each(Waker::wake);
        drop(after.forgotten);
        drop(after.tasks);
        drop(after.work);
        self.ready.extend(after.resumed);
        for (start, scope) in after.starts {
            crate::node::run_start(self, &start, scope);
        }
    }

    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.origin + at
    }

    /// How far an instant is from the beginning.
    pub(crate) fn offset(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }

    /// Ends the world: everything that runs in it is dropped.
    pub(crate) fn close(self: &Arc<Self>) {
        self.with(|state, after| {
            state.closed = true;
            for node in &mut state.nodes {
                node.start = None;
                after.work.extend(node.work.drain(..));
                after.forgotten.append(&mut node.waiting_for_finish);
            }
            state.agenda.clear();
            after.forgotten.append(&mut state.waiting_for_heal);
        });
        // A task that is dropped may drop what other tasks wait for, but spawns nothing any more.
        while let Some((_, task)) = self.with(|state, _| state.tasks.pop_first()) {
            drop(task);
        }
    }
}

impl State {
    /// A number that is not used again.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The node of that name, which is made if it is not there.
    pub(crate) fn node(&mut self, seed: u64, name: &str) -> usize {
        if let Some(at) = self.nodes.iter().position(|node| &*node.name == name) {
            return at;
        }
        let at = self.nodes.len();
        self.nodes.push(NodeState {
            name: name.into(),
            life: 0,
            up: true,
            host_up: true,
            paused: false,
            mortal: false,
            finished: false,
            start: None,
            held: Vec::new(),
            waiting_for_finish: Vec::new(),
            clock_off_ms: 0,
            dice: Dice::new(seed, 1_000 + at as u64),
            disk: None,
            work: VecDeque::new(),
            working: false,
        });
        at
    }

    pub(crate) fn scope(&self, node: usize) -> Scope {
        Scope { node, life: self.nodes[node].life }
    }

    pub(crate) fn is_alive(&self, scope: Scope) -> bool {
        let node = &self.nodes[scope.node];
        node.up && node.life == scope.life
    }

    pub(crate) fn schedule(&mut self, at: Duration, due: Due) -> (Duration, u64) {
        let key = (at.max(self.now), self.next_number());
        self.agenda.insert(key, due);
        key
    }

    pub(crate) fn record(&mut self, node: usize, what: What) {
        let name = Arc::clone(&self.nodes[node].name);
        self.timeline.say(self.now, &name, &what);
        self.history.push(Event { at: self.now, node: name, what });
    }

    pub(crate) fn say(&mut self, node: usize, what: &dyn std::fmt::Display) {
        self.timeline.say(self.now, &self.nodes[node].name, what);
    }

    // ---- tasks

    /// Adds a task; gives it back if its node is dead or the world at its end.
    pub(crate) fn spawn(
        &mut self,
        ready: &Arc<Ready>,
        scope: Scope,
        future: BoxFuture<'static, ()>,
    ) -> Result<(), BoxFuture<'static, ()>> {
        if self.closed || !self.is_alive(scope) {
            return Err(future);
        }
        let id = self.next_number();
        let waker = TaskWaker::new(id, ready);
        waker.enqueue();
        self.tasks.insert(id, Task { scope, future: Some(future), waker });
        Ok(())
    }

    /// Time goes on a little with every step, so that timers come between the steps of others.
    pub(crate) fn step_takes_time(&mut self) {
        self.now += self.dice.up_to(STEP);
    }

    // ---- clocks

    pub(crate) fn unix_time(&self, node: usize) -> Duration {
        let off = self.nodes[node].clock_off_ms;
        let by = Duration::from_millis(off.unsigned_abs());
        let truth = EPOCH + self.now;
        if off < 0 { truth.saturating_sub(by) } else { truth + by }
    }

    pub(crate) fn add_timer(&mut self, scope: Scope) -> u64 {
        let id = self.next_number();
        self.timers.insert(id, TimerState { scope, due: None, deadline: None, waker: None });
        id
    }

    pub(crate) fn reset_timer(&mut self, id: u64, at: Duration) {
        let late = self.dice.up_to(LATE);
        let Some(timer) = self.timers.get_mut(&id) else { return };
        timer.deadline = Some(at);
        if let Some(key) = timer.due.take() {
            self.agenda.remove(&key);
        }
        let key = self.schedule(at.saturating_add(late), Due::Timer(id));
        if let Some(timer) = self.timers.get_mut(&id) {
            timer.due = Some(key);
        }
    }

    pub(crate) fn drop_timer(&mut self, id: u64, after: &mut Aftermath) {
        if let Some(timer) = self.timers.remove(&id) {
            if let Some(key) = timer.due {
                self.agenda.remove(&key);
            }
            after.forgotten.extend(timer.waker);
        }
    }

    fn fire_timer(&mut self, id: u64, after: &mut Aftermath) {
        self.timeline.note(Kind::Timer, [id, self.now.as_nanos() as u64, 0]);
        if let Some(timer) = self.timers.get_mut(&id) {
            timer.due = None;
            after.wake(timer.waker.take());
        }
    }

    /// Whether a timer's time has come. It wakes somewhat late, but whoever looks earlier sees it
    /// at once, as with every real timer.
    pub(crate) fn take_timer(&mut self, id: u64) -> bool {
        let Some(timer) = self.timers.get_mut(&id) else { return false };
        let come = timer.deadline.is_some_and(|deadline| deadline <= self.now);
        if come {
            timer.deadline = None;
            if let Some(key) = timer.due.take() {
                self.agenda.remove(&key);
            }
        }
        come
    }

    /// How many timers of a node are armed.
    pub(crate) fn armed_timers(&self, node: usize) -> usize {
        self.timers.values().filter(|timer| timer.scope.node == node && timer.due.is_some()).count()
    }

    // ---- the agenda

    /// Does what is due next, if it is due by now.
    pub(crate) fn do_next_due(&mut self, after: &mut Aftermath) -> bool {
        let Some((&(at, _), _)) = self.agenda.first_key_value() else {
            return false;
        };
        if at > self.now {
            return false;
        }
        let Some((_, due)) = self.agenda.pop_first() else {
            return false;
        };
        match due {
            Due::Timer(id) => self.fire_timer(id, after),
            Due::Network(message) => self.on_network(message, after),
            Due::Nemesis(act) => self.strike(act, after),
        }
        true
    }

    /// When the next thing is due, however far that is.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }
}
