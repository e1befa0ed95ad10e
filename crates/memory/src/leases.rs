//! Copies that are handed out and not settled yet.

use std::task::Waker;
use std::time::Instant;

use crate::copies::Entry;

/// Copies that are handed out and not settled, by tag. A tag names a slot and how often it was
/// used, so that a late settlement never hits another's copy.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    slots: Vec<LeaseSlot>,
    free: Vec<u32>,
    len: usize,
    bytes: usize,
}

#[derive(Debug)]
struct LeaseSlot {
    use_count: u32,
    lease: Option<Lease>,
}

#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) entry: Entry,
    pub(crate) consumer: u64,
    /// Nobody wants the answer any more.
    pub(crate) cancelled: bool,
    /// What few leases have.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// When its consumer has taken too long.
    pub(crate) due: Option<Instant>,
    /// Whoever works on it and wants to know when nobody wants the answer any more.
    pub(crate) waker: Option<Waker>,
}

impl Lease {
    /// What it has of what few have.
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether it has nothing of that, and neither has its copy.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.rare.is_none() && self.entry.is_plain()
    }

    /// Takes that, if it has any.
    #[inline]
    pub(crate) fn take_rare(&mut self) -> Option<Box<Rare>> {
        self.rare.take()
    }

    pub(crate) fn take_due(&mut self) -> Option<Instant> {
        self.rare.as_mut()?.due.take()
    }

    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        self.rare.as_mut()?.waker.take()
    }
}

impl Leases {
    pub(crate) fn insert(&mut self, entry: Entry, consumer: u64) -> u64 {
        self.len += 1;
        self.bytes += entry.message.size();
        let lease = Some(Lease { entry, consumer, cancelled: false, rare: None });
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(LeaseSlot { use_count: 0, lease: None });
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.use_count = slot.use_count.wrapping_add(1);
        slot.lease = lease;
        u64::from(slot.use_count) << 32 | u64::from(index)
    }

    pub(crate) fn get_mut(&mut self, tag: u64) -> Option<&mut Lease> {
        self.slot(tag)?.lease.as_mut()
    }

    pub(crate) fn remove(&mut self, tag: u64) -> Option<Lease> {
        let lease = self.slot(tag)?.lease.take()?;
        self.free.push(index_of(tag));
        self.len -= 1;
        self.bytes -= lease.entry.message.size();
        Some(lease)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.slots.iter().filter_map(|slot| slot.lease.as_ref())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        self.slots.iter_mut().filter_map(|slot| slot.lease.as_mut())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn slot(&mut self, tag: u64) -> Option<&mut LeaseSlot> {
        let slot = self.slots.get_mut(index_of(tag) as usize)?;
        (u64::from(slot.use_count) == tag >> 32).then_some(slot)
    }
}

fn index_of(tag: u64) -> u32 {
    (tag & u64::from(u32::MAX)) as u32
}
