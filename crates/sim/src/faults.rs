//! How hostile a world is: bounds that every seed draws its own strength from.

use std::time::Duration;

use crate::random::Dice;

/// How hostile the worlds of a simulation are.
///
/// The fields are bounds. Each seed draws its own strength below them, and leaves some kinds of
/// fault out altogether, because a bug may hide behind a fault as well as show by it. All faults
/// strike before the world heals ([`Sim::heal_after`](crate::Sim::heal_after)).
///
/// ```
/// use posthaste_sim::Faults;
///
/// let slow_but_whole = Faults::gentle();
/// let with_crashes = Faults::rough().kills(5).partitions(0);
/// assert_eq!((slow_but_whole.cuts, with_crashes.kills), (0, 5));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Faults {
    /// How long bytes take at most; now and then eight times as long.
    pub latency_max: Duration,
    /// How often a piece of what was written arrives apart from the rest, in percent.
    pub split_percent: u8,
    /// How often the rest of such a piece then stalls for a good while, in percent.
    pub stall_percent: u8,
    /// The smallest buffer of a connection, in bytes, in each direction.
    pub buffer_bytes_min: usize,
    /// Connections that are reset while bytes are on their way.
    pub cuts: u32,
    /// Connections whose bytes silently vanish from some moment on, in one direction or both.
    pub half_opens: u32,
    /// Times at which some nodes cannot reach the others, in one direction or both, for a while.
    pub partitions: u32,
    /// Times at which a [mortal](crate::Node::mortal) node dies, to be started again after a while.
    pub kills: u32,
    /// Times at which a node stands still for a while.
    pub pauses: u32,
    /// Times at which a node's wall clock jumps, by up to an hour, forth or back.
    pub clock_jumps: u32,
    /// How long a sync of a node's [disk](crate::Node::disk) takes at most; now and then eight times
    /// as long.
    pub sync_latency_max: Duration,
    /// Times at which a disk is full for a while; each disk has its own.
    pub full_disks: u32,
    /// Times at which a sync of a disk fails, on a [mortal](crate::Node::mortal) node, which is killed
    /// for that after a while and started again; each disk has its own.
    pub failed_syncs: u32,
}

/// What a seed has drawn for a disk.
#[derive(Debug, Clone)]
pub(crate) struct DiskStrength {
    pub(crate) sync_latency_max: Duration,
    pub(crate) full_disks: u32,
    pub(crate) failed_syncs: u32,
}

/// What a seed has drawn.
#[derive(Debug, Clone)]
pub(crate) struct Strength {
    pub(crate) latency_max: Duration,
    pub(crate) split_percent: u8,
    pub(crate) stall_percent: u8,
    pub(crate) buffer_bytes_min: usize,
    pub(crate) buffer_bytes_max: usize,
    pub(crate) cuts: u32,
    pub(crate) half_opens: u32,
    pub(crate) partitions: u32,
    pub(crate) kills: u32,
    pub(crate) pauses: u32,
    pub(crate) clock_jumps: u32,
}

/// The buffer of a connection that nothing is wrong with.
const BUFFER: usize = 64 << 10;

impl Faults {
    /// A fast network on which nothing goes wrong. Which task goes on first is still the seed's
    /// choice.
    #[must_use]
    pub fn none() -> Self {
        Self {
            latency_max: Duration::from_micros(200),
            split_percent: 0,
            stall_percent: 0,
            buffer_bytes_min: BUFFER,
            cuts: 0,
            half_opens: 0,
            partitions: 0,
            kills: 0,
            pauses: 0,
            clock_jumps: 0,
            sync_latency_max: Duration::from_micros(200),
            full_disks: 0,
            failed_syncs: 0,
        }
    }

    /// A slow network that splits what is written anywhere and stalls, with small buffers, nodes
    /// that stand still and clocks that jump; but no connection is lost and nobody dies.
    #[must_use]
    pub fn gentle() -> Self {
        Self {
            latency_max: Duration::from_millis(20),
            split_percent: 30,
            stall_percent: 10,
            buffer_bytes_min: 64,
            pauses: 2,
            clock_jumps: 1,
            sync_latency_max: Duration::from_millis(20),
            ..Self::none()
        }
    }

    /// All of that, and connections that are cut or fall silent, partitions, deaths, and disks that are
    /// full or fail.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            cuts: 6,
            half_opens: 3,
            partitions: 3,
            kills: 3,
            clock_jumps: 2,
            full_disks: 2,
            failed_syncs: 1,
            ..Self::gentle()
        }
    }

    /// How long bytes take at most.
    #[must_use]
    pub fn latency_max(mut self, latency: Duration) -> Self {
        self.latency_max = latency;
        self
    }

    /// How often what was written is split, and how often it then stalls, in percent.
    #[must_use]
    pub fn splits(mut self, split_percent: u8, stall_percent: u8) -> Self {
        (self.split_percent, self.stall_percent) = (split_percent, stall_percent);
        self
    }

    /// Up to so many connections are reset.
    #[must_use]
    pub fn cuts(mut self, at_most: u32) -> Self {
        self.cuts = at_most;
        self
    }

    /// Up to so many connections fall silent.
    #[must_use]
    pub fn half_opens(mut self, at_most: u32) -> Self {
        self.half_opens = at_most;
        self
    }

    /// Up to so many partitions.
    #[must_use]
    pub fn partitions(mut self, at_most: u32) -> Self {
        self.partitions = at_most;
        self
    }

    /// Up to so many deaths of mortal nodes.
    #[must_use]
    pub fn kills(mut self, at_most: u32) -> Self {
        self.kills = at_most;
        self
    }

    /// Up to so many times at which a node stands still.
    #[must_use]
    pub fn pauses(mut self, at_most: u32) -> Self {
        self.pauses = at_most;
        self
    }

    /// Up to so many jumps of wall clocks.
    #[must_use]
    pub fn clock_jumps(mut self, at_most: u32) -> Self {
        self.clock_jumps = at_most;
        self
    }

    /// How long a sync of a disk takes at most.
    #[must_use]
    pub fn sync_latency_max(mut self, latency: Duration) -> Self {
        self.sync_latency_max = latency;
        self
    }

    /// Up to so many times at which a disk is full for a while.
    #[must_use]
    pub fn full_disks(mut self, at_most: u32) -> Self {
        self.full_disks = at_most;
        self
    }

    /// Up to so many syncs of a disk that fail.
    #[must_use]
    pub fn failed_syncs(mut self, at_most: u32) -> Self {
        self.failed_syncs = at_most;
        self
    }

    pub(crate) fn draw_disk(&self, dice: &mut Dice) -> DiskStrength {
        let mut count = |most| if dice.percent(25) { 0 } else { below(dice, most) };
        let (full_disks, failed_syncs) = (count(self.full_disks), count(self.failed_syncs));
        let sync_latency_max = dice.up_to(self.sync_latency_max);
        DiskStrength { sync_latency_max, full_disks, failed_syncs }
    }

    pub(crate) fn draw(&self, dice: &mut Dice) -> Strength {
        // Now and then not at all: some bugs show only where another fault does not hide them.
        let mut count = |most: u32| match dice.percent(25) {
            true => 0,
            false => below(dice, most),
        };
        let (cuts, half_opens) = (count(self.cuts), count(self.half_opens));
        let (partitions, kills) = (count(self.partitions), count(self.kills));
        let (pauses, clock_jumps) = (count(self.pauses), count(self.clock_jumps));
        let split_percent = count(u32::from(self.split_percent)) as u8;
        let stall_percent = count(u32::from(self.stall_percent)) as u8;
        let tight = dice.percent(50);
        Strength {
            latency_max: dice.up_to(self.latency_max),
            split_percent,
            stall_percent,
            buffer_bytes_min: if tight { self.buffer_bytes_min } else { BUFFER },
            buffer_bytes_max: if tight { self.buffer_bytes_min.saturating_mul(8) } else { BUFFER },
            cuts,
            half_opens,
            partitions,
            kills,
            pauses,
            clock_jumps,
        }
    }
}

/// A number up to `most`.
fn below(dice: &mut Dice, most: u32) -> u32 {
    u32::try_from(dice.below(u64::from(most) + 1)).unwrap_or(0)
}
