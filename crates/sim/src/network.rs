//! The network: dialling, byte streams that are cut, held up and split anywhere, and who can reach
//! whom. Bytes of one direction keep their order, are whole or lost with everything behind them,
//! and are never doubled, as TCP has it.

mod flow;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::task::Waker;
use std::time::Duration;

pub(crate) use flow::Flow;

use crate::random::Dice;
use crate::state::{Aftermath, Due, Scope, State};

/// Connections that wait to be accepted before further ones are refused.
const BACKLOG: usize = 64;
/// How long an attempt to connect is repeated before it has timed out.
const DIAL: Duration = Duration::from_secs(20);
/// How long lost bytes, or a lost attempt to connect, take to be sent again at least.
pub(crate) const AGAIN: Duration = Duration::from_millis(200);

/// Something on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Message {
    /// An attempt to connect arrives.
    Dial { dial: u64, attempt: u32 },
    /// Its answer arrives.
    Answer { dial: u64 },
    /// The oldest bytes that the end `from` has written may arrive.
    Bytes { conn: u64, from: usize },
    /// The end `at` hears that the connection is broken.
    Reset { conn: u64, at: usize },
}

/// All connections, and everything that is to become one.
pub(crate) struct Network {
    pub(crate) conns: BTreeMap<u64, Conn>,
    pub(crate) listeners: BTreeMap<(usize, u16), Listener>,
    pub(crate) dials: BTreeMap<u64, Dial>,
    /// From which node nothing arrives at which.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    pub(crate) dice: Dice,
    next_port: u16,
}

/// A connection: two ends, and what each of them has written.
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    pub(crate) flows: [Flow; 2],
}

/// One end of a connection.
pub(crate) struct End {
    pub(crate) scope: Scope,
    /// Whether somebody has a handle on it, or will be given one.
    pub(crate) open: bool,
    /// Whether it has heard that the connection is broken.
    pub(crate) reset: bool,
}

/// Somebody who listens.
pub(crate) struct Listener {
    scope: Scope,
    backlog: VecDeque<u64>,
    pub(crate) waker: Option<Waker>,
}

/// An attempt to connect.
pub(crate) struct Dial {
    from: Scope,
    to: (usize, u16),
    started: Duration,
    conn: Option<u64>,
    pub(crate) outcome: Option<Result<u64, io::ErrorKind>>,
    pub(crate) waker: Option<Waker>,
}

impl Network {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            conns: BTreeMap::new(),
            listeners: BTreeMap::new(),
            dials: BTreeMap::new(),
            blocked: BTreeSet::new(),
            dice,
            next_port: 49_152,
        }
    }

    fn is_blocked(&self, from: usize, to: usize) -> bool {
        from != to && self.blocked.contains(&(from, to))
    }
}

impl State {
    /// How long something takes to the other end: mostly short, now and then much longer.
    fn latency(&mut self) -> Duration {
        let most = self.strength.latency_max;
        let dice = &mut self.network.dice;
        let latency = Duration::from_micros(50) + dice.up_to(most);
        if dice.percent(2) { latency * 8 } else { latency }
    }

    fn send(&mut self, after: Duration, message: Message) {
        self.schedule(self.now + after, Due::Network(message));
    }

    pub(crate) fn on_network(&mut self, message: Message, after: &mut Aftermath) {
        match message {
            Message::Dial { dial, attempt } => self.on_dial(dial, attempt, after),
            Message::Answer { dial } => self.on_answer(dial, after),
            Message::Bytes { conn, from } => self.on_bytes(conn, from, after),
            Message::Reset { conn, at } => self.on_reset(conn, at, after),
        }
    }

    // ---- listening and connecting

    /// Listens at a port of a node; 0 is any that is free.
    pub(crate) fn listen(&mut self, scope: Scope, port: u16) -> io::Result<u16> {
        let mut port = port;
        if port == 0 {
            while self.network.listeners.contains_key(&(scope.node, self.network.next_port)) {
                self.network.next_port = self.network.next_port.checked_add(1).unwrap_or(1_024);
            }
            port = self.network.next_port;
        }
        if self.network.listeners.contains_key(&(scope.node, port)) {
            let text = format!("something listens at {}:{port} already", self.name(scope.node));
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let listener = Listener { scope, backlog: VecDeque::new(), waker: None };
        self.network.listeners.insert((scope.node, port), listener);
        Ok(port)
    }

    /// The next connection to a listener; an error if it died with its node.
    pub(crate) fn accept(&mut self, scope: Scope, port: u16) -> io::Result<Option<u64>> {
        match self.network.listeners.get_mut(&(scope.node, port)) {
            Some(listener) if listener.scope == scope => Ok(listener.backlog.pop_front()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn stop_listening(&mut self, scope: Scope, port: u16, after: &mut Aftermath) {
        let at = (scope.node, port);
        if self.network.listeners.get(&at).is_none_or(|listener| listener.scope != scope) {
            return;
        }
        if let Some(listener) = self.network.listeners.remove(&at) {
            after.forgotten.extend(listener.waker);
            for conn in listener.backlog {
                self.close_end(conn, 1, after);
                self.break_off(conn, 0);
            }
        }
    }

    /// Begins to connect.
    pub(crate) fn dial(&mut self, from: Scope, to: (usize, u16)) -> u64 {
        let dial = self.next_number();
        let started = self.now;
        let state = Dial { from, to, started, conn: None, outcome: None, waker: None };
        self.network.dials.insert(dial, state);
        let latency = self.latency();
        self.send(latency, Message::Dial { dial, attempt: 0 });
        dial
    }

    /// Nobody waits for that connection any more.
    pub(crate) fn hang_up(&mut self, dial: u64, after: &mut Aftermath) {
        if let Some(dial) = self.network.dials.remove(&dial) {
            after.forgotten.extend(dial.waker);
            if let Some(conn) = dial.conn {
                self.close_end(conn, 0, after);
            }
        }
    }

    fn on_dial(&mut self, id: u64, attempt: u32, after: &mut Aftermath) {
        let Some(dial) = self.network.dials.get(&id) else { return };
        let (from, to, started) = (dial.from, dial.to, dial.started);
        if self.network.is_blocked(from.node, to.0) || !self.nodes[to.0].host_up {
            if self.now.saturating_sub(started) >= DIAL {
                return self.fail_dial(id, io::ErrorKind::TimedOut, after);
            }
            let pause = Duration::from_millis(500) * 2_u32.saturating_pow(attempt.min(6));
            return self.send(pause, Message::Dial { dial: id, attempt: attempt + 1 });
        }
        let Some(listener) = self.network.listeners.get_mut(&to) else {
            return self.fail_dial(id, io::ErrorKind::ConnectionRefused, after);
        };
        if listener.backlog.len() >= BACKLOG {
            return self.fail_dial(id, io::ErrorKind::ConnectionRefused, after);
        }
        let end = |scope| End { scope, open: true, reset: false };
        let server = listener.scope;
        after.wake(listener.waker.take());
        let conn = self.next_number();
        let flows = [self.new_flow(), self.new_flow()];
        let ends = [end(from), end(server)];
        self.network.conns.insert(conn, Conn { ends, flows });
        if let Some(listener) = self.network.listeners.get_mut(&to) {
            listener.backlog.push_back(conn);
        }
        if let Some(dial) = self.network.dials.get_mut(&id) {
            dial.conn = Some(conn);
        }
        let latency = self.latency();
        self.send(latency, Message::Answer { dial: id });
    }

    fn fail_dial(&mut self, id: u64, why: io::ErrorKind, after: &mut Aftermath) {
        if let Some(dial) = self.network.dials.get_mut(&id) {
            dial.outcome = Some(Err(why));
            after.wake(dial.waker.take());
        }
    }

    fn on_answer(&mut self, id: u64, after: &mut Aftermath) {
        let Some(dial) = self.network.dials.get(&id) else { return };
        let (from, to) = (dial.from.node, dial.to.0);
        if self.network.is_blocked(to, from) {
            return self.send(AGAIN * 5, Message::Answer { dial: id });
        }
        let Some(dial) = self.network.dials.get_mut(&id) else { return };
        let Some(conn) = dial.conn.take() else { return };
        dial.outcome = Some(Ok(conn));
        after.wake(dial.waker.take());
        let text = format!("connection {conn} to {} is there", self.name(to));
        self.say(from, &text);
    }

    // ---- bytes

    fn new_flow(&mut self) -> Flow {
        let strength = &self.strength;
        let (least, most) = (strength.buffer_bytes_min, strength.buffer_bytes_max.max(1));
        let spread = u64::try_from(most.saturating_sub(least)).unwrap_or(0);
        let more = self.network.dice.below(spread + 1);
        Flow::new(least.max(1) + usize::try_from(more).unwrap_or(0))
    }

    /// Puts bytes on their way, as many as the buffer takes, and says how many; 0 is none now.
    pub(crate) fn write(&mut self, conn: u64, from: usize, parts: &[io::IoSlice<'_>]) -> usize {
        let latency = self.latency();
        let split = self.network.dice.percent(self.strength.split_percent);
        let cut = self.network.dice.next();
        let now = self.now;
        let Some(state) = self.network.conns.get_mut(&conn) else { return 0 };
        let flow = &mut state.flows[from];
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        let mut take = offered.min(flow.room());
        if split && take > 1 {
            // A socket takes what it likes.
            take = 1 + usize::try_from(cut % take as u64).unwrap_or(0);
        }
        if take > 0 {
            flow.push(now + latency, parts, take);
            self.deliver_next(conn, from);
        }
        take
    }

    /// Has the oldest bytes of a direction arrive when they are due.
    fn deliver_next(&mut self, conn: u64, from: usize) {
        let Some(state) = self.network.conns.get_mut(&conn) else { return };
        if let Some(at) = state.flows[from].next_arrival() {
            self.schedule(at, Due::Network(Message::Bytes { conn, from }));
        }
    }

    fn on_bytes(&mut self, conn: u64, from: usize, after: &mut Aftermath) {
        let to = 1 - from;
        let Some((source, target)) = self.between(conn, from) else { return };
        let blocked = !self.nodes[target].host_up || self.network.is_blocked(source, target);
        let Some(state) = self.network.conns.get_mut(&conn) else { return };
        let flow = &mut state.flows[from];
        flow.expected = false;
        if flow.lost {
            return;
        }
        if blocked {
            // Lost on the way, and sent again.
            flow.hold_until(self.now + AGAIN + self.network.dice.up_to(AGAIN));
            return self.deliver_next(conn, from);
        }
        if flow.held_until > self.now {
            return self.deliver_next(conn, from);
        }
        if !state.ends[to].open {
            // Nobody is there any more, and that is the answer.
            flow.lose();
            return self.break_off(conn, from);
        }
        let split = self.network.dice.percent(self.strength.split_percent);
        let stalls = split && self.network.dice.percent(self.strength.stall_percent);
        let dice = &mut self.network.dice;
        let part = if split { Some(dice.next()) } else { None };
        let place = conn * 2 + from as u64;
        let timeline = &mut self.timeline;
        flow.arrive(part, |bytes| timeline.bytes(place, bytes));
        after.wake(flow.reader.take());
        if split {
            // The rest of what was written at once comes a little, or a good deal, later.
            let most = if stalls { Duration::from_millis(800) } else { Duration::from_millis(1) };
            flow.hold_until(self.now + dice.up_to(most));
        }
        self.deliver_next(conn, from);
    }

    /// Takes bytes out; `None` if there are none yet, 0 at the end.
    pub(crate) fn read(
        &mut self,
        conn: u64,
        at: usize,
        into: &mut [u8],
        after: &mut Aftermath,
    ) -> Option<usize> {
        let state = self.network.conns.get_mut(&conn)?;
        let flow = &mut state.flows[1 - at];
        let count = flow.take(into)?;
        after.wake(flow.writer.take());
        Some(count)
    }

    // ---- ends

    /// No more bytes come from that end; what was written still arrives.
    pub(crate) fn finish_writing(&mut self, conn: u64, end: usize) {
        let latency = self.latency();
        let now = self.now;
        let Some(state) = self.network.conns.get_mut(&conn) else { return };
        if state.flows[end].finish(now + latency) {
            self.deliver_next(conn, end);
        }
    }

    /// An end is dropped: a half-close, and a reset if there is something that it never read.
    pub(crate) fn close_end(&mut self, conn: u64, end: usize, after: &mut Aftermath) {
        let Some(state) = self.network.conns.get_mut(&conn) else { return };
        if !state.ends[end].open {
            return;
        }
        state.ends[end].open = false;
        let incoming = &mut state.flows[1 - end];
        after.forgotten.extend(incoming.reader.take());
        let unread = incoming.has_unread();
        after.forgotten.extend(state.flows[end].writer.take());
        if unread {
            self.break_off(conn, 1 - end);
        } else {
            self.finish_writing(conn, end);
        }
        self.forget_closed(conn, after);
    }

    /// Tells an end that the connection is broken; it hears of it after a while.
    pub(crate) fn break_off(&mut self, conn: u64, at: usize) {
        let latency = self.latency();
        self.send(latency, Message::Reset { conn, at });
    }

    fn on_reset(&mut self, conn: u64, at: usize, after: &mut Aftermath) {
        let Some((near, far)) = self.between(conn, at) else { return };
        let blocked = self.network.is_blocked(far, near);
        let Some(state) = self.network.conns.get_mut(&conn) else { return };
        let unheard = blocked || state.flows[1 - at].silent;
        if unheard || !state.ends[at].open || state.ends[at].reset {
            // A reset that is lost is not sent again: this end goes on to believe in the other.
            return;
        }
        state.ends[at].reset = true;
        for flow in &mut state.flows {
            flow.lose();
        }
        after.wake(state.flows[1 - at].reader.take());
        after.wake(state.flows[at].writer.take());
        let text = format!("connection {conn} is reset");
        self.say(near, &text);
    }

    fn forget_closed(&mut self, conn: u64, after: &mut Aftermath) {
        let gone = |state: &Conn| state.ends.iter().all(|end| !end.open);
        if self.network.conns.get(&conn).is_some_and(gone)
            && let Some(state) = self.network.conns.remove(&conn)
        {
            for flow in state.flows {
                after.forgotten.extend(flow.reader.into_iter().chain(flow.writer));
            }
        }
    }

    /// A node is gone: everything of it that the network knows goes with it. If its machine is
    /// still there the others hear of it at once, else by its silence.
    pub(crate) fn unplug(&mut self, scope: Scope, after: &mut Aftermath) {
        let ports: Vec<u16> = self.ports_of(scope);
        for port in ports {
            if let Some(listener) = self.network.listeners.remove(&(scope.node, port)) {
                after.wake(listener.waker);
            }
        }
        let dials: Vec<u64> = self
            .network
            .dials
            .iter()
            .filter(|(_, dial)| dial.from == scope)
            .map(|(id, _)| *id)
            .collect();
        for dial in dials {
            self.hang_up(dial, after);
        }
        let tells = self.nodes[scope.node].host_up;
        let ids: Vec<u64> = self.network.conns.keys().copied().collect();
        for conn in ids {
            for end in 0..2 {
                let Some(state) = self.network.conns.get_mut(&conn) else { continue };
                if state.ends[end].scope != scope || !state.ends[end].open {
                    continue;
                }
                state.ends[end].open = false;
                state.flows[end].lose();
                after.wake(state.flows[1 - end].reader.take());
                after.wake(state.flows[end].writer.take());
                if tells {
                    self.break_off(conn, 1 - end);
                }
                self.forget_closed(conn, after);
            }
        }
    }

    fn ports_of(&self, scope: Scope) -> Vec<u16> {
        let listeners = self.network.listeners.iter();
        let own = listeners.filter(|(_, listener)| listener.scope == scope);
        own.map(|((_, port), _)| *port).collect()
    }

    /// How many ends of connections a node has open, and how many listeners.
    pub(crate) fn network_census(&self, node: usize) -> (usize, usize) {
        let ends = self.network.conns.values().flat_map(|conn| &conn.ends);
        let open = ends.filter(|end| end.open && end.scope.node == node).count();
        let listening = self.network.listeners.keys().filter(|(at, _)| *at == node).count();
        (open, listening)
    }

    /// The node of one end of a connection, and that of the other.
    fn between(&self, conn: u64, end: usize) -> Option<(usize, usize)> {
        let ends = &self.network.conns.get(&conn)?.ends;
        Some((ends[end].scope.node, ends[1 - end].scope.node))
    }

    fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }
}
