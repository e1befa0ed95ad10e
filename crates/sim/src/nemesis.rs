//! What strikes, when, and whom: planned and drawn from the seed.

use std::time::Duration;

use crate::history::What;
use crate::network::{AGAIN, Conn};
use crate::random::Dice;
use crate::state::{Aftermath, Due, State, WORLD};

/// How long a stall, a pause, a partition or a death lasts at most.
const STALL: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(4);
const PARTITION: Duration = Duration::from_secs(8);
const DEATH: Duration = Duration::from_secs(4);
/// How long a disk is full at most.
const FULL: Duration = Duration::from_secs(4);
/// How far a wall clock jumps at most, in milliseconds.
const JUMP_MS: u64 = 3_600_000;

/// Something that strikes, or ends.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Cut,
    HalfOpen,
    Stall,
    Partition,
    EndPartition(Vec<(usize, usize)>),
    Kill,
    Restart(usize),
    Pause,
    Resume(usize),
    ClockJump,
    FillDisk(usize),
    FreeDisk(usize),
    FailSync(usize),
    Replace(usize),
    Heal,
}

/// When something strikes: most scenarios have done most of their work early.
pub(crate) fn sometime(dice: &mut Dice, heal_at: Duration) -> Duration {
    let within = if dice.percent(60) { heal_at / 8 } else { heal_at };
    dice.up_to(within)
}

impl State {
    /// Spreads what the seed has drawn over the time until the world heals.
    pub(crate) fn plan(&mut self, heal_at: Duration) {
        let strength = self.strength.clone();
        let stalls = u32::from(strength.stall_percent > 0) * 3;
        for (count, act) in [
            (strength.cuts, Act::Cut),
            (strength.half_opens, Act::HalfOpen),
            (stalls, Act::Stall),
            (strength.partitions, Act::Partition),
            (strength.kills, Act::Kill),
            (strength.pauses, Act::Pause),
            (strength.clock_jumps, Act::ClockJump),
        ] {
            for _ in 0..count {
                let at = sometime(&mut self.fate, heal_at);
                self.schedule(at, Due::Nemesis(act.clone()));
            }
        }
        self.schedule(heal_at, Due::Nemesis(Act::Heal));
    }

    pub(crate) fn strike(&mut self, act: Act, after: &mut Aftermath) {
        match act {
            Act::Cut => self.cut_one(),
            Act::HalfOpen => self.half_open_one(),
            Act::Stall => self.stall_one(),
            Act::Partition => self.partition_some(),
            Act::EndPartition(pairs) => self.end_partition(&pairs),
            Act::Kill => self.kill_one(after),
            Act::Restart(node) => self.restart(node, after),
            Act::Pause => self.pause_one(),
            Act::Resume(node) => self.resume(node, after),
            Act::ClockJump => self.jump_one(),
            Act::FillDisk(node) => self.fill_disk_for_a_while(node),
            Act::FreeDisk(node) => self.free_disk(node),
            Act::FailSync(node) => self.fail_sync_of_mortal(node),
            Act::Replace(node) => self.replace(node, after),
            Act::Heal => self.heal(after),
        }
    }

    fn after(&mut self, most: Duration, act: Act) {
        let at = self.now + self.fate.up_to(most);
        self.schedule(at, Due::Nemesis(act));
    }

    fn fault(&mut self, node: usize, text: String) {
        self.record(node, What::Fault(text));
    }

    // ---- connections

    fn some_connection(&mut self) -> Option<u64> {
        let at = self.fate.index(self.network.conns.len());
        self.network.conns.keys().nth(at).copied()
    }

    /// Resets one connection.
    fn cut_one(&mut self) {
        if let Some(conn) = self.some_connection() {
            self.cut(conn);
        }
    }

    /// Resets a connection: each end hears of it after a while of its own.
    pub(crate) fn cut(&mut self, conn: u64) {
        let at_once = self.fate.percent(50);
        if let Some(state) = self.network.conns.get_mut(&conn)
            && at_once
        {
            state.flows.iter_mut().for_each(crate::network::Flow::lose);
        }
        self.fault(WORLD, format!("connection {conn} is cut"));
        self.break_off(conn, 0);
        self.break_off(conn, 1);
    }

    /// Resets all connections, or those of one node.
    pub(crate) fn cut_all(&mut self, of: Option<usize>) {
        self.connections_of(of).into_iter().for_each(|conn| self.cut(conn));
    }

    /// Has the connections of a node fall silent, in one direction or both.
    pub(crate) fn half_open_all(&mut self, of: usize) {
        self.connections_of(Some(of)).into_iter().for_each(|conn| self.half_open(conn));
    }

    fn connections_of(&self, of: Option<usize>) -> Vec<u64> {
        let ends = |conn: &Conn| conn.ends.iter().map(|end| end.scope.node).collect::<Vec<_>>();
        let conns = self.network.conns.iter();
        let own = conns.filter(|(_, conn)| of.is_none_or(|node| ends(conn).contains(&node)));
        own.map(|(id, _)| *id).collect()
    }

    fn half_open_one(&mut self) {
        if let Some(conn) = self.some_connection() {
            self.half_open(conn);
        }
    }

    /// Has the bytes of a connection vanish from now on, in one direction or both.
    fn half_open(&mut self, conn: u64) {
        let which = self.fate.below(3);
        let Some(state) = self.network.conns.get_mut(&conn) else { return };
        for (end, flow) in state.flows.iter_mut().enumerate() {
            if which == 2 || which == end as u64 {
                flow.fall_silent();
            }
        }
        let text = match which {
            2 => "nothing arrives on connection",
            0 => "nothing from the client arrives on connection",
            _ => "nothing from the server arrives on connection",
        };
        self.fault(WORLD, format!("{text} {conn} any more"));
    }

    fn stall_one(&mut self) {
        let Some(conn) = self.some_connection() else { return };
        let until = self.now + self.fate.up_to(STALL);
        let end = self.fate.index(2);
        let Some(state) = self.network.conns.get_mut(&conn) else { return };
        state.flows[end].hold_until(until);
        self.fault(WORLD, format!("connection {conn} stalls, from end {end}"));
    }

    // ---- partitions

    fn partition_some(&mut self) {
        let nodes: Vec<usize> = (WORLD + 1..self.nodes.len()).collect();
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for node in nodes {
            if self.fate.percent(50) { here.push(node) } else { there.push(node) }
        }
        if here.is_empty() || there.is_empty() {
            return;
        }
        let both_ways = self.fate.percent(70);
        let pairs = self.part(&here, &there, both_ways);
        self.after(PARTITION, Act::EndPartition(pairs));
    }

    /// Has nothing from `here` arrive `there`, nor, if `both_ways`, the other way round.
    pub(crate) fn part(
        &mut self,
        here: &[usize],
        there: &[usize],
        both_ways: bool,
    ) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for (from, to) in here.iter().flat_map(|from| there.iter().map(move |to| (*from, *to))) {
            pairs.push((from, to));
            if both_ways {
                pairs.push((to, from));
            }
        }
        self.network.blocked.extend(pairs.iter().copied());
        let names = |nodes: &[usize]| {
            let names: Vec<&str> = nodes.iter().map(|node| &*self.nodes[*node].name).collect();
            names.join(", ")
        };
        let way = if both_ways { "and" } else { "does not reach" };
        let text = format!("partition: {} {way} {}", names(here), names(there));
        self.fault(WORLD, text);
        pairs
    }

    fn end_partition(&mut self, pairs: &[(usize, usize)]) {
        for pair in pairs {
            self.network.blocked.remove(pair);
        }
        self.fault(WORLD, "the partition is over".to_owned());
    }

    // ---- nodes

    fn kill_one(&mut self, after: &mut Aftermath) {
        let mortal: Vec<usize> = (0..self.nodes.len())
            .filter(|node| {
                let node = &self.nodes[*node];
                node.mortal && node.up && !node.finished && node.start.is_some()
            })
            .collect();
        if mortal.is_empty() {
            return;
        }
        let node = mortal[self.fate.index(mortal.len())];
        let silently = self.fate.percent(30);
        self.kill(node, silently, after);
        self.after(DEATH, Act::Restart(node));
    }

    /// Kills a node. If that is `silently`, its machine is gone with it, and the others notice by
    /// its silence alone.
    pub(crate) fn kill(&mut self, node: usize, silently: bool, after: &mut Aftermath) {
        if !self.nodes[node].up {
            return;
        }
        self.record(node, What::Crash { silent: silently });
        let scope = self.scope(node);
        self.nodes[node].up = false;
        self.nodes[node].paused = false;
        self.nodes[node].held.clear();
        self.nodes[node].host_up = !silently;
        self.nodes[node].working = false;
        after.work.extend(self.nodes[node].work.drain(..));
        if let Some(disk) = &mut self.nodes[node].disk {
            disk.die(silently);
        }
        let dead: Vec<u64> =
            self.tasks.iter().filter(|(_, task)| task.scope == scope).map(|(id, _)| *id).collect();
        for id in dead {
            after.tasks.extend(self.tasks.remove(&id));
        }
        self.unplug(scope, after);
    }

    /// Starts a dead node again.
    pub(crate) fn restart(&mut self, at: usize, after: &mut Aftermath) {
        let node = &mut self.nodes[at];
        if node.up || self.closed {
            return;
        }
        node.up = true;
        node.host_up = true;
        node.life += 1;
        let start = node.start.clone();
        self.record(at, What::Restart);
        let scope = self.scope(at);
        after.starts.extend(start.map(|start| (start, scope)));
    }

    fn pause_one(&mut self) {
        let at = 1 + self.fate.index(self.nodes.len() - 1);
        if at < self.nodes.len() {
            self.pause(at);
            self.after(PAUSE, Act::Resume(at));
        }
    }

    pub(crate) fn pause(&mut self, node: usize) {
        self.nodes[node].paused = true;
        self.fault(node, "stands still".to_owned());
    }

    pub(crate) fn resume(&mut self, node: usize, after: &mut Aftermath) {
        if !std::mem::replace(&mut self.nodes[node].paused, false) {
            return;
        }
        self.fault(node, "goes on".to_owned());
        let held = std::mem::take(&mut self.nodes[node].held);
        after.resumed.extend(held);
    }

    fn jump_one(&mut self) {
        let node = 1 + self.fate.index(self.nodes.len() - 1);
        let by = self.fate.below(2 * JUMP_MS) as i64 - JUMP_MS as i64;
        if node < self.nodes.len() {
            self.jump(node, by);
        }
    }

    pub(crate) fn jump(&mut self, node: usize, by_ms: i64) {
        self.nodes[node].clock_off_ms += by_ms;
        self.fault(node, format!("the wall clock jumps by {by_ms} ms"));
    }

    // ---- disks

    fn fill_disk_for_a_while(&mut self, node: usize) {
        self.fill_disk(node);
        self.after(FULL, Act::FreeDisk(node));
    }

    pub(crate) fn fill_disk(&mut self, node: usize) {
        if let Some(disk) = &mut self.nodes[node].disk {
            disk.fill();
            self.fault(node, "its disk is full".to_owned());
        }
    }

    pub(crate) fn free_disk(&mut self, node: usize) {
        if let Some(disk) = &mut self.nodes[node].disk {
            disk.free();
            self.fault(node, "its disk has room again".to_owned());
        }
    }

    /// Has the next sync fail, on a node that may be killed: nothing else helps it then.
    fn fail_sync_of_mortal(&mut self, node: usize) {
        if self.nodes[node].mortal {
            self.fail_sync(node);
        }
    }

    pub(crate) fn fail_sync(&mut self, node: usize) {
        if let Some(disk) = &mut self.nodes[node].disk {
            disk.fail(true);
        }
    }

    /// A sync of the node's disk has failed: somebody notices after a while.
    pub(crate) fn is_looked_after(&mut self, node: usize) {
        if self.nodes[node].mortal && !self.healed {
            self.after(DEATH, Act::Replace(node));
        }
    }

    /// Kills a node whose disk has failed, and starts it again.
    fn replace(&mut self, node: usize, after: &mut Aftermath) {
        if self.nodes[node].disk.as_ref().is_some_and(|disk| disk.failed) {
            self.kill(node, false, after);
            self.after(DEATH, Act::Restart(node));
        }
    }

    /// Gives a disk room, and kills whom it has failed: it is started again at once.
    fn heal_disk(&mut self, node: usize, after: &mut Aftermath) {
        let Some(disk) = &mut self.nodes[node].disk else { return };
        disk.free();
        disk.fail(false);
        if disk.failed && self.nodes[node].mortal {
            self.kill(node, false, after);
        }
    }

    /// From now on nothing strikes any more, and what can be repaired is.
    pub(crate) fn heal(&mut self, after: &mut Aftermath) {
        self.agenda.retain(|_, due| !matches!(due, Due::Nemesis(_)));
        self.network.blocked.clear();
        let soon = self.now + AGAIN;
        for conn in self.network.conns.values_mut() {
            conn.flows.iter_mut().for_each(|flow| flow.hold_at_most_until(soon));
        }
        for node in 0..self.nodes.len() {
            self.resume(node, after);
            self.heal_disk(node, after);
            self.restart(node, after);
        }
        self.strength.stall_percent = 0;
        self.healed = true;
        after.wakers.append(&mut self.waiting_for_heal);
        self.record(WORLD, What::Healed);
    }
}
