//! Copies that are handed out and not settled yet.

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
}

impl Leases {
    pub(crate) fn insert(&mut self, entry: Entry, consumer: u64) -> u64 {
        self.len += 1;
        self.bytes += entry.message.size();
        let lease = Some(Lease { entry, consumer });
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

    pub(crate) fn remove(&mut self, tag: u64) -> Option<Lease> {
        let index = u32::try_from(tag & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get_mut(index as usize)?;
        if u64::from(slot.use_count) != tag >> 32 {
            return None;
        }
        let lease = slot.lease.take()?;
        self.free.push(index);
        self.len -= 1;
        self.bytes -= lease.entry.message.size();
        Some(lease)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
