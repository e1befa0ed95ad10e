//! Copies that are ready to be handed out: a lane for each priority, each in the order of positions.

use std::collections::{BTreeMap, VecDeque};

use crate::copies::Entry;

/// The lanes, and the bytes in them.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// By priority; the last one goes first.
    lanes: [Lane; 4],
    /// How many messages there are.
    len: usize,
    /// How many of them have a priority.
    urgent: usize,
    bytes: usize,
}

/// Copies of one priority. Nearly all come in at the end and go out at the front; what comes back
/// to an old place lies beside, so that a place is found quickly wherever it is.
#[derive(Debug, Default)]
struct Lane {
    slots: VecDeque<Slot>,
    /// How many of the slots have a copy. The first and the last one always have.
    living: usize,
    returned: BTreeMap<u64, Entry>,
}

/// A place in a lane.
#[derive(Debug)]
pub(crate) enum Slot {
    Living(Entry),
    /// A copy that was taken out of the middle.
    Gone(u64),
}

impl Slot {
    pub(crate) fn living(self) -> Option<Entry> {
        match self {
            Self::Living(entry) => Some(entry),
            Self::Gone(_) => None,
        }
    }

    fn position(&self) -> u64 {
        match self {
            Self::Living(entry) => entry.position,
            Self::Gone(position) => *position,
        }
    }

    fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Living(entry) => Some(entry),
            Self::Gone(_) => None,
        }
    }
}

impl Lanes {
    /// Puts a copy into its place.
    pub(crate) fn put(&mut self, entry: Entry) {
        let lane = lane_of(&entry);
        self.len += entry.count();
        self.urgent += usize::from(lane > 0);
        self.bytes += entry.message.size();
        self.lanes[lane].put(entry);
    }

    /// The next copy: the oldest of the highest priority.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = match self.urgent {
            0 => self.lanes[0].pop(),
            _ => self.lanes.iter_mut().rev().find_map(Lane::pop),
        }?;
        self.forget(&entry);
        Some(entry)
    }

    /// The copy that goes out next.
    pub(crate) fn next_mut(&mut self) -> Option<&mut Entry> {
        self.lanes.iter_mut().rev().find_map(Lane::first_mut)
    }

    /// Takes out the copy at `position`.
    pub(crate) fn remove(&mut self, position: u64) -> Option<Entry> {
        let entry = self.lanes.iter_mut().find_map(|lane| lane.remove(position))?;
        self.forget(&entry);
        Some(entry)
    }

    /// Where the copy with the lowest position is that lies behind `after`.
    pub(crate) fn position_after(&self, after: Option<u64>) -> Option<u64> {
        self.lanes.iter().filter_map(|lane| lane.position_after(after)).min()
    }

    /// Swaps everything out into `batch`, which is empty, in the order in which it goes out.
    pub(crate) fn take_all(&mut self, batch: &mut VecDeque<Slot>) -> usize {
        let plain = &mut self.lanes[0];
        if self.urgent == 0 && plain.returned.is_empty() {
            std::mem::swap(&mut plain.slots, batch);
            plain.living = 0;
        } else {
            for lane in self.lanes.iter_mut().rev() {
                batch.extend(std::iter::from_fn(|| lane.pop()).map(Slot::Living));
            }
        }
        (self.urgent, self.bytes) = (0, 0);
        std::mem::take(&mut self.len)
    }

    /// All copies, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.runs(None).flatten()
    }

    /// The copies behind `after`, in runs of which each is in the order of positions.
    pub(crate) fn runs(
        &self,
        after: Option<u64>,
    ) -> impl Iterator<Item = Box<dyn Iterator<Item = &Entry> + '_>> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        self.lanes.iter().flat_map(move |lane| {
            let stayed: Box<dyn Iterator<Item = &Entry>> = Box::new(lane.stayed(from));
            [stayed, Box::new(lane.returned.range(from..).map(|(_, entry)| entry))]
        })
    }

    /// Everything, in the order in which it goes out.
    pub(crate) fn into_entries(mut self) -> impl Iterator<Item = Entry> {
        std::iter::from_fn(move || self.pop())
    }

    fn forget(&mut self, entry: &Entry) {
        self.len -= entry.count();
        self.urgent -= usize::from(lane_of(entry) > 0);
        self.bytes -= entry.message.size();
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn lane_of(entry: &Entry) -> usize {
    usize::from(entry.message.priority() & 3)
}

impl Lane {
    fn put(&mut self, entry: Entry) {
        if self.slots.back().is_none_or(|last| last.position() < entry.position) {
            self.living += 1;
            self.slots.push_back(Slot::Living(entry));
        } else {
            self.returned.insert(entry.position, entry);
        }
    }

    /// Whether the copy that goes out next is one that came back.
    fn returned_is_first(&self) -> bool {
        let Some((returned, _)) = self.returned.first_key_value() else {
            return false;
        };
        self.slots.front().is_none_or(|slot| *returned < slot.position())
    }

    fn pop(&mut self) -> Option<Entry> {
        if self.returned_is_first() {
            return self.returned.pop_first().map(|(_, entry)| entry);
        }
        let entry = self.slots.pop_front()?.living();
        self.living -= 1;
        self.trim();
        entry
    }

    fn first_mut(&mut self) -> Option<&mut Entry> {
        if self.returned_is_first() {
            return self
                .returned
                .first_entry()
                .map(std::collections::btree_map::OccupiedEntry::into_mut);
        }
        match self.slots.front_mut()? {
            Slot::Living(entry) => Some(entry),
            Slot::Gone(_) => None,
        }
    }

    fn remove(&mut self, position: u64) -> Option<Entry> {
        if let Some(entry) = self.returned.remove(&position) {
            return Some(entry);
        }
        let at = self.slots.binary_search_by_key(&position, Slot::position).ok()?;
        let slot = self.slots.get_mut(at)?;
        let entry = std::mem::replace(slot, Slot::Gone(position)).living()?;
        self.living -= 1;
        self.trim();
        if self.slots.len() > 2 * self.living + 8 {
            self.slots.retain(|slot| matches!(slot, Slot::Living(_)));
        }
        Some(entry)
    }

    /// Drops the empty places at both ends.
    fn trim(&mut self) {
        while let Some(Slot::Gone(_)) = self.slots.front() {
            self.slots.pop_front();
        }
        while let Some(Slot::Gone(_)) = self.slots.back() {
            self.slots.pop_back();
        }
    }

    fn position_after(&self, after: Option<u64>) -> Option<u64> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let stayed = self.stayed(from).next().map(|entry| entry.position);
        let returned = self.returned.range(from..).next().map(|(position, _)| *position);
        stayed.into_iter().chain(returned).min()
    }

    /// The copies from position `from` on that never moved.
    fn stayed(&self, from: u64) -> impl Iterator<Item = &Entry> {
        let start = self.slots.partition_point(|slot| slot.position() < from);
        self.slots.range(start..).filter_map(Slot::entry)
    }
}
