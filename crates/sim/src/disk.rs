//! A node's disk: it outlives the node's programs, and what a power cut leaves of it follows from
//! the seed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use posthaste_log::storage::{Blob, Simulated, Storage};

use crate::blocking;
use crate::faults::DiskStrength;
use crate::history::What;
use crate::nemesis::Act;
use crate::random::Dice;
use crate::state::{Due, Scope, Shared, State};
use crate::timeline::Kind;

/// How long anything but a sync takes at most, when it takes any time.
const CALL: Duration = Duration::from_micros(100);
/// How often it does, in percent.
const CALL_PERCENT: u8 = 25;
/// How often a sync takes much longer, in percent, and how much.
const SLOW_PERCENT: u8 = 5;
const SLOW: u32 = 8;
/// How much room a full disk may still have, in bytes.
const LEFT: u64 = 8 << 10;

/// What a node has for a disk.
pub(crate) struct DiskState {
    files: Simulated,
    strength: DiskStrength,
    /// The next sync fails.
    fails: bool,
    /// One has failed since the node was started.
    pub(crate) failed: bool,
    /// For how long calls take, when faults strike, and what a power cut leaves.
    pub(crate) dice: Dice,
}

impl DiskState {
    pub(crate) fn new(strength: DiskStrength, dice: Dice) -> Self {
        Self { files: Simulated::new(), strength, fails: false, failed: false, dice }
    }

    /// The program dies, and if it loses its power the machine: whatever was not synced is there then
    /// or not.
    pub(crate) fn die(&mut self, loses_power: bool) {
        let dice = &mut self.dice;
        if loses_power {
            self.files = self.files.power_cut(&mut || dice.next());
        } else if self.failed {
            // The system has dropped what it could not write.
            self.files = self.files.kill();
        }
        (self.fails, self.failed) = (false, false);
    }

    /// Has no room any more but for a few bytes.
    pub(crate) fn fill(&mut self) {
        let names = self.files.names().unwrap_or_default();
        let sizes = names.iter().filter_map(|name| self.files.open(name).ok()?.len().ok());
        let used: u64 = sizes.sum();
        self.files.limit(Some(used + self.dice.below(LEFT)));
    }

    pub(crate) fn free(&mut self) {
        self.files.limit(None);
    }

    pub(crate) fn fail(&mut self, fails: bool) {
        self.fails = fails;
    }

    /// How long a call takes.
    fn takes(&mut self, call: Call) -> Duration {
        match call {
            Call::Sync => {
                let time = self.dice.up_to(self.strength.sync_latency_max);
                if self.dice.percent(SLOW_PERCENT) { time * SLOW } else { time }
            }
            Call::Other if self.dice.percent(CALL_PERCENT) => self.dice.up_to(CALL),
            Call::Other => Duration::ZERO,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Sync,
    Other,
}

/// The disk of a [node](crate::Node::disk): a folder with a cache in front of a platter, that is
/// there again when the node is started again.
///
/// What was written outlives the program; what was synced outlives a loss of power. Of the rest the
/// seed decides, atom by atom of 512 bytes, length by length, and name by name. In blocking work
/// of the node's runtime calls take virtual time, so a node may die in the middle of them; whatever
/// is left of a dead program finds that all of them fail.
///
/// Each of its handles is one life's, as those of a [`Node`](crate::Node) are.
///
/// ```
/// use posthaste_log::storage::Storage;
/// use posthaste_sim::Sim;
///
/// Sim::new().seeds(0..5).run(async |world| {
///     let node = world.node("safe");
///     let disk = node.disk();
///     disk.create("note").unwrap().sync_data().unwrap();
///     disk.sync_dir().unwrap();
///     node.power_off();
///     assert!(disk.names().is_err());
///     node.restart();
///     assert_eq!(node.disk().names().unwrap(), ["note"]);
/// });
/// ```
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    scope: Scope,
}

impl SimDisk {
    pub(crate) fn new(shared: &Arc<Shared>, scope: Scope) -> Self {
        shared.with(|state, _| state.add_disk(shared, scope.node));
        Self { shared: Arc::clone(shared), scope }
    }

    /// Does what takes time, and then has `act` do the rest at once.
    fn call<T>(&self, call: Call, act: impl FnOnce(&Simulated) -> io::Result<T>) -> io::Result<T> {
        let Scope { node, .. } = self.scope;
        let time = self.shared.with(|state, _| {
            let now = state.now.as_nanos() as u64;
            state.timeline.note(Kind::Disk, [node as u64, u64::from(call == Call::Sync), now]);
            state.disk(self.scope).map(|disk| disk.takes(call))
        });
        blocking::wait(time.ok_or_else(blocking::dead)?)?;
        let files = self.shared.with(|state, _| {
            let fails = call == Call::Sync && state.sync_fails(self.scope);
            let files = state.disk(self.scope).map(|disk| disk.files.clone())?;
            if fails {
                files.fail_sync_after(0);
            }
            Some(files)
        });
        act(&files.ok_or_else(blocking::dead)?)
    }

    fn blob(&self, blob: Box<dyn Blob>) -> Box<dyn Blob> {
        Box::new(SimBlob { disk: self.clone(), blob })
    }

    fn has_planted(&self, bug: &str) -> bool {
        self.shared.planted.contains(bug)
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("node", &self.scope.node).finish_non_exhaustive()
    }
}

impl Storage for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        self.call(Call::Other, Storage::names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        self.call(Call::Other, |files| files.create(name)).map(|blob| self.blob(blob))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Blob>> {
        self.call(Call::Other, |files| files.open(name)).map(|blob| self.blob(blob))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Call::Other, |files| files.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(Call::Other, |files| files.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        match self.has_planted("disk.skips-directory-sync") {
            true => self.call(Call::Sync, |_| Ok(())),
            false => self.call(Call::Sync, Storage::sync_dir),
        }
    }
}

#[derive(Debug)]
struct SimBlob {
    disk: SimDisk,
    blob: Box<dyn Blob>,
}

impl SimBlob {
    fn call<T>(&self, act: impl FnOnce(&dyn Blob) -> io::Result<T>) -> io::Result<T> {
        self.disk.call(Call::Other, |_| act(&*self.blob))
    }
}

impl Blob for SimBlob {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(|blob| blob.write_at(at, bytes))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.call(|blob| blob.read_at(at, into))
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.disk.has_planted("disk.skips-data-sync") {
            true => self.disk.call(Call::Sync, |_| Ok(())),
            false => self.disk.call(Call::Sync, |_| self.blob.sync_data()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.call(Blob::len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.call(|blob| blob.allocate(len))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.call(|blob| blob.truncate(len))
    }
}

impl State {
    /// Gives a node a disk, if it has none, and plans what strikes that.
    pub(crate) fn add_disk(&mut self, shared: &Shared, node: usize) {
        if self.nodes[node].disk.is_some() {
            return;
        }
        // Dice of its own: worlds without disks are as they were.
        let mut dice = Dice::new(shared.seed, 2_000 + node as u64);
        let strength = shared.faults.draw_disk(&mut dice);
        let mut disk = DiskState::new(strength.clone(), dice);
        let ends = if self.healed { Duration::ZERO } else { shared.heal_at };
        for (count, act) in [
            (strength.full_disks, Act::FillDisk(node)),
            (strength.failed_syncs, Act::FailSync(node)),
        ] {
            for _ in 0..count {
                let at = crate::nemesis::sometime(&mut disk.dice, ends);
                if at > self.now {
                    self.schedule(at, Due::Nemesis(act.clone()));
                }
            }
        }
        self.nodes[node].disk = Some(disk);
    }

    /// The disk of a node that is alive.
    fn disk(&mut self, scope: Scope) -> Option<&mut DiskState> {
        if self.is_alive(scope) { self.nodes[scope.node].disk.as_mut() } else { None }
    }

    /// Whether this is the sync that fails.
    fn sync_fails(&mut self, scope: Scope) -> bool {
        let Some(disk) = self.disk(scope) else { return false };
        let fails = std::mem::take(&mut disk.fails);
        if fails {
            disk.failed = true;
            self.record(scope.node, What::Fault("a sync of its disk fails".to_owned()));
            self.is_looked_after(scope.node);
        }
        fails
    }
}
